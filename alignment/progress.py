"""Follow a run by reading its directory: how far it is, what it measured, what it answers, how it ended.

Reading changes nothing and keeps nothing, so a page can be refreshed, or the app restarted, at any moment. A page asks
for the points since the offset it was given last, so that following a long run costs what is new. A last line that is
only half written is left for the next time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment import run_directory
from alignment.run_directory import KILLED, DirectoryState, Outcome

LOG_LINES = 40
LOG_BYTES = 16_384
SPEED_POINTS = 20  # time left is judged by the pace of this many last points


@dataclass(frozen=True)
class Sample:
    """What the model answered to one of the fixed held-out prompts at a step."""

    step: int
    prompt_index: int
    text: str


@dataclass(frozen=True)
class Progress:
    """A run at one moment. `points` are the metrics since the offset that was asked for, `offset` where to go on."""

    state: str  # a DirectoryState, but ended runs are named by their outcome: succeeded, failed or stopped
    message: str
    step: int
    steps: int
    seconds: float
    seconds_left: float | None
    points: tuple[Mapping[str, float], ...]
    offset: int
    samples: tuple[Sample, ...]
    sample_prompts: tuple[tuple[Mapping[str, str], ...], ...]
    outcome: Outcome | None
    log: tuple[str, ...]

    @property
    def fraction(self) -> float:
        return 1.0 if self.state == "succeeded" else self.step / self.steps if self.steps else 0.0

    @property
    def ended(self) -> bool:
        return self.state not in ("prepared", "starting", "training")


def read_progress(directory: Path, since: int = 0, now: float | None = None) -> Progress:
    """Everything a page shows of a run. `since` is the offset of an earlier Progress, or 0."""
    now = time.time() if now is None else now
    state = run_directory.state_of(directory, now)
    outcome = run_directory.read_outcome(directory)
    pace = [point for point in _tail_points(directory) if "step" in point]
    points, offset = read_lines(directory / run_directory.METRICS, since)
    last = pace[-1] if pace else {}
    return Progress(
        state=outcome.state if outcome and state == "ended" else state,
        message=_how_far(last) if state == "training" else message_of(state, outcome),
        step=int(last.get("step", 0)),
        steps=int(last.get("steps", 0)),
        seconds=outcome.seconds if outcome else _elapsed(directory, state, last, now),
        seconds_left=seconds_left(pace) if state == "training" else None,
        points=tuple(points),
        offset=offset,
        samples=read_samples(directory),
        sample_prompts=_sample_prompts(directory),
        outcome=outcome,
        log=log_tail(directory),
    )


def message_of(state: DirectoryState, outcome: Outcome | None) -> str:
    """The sentence for the person at the screen."""
    if state == "ended" and outcome:
        return outcome.message
    return {
        "prepared": "Waiting for its turn: one run trains at a time.",
        "starting": "Starting.",
        "training": "Training.",
        "killed": KILLED,
        "missing": "The directory of this run is gone, so nothing can be said about it.",
        "ended": "Ended.",
    }[state]


def _how_far(last: Mapping[str, float]) -> str:
    return f"Step {last['step']:.0f} of {last['steps']:.0f}." if last else "Loading the model."


def seconds_left(points: Sequence[Mapping[str, float]]) -> float | None:
    """What the last points' pace means for the steps that are left; None where there is no pace yet."""
    if len(points) < 2:
        return None
    first, last = points[0], points[-1]
    done = last["step"] - first["step"]
    return (last["steps"] - last["step"]) * (last["time"] - first["time"]) / done if done > 0 else None


def read_samples(directory: Path) -> tuple[Sample, ...]:
    lines, _ = read_lines(directory / run_directory.SAMPLES)
    return tuple(Sample(**line) for line in lines)


def log_tail(directory: Path, lines: int = LOG_LINES) -> tuple[str, ...]:
    text = _tail(directory / run_directory.LOG).decode(errors="replace")
    return tuple(text.splitlines()[-lines:])


def read_lines(path: Path, since: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a JSON-lines file from a byte offset on, and the offset after them."""
    try:
        with path.open("rb") as file:
            file.seek(since)
            content = file.read()
    except FileNotFoundError:
        return [], since
    whole = content[: content.rfind(b"\n") + 1]
    return _parsed(whole), since + len(whole)


def _parsed(content: bytes) -> list[dict[str, Any]]:
    """A full disk or a crash may leave a line that is no JSON between whole ones; the others still count."""
    found = []
    for line in content.splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def _tail_points(directory: Path) -> list[dict[str, Any]]:
    """The last points. The tail may begin within a line, which is then no JSON and passed over."""
    content = _tail(directory / run_directory.METRICS)
    points = _parsed(content[: content.rfind(b"\n") + 1])
    return [point for point in points if isinstance(point, dict)][-SPEED_POINTS:]


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
            return file.read()
    except FileNotFoundError:
        return b""


def _elapsed(directory: Path, state: DirectoryState, last: Mapping[str, float], now: float) -> float:
    try:
        started = (directory / run_directory.LOCK).stat().st_mtime  # written once, when the run began
    except FileNotFoundError:
        return 0.0
    return max(0.0, (now if state == "training" else last.get("time", started)) - started)


def _sample_prompts(directory: Path) -> tuple[tuple[Mapping[str, str], ...], ...]:
    try:
        described = json.loads((directory / run_directory.RUN).read_text())
    except FileNotFoundError:
        return ()
    return tuple(tuple(prompt) for prompt in described.get("sample_prompts", []))
