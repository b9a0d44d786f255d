"""The points of a run as they are judged: what is early, what is recent, and how much is noise.

What is recent is the last fifth of the steps measured, what is early the first fifth, as in the outcome of a run.
Points of the training loss and points measured on held-out rows (`eval_…`) are separate lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, TypeGuard

Point = Mapping[str, Any]

JUDGED_FROM = 5  # training points; fewer say nothing
HALF = 0.5  # of the steps: only then is it fair to say that nothing was learned
REFERENCED = ("dpo", "kto")  # they measure against the parent
GENERATING = ("rloo", "ppo")


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
        return [(int(point["step"]), float(point[metric])) for point in self.points if is_number(point.get(metric))]

    def values(self, metric: str) -> list[float]:
        return [value for _, value in self.series(metric)]

    def early(self, metric: str) -> float | None:
        """The mean of the first fifth, where enough was measured to compare it with anything."""
        values = self.values(metric)
        return fmean(values[: fifth(values)]) if len(values) >= JUDGED_FROM else None

    def at_first(self, metric: str) -> float | None:
        """What the parent had: the higher of the first two points, as the model has hardly moved before the second.

        (Warm-up begins at a learning rate of 0. A rate that is far too high has ruined the model by the fourth.)
        """
        values = self.values(metric)
        return max(values[:2]) if len(values) > JUDGED_FROM else None

    def recent(self, metric: str) -> float | None:
        values = self.values(metric)
        return fmean(values[-fifth(values) :]) if len(values) >= JUDGED_FROM else None

    def throughout(self, metric: str) -> float | None:
        """The mean of all steps: where a learning rate that falls to nought would make the last ones look well."""
        values = self.values(metric)
        return fmean(values) if len(values) >= JUDGED_FROM else None

    def change(self, metric: str) -> tuple[float, float] | None:
        """The means of the first and of the last fifth."""
        first, last = self.early(metric), self.recent(metric)
        return None if first is None or last is None else (first, last)

    def drift(self, point: Point) -> float | None:
        """From the parent, in nats for a whole answer: PPO logs that, TRL's RLOO the mean for a token."""
        kl, length = point.get("kl"), 1.0 if self.method == "ppo" else point.get("completions/mean_length")
        return kl * length if is_number(kl) and is_number(length) else None

    def in_nats(self, reward: str) -> float | None:
        """How much likelier than under the parent, in nats for a whole answer: TRL's implicit rewards over beta."""
        value = self.recent(reward)
        return None if value is None else value / float(self.settings.get("beta") or 0.1)


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)


def fifth(values: Sequence[object]) -> int:
    return max(1, len(values) // 5)


def step_noise(values: Sequence[float]) -> float:
    """The standard deviation of a step's value around its trend, from the differences of neighbours (von Neumann).

    Answers to one prompt are alike, so their spread over their number would make the noise of a step too small.
    """
    return math.sqrt(fmean((after - before) ** 2 for before, after in pairwise(values)) / 2)
