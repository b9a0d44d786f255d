"""What the measurements of a run say about it, in words, with the figures they rest on.

A person comes to a run for one sentence: may I let it go on, may I use what it made? Each rule (alignment/rules) looks
at the points of a run and either has nothing to say or names one thing that goes wrong.

Pure functions of the points (measured_points.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alignment.measured_points import GENERATING, JUDGED_FROM, Point, Seen
from alignment.over_optimisation import over_optimised
from alignment.rules.any_method import (
    TURNED_SHARE,
    diverging,
    gradient_exploding,
    loss_not_finite,
    memorising,
    nothing_learned,
)
from alignment.rules.preferences import at_chance, chosen_falls, margins_saturated
from alignment.rules.sampling import (
    entropy_collapsed,
    kl_beyond_target,
    mostly_clipped,
    passes_cut_short,
    reward_with_length,
    rewards_all_equal,
    unended_answers,
    value_knows_nothing,
)
from alignment.rules.words import percent, plain

Kind = Literal["ok", "warn", "bad"]

TURNED_ACCURACY = 0.02
HELD_OUT: Mapping[str, tuple[str, str, bool]] = {  # metric, what a person calls it, whether higher is better
    "dpo": ("eval_rewards/accuracies", "accuracy", True),
    "orpo": ("eval_rewards/accuracies", "accuracy", True),
    "reward_model": ("eval_accuracy", "accuracy", True),
    "rloo": ("eval_reward", "reward", True),
    "ppo": ("eval_reward", "reward", True),
}
OTHERS_HELD_OUT = ("eval_loss", "loss", False)


@dataclass(frozen=True)
class Health:
    """One verdict: a tone, its name, and the sentence with its figures."""

    kind: Kind
    title: str
    sentence: str

    @property
    def short(self) -> str:
        """For the list of runs, while one trains."""
        return f"{self.title} so far." if self.kind == "ok" else f"{self.title}."


def health(method: str, points: Sequence[Point], settings: Mapping[str, Any], steps: int, ended: bool) -> Health | None:
    """The gravest of what goes wrong, with the names of the rest; None where nothing was measured yet."""
    seen = Seen(method, points, settings, steps, ended)
    if not seen.training:
        return None
    found = [Health(kind, title, sentence) for kind, title, rule in RULES if (sentence := rule(seen))]
    if found:
        return _gravest(found)
    if len(seen.training) < JUDGED_FROM:
        return Health("ok", "Nothing wrong", _too_little(seen))
    return Health("ok", "Healthy", healthy_words(seen))


def _gravest(found: Sequence[Health]) -> Health:
    first, *others = sorted(found, key=lambda verdict: verdict.kind != "bad")
    names = ", ".join(f"{verdict.title[0].lower()}{verdict.title[1:]}" for verdict in others)
    return Health(first.kind, first.title, f"{first.sentence} Also: {names}." if names else first.sentence)


def _too_little(seen: Seen) -> str:
    if seen.ended:
        return f"Steps measured: {len(seen.training)}, too few to say more."
    return f"{_steps_measured(seen)}: too early to say more."


def _steps_measured(seen: Seen) -> str:
    return f"{seen.step} of {seen.steps} steps measured"


RULES: tuple[tuple[Kind, str, Callable[[Seen], str]], ...] = (  # tone, title, rule; the gravest first
    ("bad", "The loss is not a number", loss_not_finite),
    ("bad", "The loss has risen", diverging),
    ("bad", "Answers do not end", unended_answers),
    ("warn", "Chosen answers are losing probability", chosen_falls),
    ("warn", "Margins are saturated", margins_saturated),
    ("warn", "Held-out loss has turned", memorising),
    ("warn", "The reward is followed too far", over_optimised),
    ("warn", "Reward rises with length", reward_with_length),
    ("warn", "Drift is beyond its target", kl_beyond_target),
    ("warn", "Entropy has collapsed", entropy_collapsed),
    ("warn", "Rewards are all equal", rewards_all_equal),
    ("warn", "Steps are too large", mostly_clipped),
    ("warn", "Iterations end early", passes_cut_short),
    ("warn", "Gradients are exploding", gradient_exploding),
    ("warn", "The value knows nothing", value_knows_nothing),
    ("warn", "Accuracy is at chance", at_chance),
    ("warn", "Nothing learned", nothing_learned),
)


# ---- what goes well -------------------------------------------------------------------------------------------------


def healthy_words(seen: Seen) -> str:
    """The figures that matter for this method: "Margin 0.41; chosen answers are not losing probability. …" """
    words = [_in_training(seen), held_out_words(seen)]
    return " ".join(sentence for sentence in words if sentence) or f"{_steps_measured(seen)}."


def _in_training(seen: Seen) -> str:
    margin = seen.recent("rewards/margins")
    if seen.has_reference and margin is not None:
        return f"Margin {plain(margin)}; chosen answers are not losing probability."
    if seen.method in GENERATING and (reward := seen.change("reward")):
        return f"Reward {_way(reward)}{_lengths(seen)}."
    if margin is not None:
        return f"Margin {plain(margin)}; loss {_way(seen.change('loss'))}."
    return f"Loss {way}." if (way := _way(seen.change("loss"))) else ""


def _lengths(seen: Seen) -> str:
    lengths = seen.change("completions/mean_length")
    return f"; answers are {lengths[1]:.0f} tokens long ({lengths[0]:.0f} at first)" if lengths else ""


def _way(pair: tuple[float, float] | None) -> str:
    """rose to 0.95 / fell from 2.10 to 1.40 / stayed at 1.20"""
    if pair is None:
        return ""
    first, last = (plain(value) for value in pair)
    if first == last:
        return f"stays at {last}"
    return f"{'rose' if pair[1] > pair[0] else 'fell'} from {first} to {last}"


def held_out_words(seen: Seen) -> str:
    """ "Held-out accuracy rose to 71 % and has not turned." """
    metric, called, higher_is_better = HELD_OUT.get(seen.method, OTHERS_HELD_OUT)
    held = seen.series(metric)
    if not held:
        return ""
    shown: Callable[[float], str] = percent if called == "accuracy" else "{:.2f}".format
    first, last = held[0][1], held[-1][1]
    if len(held) == 1:
        return f"Held-out {called} is {shown(last)}."
    moved = "stays at" if shown(first) == shown(last) else "rose to" if last > first else "fell to"
    if last != first and (last > first) is not higher_is_better:
        return f"Held-out {called} {moved} {shown(last)} from {shown(first)}, which is not better."
    best = (max if higher_is_better else min)(held, key=lambda one: one[1])
    return f"Held-out {called} {moved} {shown(last)}{_turned(best, last, called, shown)}."


def _turned(best: tuple[int, float], last: float, called: str, shown: Callable[[float], str]) -> str:
    wobble = TURNED_ACCURACY if called == "accuracy" else TURNED_SHARE * abs(best[1])
    if abs(best[1] - last) <= wobble:
        return " and has not turned"
    return f"; its best was {shown(best[1])}, at step {best[0]}"
