"""What Plumbline costs over the same TRL trainer called by a bare script: step time and peak memory.

    python -m benchmarks.overhead [--quick] [METHOD ...]

Each method trains on the starter model in a process of its own, by turns: ours, bare, ours, bare. Same rows, settings,
seed, one thread; held-out measurement off in both, checkpoints and logging on in both. A step's time is CPU time from
the first logged step to the last, over the steps between; memory is the process's peak above that of an interpreter
that does nothing. Answering fixed prompts along the way is not in it; what that adds is the last row of a method,
without a bar. `--quick` takes DPO, once each.

RLOO learns from answers that it samples, so how much work a step is depends on what was drawn. The same reward model
scores them in both, and a bar of its own says that both read the same number of tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from alignment import run_queue
from alignment.base_models import add_base
from alignment.methods import method_named
from benchmarks.bars import Bar, report
from benchmarks.starter_rows import STARTER, frozen, rows
from storage import runs
from storage.database import Database

METHODS = ("sft", "reward_model", "dpo", "kto", "orpo", "pretrain", "rloo")
QUICK_METHODS = ("dpo",)
REPEATS, QUICK_REPEATS = 3, 1
ROWS, QUICK_ROWS = 256, 96
MOST = 1.03
SETTINGS = {"batch_size": 8, "epochs": 1, "held_out_share": 0.0, "keep": "last"}
BATCHES = {"rloo": 32}  # answers, to four prompts
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Cost:
    """CPU seconds a step, megabytes at the peak above an idle interpreter, and tokens read, where TRL counts them."""

    step_seconds: float
    peak_mb: float
    tokens: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once each, DPO unless another is named")
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"of {', '.join(METHODS)}; all unless named")
    options = parser.parse_args()
    if unknown := set(options.methods) - set(METHODS):
        parser.error(f"no such method here: {', '.join(sorted(unknown))}. There are {', '.join(METHODS)}.")
    idle = _idle_mb()
    bars = []
    for method in options.methods or (QUICK_METHODS if options.quick else METHODS):
        with tempfile.TemporaryDirectory() as home:
            found = compared(Path(home), method, options.quick, idle)
        for bar in found:
            print(bar.what, bar.measured, flush=True)
        bars += found
    return report(bars, "Ours over bare TRL, medians of interleaved processes.")


def compared(home: Path, method: str, quick: bool, idle: float) -> list[Bar]:
    repeats, rows_each = (QUICK_REPEATS, QUICK_ROWS) if quick else (REPEATS, ROWS)
    directories = prepared(home, method, 1 + 2 * repeats, rows_each)
    costs: dict[str, list[Cost]] = {"ours": [], "bare": [], "sampling": []}
    for place in range(repeats):
        costs["ours"].append(_cost("ours", directories[2 * place], idle))
        costs["bare"].append(_cost("bare", directories[2 * place + 1], idle))
    costs["sampling"].append(_cost("sampling", directories[-1], idle))
    title = method_named(method).title
    ours, bare, sampling = (_median(costs[kind]) for kind in ("ours", "bare", "sampling"))
    time_ratio, memory_ratio = ours.step_seconds / bare.step_seconds, ours.peak_mb / bare.peak_mb
    return [
        *([same_answers(title, ours, bare)] if method_named(method).asks_reward_model else []),
        Bar(f"{title}: step time over bare TRL", f"{time_ratio:.3f}", f"at most {MOST}", time_ratio <= MOST),
        Bar(f"{title}: peak memory over bare TRL", f"{memory_ratio:.3f}", f"at most {MOST}", memory_ratio <= MOST),
        Bar(f"{title}: with answers along the way", f"{sampling.step_seconds / bare.step_seconds:.2f}", "none", True),
    ]


def same_answers(title: str, ours: Cost, bare: Cost) -> Bar:
    shown = f"{ours.tokens:.0f} over {bare.tokens:.0f}"
    return Bar(f"{title}: tokens read, ours over bare TRL", shown, "equal", ours.tokens == bare.tokens > 0)


def prepared(home: Path, method: str, number: int, rows_each: int) -> list[Path]:
    """So many directories of the same run, as the app prepares them."""
    database = Database.open(home / "plumbline.duckdb")
    add_base(database, str(STARTER), version_id="base")
    settings: dict[str, Any] = {**SETTINGS, "batch_size": BATCHES.get(method, SETTINGS["batch_size"])}
    if method_named(method).asks_reward_model:
        settings["reward_model"] = reward_version(database, home)
    snapshot = snapshot_for(database, home, method, rows_each)
    directories = [
        Path(run_queue.start_run(database, method, settings, snapshot, "base", "benchmark", home).directory)
        for _ in range(number)
    ]
    database.close()
    return directories


def snapshot_for(database: Database, home: Path, method: str, rows_each: int) -> str:
    reads = method_named(method).reads
    return frozen(database, home, reads, rows(reads, rows_each))


def reward_version(database: Database, home: Path) -> str:
    """The id of a reward model, trained from the same base before anything is measured."""
    snapshot = snapshot_for(database, home, "reward_model", QUICK_ROWS)
    begun = run_queue.start_run(database, "reward_model", SETTINGS, snapshot, "base", "benchmark", home)
    while not (run := runs.get(database, begun.id)).ended_at:
        run_queue.follow(database, lambda version: None)
        time.sleep(0.2)
    if run.version_id is None:
        raise SystemExit(f"{run.id}: {run.message}")
    return run.version_id


def _cost(kind: str, directory: Path, idle: float) -> Cost:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overhead_process", kind, str(directory)],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{kind} {directory.name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    said: Mapping[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return Cost(said["step_seconds"], said["peak_mb"] - idle, said["tokens"])


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(values) for values in zip(*map(astuple, costs), strict=True)))


def _idle_mb() -> float:
    script = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    return float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    sys.exit(main())
