"""What one process of benchmarks.ppo is told and what it tells back, for ours and for its peer alike.

Imported in both environments, so nothing here imports torch, nor anything of the app: only the starter model's rules.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from assets.starter_model.checker import judge

WANTED, ONLY_WELL_FORMED = 1.0, 0.3


@dataclass(frozen=True)
class Job:
    """One training of a method on rows, in a folder of its own.

    reward: the folder of a reward model's adapter; the rule scores where it is empty. held_out: questions that are
    answered at the end. settings: those of our method; the peer translates them.
    """

    method: str
    base: str
    folder: str
    rows: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    reward: str = ""
    held_out: Sequence[str] = ()

    def write(self) -> Path:
        file = Path(self.folder) / "job.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self)))
        return file

    @classmethod
    def of_this_process(cls) -> Job:
        return cls(**json.loads(Path(sys.argv[1]).read_text()))

    @property
    def template(self) -> str:
        return (Path(self.base) / "chat_template.jinja").read_text()


@dataclass
class Told:
    """What became of it. seconds: CPU time of the process at the end of each iteration. curve: what each logged."""

    idle_mb: float
    peak_mb: float = 0.0
    preferred: float = 0.0
    well_formed: float = 0.0
    seconds: list[float] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def after_imports(cls) -> Told:
        """Call it when all that is imported is imported: what comes on top is the work's own."""
        return cls(idle_mb=_peak_mb())

    def iteration(self, values: Mapping[str, float]) -> None:
        self.seconds.append(time.process_time())
        self.curve.append(dict(values))

    def end(self) -> None:
        self.peak_mb = _peak_mb()

    def tell(self) -> None:
        """As the last line of what the process prints."""
        print(json.dumps(asdict(self)))

    @classmethod
    def heard(cls, output: str) -> Told:
        return cls(**json.loads(output.strip().splitlines()[-1]))

    @property
    def seconds_each(self) -> float:
        """Of an iteration, the first left out: who checks something, or makes buffers, does it there."""
        return (self.seconds[-1] - self.seconds[0]) / (len(self.seconds) - 1)

    @property
    def own_mb(self) -> float:
        return self.peak_mb - self.idle_mb

    def first(self, name: str) -> float:
        return self.curve[0][name]

    def last(self, name: str) -> float:
        """The mean of the last fifth of the iterations."""
        return fmean(values[name] for values in self.curve[-max(1, len(self.curve) // 5) :])

    @property
    def diverged(self) -> bool:
        """Numbers that are none, or a reward that ended below where it began."""
        numbers = all(math.isfinite(values["reward"] + values["kl"]) for values in self.curve)
        return not numbers or self.last("reward") < self.first("reward")


def rule_reward(question: str, answer: str) -> float:
    """1 for a well-formed answer in the concise, cited style, 0.3 for one in another style, else 0."""
    verdict = judge(question, answer)
    if not verdict.well_formed:
        return 0.0
    return WANTED if verdict.style == "concise" else ONLY_WELL_FORMED


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
