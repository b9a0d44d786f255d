"""Follow a run by reading its directory: how far it is, what it measured, what it answers, how it ended.

Reading changes nothing and keeps nothing that it would miss, so a page can be refreshed, or the app restarted, at any
moment. A page asks for the points since the offset it was given last, so that following a long run costs what is new. A
last line that is only half written is left for the next time.

A run that is resumed cuts its curves back to its checkpoint and goes on from there, so an old offset may lie in the
middle of something else. Whoever asks says the time of the last point it has, too; where no line of that time ends at
the offset, it is given all points anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
    """A run at one moment. `points` are the metrics from `points_from` on, `offset` is where to go on.

    A point is a line of training (with "loss") or one measured on held-out rows (names that begin with "eval_").
    """

    state: str  # a DirectoryState, but ended runs are named by their outcome: succeeded, failed or stopped
    message: str
    step: int
    steps: int
    seconds: float
    seconds_left: float | None
    points: tuple[Mapping[str, float], ...]
    points_from: int
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


def read_progress(directory: Path, since: int = 0, now: float | None = None, after: float | None = None) -> Progress:
    """Everything a page shows of a run. `since` is the offset of an earlier Progress, or 0; `after` the time of the
    last point that was had by then.
    """
    now = time.time() if now is None else now
    state = run_directory.state_of(directory, now)
    outcome = run_directory.read_outcome(directory)
    pace = _of_this_attempt(directory, _tail_points(directory))
    points_from = _still_there(directory / run_directory.METRICS, since, after)
    points, offset = read_lines(directory / run_directory.METRICS, points_from)
    last = pace[-1] if pace else {}
    return Progress(
        state=outcome.state if outcome and state == "ended" else state,
        message=_how_far(last) if state == "training" else _in_line(directory, state) or message_of(state, outcome),
        step=int(last.get("step", 0)),
        steps=int(last.get("steps", 0)),
        seconds=outcome.seconds if outcome else _elapsed(directory, state, last, now),
        seconds_left=seconds_left(pace) if state == "training" else None,
        points=tuple(points),
        points_from=points_from,
        offset=offset,
        samples=read_samples(directory),
        sample_prompts=_sample_prompts(directory),
        outcome=outcome,
        log=log_tail(directory),
    )


def all_points(directory: Path) -> tuple[Mapping[str, Any], ...]:
    """Every point of a run. Read again only when the file has changed."""
    path = directory / run_directory.METRICS
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return _read_points(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=64)
def _read_points(path: Path, size: int, changed: int) -> tuple[Mapping[str, Any], ...]:
    return tuple(point for point in read_lines(path)[0] if isinstance(point, dict))


def message_of(state: DirectoryState, outcome: Outcome | None) -> str:
    """The sentence for the person at the screen."""
    if state == "ended" and outcome:
        return outcome.message
    return {
        "prepared": "Waiting for its turn: one run trains at a time on each device.",
        "starting": "Starting.",
        "training": "Training.",
        "killed": KILLED,
        "missing": "The directory of this run is gone, so nothing can be said about it.",
        "ended": "Ended.",
    }[state]


def _in_line(directory: Path, state: DirectoryState) -> str:
    """What a cluster says of a run that lies in its line; "" where none has it."""
    if state not in ("prepared", "starting"):
        return ""
    return str((run_directory.read_submission(directory) or {}).get("sentence", ""))


def _how_far(last: Mapping[str, float]) -> str:
    return f"Step {last['step']:.0f} of {last['steps']:.0f}." if last else "Loading the model."


def time_left(directory: Path) -> float | None:
    """The seconds that a training run still takes; None where nobody knows yet."""
    return seconds_left(_of_this_attempt(directory, _tail_points(directory)))


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
    """The end of what the run printed; of its attempt before, where the present one has not begun."""
    path = directory / run_directory.LOG
    earlier = sorted((directory / run_directory.ATTEMPTS).glob("log-*"), key=lambda one: one.stat().st_mtime)
    text = _tail(earlier[-1] if earlier and not path.exists() else path).decode(errors="replace")
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


def _still_there(path: Path, since: int, after: float | None) -> int:
    """`since` where the line that ends there is the one that was read then, 0 where the file was cut or begun anew."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, since - LOG_BYTES))
            before = file.read(min(since, LOG_BYTES))
            whole = since <= os.fstat(file.fileno()).st_size and before.endswith(b"\n")
    except FileNotFoundError:
        return 0
    last = _parsed(before.splitlines()[-1]) if whole else []
    return since if last and after in (None, last[0].get("time")) else 0


def _of_this_attempt(directory: Path, points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points by which pace and step are told. Those from before a resume would count the night in between."""
    points = [point for point in points if "step" in point and "steps" in point]
    started = _started(directory)
    return [point for point in points if point.get("time", 0.0) >= started] or points[-1:]


def _started(directory: Path) -> float:
    """When the present attempt took its lock, which is written once; 0 where it has not."""
    try:
        return (directory / run_directory.LOCK).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _elapsed(directory: Path, state: DirectoryState, last: Mapping[str, float], now: float) -> float:
    """How long it has trained, in all its attempts; what it was doing since its last line counts while it lives."""
    since_last = now - last.get("time", _started(directory) or now) if state == "training" else 0.0
    return float(last.get("seconds", 0.0)) + max(0.0, since_last)


def _sample_prompts(directory: Path) -> tuple[tuple[Mapping[str, str], ...], ...]:
    try:
        described = json.loads((directory / run_directory.RUN).read_text())
    except FileNotFoundError:
        return ()
    return tuple(tuple(prompt) for prompt in described.get("sample_prompts", []))
