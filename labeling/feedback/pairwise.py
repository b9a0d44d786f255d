"""Pairwise: which of two responses is better, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labeling.feedback.base import BOTH_BAD, FeedbackType, Payload
from storage.errors import BadInput
from storage.records import Ranking, Verdict


class Pairwise(FeedbackType):
    """A choice from -3 (the first shown is much better) over 0 (a tie) to 3; or both are bad, a tie with a flag."""

    name = "pairwise"
    title = "Pairwise"
    explanation = (
        "Two answers side by side, on a scale of seven from one to the other. The surest judgment a person gives, "
        "and what comparisons of versions use; it yields one pair per prompt."
    )
    minimum_responses = 2
    maximum_responses = 2

    def verdicts(self, payload: Payload, displayed: Sequence[str]) -> tuple[Verdict, ...]:
        if len(displayed) != 2:
            raise BadInput(
                f"A pairwise choice is between two responses; {len(displayed)} were shown. Skip this prompt."
            )
        first, second = displayed
        choice = _choice(payload)
        if choice == 0:
            return (Ranking(((first, second),)),)
        tiers = ((first,), (second,)) if choice < 0 else ((second,), (first,))
        return (Ranking(tiers, strength=abs(choice)),)

    def payload(
        self, verdicts: Sequence[Verdict], displayed: Sequence[str], flags: Sequence[str] = ()
    ) -> dict[str, Any]:
        if BOTH_BAD in flags:
            return {BOTH_BAD: True}
        for verdict in verdicts:
            if isinstance(verdict, Ranking) and len(verdict.tiers) == 2:
                sign = -1 if verdict.tiers[0] == (displayed[0],) else 1
                return {"choice": sign * (verdict.strength or 1)}
        return {"choice": 0}

    def flags(self, payload: Payload) -> tuple[str, ...]:
        return (BOTH_BAD,) if payload.get(BOTH_BAD) is True else ()


def _choice(payload: Payload) -> int:
    if payload.get(BOTH_BAD) is True:
        return 0
    choice = payload.get("choice")
    if type(choice) is not int or not -3 <= choice <= 3:
        raise BadInput(
            f"A choice is a whole number from -3 (the first is much better) to 3, not {choice!r}. "
            "Nothing was saved; reload the page."
        )
    return choice


PAIRWISE = Pairwise()
