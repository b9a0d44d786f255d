"""Demonstrations: a prompt with the answer it should get, written by a person elsewhere.

Shapes: a prompt with `completion`, `response`, `output` or `answer` (Alpaca, Dolly), or a conversation whose last turn
is the assistant's (ShareGPT).
"""

from __future__ import annotations

from pathlib import Path

from labeling.importers.conversations import asked_and_answered
from labeling.importers.files import FileRow
from labeling.importers.imported import Imported
from labeling.importers.judged import Said, import_judged
from storage.database import Database
from storage.records import Demonstration


def import_demonstrations(
    database: Database, path: Path, *, source: str, licence: str, confidential: bool = False
) -> Imported:
    """Stores the demonstrations of a file, all or none. Raises BadInput, BadRow."""
    return import_judged(database, path, _said, source=source, licence=licence, confidential=confidential)


def _said(row: FileRow) -> Said:
    asked, answer = asked_and_answered(row, "completion", "response", "output", "answer", "chosen")
    return Said(asked, Demonstration(answer))
