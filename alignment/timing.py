"""How long a run will take, from a step that was measured and never from a table.

Measured on the newest run that is alike (same method, base, tuning and device), scaled by the tokens of a step; or,
where there is none, on two real steps of the method itself, taken now on a few of the rows in a scratch folder:

    python -m alignment.timing <folder>      reads timing.json there, writes timed.json
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Any

from alignment import run_directory
from alignment.launchers.local import REPOSITORY
from alignment.methods import method_named
from alignment.methods.base import LOGGED_STEPS, PRESETS, Inputs, Method, Parent, Preset, TunedMethod
from alignment.methods.online import OnlineMethod
from alignment.progress import read_lines
from alignment.scorers.chosen import resolved
from alignment.train import POLITENESS

MEASURED_STEPS = 2
FEW_ROWS = 64
JUST_NOW = "two steps just now"
PATIENCE = 180.0  # seconds until two steps are given up: then the run is slow enough to need no estimate
FEWEST_POINTS = 4  # of a run: its first step also warms up
ASKED, ANSWER, SCRATCH = "timing.json", "timed.json", "scratch"


@dataclass(frozen=True)
class StepTime:
    """Seconds a step took, how many tokens or examples went through the model in it, and where that was measured."""

    seconds: float
    size: float
    in_tokens: bool
    measured_on: str


@dataclass(frozen=True)
class StepSize:
    """How much a step of the run that is to start puts through the model."""

    examples: float
    tokens: float

    def like(self, step: StepTime) -> float:
        """Times that of a measured step."""
        return (self.tokens if step.in_tokens else self.examples) / step.size


@dataclass(frozen=True)
class Earlier:
    """A run that is alike, as far as a step's time depends on it."""

    id: str
    directory: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """As the page has it."""

    steps: int
    seconds_per_step: float
    seconds: float
    measured_on: str
    words: str


def estimate(steps: int, step: StepTime, size: StepSize) -> Estimate:
    each = step.seconds * size.like(step)
    words = f"{steps:,} {'step' if steps == 1 else 'steps'} × {_short(each)} = {duration(steps * each)}"
    return Estimate(steps, round(each, 3), round(steps * each, 1), step.measured_on, words)


def seconds_for(preset: Preset, method: Method, parameters: int, rows: int, step: StepTime, size: StepSize) -> float:
    """How long the preset of this method would take on these rows, by the same measured step."""
    tuning = method.tuning if isinstance(method, TunedMethod) else "lora"
    proposed = method.model_copy(update=type(method).proposed(preset, tuning, parameters))
    return proposed.steps(rows) * step.seconds * size.like(step) * batch_of(proposed) / batch_of(method)


def presets(method: Method, parameters: int, rows: int, step: StepTime, size: StepSize) -> dict[Preset, float]:
    return {one: round(seconds_for(one, method, parameters, rows, step, size), 1) for one in PRESETS}


def batch_of(method: Method) -> int:
    """Examples in a step."""
    return method.batch_size * method.accumulate if isinstance(method, TunedMethod) else 1


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _short(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


# ---- on a run that was ----------------------------------------------------------------------------------------------


def of_earlier(runs: Sequence[Earlier], method: Method) -> StepTime | None:
    """From the first of these runs that took enough steps; by tokens where its trainer counted them."""
    for run in runs:
        points, _ = read_lines(Path(run.directory) / run_directory.METRICS)
        if found := step_time(points):
            seconds, tokens = found
            examples = batch_of(type(method).model_validate(_known(type(method), run.settings)))
            return StepTime(seconds, tokens or float(examples), tokens > 0, run.id)
    return None


def step_time(points: Sequence[Mapping[str, float]]) -> tuple[float, float] | None:
    """(median seconds of a step, mean tokens of a step or 0), from the lines that a run wrote.

    The median, because between two steps a run may also have answered prompts or measured itself.
    """
    steps = [point for point in points if "loss" in point]
    pairs = [(a, b) for a, b in pairwise(steps) if b["step"] > a["step"] and _clock(b) > _clock(a)]
    if len(pairs) < FEWEST_POINTS - 1:
        return None
    seconds = median((_clock(b) - _clock(a)) / (b["step"] - a["step"]) for a, b in pairs)
    counted = [(a, b) for a, b in pairs if "num_tokens" in a and "num_tokens" in b]
    tokens = [(b["num_tokens"] - a["num_tokens"]) / (b["step"] - a["step"]) for a, b in counted]
    return seconds, max(0.0, fmean(tokens)) if tokens else 0.0


def _clock(point: Mapping[str, float]) -> float:
    """Seconds that the run has trained where it says so: the time of day also passes while it is stopped."""
    return point.get("seconds", point["time"])


def _known(method: type[Method], settings: Mapping[str, Any]) -> dict[str, Any]:
    """An older run may have settings that this version does not know."""
    return {name: value for name, value in settings.items() if name in method.model_fields}


# ---- on two steps now -----------------------------------------------------------------------------------------------


def measure(
    method: Method,
    rows: Sequence[Mapping[str, Any]],
    parent: Parent,
    scoring: Mapping[str, Any],
    folder: Path,
    environment: Mapping[str, str],
) -> StepTime | None:
    """Two real steps of this method, in a process of its own; None where they could not be taken in time.

    scoring: what scores its answers, as run.json says it (scorers/chosen.py); empty where it samples none.

    Its size is that of a single batch: batches that are added up take their time each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked = {
        "method": method.name,
        "settings": method.model_dump(),
        "parent": asdict(parent),
        **scoring,
        "rows": few_of(rows, method),
    }
    run_directory.write_json(folder / ASKED, asked)
    try:
        seconds = _in_a_process(folder, environment)
    finally:
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    return StepTime(seconds, float(batch_of(short(method))), False, JUST_NOW) if seconds else None


def few_of(rows: Sequence[Mapping[str, Any]], method: Method) -> list[Mapping[str, Any]]:
    """Enough for all steps that are taken, from all over the snapshot: its first rows may all be short."""
    number = max(FEW_ROWS, (1 + MEASURED_STEPS) * batch_of(short(method)))
    return Random(0).sample(list(rows), min(number, len(rows)))


def short(method: Method) -> Method:
    """The same method with nothing measured or kept along the way.

    It takes more steps than are measured, and so few that a run still logs each of them.
    """
    if not isinstance(method, TunedMethod):
        return method
    longer = {"most_steps": LOGGED_STEPS} if isinstance(method, OnlineMethod) else {"accumulate": 1, "epochs": 7}
    return method.model_copy(
        update={**longer, "held_out_share": 0.0, "keep": "last", "evaluations": 1, "tracker": "none"}
    )


def _in_a_process(folder: Path, environment: Mapping[str, str]) -> float:
    """Seconds a step took; 0 where it did not get that far. The process and its children are gone afterwards."""
    command = [sys.executable, "-m", "alignment.timing", str(folder)]
    with (folder / run_directory.LOG).open("wb") as log:
        child = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return 0.0
    finally:
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGKILL)
        child.wait()
    return _answer(folder)


def _answer(folder: Path) -> float:
    try:
        return float(json.loads((folder / ANSWER).read_text())["seconds"])
    except (OSError, ValueError, KeyError):
        return 0.0


# ---- the process that takes them ------------------------------------------------------------------------------------


class Enough(Exception):
    """All steps that are needed were taken."""


class Stopwatch:
    """Notes when each step was done, and ends the training when there are enough. A method's report."""

    sample_prompts: Sequence[Sequence[Mapping[str, str]]] = ()
    stop_asked = False

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done: list[tuple[int, float]] = []

    @property
    def seconds(self) -> float:
        """Of a step, on average, the first left out."""
        (first, began), (last, ended) = self._done[0], self._done[-1]
        return (ended - began) / (last - first)

    def metrics(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        if "loss" in values:
            self._done.append((step, time.monotonic()))
        if len(self._done) > self._steps:
            raise Enough

    def samples(self, step: int, texts: Sequence[str]) -> None:
        return

    def note(self, sentence: str) -> None:
        return

    def evaluation(self, values: Mapping[str, Any]) -> None:
        return


def main(arguments: Sequence[str]) -> int:
    folder = Path(arguments[0])
    asked = json.loads((folder / ASKED).read_text())
    os.nice(POLITENESS - os.nice(0))  # as polite as a run, or it would take another time than one
    method = short(method_named(asked["method"]).model_validate(asked["settings"]))
    watch = Stopwatch(max(MEASURED_STEPS, getattr(method, "iterations", 1)))  # of RLOO's, one of so many samples
    with suppress(Enough):
        method.train(Inputs(asked["rows"], Parent(**asked["parent"]), folder / SCRATCH, **resolved(asked)), watch)
    run_directory.write_json(folder / ANSWER, {"seconds": watch.seconds})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
