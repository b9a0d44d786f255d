"""Thumbs: an answer, and whether it is a good one.

Shapes: a conversation whose last turn is the assistant's, or a prompt with a `completion`; beside it a `label`.
"""

from __future__ import annotations

from pathlib import Path

from labeling.importers.conversations import asked_and_answered
from labeling.importers.files import FileRow
from labeling.importers.imported import Imported
from labeling.importers.judged import Said, import_judged
from storage.database import Database
from storage.records import Rating

_LABELS = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "up"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "down"), False),
}


def import_thumbs(database: Database, path: Path, *, source: str, licence: str, confidential: bool = False) -> Imported:
    """Stores the thumbs of a file, all or none. Raises BadInput, BadRow."""
    return import_judged(database, path, _said, source=source, licence=licence, confidential=confidential)


def _said(row: FileRow) -> Said:
    asked, answer = asked_and_answered(row, "completion", "response", "output", "answer")
    return Said(asked, Rating(answer, _label(row)))


def _label(row: FileRow) -> bool:
    label = row.first_of("label", "kto_tag")
    desirable = _LABELS.get(str(label).strip().lower())
    if desirable is None:
        found = "there is no label" if label is None else f"the label is {str(label)[:40]!r}"
        row.refuse(found, "Give the field 'label': true for a good answer, false for a bad one.")
    return desirable
