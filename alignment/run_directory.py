"""What lies in the directory of a run, who writes it, and what can be told from it.

    runs/<run id>/
      run.json           method, settings, parent, snapshot, package versions       by the app, before the run starts
      snapshot.parquet   the rows to learn from                                     by the app
      accelerate.yaml    how its processes share the work, where there are several  by the launcher
      submission.json    where on a cluster it lies in line                         by the launcher
      log.txt            everything the run printed                                 created by the launcher
      stop               its existence asks the run to stop at its next step        by the launcher
      lock               held (flock) by the run while it lives; holds its pid      by the run, and so are the rest
      metrics.jsonl      one line per logged step
      samples.jsonl      fixed held-out prompts answered as training goes
      evaluation.json    what was measured on held-out rows, where a curve does not say it
      checkpoints/       to resume from: checkpoint-<step>/, whole where it holds a file `complete`
      model/             the result
      tracker/           what another tracker wrote, where one was asked for
      outcome.json       written last: succeeded, failed or stopped
      attempts/          log and outcome of each time it was started before it was resumed, numbered from 1

The directory is the truth about a run, because it outlives the browser tab, the app and the run itself. So `state_of`
needs nothing but the directory: whoever asks, now or after a restart, gets the same answer.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from storage.errors import AppError, RunFailed

DirectoryState = Literal["prepared", "starting", "training", "ended", "killed", "missing"]
OutcomeState = Literal["succeeded", "failed", "stopped"]

RUN, SNAPSHOT, LOG, LOCK, OUTCOME = "run.json", "snapshot.parquet", "log.txt", "lock", "outcome.json"
STOP = "stop"
METRICS, SAMPLES, CHECKPOINTS, MODEL = "metrics.jsonl", "samples.jsonl", "checkpoints", "model"
EVALUATION = "evaluation.json"
TRACKED = "tracker"
ACCELERATE, SUBMISSION, ATTEMPTS = "accelerate.yaml", "submission.json", "attempts"
COMPLETE = "complete"  # in a checkpoint, written last

STARTING_SECONDS = 60.0  # a launched process that has not taken its lock by then never will
KILLED = (
    "The run was ended from outside before it could say why (the machine restarted, ran out of memory, or someone "
    "ended the process), or its disk was full. Its last words are in the log; nothing of it is served. Resume it: it "
    "goes on from its last checkpoint, or starts over where it has none."
)


@dataclass(frozen=True)
class Outcome:
    """How a run ended, in a sentence for the person at the screen and in numbers.

    `fingerprint` is of what it made, `made_with` of what it trained with (storage.model_versions.MadeWith).
    """

    state: OutcomeState
    message: str
    steps: int
    seconds: float
    final: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: int = 0
    fingerprint: str = ""
    made_with: Mapping[str, str] = field(default_factory=dict)


class Locked(AppError):
    """Another process is training in this directory."""

    status = 409


def state_of(directory: Path, now: float | None = None) -> DirectoryState:
    """Where the run is.

    Read in the order in which a run writes it: it is dead where it had its lock, has it no more and left no outcome.
    The other way round, one that takes its lock between two looks would be taken for dead.
    """
    if not (directory / RUN).exists():
        return "missing"
    had_its_lock = read_pid(directory) is not None
    if lock_is_held(directory):
        return "training"
    if (directory / OUTCOME).exists():
        return "ended"
    if had_its_lock:
        return "killed"
    return _before_the_lock(directory, time.time() if now is None else now)


def _before_the_lock(directory: Path, now: float) -> DirectoryState:
    try:
        launched = (directory / LOG).stat().st_mtime
    except FileNotFoundError:
        return "prepared"
    return "starting" if now - launched < STARTING_SECONDS else "killed"


def newest_checkpoint(directory: Path) -> Path | None:
    """The checkpoint to go on from: the one of the highest step that is whole on disk."""
    whole = [folder for folder in (directory / CHECKPOINTS).glob("checkpoint-*") if (folder / COMPLETE).exists()]
    return max(whole, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, which its name says; -1 for a name that says none."""
    step = checkpoint.name.removeprefix("checkpoint-")
    return int(step) if step.isdigit() else -1


def attempt(directory: Path) -> int:
    """Which attempt at this run is the present one: 1, and one more for each time it was reopened."""
    numbers = [path.stem.rpartition("-")[2] for path in (directory / ATTEMPTS).glob("*-*")]
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=0)


def reopen(directory: Path) -> None:
    """Make a run that has ended `prepared` again, with its checkpoints, curves and samples where they are.

    Raises Locked while it trains. The lock goes last: until then a crash leaves a run that is still seen as ended.
    """
    with lock(directory, patience=1.0):
        number = attempt(directory)
        (directory / ATTEMPTS).mkdir(exist_ok=True)
        (directory / ATTEMPTS / f"ended-{number}").touch()  # counts the attempt, also one that left nothing
        for name in (LOG, SUBMISSION, OUTCOME):
            _keep(directory / name, directory / ATTEMPTS, number)
        (directory / STOP).unlink(missing_ok=True)
        (directory / LOCK).unlink(missing_ok=True)


def end_before_it_begins(directory: Path, sentence: str) -> None:
    """A run in line is stopped by its outcome: whoever starts it later sees that it is over. Raises Locked."""
    with lock(directory, patience=0.5):
        write_outcome(directory, Outcome("stopped", sentence, steps=0, seconds=0.0))


def _keep(path: Path, folder: Path, number: int) -> None:
    if path.exists():
        path.rename(folder / f"{path.stem}-{number}{path.suffix}")


@contextmanager
def lock(directory: Path, patience: float = 5.0) -> Iterator[None]:
    """Hold the directory while training. Raises Locked where another process does.

    Patient, because whoever asks for the state holds the lock for an instant too.
    """
    with (directory / LOCK).open("a+") as file:
        _take(file.fileno(), directory, time.monotonic() + patience)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _take(handle: int, directory: Path, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Locked(f"{directory} is being trained by process {read_pid(directory)}.") from None
            time.sleep(0.05)


def lock_is_held(directory: Path) -> bool:
    try:
        with (directory / LOCK).open() as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_pid(directory: Path) -> int | None:
    """The process that holds the lock, or last held it."""
    try:
        text = (directory / LOCK).read_text().strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() else None


def read_run(directory: Path) -> dict[str, Any]:
    """What run.json says. Raises RunFailed."""
    try:
        described: dict[str, Any] = json.loads((directory / RUN).read_text())
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise RunFailed(f"{directory / RUN} cannot be read ({error}). Start a new run.") from error
    return described


def read_submission(directory: Path) -> dict[str, Any] | None:
    """What the launcher of a cluster keeps beside a run it handed over: its address, the job, and a sentence."""
    try:
        said: dict[str, Any] = json.loads((directory / SUBMISSION).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return said


def write_outcome(directory: Path, outcome: Outcome) -> None:
    """All or nothing; its existence means that the run is over."""
    write_json(directory / OUTCOME, asdict(outcome))


def read_outcome(directory: Path) -> Outcome | None:
    """None while there is none. One that cannot be read is a failure: nobody knows any more what came of the run."""
    try:
        return Outcome(**json.loads((directory / OUTCOME).read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        sentence = f"{directory / OUTCOME} was damaged ({error}), so nothing of this run is served. Start it again."
        return Outcome("failed", sentence, steps=0, seconds=0.0)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    part = path.with_suffix(".part")
    with part.open("w") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
