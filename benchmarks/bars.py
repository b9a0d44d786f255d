"""The table that every benchmark prints: what was measured, which bar it has to clear, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEAD = ("what", "measured", "bar", "holds")


@dataclass(frozen=True)
class Bar:
    what: str
    measured: str
    bar: str
    holds: bool

    def cells(self) -> tuple[str, str, str, str]:
        return self.what, self.measured, self.bar, "yes" if self.holds else "NO"


def report(bars: Sequence[Bar], summary: str) -> int:
    """Prints the table and a line that sums it up; returns the exit status."""
    rows = [HEAD, *(bar.cells() for bar in bars)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for number, row in enumerate(rows):
        print(" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            print("-|-".join("-" * width for width in widths))
    short = [bar.what for bar in bars if not bar.holds]
    print(
        f"\n{summary} " + (f"{len(short)} of {len(bars)} bars fall short." if short else f"All {len(bars)} bars hold.")
    )
    return 1 if short else 0
