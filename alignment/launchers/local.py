"""Runs on this machine, each a process in a session of its own, so that it outlives the app."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from alignment import run_directory
from alignment.run_directory import DirectoryState
from storage.errors import DiskFull

REPOSITORY = Path(__file__).parents[2]


class LocalLauncher:
    """Knows about a run what its directory says; of its own children also when one died before it took its lock."""

    def __init__(self) -> None:
        self._children: dict[Path, subprocess.Popen[bytes]] = {}

    def submit(self, directory: Path) -> None:
        try:
            with (directory / run_directory.LOG).open("ab") as log:
                child = subprocess.Popen(
                    [sys.executable, "-m", "alignment.train", str(directory.resolve())],
                    cwd=REPOSITORY,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
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

    def status(self, directory: Path) -> DirectoryState:
        child = self._children.get(directory)
        gone = child is not None and child.poll() is not None
        state = run_directory.state_of(directory)
        return "killed" if gone and state == "starting" else state

    def logs(self, directory: Path) -> str:
        try:
            return (directory / run_directory.LOG).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def stop(self, directory: Path) -> None:
        """By a file and not by a signal: a run that is still starting has no pid to send one to."""
        with suppress(FileNotFoundError):  # the directory is gone
            (directory / run_directory.STOP).touch()
