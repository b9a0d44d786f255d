"""What came of an import, and the rows of a file that it had to leave out.

A row of the wrong shape refuses the whole file. A row of the right shape that says nothing (an empty answer, of which
well-known public files have some) is left out, counted, and named in the sentence that the page shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from labeling.importers.files import FileRow
from storage.errors import BadInput

T = TypeVar("T")
NEVER_LEARNED = "on held-out prompts, which are kept to measure with and never learned from"


class SaysNothing(Exception):
    """A row of the right shape with nothing to learn from; its text is the reason."""


@dataclass(frozen=True)
class Imported:
    """Rows in the file; how many were new, were there before, are held out among the new ones, or say nothing."""

    rows: int
    new: int
    known: int
    held_out: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    note: str = ""  # one more sentence, where how the file was read may surprise

    def sentence(self, what: str, held_out: str = "held out") -> str:
        """What came of it; `what` is the plural, `held_out` says how they are."""
        return " ".join(
            part for part in (self._new(what, held_out), self._left_out(), self.note if self.new else "") if part
        )

    def _new(self, what: str, held_out: str) -> str:
        if not self.new:
            return f"Nothing new: all {self.known} are here already."
        known = f" {self.known} were here already." if self.known else ""
        return f"{self.new} {what if self.new > 1 else what[:-1]} imported, {self.held_out} of them {held_out}.{known}"

    def _left_out(self) -> str:
        said = [f"{rows_are(count)} left out: {reason}." for reason, count in self.left_out.items()]
        return " ".join(said)


def read_each(rows: Sequence[FileRow], read: Callable[[FileRow], T]) -> tuple[list[T], Counter[str]]:
    """What each row says, and how many say nothing, by reason. Raises BadRow; BadInput where no row says anything."""
    found: list[T] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        try:
            found.append(read(row))
        except SaysNothing as nothing:
            left_out[str(nothing)] += 1
    if not found:
        reasons = "; ".join(f"{rows_are(count)}: {reason}" for reason, count in left_out.items())
        raise BadInput(f"{rows[0].file} has no row to learn from ({reasons}). Choose another file, or another kind.")
    return found, left_out


def rows_are(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
