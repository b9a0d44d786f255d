"""What it takes to run `python -m alignment.train <directory>` somewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from alignment.run_directory import DirectoryState


class Launcher(Protocol):
    """A run is named by its directory; nothing else is kept, so any app that sees the directory can follow it."""

    def submit(self, directory: Path) -> None:
        """Start the run, or put it in the line of a cluster. Doing it twice starts it once.

        Raises AppError where it cannot be started.
        """

    def status(self, directory: Path) -> DirectoryState:
        """Where the run is, also for a run that another app started."""

    def logs(self, directory: Path) -> str:
        """Everything it has printed."""

    def stop(self, directory: Path) -> None:
        """Ask it to stop at its next step. Nothing happens where it does not run."""
