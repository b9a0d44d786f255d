"""The training process: python -m alignment.train runs/<run id>.

It owns the directory while it lives (run_directory.py says what is in it) and needs nothing else: no database, no app.
So the same command runs on this machine, in a terminal or on a cluster. The file `stop` in the directory, or SIGTERM,
asks it to stop: it finishes its step, keeps a checkpoint and says that it was stopped.

Where a whole checkpoint lies in the directory, training goes on from it: curves and samples are first cut back to its
step, so that a run that was stopped or killed leaves the same files as one that was not. Where accelerate starts
several processes, each runs this file, and only the first takes the lock and writes.
"""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

from alignment import run_directory
from alignment.devices import hardware
from alignment.methods import method_named
from alignment.methods.base import Inputs, Method, Parent, Stopped, TunedMethod
from alignment.progress import read_lines
from alignment.run_directory import MODEL, Outcome
from alignment.scorers.checks import left_out_sentence
from alignment.scorers.chosen import asked_about, resolved
from labeling.engines.faithful import WEIGHTS, made_with
from labeling.engines.whole_weights import fingerprint, read_and_note
from storage import snapshots
from storage.errors import AppError, DiskFull, RunFailed
from storage.model_versions import MadeWith

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
    directory = Path(arguments[0]).resolve()
    if int(os.environ.get("RANK", "0")):
        return _beside_the_first(directory)
    report = DirectoryReport(directory)
    signal.signal(signal.SIGTERM, report.ask_to_stop)  # before the lock: whoever can read our pid may send it
    signal.signal(signal.SIGINT, report.ask_to_stop)
    try:
        with run_directory.lock(report.directory):
            return _run_to_its_end(report)
    except (run_directory.Locked, FileNotFoundError) as error:
        print(f"This run did not start: {error}", file=sys.stderr)
        return 1


def _beside_the_first(directory: Path) -> int:
    """A further process of the same run: it computes and says nothing. An error of it ends them all."""
    report = SilentReport(directory)
    signal.signal(signal.SIGTERM, report.ask_to_stop)
    signal.signal(signal.SIGINT, report.ask_to_stop)
    try:
        _learn(report)
    except Stopped:
        return 0
    return 0


def _run_to_its_end(report: DirectoryReport) -> int:
    """Exactly one outcome, whatever happens. Where not even that can be written, the run is seen as killed."""
    if run_directory.read_outcome(report.directory):
        print("This run is over already: outcome.json is there. Start a new run.", file=sys.stderr)
        return 1
    try:
        outcome = train(report)
    except Exception as error:  # the person at the screen gets a sentence, the log gets the traceback
        traceback.print_exc()
        outcome = report.outcome("failed", sentence_for(error) + _what_is_kept(report.directory))
    print(f"{outcome.state}: {outcome.message}", flush=True)
    run_directory.write_outcome(report.directory, outcome)
    return 0 if outcome.state == "succeeded" else 1


def train(report: DirectoryReport) -> Outcome:
    """Read run.json and the snapshot, and let the method do the work, from its last checkpoint on if there is one."""
    print(f"Hardware: {json.dumps(hardware())}", flush=True)
    report.go_on_from(run_directory.newest_checkpoint(report.directory))
    try:
        method, rows, final, noted = _learn(report)
    except Stopped:
        sentence = f"Stopped by request after {report.step} of {report.steps} steps;"
        return report.outcome("stopped", f"{sentence} the checkpoint of step {report.step} is kept.")
    return report.succeeded(_told(report, method, rows, final), final, noted)


def _learn(report: DirectoryReport) -> tuple[Method, int, Mapping[str, float], MadeWith]:
    described = run_directory.read_run(report.directory)
    _be_a_good_neighbour(described)
    _leave_out_what_is_not_asked_for(described["settings"])
    report.sample_prompts = described.get("sample_prompts", [])
    method = method_named(described["method"]).model_validate(described["settings"])
    rows = _asked_about(read_rows(report.directory, described["snapshot"]), described)
    parent = Parent(**described["parent"])
    noted = made_with(parent.base_path, parent.template)  # before they are read: this is what the run trains with
    inputs = Inputs(
        rows,
        parent,
        report.directory,
        checkpoint=run_directory.newest_checkpoint(report.directory),
        **resolved(described),
    )
    return method, len(rows), method.train(inputs, report), noted


def _told(report: DirectoryReport, method: Method, rows: int, final: Mapping[str, float]) -> str:
    seconds = f"{report.seconds:.0f} s" if report.seconds < 120 else f"{report.seconds / 60:.0f} min"
    learned = f"{final.get('learned_rows', rows):,.0f} {method.rows_are}"
    sentence = f"Trained on {learned} in {seconds}; {method.verdict(final)}"
    measured = method.held_out_verdict(final) if isinstance(method, TunedMethod) else ""
    return f"{sentence} {measured}".strip()


def _what_is_kept(directory: Path) -> str:
    checkpoint = run_directory.newest_checkpoint(directory)
    return f" The checkpoint of step {run_directory.step_of(checkpoint)} is kept." if checkpoint else ""


def read_rows(directory: Path, snapshot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the snapshot that run.json names. Raises RunFailed where the file is another one."""
    path = directory / run_directory.SNAPSHOT
    if snapshots.fingerprint(path) != snapshot["fingerprint"]:
        raise RunFailed(
            "The snapshot in the run's directory is not the one this run was started with (its fingerprint differs): "
            "it was damaged or changed. Start a new run from the snapshot."
        )
    return snapshots.read_rows(path)


def _asked_about(rows: list[dict[str, Any]], described: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Without those that a judge outside may not see. Raises RunFailed where nothing is left."""
    found = asked_about(rows, described.get("scored_by"))
    if left_out := len(rows) - len(found):
        print(left_out_sentence(left_out), flush=True)
    if rows and not found:
        raise RunFailed("Every prompt of this run is confidential, and its judge is outside. Choose another scorer.")
    return found


class DirectoryReport:
    """Writes what a method tells into the directory, one flushed line at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sample_prompts: Sequence[Sequence[Mapping[str, str]]] = ()
        self._signalled = False
        self.step = self.steps = 0
        self.notes: list[str] = []
        self._started = self._last = time.monotonic()
        self._before = self._tokens_before = 0.0  # what earlier attempts at this run took, where it is gone on with
        self._tokens = 0.0

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def go_on_from(self, checkpoint: Path | None) -> None:
        """Leave of the curves and samples what was known at the checkpoint, and of the checkpoints the whole ones."""
        step = run_directory.step_of(checkpoint) if checkpoint else -1
        for folder in (self.directory / run_directory.CHECKPOINTS).glob("checkpoint-*"):
            if not (folder / run_directory.COMPLETE).exists():
                shutil.rmtree(folder)
        cut_back(self.directory / run_directory.SAMPLES, step)
        lines = cut_back(self.directory / run_directory.METRICS, step)
        self._before = float(max((line.get("seconds", 0.0) for line in lines), default=0.0))
        self._tokens_before = float(max((line.get("num_tokens", 0.0) for line in lines), default=0.0))
        if lines:
            self.step, self.steps = lines[-1]["step"], lines[-1]["steps"]
        if checkpoint:
            print(f"Going on from the checkpoint of step {step}.", flush=True)

    @property
    def stop_asked(self) -> bool:
        return self._signalled or (self.directory / run_directory.STOP).exists()

    def ask_to_stop(self, signal_number: int, frame: FrameType | None) -> None:
        """A signal asks one process to stop. Of several, torchrun ends the others by one when the first dies."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RunFailed("Another process of this run ended. Its traceback is in log.txt of this run.")
        self._signalled = True

    def metrics(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        self.step, self.steps = step, steps
        counted = {"num_tokens": self._tokens_before + values["num_tokens"]} if "num_tokens" in values else {}
        now = {"time": time.time(), "seconds": round(self.seconds, 2), "memory_mb": memory_mb()}
        line = {"step": step, "steps": steps, **now, **values, **counted, **self._speed(values)}
        _append(self.directory / run_directory.METRICS, _finite(line))
        if not math.isfinite(values.get("loss", 0.0)):
            raise RunFailed(
                f"The loss was no longer a number at step {step} of {steps}: the model fell apart. Lower the learning "
                "rate and run again."
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
        return Outcome(
            state=state,
            message=" ".join([sentence, *self.notes]),
            steps=self.step,
            seconds=round(self.seconds, 2),
            final=_finite(final or {}),
            peak_memory_mb=peak_memory_mb(),
        )

    def succeeded(self, sentence: str, final: Mapping[str, float], trained_with: MadeWith) -> Outcome:
        """With the fingerprints that tell whoever serves the model that it is still the same."""
        model = self.directory / MODEL
        if is_adapter(model):
            noted, weights = trained_with, fingerprint_of(model)
        else:  # a base of its own, with its own tokenizer beside it
            noted = replace(made_with(model, ""), template=trained_with.template)
            weights = read_and_note(model)
        return replace(self.outcome("succeeded", sentence, final), fingerprint=weights, made_with=asdict(noted))

    def _speed(self, values: Mapping[str, float]) -> dict[str, float]:
        """Tokens a second since the last line, where the trainer counts tokens."""
        if "num_tokens" not in values:
            return {}
        now, tokens = time.monotonic(), values["num_tokens"]
        speed = (tokens - self._tokens) / max(1e-6, now - self._last)
        self._last, self._tokens = now, tokens
        return {"tokens_per_second": round(speed, 1)}


class SilentReport(DirectoryReport):
    """Of a process beside the first: it knows what is asked, and leaves writing to the first."""

    def metrics(self, step: int, steps: int, values: Mapping[str, float]) -> None: ...

    def samples(self, step: int, texts: Sequence[str]) -> None: ...

    def note(self, sentence: str) -> None: ...

    def evaluation(self, values: Mapping[str, Any]) -> None: ...


def cut_back(path: Path, step: int) -> list[dict[str, Any]]:
    """Leave the lines of a JSON-lines file up to this step, and give them. All or nothing: it may be done again."""
    if not path.exists():
        return []
    kept = [line for line in read_lines(path)[0] if line["step"] <= step]
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
    part.replace(path)
    return kept


def fingerprint_of(model: Path) -> str:
    """Of the adapter, or of whole weights, to the last byte: it tells whether a run that was repeated gave the same.

    (A base's own fingerprint reads only the ends of its files, which training may leave as they were.)
    """
    return snapshots.fingerprint(model / WEIGHTS) if is_adapter(model) else fingerprint(model)


def is_adapter(model: Path) -> bool:
    return (model / WEIGHTS).exists()


def memory_mb() -> int:
    """What this process holds now: on the GPU where it trains there, in memory otherwise."""
    if cuda := _cuda():
        return int(cuda.memory_reserved()) >> 20
    resident = int(Path("/proc/self/statm").read_text().split()[1])  # the second number, in pages
    return resident * resource.getpagesize() >> 20


def peak_memory_mb() -> int:
    if cuda := _cuda():
        return int(cuda.max_memory_reserved()) >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _cuda() -> Any:
    """torch.cuda where this process uses it, without importing torch for the question."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_available() and torch.cuda.is_initialized() else None


def _be_a_good_neighbour(described: Mapping[str, Any]) -> None:
    """Before torch is imported: threads, no telemetry, a low priority, and the device that was chosen."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["OMP_NUM_THREADS"] = str(described.get("threads", 1))
    launch = described.get("launch") or {}
    if int(launch.get("processes") or 1) == 1 and (device := launch.get("device")):
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "" if device == "cpu" else device.rpartition(":")[2])
    os.nice(POLITENESS)


def _leave_out_what_is_not_asked_for(settings: Mapping[str, Any]) -> None:
    """transformers and PEFT import bitsandbytes wherever it is installed: seconds and memory that only QLoRA needs."""
    if settings.get("tuning") != "qlora":
        sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # as if it were not there


def sentence_for(error: Exception) -> str:
    """What the person at the screen reads of an error that ended a run."""
    if isinstance(error, AppError):
        return str(error)
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
        return "The GPU has too little memory for this run. Make batches or the longest example smaller, or use lora."
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
