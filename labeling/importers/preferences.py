"""Preferences: of two answers to the same prompt, the better one and the worse one.

Shapes: `chosen` and `rejected` as texts or turns beside a prompt or a conversation (UltraFeedback-style, ShareGPT), as
whole conversations that part in the last answer (UltraFeedback binarized), or as hh-rlhf's texts of two voices.
"""

from __future__ import annotations

from pathlib import Path

from labeling.importers.conversations import asked_and_answered
from labeling.importers.files import FileRow
from labeling.importers.imported import Imported, SaysNothing
from labeling.importers.judged import Said, import_judged
from storage.database import Database
from storage.records import Ranking


def import_preferences(
    database: Database, path: Path, *, source: str, licence: str, confidential: bool = False
) -> Imported:
    """Stores the preferences of a file, all or none. Raises BadInput, BadRow."""
    return import_judged(database, path, _said, source=source, licence=licence, confidential=confidential)


def _said(row: FileRow) -> Said:
    for name in ("chosen", "rejected"):
        if row.first_of(name) is None:
            row.refuse(f"there is no '{name}' answer", "A preference has the fields 'chosen' and 'rejected'.")
    asked, chosen = asked_and_answered(row, "chosen")
    asked_too, rejected = asked_and_answered(row, "rejected")
    if asked != asked_too:
        raise SaysNothing("the two conversations differ before the last answer")
    if chosen == rejected:
        raise SaysNothing("both answers are the same")
    return Said(asked, Ranking(((chosen,), (rejected,))))
