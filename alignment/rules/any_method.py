"""What can go wrong in a run of any method: each rule gives its sentence, or ""."""

from __future__ import annotations

import math
from statistics import fmean

from alignment.measured_points import GENERATING, JUDGED_FROM, Seen, fifth, is_number, step_noise
from alignment.rules.preferences import is_unmoved
from alignment.rules.words import plain

DIVERGED_SHARE = 1.0
TURNED_SHARE = 0.02
EXPLODED = 10.0
CLIPPED_NORM = 1.0  # trl_training.arguments: larger gradients are shortened to this
LEARNED_SHARE = 0.01
RISEN_SHARE = 0.2
LEARN_MORE = "Raise the learning rate, add a pass over the data, or gather more."


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
    return f"The margin is only {plain(margin)}, which is {plain(nats)} nats. {LEARN_MORE}"


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
