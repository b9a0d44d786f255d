"""Whatever is killed, nothing is lost, and what comes of it is the same adapter, bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alignment import run_directory, run_queue
from alignment.launchers.local import REPOSITORY
from storage import runs
from storage.database import Database
from storage.records import Run
from tests.alignment.conftest import Lab, make_lab

SETTINGS = {"epochs": 6, "batch_size": 4, "evaluations": 6, "held_out_share": 0.2}


@contextmanager
def app(lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    """The app as a process of its own; afterwards it has been killed, and the lab is as after a restart."""
    lab.database.close()
    keeper = subprocess.Popen([sys.executable, "-m", "tests.alignment.keeper", str(lab.home)], cwd=REPOSITORY)
    try:
        yield keeper
    finally:
        keeper.kill()
        keeper.wait()
        lab.database = Database.open(lab.home / "plumbline.duckdb")


def until(happened: Callable[[], object], run: Run, patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < deadline, (Path(run.directory) / run_directory.LOG).read_text()
        time.sleep(0.02)


def kill(run: Run) -> None:
    """With SIGKILL; it is dead when its lock is free. It has its lock for an instant before it writes who it is."""
    directory = Path(run.directory)
    until(lambda: run_directory.read_pid(directory), run)
    pid = run_directory.read_pid(directory)
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not run_directory.lock_is_held(directory), run)


def fingerprint(directory: Path) -> str:
    outcome = run_directory.read_outcome(directory)
    assert outcome and outcome.state == "succeeded", outcome or (directory / run_directory.LOG).read_text()
    return outcome.fingerprint


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[Lab]:
    made = make_lab(tmp_path_factory.mktemp("home"), tiny_base)
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def undisturbed(shared: Lab) -> Run:
    """A run of a method that sets some of its settings from the data; the app that started it was killed meanwhile."""
    run = shared.start("kto", shared.freeze("unpaired_preference", 48), **SETTINGS)
    with app(shared):
        until(lambda: run_directory.lock_is_held(Path(run.directory)), run)
    return run


def test_a_run_outlives_an_app_that_is_killed_and_the_next_one_finds_what_came_of_it(shared: Lab, undisturbed: Run):
    assert runs.get(shared.database, undisturbed.id).state in ("waiting", "training")
    ended = shared.follow_until(undisturbed)
    assert (ended.state, ended.version_id) == ("succeeded", "v1"), ended.message


def test_a_prepared_directory_trains_the_same_adapter_wherever_it_is_put(shared: Lab, undisturbed: Run, tmp_path: Path):
    shared.follow_until(undisturbed)
    elsewhere = tmp_path / "moved"
    elsewhere.mkdir()
    for name in (run_directory.RUN, run_directory.SNAPSHOT):
        shutil.copy(Path(undisturbed.directory) / name, elsewhere)
    command = [sys.executable, "-m", "alignment.train", str(elsewhere)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert fingerprint(elsewhere) == fingerprint(Path(undisturbed.directory))


def test_a_run_done_again_and_killed_twice_ends_in_the_same_adapter(shared: Lab, undisturbed: Run):
    """First alone and before it had a checkpoint, so it starts over; then with the app, and it goes on."""
    shared.follow_until(undisturbed)
    run = run_queue.run_again(shared.database, undisturbed.id, "eve", shared.home)
    directory = Path(run.directory)
    shared.follow_until(run, "training")
    until(lambda: run_directory.lock_is_held(directory), run)
    kill(run)
    assert shared.follow_until(run).state == "killed" and run_directory.newest_checkpoint(directory) is None

    run_queue.resume_run(shared.database, run.id)
    with app(shared):
        until(lambda: run_directory.newest_checkpoint(directory), run)
        kill(run)
    assert run_directory.state_of(directory) == "killed"

    assert shared.follow_until(run).state == "killed"
    run_queue.resume_run(shared.database, run.id)
    assert shared.follow_until(run).state == "succeeded"
    assert run_directory.attempt(directory) == 3
    assert fingerprint(directory) == fingerprint(Path(undisturbed.directory))
