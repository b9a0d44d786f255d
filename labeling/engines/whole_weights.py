"""Weights that a run trained as a whole: the same, to the last byte, as when they were stored?

To read every byte of a large model takes its time, and at each start it would be spent for nothing. So a note beside
the weights says which fingerprint was read, and of which files: their sizes and the times of their last change. Where
the files still look so, the note is believed; where they do not (they were copied, restored or trained over), they are
read again, in a thread of their own, and the note is written anew.

The time that counts is the file system's own (ctime): a copy that keeps the time of its original cannot set it. The
note only spares reading: what a version's weights must be stands in the database.
"""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import suppress
from pathlib import Path

from storage import snapshots

NOTE = "weights.json"
AT_ONCE_SECONDS = 0.2  # small weights are read in less; nobody need come back for them

_Look = dict[str, list[int]]


class StillReading(Exception):
    """The weights are being read; ask again."""


def fingerprint(folder: Path) -> str:
    """Of all weight files together, to the last byte."""
    files = "\n".join(f"{file.name} {snapshots.fingerprint(file)}" for file in _files(folder))
    return f"sha256:{hashlib.sha256(files.encode()).hexdigest()}"


def read_and_note(folder: Path) -> str:
    """The fingerprint, read now; noted unless the files changed meanwhile."""
    before = _look(folder)
    found = fingerprint(folder)
    if before == _look(folder):
        with suppress(OSError):  # a folder that nobody may write to is read at each start
            (folder / NOTE).write_text(json.dumps({"fingerprint": found, "files": before}) + "\n", encoding="utf-8")
    return found


def noted(folder: Path) -> str | None:
    """The fingerprint in the note; None where there is no note of the files as they look now."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        if note["files"] == _look(folder):
            return str(note["fingerprint"])
    return None


class Reader:
    """Reads the weights of one folder where they have to be read, and lets nobody wait for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: str | OSError | None = None
        self._thread: threading.Thread | None = None

    def fingerprint(self) -> str:
        """Raises StillReading; OSError where they cannot be read."""
        if known := noted(self._folder):
            return known
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="weights", daemon=True)
            self._thread.start()
        self._thread.join(AT_ONCE_SECONDS)
        if self._thread.is_alive():
            raise StillReading
        self._thread = None
        if isinstance(self._found, OSError):
            raise self._found
        return str(self._found)

    def _read(self) -> None:
        try:
            self._found = read_and_note(self._folder)
        except OSError as error:
            self._found = error


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _look(folder: Path) -> _Look:
    stats = {file.name: file.stat() for file in _files(folder)}
    return {name: [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for name, stat in stats.items()}
