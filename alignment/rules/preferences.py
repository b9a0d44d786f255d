"""What can go wrong where a run learns which of two answers, or which thumb, is right: a sentence each, or ""."""

from __future__ import annotations

from alignment.measured_points import Seen
from alignment.rules.words import percent

FALLEN_NATS = 1.0
SATURATED_NATS = 30.0
LEARNED_NATS = 0.5
CHANCE = 0.55
IN_PAIRS = ("dpo", "orpo", "reward_model")  # their accuracy is that of a choice between two


def is_saturated(margin: float, chosen: float) -> bool:
    """More than 30 nats of margin, of which the chosen answers gained less than half.

    On the starter model 2 to 6 nats in good runs, 50 and more in ruined ones. Where the margin is mostly what chosen
    answers gained (46 of 78 nats, from a parent that had never seen a question), it is no sign of ruin.
    """
    return margin > SATURATED_NATS and chosen <= margin / 2


def is_unmoved(margin: float) -> bool:
    """Less than half a nat. It was 2.5 and more in good runs."""
    return margin < LEARNED_NATS


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


def at_chance(seen: Seen) -> str:
    """Past half way, and the better of two answers is picked hardly more often than a coin would.

    Held-out pairs where there are any, else the training pairs. 55 %: two standard errors on 400 pairs.
    """
    accuracy = _accuracy(seen)
    if seen.method not in IN_PAIRS or not seen.half_way or accuracy is None or accuracy[1] > CHANCE:
        return ""
    where, share = accuracy
    return (
        f"The better answer is told from the worse in {percent(share)} of the {where} pairs, as a coin would. People "
        "may not agree with each other here, or the learning rate is too low."
    )


def _accuracy(seen: Seen) -> tuple[str, float] | None:
    metric = "accuracy" if seen.method == "reward_model" else "rewards/accuracies"
    if held := seen.values(f"eval_{metric}"):
        return "held-out", held[-1]
    recent = seen.recent(metric)
    return None if recent is None else ("training", recent)
