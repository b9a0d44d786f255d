"""Ranking: the responses in tiers, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labeling.feedback.base import BOTH_BAD, FeedbackType, Payload, answers_by_response
from storage.errors import BadInput
from storage.records import Ranking, Verdict


class Rank(FeedbackType):
    """The same number is a tie. Two ranked responses are enough; unranked ones are left out and form no pair.

    A lead who settles an item may also say that all are bad: a tie of all with a flag.
    """

    name = "ranking"
    title = "Ranking"
    explanation = (
        "The answers are put in order, ties allowed. Four ranked answers give up to six preference pairs for DPO, ORPO "
        "and reward models, for little more reading than one pair costs."
    )
    minimum_responses = 2

    def verdicts(self, payload: Payload, displayed: Sequence[str]) -> tuple[Verdict, ...]:
        if self.flags(payload):
            return (Ranking((tuple(displayed),)),)
        ranks = answers_by_response(payload, "ranks", displayed)
        for rank in ranks.values():
            if type(rank) is not int or not 1 <= rank <= len(displayed):
                raise BadInput(
                    f"A rank is a whole number from 1 to {len(displayed)}, not {rank!r}. "
                    "Nothing was saved; reload the page."
                )
        if len(ranks) < 2:
            raise BadInput(
                f"{len(ranks)} of {len(displayed)} responses are ranked. Rank at least two, or skip the prompt."
            )
        return (Ranking(_tiers(ranks, displayed)),)

    def payload(
        self, verdicts: Sequence[Verdict], displayed: Sequence[str], flags: Sequence[str] = ()
    ) -> dict[str, Any]:
        if BOTH_BAD in flags:
            return {BOTH_BAD: True}
        rankings = [verdict for verdict in verdicts if isinstance(verdict, Ranking)]
        tiers = rankings[0].tiers if rankings else ()
        return {"ranks": {response: rank for rank, tier in enumerate(tiers, 1) for response in tier}}

    def flags(self, payload: Payload) -> tuple[str, ...]:
        return (BOTH_BAD,) if payload.get(BOTH_BAD) is True else ()


def _tiers(ranks: Mapping[str, int], displayed: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Ranks 2, 2, 5 are two tiers: only the order of the numbers counts. Within a tier, as displayed."""
    return tuple(
        tuple(response for response in displayed if ranks.get(response) == rank) for rank in sorted(set(ranks.values()))
    )


RANKING = Rank()
