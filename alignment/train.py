"""The training process: python -m alignment.train runs/<run id>.

It owns the directory while it lives (run_directory.py says what is in it) and needs nothing else: no database, no app.
So the same command runs on this machine, in a terminal or on a cluster. The file `stop` in the directory, or SIGTERM,
asks it to stop: it finishes its step, keeps a checkpoint and says that it was stopped.
"""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from alignment import run_directory
from alignment.methods import method_named
from alignment.methods.base import Inputs, Method, Parent
from alignment.run_directory import MODEL, Outcome
from storage import snapshots
from storage.errors import AppError, DiskFull, RunFailed

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}
POLITENESS = 10  # the label page answers first on a machine that both share


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m alignment.train runs/<run id>", file=sys.stderr)
        return 2
    report = DirectoryReport(Path(arguments[0]).resolve())
    signal.signal(signal.SIGTERM, report.ask_to_stop)  # before the lock: whoever can read our pid may send it
    signal.signal(signal.SIGINT, report.ask_to_stop)
    try:
        with run_directory.lock(report.directory):
            return _run_to_its_end(report)
    except (run_directory.Locked, FileNotFoundError) as error:
        print(f"This run did not start: {error}", file=sys.stderr)
        return 1


def _run_to_its_end(report: DirectoryReport) -> int:
    """Exactly one outcome, whatever happens. Where not even that can be written, the run is seen as killed."""
    if run_directory.read_outcome(report.directory):
        print("This run is over already: outcome.json is there. Start a new run.", file=sys.stderr)
        return 1
    try:
        outcome = train(report)
    except Exception as error:  # the person at the screen gets a sentence, the log gets the traceback
        traceback.print_exc()
        outcome = report.outcome("failed", sentence_for(error))
    print(f"{outcome.state}: {outcome.message}", flush=True)
    run_directory.write_outcome(report.directory, outcome)
    return 0 if outcome.state == "succeeded" else 1


def train(report: DirectoryReport) -> Outcome:
    """Read run.json and the snapshot, and let the method do the work."""
    described = run_directory.read_run(report.directory)
    _be_a_good_neighbour(int(described.get("threads", 1)))
    report.sample_prompts = described.get("sample_prompts", [])
    chosen = method_named(described["method"])
    method = chosen.model_validate(described["settings"])
    rows = read_rows(report.directory, described["snapshot"])
    final = method.train(Inputs(rows, Parent(**described["parent"]), report.directory), report)
    return _judged(report, method, len(rows), final)


def _judged(report: DirectoryReport, method: Method, rows: int, final: Mapping[str, float]) -> Outcome:
    if report.stop_asked:
        sentence = (
            f"Stopped by request after {report.step} of {report.steps} steps; "
            f"the checkpoint of step {report.step} is kept."
        )
        return report.outcome("stopped", sentence, final)
    seconds = f"{report.seconds:.0f} s" if report.seconds < 120 else f"{report.seconds / 60:.0f} min"
    sentence = f"Trained on {rows} {method.rows_are} in {seconds}; {method.verdict(final)}"
    return report.outcome("succeeded", sentence, final)


def read_rows(directory: Path, snapshot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the snapshot that run.json names. Raises RunFailed where the file is another one."""
    path = directory / run_directory.SNAPSHOT
    if snapshots.fingerprint(path) != snapshot["fingerprint"]:
        raise RunFailed(
            "The snapshot in the run's directory is not the one this run was started with (its fingerprint differs): "
            "it was damaged or changed. Start a new run from the snapshot."
        )
    return snapshots.read_rows(path)


class DirectoryReport:
    """Writes what a method tells into the directory, one flushed line at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sample_prompts: Sequence[Sequence[Mapping[str, str]]] = ()
        self._signalled = False
        self.step = self.steps = 0
        self.notes: list[str] = []
        self._started = self._last = time.monotonic()
        self._tokens = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def stop_asked(self) -> bool:
        return self._signalled or (self.directory / run_directory.STOP).exists()

    def ask_to_stop(self, signal_number: int, frame: FrameType | None) -> None:
        self._signalled = True

    def metrics(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        self.step, self.steps = step, steps
        line = {"step": step, "steps": steps, "time": time.time(), **values, **self._speed(values)}
        _append(self.directory / run_directory.METRICS, _finite(line))
        if not math.isfinite(values["loss"]):
            raise RunFailed(
                f"The loss was no longer a number after step {step} of {steps}: the model fell apart. Lower the "
                "learning rate and run again."
            )

    def samples(self, step: int, texts: Sequence[str]) -> None:
        for index, text in enumerate(texts):
            _append(self.directory / run_directory.SAMPLES, {"step": step, "prompt_index": index, "text": text})

    def note(self, sentence: str) -> None:
        print(sentence, flush=True)
        self.notes.append(sentence)

    def evaluation(self, values: Mapping[str, Any]) -> None:
        run_directory.write_json(self.directory / run_directory.EVALUATION, values)

    def outcome(
        self, state: run_directory.OutcomeState, sentence: str, final: Mapping[str, float] | None = None
    ) -> Outcome:
        adapter = self.directory / MODEL / "adapter_model.safetensors"
        return Outcome(
            state=state,
            message=" ".join([sentence, *self.notes]),
            steps=self.step,
            seconds=round(self.seconds, 2),
            final=_finite(final or {}),
            peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            fingerprint=snapshots.fingerprint(adapter) if state == "succeeded" else "",
        )

    def _speed(self, values: Mapping[str, float]) -> dict[str, float]:
        """Tokens a second since the last line, where the trainer counts tokens."""
        if "num_tokens" not in values:
            return {}
        now, tokens = time.monotonic(), values["num_tokens"]
        speed = (tokens - self._tokens) / max(1e-6, now - self._last)
        self._last, self._tokens = now, tokens
        return {"tokens_per_second": round(speed, 1)}


def _be_a_good_neighbour(threads: int) -> None:
    """Before torch is imported: threads, no telemetry, a low priority."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.nice(POLITENESS)


def sentence_for(error: Exception) -> str:
    """What the person at the screen reads of an error that ended a run."""
    if isinstance(error, AppError):
        return str(error)
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    if full or "No space left on device" in str(error):  # safetensors and torch raise errors of their own
        return str(DiskFull("The disk is full, so the run could not go on. Free some space and start it again."))
    last = traceback.format_exception_only(error)[-1].strip()
    return f"The run ended with an error it did not expect: {last} The whole story is in log.txt of this run."


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """JSON has no word for infinity; a value that is not a number is left out."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
