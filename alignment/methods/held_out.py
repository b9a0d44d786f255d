"""Which rows a run learns from, and which it only measures itself on.

The split is by prompt: all answers to a prompt lie on one side, or the measure would reward learning prompts by heart.
Which prompts those are follows from the seed and each prompt's own hash, so the order of the rows does not matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FEWEST = 4  # prompts; the loss on fewer says more about these prompts than about the model
MOST = 30  # percent of the prompts: more would leave too little to learn from

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Split:
    """The rows learned from and those held out, each in the order given. `note` says why none are held out."""

    learned: list[Row]
    held_out: list[Row]
    note: str = ""


def split_by_prompt(rows: Sequence[Row], share: float, seed: int) -> Split:
    """Hold out this share of the prompts, or nothing where that would be too few to measure anything."""
    prompts = sorted({_key(row) for row in rows}, key=lambda key: _chance(key, seed))
    number = round(share * len(prompts))
    if number < FEWEST or number >= len(prompts):
        return Split(list(rows), [], _why_none(share, number, f"{len(prompts)} {_held_are(rows)}"))
    held = set(prompts[:number])
    return Split([row for row in rows if _key(row) not in held], [row for row in rows if _key(row) in held])


def enough_share(rows: Sequence[Row]) -> float | None:
    """The smallest share, in whole percent, that holds out enough prompts to measure anything; None beyond MOST."""
    prompts = len({_key(row) for row in rows})
    return next((percent / 100 for percent in range(1, MOST + 1) if round(percent / 100 * prompts) >= FEWEST), None)


def _why_none(share: float, number: int, of: str) -> str:
    if share == 0:
        return ""
    return (
        f"{100 * share:.0f} % of {of} are {number}, and fewer than {FEWEST} measure nothing, so none is held out and "
        "the last checkpoint becomes the version."
    )


def _held_are(rows: Sequence[Row]) -> str:
    return "documents" if rows and "text" in rows[0] else "prompts"


def _key(row: Row) -> str:
    """What makes two rows the same prompt; a document is its own."""
    return json.dumps(row["text"] if "text" in row else row["prompt"], sort_keys=True, ensure_ascii=False)


def _chance(key: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {key}".encode()).hexdigest()
