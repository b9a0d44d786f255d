"""A run is killed at a random moment and resumed: are its weights those of a run that nobody disturbed?

    python -m benchmarks.resume [--quick]

Twenty kills (`kill -9` of the training process), at moments drawn evenly over the time a run takes, of runs with the
same seed on the same rows: DPO on the starter model, float32, one thread. A kill after the first checkpoint has to go
on from it; an earlier one starts over. Either way the adapter must be the same file, byte for byte.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from alignment import run_directory, run_queue
from alignment.progress import read_progress
from benchmarks.bars import Bar, report
from benchmarks.starter_rows import STARTER, home_with_pairs
from storage import runs
from storage.database import Database
from storage.records import Run

KILLS, QUICK_KILLS = 20, 2
PAIRS, QUICK_PAIRS = 64, 24
KILL_SEED = 0


@dataclass(frozen=True)
class Killed:
    """One run that was killed: after how long, at which step it went on, and whether it ended as the other one."""

    after_seconds: float
    checkpoint: int
    equal: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_KILLS} kills of a shorter run")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        database, snapshot_id = home_with_pairs(home, QUICK_PAIRS if quick else PAIRS)
        started = time.monotonic()
        undisturbed = ended(database, begin(database, home, snapshot_id))
        seconds = time.monotonic() - started
        print(f"undisturbed: {seconds:.0f} s, {fingerprint(undisturbed)[:12]}", flush=True)
        chance = random.Random(KILL_SEED)
        found = []
        for number in range(QUICK_KILLS if quick else KILLS):
            run = begin(database, home, snapshot_id)
            found.append(
                killed_and_resumed(database, run, chance.uniform(0.5, 0.95 * seconds), fingerprint(undisturbed))
            )
            print(f"{number + 1}: {found[-1]}", flush=True)
        database.close()
    later = [one for one in found if one.checkpoint]
    earlier = [one for one in found if not one.checkpoint]
    return report(
        [
            _bar("killed after the first checkpoint, resumed from it: weights equal", later),
            _bar("killed before the first checkpoint, started over: weights equal", earlier),
        ],
        f"{len(found)} kills of DPO on {STARTER.name}.",
    )


def _bar(what: str, found: list[Killed]) -> Bar:
    equal = sum(one.equal for one in found)
    return Bar(what, f"{equal} of {len(found)}", "all", equal == len(found))


def begin(database: Database, home: Path, snapshot_id: str) -> Run:
    return run_queue.start_run(database, "dpo", {"epochs": 2}, snapshot_id, "base", "benchmark", home)


def killed_and_resumed(database: Database, run: Run, after: float, wanted: str) -> Killed:
    """Kills the training process so many seconds after it was launched (not before it has its lock), and goes on."""
    directory = Path(run.directory)
    deadline = time.monotonic() + after
    while time.monotonic() < deadline or run_directory.read_pid(directory) is None:
        follow(database)
    with suppress(ProcessLookupError):  # it was faster this time
        os.kill(run_directory.read_pid(directory) or 0, signal.SIGKILL)
    checkpoint = run_directory.newest_checkpoint(directory)
    run = ended(database, run)
    if run.state == "killed":
        run_queue.resume_run(database, run.id)
        run = ended(database, run)
    step = int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0
    return Killed(round(after, 1), step, fingerprint(run) == wanted)


def ended(database: Database, run: Run) -> Run:
    while not (now := runs.get(database, run.id)).ended_at:
        follow(database)
    return now


def follow(database: Database) -> None:
    run_queue.follow(database, lambda version: None)
    time.sleep(0.1)


def fingerprint(run: Run) -> str:
    outcome = read_progress(Path(run.directory)).outcome
    return outcome.fingerprint if outcome else ""


if __name__ == "__main__":
    sys.exit(main())
