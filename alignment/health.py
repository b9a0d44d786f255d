"""What the measurements of a run say about it, in words, with the figures they rest on.

A person comes to a run for one sentence: may I let it go on, may I use what it made? Each rule below looks at the
points of a run and either has nothing to say or names one thing that goes wrong. Thresholds come from three places,
named with each: papers, TRL's own definitions of a metric, and runs of the starter model (3 million parameters, 120
rows), of which good and ruined ones were measured. Where a large model may rightly differ, a rule warns and does not
condemn.

Pure functions of the points: what is recent is the last fifth of the steps measured, what is early the first fifth, as
in the outcome of a run. Points of the training loss and points measured on held-out rows (`eval_…`) are separate lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Literal

Kind = Literal["ok", "warn", "bad"]
Point = Mapping[str, Any]

JUDGED_FROM = 5  # training points; fewer say nothing
HALF = 0.5  # of the steps: only then is it fair to say that nothing was learned

FALLEN_NATS = 1.0
SATURATED_NATS = 30.0
LEARNED_NATS = 0.5
LEARNED_SHARE = 0.01
TURNED_SHARE = 0.02
TURNED_ACCURACY = 0.02
CHANCE = 0.55
DIVERGED_SHARE = 1.0
EXPLODED = 10.0
CLIPPED_NORM = 1.0  # trl_training.arguments: larger gradients are shortened to this
LONGER = 1.5
KL_NATS = 10.0
COLLAPSED_ENTROPY = 0.1
UNENDED_SHARE = 0.5
NO_SPREAD = 0.8

REFERENCED = ("dpo", "kto")  # they measure against the parent
IN_PAIRS = ("dpo", "orpo", "reward_model")  # their accuracy is that of a choice between two
GENERATING = ("rloo", "ppo")
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
    found = [verdict for rule in RULES if (verdict := rule(seen))]
    if found:
        return _gravest(found)
    if len(seen.training) < JUDGED_FROM:
        return Health("ok", "Nothing wrong", f"{_steps_measured(seen)}: too early to say more.")
    return Health("ok", "Healthy", healthy_words(seen))


def _gravest(found: Sequence[Health]) -> Health:
    first, *others = sorted(found, key=lambda verdict: verdict.kind != "bad")
    names = ", ".join(f"{verdict.title[0].lower()}{verdict.title[1:]}" for verdict in others)
    return Health(first.kind, first.title, f"{first.sentence} Also: {names}." if names else first.sentence)


def _steps_measured(seen: Seen) -> str:
    return f"{seen.step} of {seen.steps} steps measured"


# ---- the points of a run --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """The points of a run, and the series in them."""

    method: str
    points: Sequence[Point]
    settings: Mapping[str, Any]
    steps: int
    ended: bool

    @property
    def training(self) -> list[Point]:
        """The points of training steps, those whose loss was not a number too."""
        return [point for point in self.points if not any(name.startswith("eval_") for name in point)]

    @property
    def step(self) -> int:
        return int(self.training[-1].get("step", 0)) if self.training else 0

    @property
    def has_reference(self) -> bool:
        """Whether its rewards are beta * log(policy / parent). Among DPO's losses, SimPO's knows no parent."""
        return self.method in REFERENCED and self.settings.get("loss") != "simpo"

    @property
    def half_way(self) -> bool:
        return self.ended or self.step >= HALF * self.steps

    def series(self, metric: str) -> list[tuple[int, float]]:
        """(step, value) where the metric was measured and is a number."""
        return [(int(point["step"]), float(point[metric])) for point in self.points if _is_number(point.get(metric))]

    def values(self, metric: str) -> list[float]:
        return [value for _, value in self.series(metric)]

    def early(self, metric: str) -> float | None:
        """The mean of the first fifth, where enough was measured to compare it with anything."""
        values = self.values(metric)
        return fmean(values[: _fifth(values)]) if len(values) >= JUDGED_FROM else None

    def at_first(self, metric: str) -> float | None:
        """The median of the first points: what the parent had, as the first steps are small."""
        values = self.values(metric)
        return median(values[:JUDGED_FROM]) if len(values) > JUDGED_FROM else None

    def recent(self, metric: str) -> float | None:
        values = self.values(metric)
        return fmean(values[-_fifth(values) :]) if len(values) >= JUDGED_FROM else None

    def in_nats(self, reward: str) -> float | None:
        """How much likelier than under the parent, in nats for a whole answer: TRL's implicit rewards over beta."""
        value = self.recent(reward)
        return None if value is None else value / float(self.settings.get("beta") or 0.1)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _fifth(values: Sequence[float]) -> int:
    return max(1, len(values) // 5)


# ---- what can go wrong, gravest first -------------------------------------------------------------------------------


def loss_not_finite(seen: Seen) -> Health | None:
    """A training point whose loss is missing: JSON has no word for a value that is not a number (train.py)."""
    lost = [point for point in seen.training if not _is_number(point.get("loss"))]
    if not lost:
        return None
    rate = seen.settings.get("learning_rate")
    given = f", which was {rate:g}" if _is_number(rate) else ""
    return Health(
        "bad",
        "The loss is not a number",
        f"It was lost at step {lost[0].get('step', 0)} of {seen.steps}: the model fell apart. "
        f"Start again with a lower learning rate{given}.",
    )


def diverging(seen: Seen) -> Health | None:
    """The training loss is twice what it was over the first steps, when the model still was its parent.

    On the starter model it ended 11 to 23 times as high in runs whose learning rate was 25 times too high, and never
    above its beginning in good ones. Policy gradients have no such loss: theirs is near 0 at any moment.
    """
    first, last = seen.at_first("loss"), seen.recent("loss")
    if seen.method in GENERATING or first is None or last is None or last - first <= DIVERGED_SHARE * abs(first):
        return None
    return Health(
        "bad",
        "The loss has risen",
        f"From {first:.2f} over the first steps to {last:.2f}: steps are too large, and the model unlearns what it "
        "knew. Lower the learning rate.",
    )


def unended_answers(seen: Seen) -> Health | None:
    """Half of the answers reach the length limit and never say that they are over (TRL: completions/clipped_ratio)."""
    clipped = seen.recent("completions/clipped_ratio")
    if clipped is None or clipped < UNENDED_SHARE:
        return None
    return Health(
        "bad",
        "Answers do not end",
        f"{_percent(clipped)} of the answers sampled lately were cut off at the length limit, without an end-of-text "
        "token. Allow longer answers, or go back to a version that ends its answers.",
    )


def chosen_falls(seen: Seen) -> Health | None:
    """DPO's known failure: both answers become unlikely, the better one only less so (arXiv:2402.13228, 2404.19733).

    The margin hides it. On the starter model the better answers gained 1.4 nats in good runs (with a likelihood term),
    and lost 23 to 66 in runs of the paper's loss alone whose answers fell apart. One nat: a third as likely as before.
    """
    chosen, rejected = seen.in_nats("rewards/chosen"), seen.in_nats("rewards/rejected")
    if not seen.has_reference or chosen is None or rejected is None:
        return None
    if chosen > -FALLEN_NATS or rejected > chosen:
        return None
    return Health(
        "warn",
        "Chosen answers are losing probability",
        f"They are {-chosen:.1f} nats less likely than under the parent, the rejected ones {-rejected:.1f}: the gap "
        f"widens, but both become unlikely, and something else takes their place. {_more_likelihood(seen)}",
    )


def _more_likelihood(seen: Seen) -> str:
    if seen.method == "dpo":
        return "Raise the weight of the better answer itself, or lower the learning rate."
    return "Raise the weight of a thumb up, or lower the learning rate."


def margins_saturated(seen: Seen) -> Health | None:
    """A margin of more than 30 nats: nothing is left to learn from these pairs, and the model goes on moving.

    On the starter model 2 to 6 nats in good runs, 120 and more in ruined ones. Where the margin is mostly what chosen
    answers gained (46 of 78 nats, from a parent that had never seen a question), it is no sign of ruin. Long answers
    of a large model may reach 30 unharmed, so this warns.
    """
    margin, chosen = seen.in_nats("rewards/margins"), seen.in_nats("rewards/chosen")
    if not seen.has_reference or margin is None or margin <= SATURATED_NATS:
        return None
    if chosen is not None and chosen > margin / 2:
        return None
    return Health(
        "warn",
        "Margins are saturated",
        f"Margin {seen.recent('rewards/margins'):.2f}, which is {margin:.0f} nats; 2 to 6 were healthy on the starter "
        "model. Read the answers before you use this version. Fewer passes or a lower learning rate stop earlier.",
    )


def memorising(seen: Seen) -> Health | None:
    """Held-out loss turned up while the training loss went on falling: the rows are being learned by heart.

    The held-out rows are the same each time, so there is no chance in it; 2 % allow for wobble. Methods that sample
    their answers have no rows to learn by heart, and a loss near 0.
    """
    held = seen.series("eval_loss")
    if seen.method in GENERATING or len(held) < 3:
        return None
    best_step, best = min(held, key=lambda one: one[1])
    last_step, last = held[-1]
    before, after = _loss_near(seen, best_step), _loss_near(seen, last_step)
    if last <= best + TURNED_SHARE * abs(best) or before is None or after is None or after >= before:
        return None
    return Health(
        "warn",
        "Held-out loss has turned",
        f"It was lowest at step {best_step} ({best:.2f}) and is {last:.2f} now, while the training loss fell from "
        f"{before:.2f} to {after:.2f}: the rows are being learned by heart. {_which_is_kept(seen, best_step)}",
    )


def _loss_near(seen: Seen, step: int) -> float | None:
    """The training loss around a step: the mean of the points up to it, a tenth of the run long."""
    span = max(1.0, seen.steps / 10)
    near = [value for at, value in seen.series("loss") if step - span < at <= max(step, span)]
    return fmean(near) if near else None


def _which_is_kept(seen: Seen, best_step: int) -> str:
    if seen.settings.get("keep") == "best":
        return f"The checkpoint that did best is kept (step {best_step} by this measure); fewer passes would do."
    return "Use fewer passes, or keep the best checkpoint instead of the last."


def reward_with_length(seen: Seen) -> Health | None:
    """Reward up, and answers half as long again: the commonest way to please a reward model (arXiv:2310.03716)."""
    rewards, lengths = _rise(seen, "reward"), _rise(seen, "completions/mean_length")
    if not rewards or not lengths or rewards[1] <= rewards[0] or lengths[1] < LONGER * lengths[0]:
        return None
    return Health(
        "warn",
        "Reward rises with length",
        f"Reward from {rewards[0]:.2f} to {rewards[1]:.2f} while answers grew from {lengths[0]:.0f} to "
        f"{lengths[1]:.0f} tokens. The reward model may only like long answers: read them, and compare blind.",
    )


def _rise(seen: Seen, metric: str) -> tuple[float, float] | None:
    first, last = seen.early(metric), seen.recent(metric)
    return None if first is None or last is None else (first, last)


def kl_beyond_target(seen: Seen) -> Health | None:
    """Drift from the parent beyond its target, or beyond 10 nats for an answer where the settings name none.

    TRL's RLOO logs the mean for a token, so it is multiplied by the answer's length. Past some drift a reward model is
    pleased and people are not (arXiv:2210.10760). On the starter model a good run drifted 3 nats.
    """
    kl, length = seen.recent("kl"), seen.recent("completions/mean_length")
    if seen.method not in GENERATING or kl is None or length is None:
        return None
    target = float(seen.settings.get("kl_target") or KL_NATS)
    if kl * length <= target:
        return None
    return Health(
        "warn",
        "Drift is beyond its target",
        f"Answers have drifted {kl * length:.1f} nats from the parent; the target is {target:g}. The reward may no "
        "longer mean what people meant. Raise beta, or lower the learning rate.",
    )


def entropy_collapsed(seen: Seen) -> Health | None:
    """A tenth of the choice that was there: each sample is the same answer, so nothing is tried (arXiv:2505.22617).

    On the starter model a good run of RLOO ended at a quarter: preferring one style of four costs that much.
    """
    entropy = _rise(seen, "entropy")
    if seen.method not in GENERATING or not entropy or entropy[1] >= COLLAPSED_ENTROPY * entropy[0]:
        return None
    return Health(
        "warn",
        "Entropy has collapsed",
        f"From {entropy[0]:.2f} to {entropy[1]:.3f} nats a token: the model gives nearly the same answer each time and "
        "tries nothing new. Lower the learning rate, or stop earlier.",
    )


def rewards_all_equal(seen: Seen) -> Health | None:
    """Most prompts' answers all get the same reward (TRL: frac_reward_zero_std), and equal rewards teach nothing."""
    equal = seen.recent("frac_reward_zero_std")
    if equal is None or equal < NO_SPREAD:
        return None
    return Health(
        "warn",
        "Rewards are all equal",
        f"For {_percent(equal)} of the prompts all sampled answers got the same reward, which teaches nothing. "
        "Sample more answers a prompt, or use harder prompts.",
    )


def gradient_exploding(seen: Seen) -> Health | None:
    """Ten times what it was at first, and beyond the norm at which gradients are cut.

    On the starter model the mean of the last fifth was up to twice that of the first steps in good runs, and 8 to 30
    times in ruined ones.
    """
    first, last = seen.at_first("grad_norm"), seen.recent("grad_norm")
    if first is None or last is None or last <= EXPLODED * first or last <= CLIPPED_NORM:
        return None
    return Health(
        "warn",
        "Gradients are exploding",
        f"Gradient norm {last:.1f} lately, {first:.2g} at first. Steps are cut to norm {CLIPPED_NORM:g}, but their "
        "direction is noise. Lower the learning rate.",
    )


def at_chance(seen: Seen) -> Health | None:
    """Past half way, and the better of two answers is picked hardly more often than a coin would.

    Held-out pairs where there are any, else the training pairs. 55 %: two standard errors on 400 pairs.
    """
    accuracy = _accuracy(seen)
    if seen.method not in IN_PAIRS or not seen.half_way or accuracy is None or accuracy[1] > CHANCE:
        return None
    where, share = accuracy
    return Health(
        "warn",
        "Accuracy is at chance",
        f"The better answer is told from the worse in {_percent(share)} of the {where} pairs, as a coin would. People "
        "may not agree with each other here, or the learning rate is too low.",
    )


def _accuracy(seen: Seen) -> tuple[str, float] | None:
    metric = "accuracy" if seen.method == "reward_model" else "rewards/accuracies"
    if held := seen.values(f"eval_{metric}"):
        return "held-out", held[-1]
    recent = seen.recent(metric)
    return None if recent is None else ("training", recent)


def nothing_learned(seen: Seen) -> Health | None:
    """Past half way, and the measure that this method moves has not moved.

    DPO and KTO: less than half a nat of margin (methods.base.margin_verdict). The others: the loss, on held-out rows
    where there are any, fell by less than 1 %. Methods that sample: the reward rose by less than two standard errors.
    """
    if not seen.half_way:
        return None
    unmoved = _unmoved(seen)
    if not unmoved:
        return None
    advice = "Raise the learning rate, add a pass over the data, or gather more."
    return Health("warn", "Nothing learned", f"{unmoved} {advice}")


def _unmoved(seen: Seen) -> str:
    """The sentence about the measure that has not moved; "" where it has, or nothing can be said."""
    if seen.has_reference:
        margin = seen.in_nats("rewards/margins")
        return f"The margin is only {margin:.2f} nats." if margin is not None and margin < LEARNED_NATS else ""
    if seen.method in GENERATING:
        return _unmoved_reward(seen)
    held = seen.values("eval_loss")
    first, last = (held[0], held[-1]) if len(held) > 1 else (seen.early("loss"), seen.recent("loss"))
    if first is None or last is None or first - last > LEARNED_SHARE * abs(first):
        return ""
    where = "held-out" if len(held) > 1 else "training"
    return f"The {where} loss was {first:.3f} at first and is {last:.3f} now."


def _unmoved_reward(seen: Seen) -> str:
    rewards = seen.values("reward")
    if len(rewards) < 2 * JUDGED_FROM:
        return ""
    first, last = rewards[: _fifth(rewards)], rewards[-_fifth(rewards) :]
    spread = fmean(seen.values("reward_std") or [0.0]) / math.sqrt(len(first))
    if fmean(last) - fmean(first) > 2 * spread / math.sqrt(_answers_a_step(seen)):
        return ""
    return f"The reward was {fmean(first):.2f} at first and is {fmean(last):.2f} now."


def _answers_a_step(seen: Seen) -> float:
    return float(seen.settings.get("batch_size") or 1) * float(seen.settings.get("accumulate") or 1)


Rule = Callable[[Seen], Health | None]
RULES: tuple[Rule, ...] = (
    loss_not_finite,
    diverging,
    unended_answers,
    chosen_falls,
    margins_saturated,
    memorising,
    reward_with_length,
    kl_beyond_target,
    entropy_collapsed,
    rewards_all_equal,
    gradient_exploding,
    at_chance,
    nothing_learned,
)


# ---- what goes well -------------------------------------------------------------------------------------------------


def healthy_words(seen: Seen) -> str:
    """The figures that matter for this method: "Margin 0.41; chosen answers are not losing probability. …" """
    words = [_in_training(seen), held_out_words(seen)]
    return " ".join(sentence for sentence in words if sentence) or f"{_steps_measured(seen)}."


def _in_training(seen: Seen) -> str:
    margin = seen.recent("rewards/margins")
    if seen.has_reference and margin is not None:
        return f"Margin {_plain(margin)}; chosen answers are not losing probability."
    if seen.method in GENERATING and (reward := _rise(seen, "reward")):
        return f"Reward {_way(reward)}{_lengths(seen)}."
    if margin is not None:
        return f"Margin {_plain(margin)}; loss {_way(_rise(seen, 'loss'))}."
    return f"Loss {way}." if (way := _way(_rise(seen, "loss"))) else ""


def _lengths(seen: Seen) -> str:
    lengths = _rise(seen, "completions/mean_length")
    return f"; answers are {lengths[1]:.0f} tokens long ({lengths[0]:.0f} at first)" if lengths else ""


def _way(pair: tuple[float, float] | None) -> str:
    """rose to 0.95 / fell from 2.10 to 1.40 / stayed at 1.20"""
    if pair is None:
        return ""
    first, last = (_plain(value) for value in pair)
    if first == last:
        return f"stays at {last}"
    return f"{'rose' if pair[1] > pair[0] else 'fell'} from {first} to {last}"


def held_out_words(seen: Seen) -> str:
    """ "Held-out accuracy rose to 71 % and has not turned." """
    metric, called, higher_is_better = HELD_OUT.get(seen.method, OTHERS_HELD_OUT)
    held = seen.series(metric)
    if not held:
        return ""
    shown: Callable[[float], str] = _percent if called == "accuracy" else "{:.2f}".format
    last = held[-1][1]
    if len(held) == 1:
        return f"Held-out {called} is {shown(last)}."
    first, best = held[0][1], (max if higher_is_better else min)(held, key=lambda one: one[1])
    moved = "stays at" if shown(first) == shown(last) else "rose to" if last > first else "fell to"
    if last != held[0][1] and (last > held[0][1]) is not higher_is_better:
        return f"Held-out {called} {moved} {shown(last)} from {shown(held[0][1])}, which is not better."
    return f"Held-out {called} {moved} {shown(last)}{_turned(best, last, called, shown)}."


def _turned(best: tuple[int, float], last: float, called: str, shown: Callable[[float], str]) -> str:
    wobble = TURNED_ACCURACY if called == "accuracy" else TURNED_SHARE * abs(best[1])
    if abs(best[1] - last) <= wobble:
        return " and has not turned"
    return f"; its best was {shown(best[1])}, at step {best[0]}"


def _plain(value: float) -> str:
    """Two digits, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
