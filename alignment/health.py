"""What the measurements of a run say about it, in words, with the figures they rest on.

A person comes to a run for one sentence: may I let it go on, may I use what it made? Each rule below looks at the
points of a run and either has nothing to say or names one thing that goes wrong. Thresholds come from three places,
named with each: papers, TRL's own definitions of a metric, and runs of the starter model (3 million parameters, 120
rows), of which good and ruined ones were measured. Where a large model may rightly differ, a rule warns and does not
condemn.

Pure functions of the points (measured_points.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from alignment.measured_points import GENERATING, JUDGED_FROM, Point, Seen, fifth, is_number, step_noise
from alignment.over_optimisation import over_optimised

Kind = Literal["ok", "warn", "bad"]

FALLEN_NATS = 1.0
SATURATED_NATS = 30.0
LEARNED_NATS = 0.5
LEARNED_SHARE = 0.01
RISEN_SHARE = 0.2
LEARN_MORE = "Raise the learning rate, add a pass over the data, or gather more."
TURNED_SHARE = 0.02
TURNED_ACCURACY = 0.02
CHANCE = 0.55
DIVERGED_SHARE = 1.0
EXPLODED = 10.0
CLIPPED_NORM = 1.0  # trl_training.arguments: larger gradients are shortened to this
LONGER = 1.5
KL_NATS = 10.0
SWING = 1.5
CLIPPED_SHARE = 0.2
CUT_PASSES = 0.75
FORESEEN_SHARE = 0.01
COLLAPSED_ENTROPY = 0.1
UNENDED_SHARE = 0.5
NO_SPREAD = 0.8
NO_GRADIENT = 1e-4
EQUAL = 1e-3

IN_PAIRS = ("dpo", "orpo", "reward_model")  # their accuracy is that of a choice between two
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


# ---- what a margin says, for the outcome of a run too ---------------------------------------------------------------


def is_saturated(margin: float, chosen: float) -> bool:
    """More than 30 nats of margin, of which the chosen answers gained less than half.

    On the starter model 2 to 6 nats in good runs, 50 and more in ruined ones. Where the margin is mostly what chosen
    answers gained (46 of 78 nats, from a parent that had never seen a question), it is no sign of ruin.
    """
    return margin > SATURATED_NATS and chosen <= margin / 2


def is_unmoved(margin: float) -> bool:
    """Less than half a nat. It was 2.5 and more in good runs."""
    return margin < LEARNED_NATS


# ---- what can go wrong: each rule gives its sentence, or "" ---------------------------------------------------------


def loss_not_finite(seen: Seen) -> str:
    """A training point whose loss is missing: JSON has no word for a value that is not a number (train.py)."""
    lost = [point for point in seen.training if not is_number(point.get("loss"))]
    if not lost:
        return ""
    rate = seen.settings.get("learning_rate")
    given = f", which was {rate:g}" if is_number(rate) else ""
    return (
        f"It was lost at step {lost[0].get('step', 0)} of {seen.steps}: the model fell apart. "
        f"Start again with a lower learning rate{given}."
    )


def diverging(seen: Seen) -> str:
    """The training loss is twice what it was at first, when the model still was its parent.

    On the starter model it ended 11 to 23 times as high in runs whose learning rate was 25 times too high, and never
    above its beginning in good ones. Policy gradients have no such loss: theirs is near 0 at any moment.
    """
    first, last = seen.at_first("loss"), seen.recent("loss")
    if seen.method in GENERATING or first is None or last is None or last - first <= DIVERGED_SHARE * abs(first):
        return ""
    return (
        f"From {first:.2f} at first to {last:.2f}: steps are too large, and the model unlearns what it "
        "knew. Lower the learning rate."
    )


def unended_answers(seen: Seen) -> str:
    """Half of the answers reach the length limit and never say that they are over (TRL: completions/clipped_ratio)."""
    clipped = seen.recent("completions/clipped_ratio")
    if clipped is None or clipped < UNENDED_SHARE:
        return ""
    return (
        f"{_percent(clipped)} of the answers sampled lately were cut off at the length limit, without an end-of-text "
        "token. Allow longer answers, or go back to a version that ends its answers."
    )


def chosen_falls(seen: Seen) -> str:
    """DPO's known failure: both answers become unlikely, the better one only less so (arXiv:2402.13228, 2404.19733).

    The margin hides it. On the starter model the better answers gained 1.4 nats in good runs (with a likelihood term),
    and lost 23 to 66 in runs of the paper's loss alone whose answers fell apart. One nat: a third as likely as before.
    """
    chosen, rejected = seen.in_nats("rewards/chosen"), seen.in_nats("rewards/rejected")
    if not seen.has_reference or chosen is None or rejected is None:
        return ""
    if chosen > -FALLEN_NATS or rejected > chosen:
        return ""
    weight = "the better answer itself" if seen.method == "dpo" else "a thumb up"
    return (
        f"They are {-chosen:.1f} nats less likely than under the parent, the rejected ones {-rejected:.1f}: the gap "
        "widens, but both become unlikely, and something else takes their place. "
        f"Raise the weight of {weight}, or lower the learning rate."
    )


def margins_saturated(seen: Seen) -> str:
    """Nothing is left to learn from these pairs, and the model goes on moving.

    Long answers of a large model may have such a margin unharmed, so this warns.
    """
    margin, chosen = seen.in_nats("rewards/margins"), seen.in_nats("rewards/chosen")
    if not seen.has_reference or margin is None or not is_saturated(margin, chosen or 0.0):
        return ""
    return (
        f"Margin {seen.recent('rewards/margins'):.2f}, which is {margin:.0f} nats; 2 to 6 were healthy on the starter "
        "model. Read the answers before you use this version. Fewer passes or a lower learning rate stop earlier."
    )


def memorising(seen: Seen) -> str:
    """Held-out loss turned up while the training loss went on falling: the rows are being learned by heart.

    The held-out rows are the same each time, so there is no chance in it; 2 % allow for wobble. Methods that sample
    their answers have no rows to learn by heart, and a loss near 0.
    """
    held = seen.series("eval_loss")
    if seen.method in GENERATING or len(held) < 3:
        return ""
    best_step, best = min(held, key=lambda one: one[1])
    last_step, last = held[-1]
    before, after = _loss_near(seen, best_step), _loss_near(seen, last_step)
    if last <= best + TURNED_SHARE * abs(best) or before is None or after is None or after >= before:
        return ""
    return (
        f"It was lowest at step {best_step} ({best:.2f}) and is {last:.2f} now, while the training loss fell from "
        f"{before:.2f} to {after:.2f}: the rows are being learned by heart. {_which_is_kept(seen, best_step)}"
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


def reward_with_length(seen: Seen) -> str:
    """Reward up, and answers half as long again: the commonest way to please a reward model (arXiv:2310.03716)."""
    rewards, lengths = seen.change("reward"), seen.change("completions/mean_length")
    if not rewards or not lengths or rewards[1] <= rewards[0] or lengths[1] < LONGER * lengths[0]:
        return ""
    return (
        f"Reward from {rewards[0]:.2f} to {rewards[1]:.2f} while answers grew from {lengths[0]:.0f} to "
        f"{lengths[1]:.0f} tokens. The reward model may only like long answers: read them, and compare blind."
    )


def kl_beyond_target(seen: Seen) -> str:
    """Drift from the parent beyond 10 nats for an answer, or far beyond what the settings steer it towards.

    Past some drift a reward model is pleased and people are not (arXiv:2210.10760). On the starter model a good run
    drifted 3 nats. Drift that is steered swings around its target, so half as much again passes.
    """
    drifts = [drift for point in seen.training if (drift := seen.drift(point)) is not None]
    if seen.method not in GENERATING or len(drifts) < JUDGED_FROM:
        return ""
    drift = fmean(drifts[-fifth(drifts) :])
    steered = float(seen.settings.get("kl_target") or 0)
    if drift <= (SWING * steered or KL_NATS):
        return ""
    return (
        f"Answers have drifted {drift:.1f} nats from the parent; the target is {steered or KL_NATS:g}. The reward may "
        "no longer mean what people meant. Raise beta, or lower the learning rate."
    )


def entropy_collapsed(seen: Seen) -> str:
    """A tenth of the choice that was there: each sample is the same answer, so nothing is tried (arXiv:2505.22617).

    On the starter model a good run of RLOO ended at a quarter: preferring one style of four costs that much.
    """
    entropy = seen.change("entropy")
    if seen.method not in GENERATING or not entropy or entropy[1] >= COLLAPSED_ENTROPY * entropy[0]:
        return ""
    return (
        f"From {entropy[0]:.2f} to {entropy[1]:.3f} nats a token: the model gives nearly the same answer each time and "
        "tries nothing new. Lower the learning rate, or stop earlier."
    )


def mostly_clipped(seen: Seen) -> str:
    """PPO: a fifth of the tokens are beyond the clip, where their gradient is nought.

    On the starter model 0 to 3 % in good runs, whatever the clip.
    """
    clipped = seen.throughout("clip_fraction")
    if clipped is None or clipped <= CLIPPED_SHARE:
        return ""
    return (
        f"{_percent(clipped)} of the tokens move further than the clip of {seen.settings.get('clip', 0.1):g} in one "
        "iteration, and what is clipped is not learned from. Lower the learning rate, or make fewer passes."
    )


def passes_cut_short(seen: Seen) -> str:
    """PPO: the policy strays from what sampled the answers before the passes over them are through.

    A good run makes them all. At three quarters, a cut is the rule and not the exception.
    """
    made, asked = seen.throughout("epochs"), seen.settings.get("epochs")
    if seen.method != "ppo" or made is None or not is_number(asked) or made >= CUT_PASSES * asked:
        return ""
    return (
        f"Only {made:.1f} of {asked:g} passes over each iteration's answers are made, because a token's KL from what "
        f"sampled it goes over {1.5 * float(seen.settings.get('most_kl') or 0):g}: steps are too large. Lower the "
        "learning rate, or ask for fewer passes."
    )


def value_knows_nothing(seen: Seen) -> str:
    """PPO, past half way: what the value expects is no nearer to what comes than its mean (explained variance 0).

    Then advantages are as noisy as the rewards, and learning needs so many more answers. Its best step counts: once all
    answers are good, hardly any difference is left to explain (a good run went from 0 over 0.35 to -0.5).
    """
    explained = seen.values("explained_variance")
    if not seen.half_way or len(explained) < JUDGED_FROM or max(explained) > FORESEEN_SHARE:
        return ""
    return (
        f"It never explained more than {_percent(max(explained))} of how rewards differ, which the mean alone does. "
        "So each answer teaches little. Raise the weight of the value, or sample more answers an iteration."
    )


def rewards_all_equal(seen: Seen) -> str:
    """All answers to a prompt get the same reward, and equal rewards teach nothing: no gradient is left.

    TRL counts such prompts (frac_reward_zero_std), but takes the rounding of a mean for a difference: of eight times
    the same answer it counted a half. The gradient tells them all: 1e-10 in that run, 0.5 and more in good ones. PPO
    compares all answers of an iteration, and logs their spread.
    """
    if seen.method == "ppo":
        return _no_spread(seen)
    equal, gradient = seen.recent("frac_reward_zero_std"), seen.recent("grad_norm")
    if equal is None or (equal < NO_SPREAD and (gradient is None or gradient > NO_GRADIENT)):
        return ""
    share = _percent(equal) if equal >= NO_SPREAD else "nearly all"
    return (
        f"For {share} of the prompts all sampled answers got the same reward, which teaches nothing. "
        "Sample more answers a prompt, raise the temperature, or use harder prompts."
    )


def _no_spread(seen: Seen) -> str:
    spread = seen.recent("reward_std")
    if spread is None or spread > EQUAL:
        return ""
    return (
        f"All answers of an iteration get the same reward ({seen.recent('reward'):.2f}), which teaches nothing but "
        "loyalty to the parent. Stop here if that is the best there is; else choose harder prompts or another reward."
    )


def gradient_exploding(seen: Seen) -> str:
    """Ten times what it was at first, and beyond the norm at which gradients are cut.

    On the starter model the last fifth was up to twice the first steps in good runs; in ruined ones, while they fell
    apart, 100 times and more on a tiny model. As the rate falls to 0 they calm again; the loss stays high.
    """
    first, last = seen.at_first("grad_norm"), seen.recent("grad_norm")
    if first is None or last is None or last <= EXPLODED * first or last <= CLIPPED_NORM:
        return ""
    return (
        f"Gradient norm {last:.1f} lately, {first:.2g} at first. Steps are cut to norm {CLIPPED_NORM:g}, but their "
        "direction is noise. Lower the learning rate."
    )


def at_chance(seen: Seen) -> str:
    """Past half way, and the better of two answers is picked hardly more often than a coin would.

    Held-out pairs where there are any, else the training pairs. 55 %: two standard errors on 400 pairs.
    """
    accuracy = _accuracy(seen)
    if seen.method not in IN_PAIRS or not seen.half_way or accuracy is None or accuracy[1] > CHANCE:
        return ""
    where, share = accuracy
    return (
        f"The better answer is told from the worse in {_percent(share)} of the {where} pairs, as a coin would. People "
        "may not agree with each other here, or the learning rate is too low."
    )


def _accuracy(seen: Seen) -> tuple[str, float] | None:
    metric = "accuracy" if seen.method == "reward_model" else "rewards/accuracies"
    if held := seen.values(f"eval_{metric}"):
        return "held-out", held[-1]
    recent = seen.recent(metric)
    return None if recent is None else ("training", recent)


def nothing_learned(seen: Seen) -> str:
    """Past half way, and the measure that this method moves has not moved.

    DPO and KTO: less than half a nat of margin. The others: the loss, on held-out rows where there are any, fell by
    less than 1 %. Methods that sample: the reward rose by less than two standard errors.
    """
    if not seen.half_way:
        return ""
    if seen.has_reference:
        return _unmoved_margin(seen)
    return _unmoved_reward(seen) if seen.method in GENERATING else _unmoved_loss(seen)


def _unmoved_margin(seen: Seen) -> str:
    margin, nats = seen.recent("rewards/margins"), seen.in_nats("rewards/margins")
    if margin is None or nats is None or not is_unmoved(nats):
        return ""
    return f"The margin is only {_plain(margin)}, which is {_plain(nats)} nats. {LEARN_MORE}"


def _unmoved_loss(seen: Seen) -> str:
    held = seen.values("eval_loss")
    where, loss = ("held-out", (held[0], held[-1])) if len(held) > 1 else ("training", seen.change("loss"))
    if loss is None or loss[0] - loss[1] > LEARNED_SHARE * abs(loss[0]):
        return ""
    risen = loss[1] - loss[0] > RISEN_SHARE * abs(loss[0])
    advice = "It has risen: lower the learning rate." if risen else LEARN_MORE
    return f"The {where} loss was {loss[0]:.3f} at first and is {loss[1]:.3f} now. {advice}"


def _unmoved_reward(seen: Seen) -> str:
    rewards = seen.values("reward")
    if len(rewards) < 2 * JUDGED_FROM:
        return ""
    number = fifth(rewards)
    first, last = fmean(rewards[:number]), fmean(rewards[-number:])
    if last - first > 2 * step_noise(rewards) * math.sqrt(2 / number):
        return ""
    return f"The reward was {first:.2f} at first and is {last:.2f} now. {LEARN_MORE}"


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
        return f"Margin {_plain(margin)}; chosen answers are not losing probability."
    if seen.method in GENERATING and (reward := seen.change("reward")):
        return f"Reward {_way(reward)}{_lengths(seen)}."
    if margin is not None:
        return f"Margin {_plain(margin)}; loss {_way(seen.change('loss'))}."
    return f"Loss {way}." if (way := _way(seen.change("loss"))) else ""


def _lengths(seen: Seen) -> str:
    lengths = seen.change("completions/mean_length")
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


def _plain(value: float) -> str:
    """Two digits, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
