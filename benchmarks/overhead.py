"""What Plumbline costs over the same TRL trainer called by a bare script: step time and peak memory.

    python -m benchmarks.overhead [--quick]

Each method trains on the starter model in a process of its own, by turns: ours, bare, ours, bare. Same rows, settings,
seed, one thread; held-out measurement off in both, checkpoints and logging on in both. A step's time is CPU time from
the first logged step to the last, over the steps between; memory is the process's peak above that of an interpreter
that does nothing. Answering fixed prompts along the way is not in it; what that adds is the last row of a method,
without a bar.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alignment import run_queue
from alignment.base_models import add_base
from alignment.methods import method_named
from benchmarks.bars import Bar, report
from benchmarks.starter_rows import STARTER, frozen, rows
from storage.database import Database

METHODS = ("sft", "reward_model", "dpo", "kto", "orpo", "pretrain")
REPEATS, QUICK_REPEATS = 3, 1
ROWS, QUICK_ROWS = 256, 96
MOST = 1.03
SETTINGS = {"batch_size": 8, "epochs": 1, "held_out_share": 0.0, "keep": "last"}
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Cost:
    """CPU seconds a step, and megabytes at the peak above an idle interpreter."""

    step_seconds: float
    peak_mb: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="DPO only, once each")
    quick = parser.parse_args().quick
    idle = _idle_mb()
    bars = []
    for method in ("dpo",) if quick else METHODS:
        with tempfile.TemporaryDirectory() as home:
            bars += compared(Path(home), method, quick, idle)
        for bar in bars[-3:]:
            print(bar.what, bar.measured, flush=True)
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
        Bar(f"{title}: step time over bare TRL", f"{time_ratio:.3f}", f"at most {MOST}", time_ratio <= MOST),
        Bar(f"{title}: peak memory over bare TRL", f"{memory_ratio:.3f}", f"at most {MOST}", memory_ratio <= MOST),
        Bar(f"{title}: with answers along the way", f"{sampling.step_seconds / bare.step_seconds:.2f}", "none", True),
    ]


def prepared(home: Path, method: str, number: int, rows_each: int) -> list[Path]:
    """So many directories of the same run, as the app prepares them."""
    database = Database.open(home / "plumbline.duckdb")
    add_base(database, str(STARTER), version_id="base")
    reads = method_named(method).reads
    snapshot = frozen(database, home, reads, rows(reads, rows_each))
    directories = [
        Path(run_queue.start_run(database, method, SETTINGS, snapshot, "base", "benchmark", home).directory)
        for _ in range(number)
    ]
    database.close()
    return directories


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
    return Cost(said["step_seconds"], said["peak_mb"] - idle)


def _median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(one.step_seconds for one in costs), statistics.median(one.peak_mb for one in costs))


def _idle_mb() -> float:
    script = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    return float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    sys.exit(main())
