"""Gold against reward as a policy drifts from its parent: whether a reward is being followed too far.

A reward stands for something and is not it. Followed for long enough it goes on rising while the thing itself falls
(Gao et al. 2022, arXiv:2210.10760, who draw both against the square root of the KL). A run that has a gold function,
which scores answers too and is never learned from, can see that as it happens.

A turn is told from chance by the noise of a step: the mean of the last fifth of the steps lies 2.5 standard errors
below that of the best fifth. (Two would call one steady run in ten a turn: the best of several fifths is compared.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from alignment.measured_points import JUDGED_FROM, Seen, fifth, is_number, step_noise

SURE = 2.5  # standard errors


@dataclass(frozen=True)
class Stretch:
    """The means over a fifth of the steps; `step` is the one in their middle, `drift` in nats an answer."""

    step: int
    drift: float
    reward: float
    gold: float


@dataclass(frozen=True)
class Finding:
    """What gold and reward say of each other. `best` is where gold was highest, where it has fallen since."""

    kind: Literal["", "ok", "warn"]
    title: str
    sentence: str
    best: Stretch | None = None


def gold_against_reward(seen: Seen) -> Finding | None:
    """None for a run without a gold function."""
    steps = [
        Stretch(int(point["step"]), drift, float(point["reward"]), float(point["gold"]))
        for point in seen.training
        if is_number(point.get("gold")) and is_number(point.get("reward")) and (drift := seen.drift(point)) is not None
    ]
    if not steps:
        return None
    if len(steps) < 2 * JUDGED_FROM:
        return Finding("", "Too early", f"{len(steps)} of {seen.steps} steps say nothing yet of gold against reward.")
    return _judged(_stretches(steps), _least_change(steps))


def over_optimised(seen: Seen) -> str:
    """Gold has fallen from its best while the reward went on rising (arXiv:2210.10760): see the top of the module."""
    found = gold_against_reward(seen)
    if found is None or found.best is None:
        return ""
    return (
        f"Gold has fallen from {found.best.gold:.2f} since step {found.best.step}, while the reward went on rising: "
        "answers please the reward and no longer what it stands for. Stop near that step, raise beta, or have people "
        "compare answers like the latest and train the reward model on them too."
    )


def _stretches(steps: Sequence[Stretch]) -> list[Stretch]:
    number = fifth(steps)
    return [_mean(steps[start : start + number]) for start in range(len(steps) - number + 1)]


def _mean(steps: Sequence[Stretch]) -> Stretch:
    drift, reward, gold = (fmean(getattr(one, name) for one in steps) for name in ("drift", "reward", "gold"))
    return Stretch(steps[len(steps) // 2].step, drift, reward, gold)


def _least_change(steps: Sequence[Stretch]) -> float:
    """Of gold between two stretches, to be no chance."""
    return SURE * step_noise([one.gold for one in steps]) * math.sqrt(2 / fifth(steps))


def _judged(stretches: Sequence[Stretch], least: float) -> Finding:
    first, now, best = stretches[0], stretches[-1], max(stretches, key=lambda one: one.gold)
    fallen, risen = best.gold - now.gold > least, now.reward > first.reward
    reward = f"the reward {'rose' if risen else 'fell'} from {first.reward:.2f} to {now.reward:.2f}"
    if fallen and now.reward > best.reward:
        return Finding("warn", "The reward is followed too far", _turned(best, now), best)
    if fallen:
        sentence = f"Gold fell from {best.gold:.2f} to {now.gold:.2f} and {reward}: answers got worse by both."
        return Finding("", "Both fell", f"{sentence} Lower the learning rate.")
    if not risen:
        sentence = f"Gold is {now.gold:.2f} and {reward}: nothing was gained that gold could contradict."
        return Finding("", "No reward gained", sentence)
    gold = f"gold {_way(first.gold, now.gold, least)}"
    sentence = f"Over a drift of {now.drift:.1f} nats an answer {reward} and {gold}: none of it was at gold's cost."
    return Finding("ok", "Gold goes along", sentence)


def _turned(best: Stretch, now: Stretch) -> str:
    return (
        f"Gold was highest, {best.gold:.2f}, around step {best.step}, at a drift of {best.drift:.1f} nats an answer. "
        f"Since then it fell to {now.gold:.2f} while the reward went on from {best.reward:.2f} to {now.reward:.2f}."
    )


def _way(first: float, last: float, least: float) -> str:
    if abs(last - first) <= least:
        return f"stays near {last:.2f}"
    return f"{'rose' if last > first else 'fell'} from {first:.2f} to {last:.2f}"
