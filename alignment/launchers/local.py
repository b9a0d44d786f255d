"""Runs on this machine, each a process (or several) in a session of its own, so that it outlives the app."""

from __future__ import annotations

import errno
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from alignment import devices, run_directory
from alignment.launchers.environment import environment_for
from alignment.launchers.launch import Launch, command, refuse_launch
from alignment.run_directory import DirectoryState
from storage.errors import DiskFull

REPOSITORY = Path(__file__).parents[2]


class LocalLauncher:
    """Knows about a run what its directory says; of its own children also whether they live before they lock it."""

    def __init__(self) -> None:
        self._children: dict[Path, subprocess.Popen[bytes]] = {}

    def submit(self, directory: Path) -> None:
        described = run_directory.read_run(directory)
        launch = Launch.of(described.get("launch", {}))
        if launch.device:  # older runs name none
            refuse_launch(launch, devices.devices(), "")  # again: it may be another machine than it was put in line on
        seen = devices.visible(launch.devices) if launch.device else {}
        inherited = environment_for(described, home=directory.resolve().parents[1])
        try:
            with (directory / run_directory.LOG).open("ab") as log:
                child = subprocess.Popen(
                    command(launch, directory.resolve()),
                    cwd=REPOSITORY,
                    env={**inherited, **seen, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DiskFull("The disk is full, so the run was not started. Free some space.") from error
            raise
        self._children[directory] = child
        threading.Thread(target=child.wait, daemon=True).start()  # or it stays a zombie when nobody asks any more

    def status(self, directory: Path) -> DirectoryState:
        child = self._children.get(directory)
        state = run_directory.state_of(directory)
        if child is None or state not in ("starting", "killed"):
            return state
        if run_directory.read_pid(directory) is not None:
            return run_directory.state_of(directory)  # it may have taken its lock since
        return "starting" if child.poll() is None else "killed"

    def logs(self, directory: Path) -> str:
        try:
            return (directory / run_directory.LOG).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def stop(self, directory: Path) -> None:
        """By a file and not by a signal: a run that is still starting has no pid to send one to."""
        with suppress(FileNotFoundError):  # the directory is gone
            (directory / run_directory.STOP).touch()
