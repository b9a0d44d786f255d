"""The runs' side of a device that they share with the model servers, one at a time (storage/leases.py).

A device goes to the run that trains on it, or is next in line for it. A run starts once it holds all of its devices
that are shared so: the model servers have let go of their memory by then, and get them back when no run needs them.
What a run has left behind is seen by looking at which runs there still are, so it does not matter how it ended, or
whether an app was there to see it.

A run on a cluster, or on other devices than the servers', holds no lease and waits for none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from alignment import run_directory
from alignment.launchers.launch import Launch
from alignment.progress import time_left
from storage import leases, runs
from storage.database import Database
from storage.errors import NotFound
from storage.leases import CPU, NOBODY, SERVER, Lease
from storage.records import Run, now

LETTING_GO_SECONDS = 30.0  # that a process may still be there, with its memory, after it has written its outcome
NEAR = timedelta(minutes=1)  # an end that moves by less is the same


def settle(database: Database, training: Sequence[Run], starting: Sequence[Run], line: Sequence[Run]) -> None:
    """Each shared device goes to the run that trains on it, or else to the one that may start there now.

    `line`: all that wait, also those that could not start yet if they had it.
    """
    for lease in leases.list_all(database):
        run = next((run for run in (*training, *starting) if _needs(lease.device, run)), None)
        if _is_letting_go(database, lease.holder, run):
            continue
        run_id = run.id if run else NOBODY
        is_last = run in training and not any(_needs(lease.device, one) for one in line)
        free_at = _end_of(run, lease) if run and is_last else None
        if (run_id, free_at) != (lease.run, lease.free_at):
            leases.due(database, lease.device, run_id, free_at)


def may_start(database: Database, run: Run) -> bool:
    """Whether it holds every device that it shares with the model servers."""
    return all(lease.holder == run.id for lease in of(database, run))


def of(database: Database, run: Run) -> list[Lease]:
    """Of the devices that this run needs and shares, who has them."""
    return [lease for lease in leases.list_all(database) if _needs(lease.device, run)]


def had_by_others(database: Database, launch: Launch) -> list[str]:
    """Of the GPUs that such a run would need, those that somebody has now and lets go of before it starts.

    Not the processor: its memory also holds what has nothing to do with us.
    """
    held = {lease.device for lease in leases.list_all(database) if lease.holder != NOBODY}
    return [device for device in launch.devices if device in held and device != CPU]


def is_being_freed(held: Sequence[Lease], run: Run) -> bool:
    """Whether the model servers are making room for this run."""
    return any(lease.holder == SERVER and lease.wanted_by == run.id for lease in held)


def _needs(device: str, run: Run) -> bool:
    return device in Launch.of(run.launch).devices


def _end_of(run: Run, lease: Lease) -> datetime | None:
    seconds = time_left(Path(run.directory))
    if seconds is None:
        return None
    end = now() + timedelta(seconds=seconds)
    return lease.free_at if lease.free_at and abs(end - lease.free_at) < NEAR else end


def _is_letting_go(database: Database, holder: str, next_one: Run | None) -> bool:
    """Whether a run has said how it ended, and its process is still there, with what it has of the device."""
    if holder in (SERVER, NOBODY) or (next_one and next_one.id == holder):
        return False
    try:
        directory = Path(runs.get(database, holder).directory)
        ended = (directory / run_directory.OUTCOME).stat().st_mtime
    except (NotFound, OSError):
        return False
    pid = run_directory.read_pid(directory)
    is_its_own = pid is not None and pid != os.getpid()  # ours where it was ended in line
    return is_its_own and time.time() - ended < LETTING_GO_SECONDS and Path(f"/proc/{pid}").exists()
