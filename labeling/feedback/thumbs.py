"""Thumbs: each response is good enough, or it is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labeling.feedback.base import FeedbackType, Payload, answers_by_response
from storage.errors import BadInput
from storage.records import Rating, Verdict

DESIRABLE = {"up": True, "down": False}


class Thumbs(FeedbackType):
    """A rating for every response that got a thumb. One is enough; the others say nothing."""

    name = "thumbs"
    title = "Thumbs"
    explanation = (
        "Each answer gets a thumb up or down, on its own. The quickest to give, and enough for KTO; "
        "it does not say which of two good answers is better."
    )
    minimum_responses = 1

    def verdicts(self, payload: Payload, displayed: Sequence[str]) -> tuple[Verdict, ...]:
        thumbs = answers_by_response(payload, "thumbs", displayed)
        if not thumbs:
            raise BadInput("No response has a thumb yet. Give at least one, or skip the prompt.")
        for thumb in thumbs.values():
            if thumb not in ("up", "down"):
                raise BadInput(f'A thumb is "up" or "down", not {thumb!r}. Nothing was saved; reload the page.')
        return tuple(Rating(response, DESIRABLE[thumbs[response]]) for response in displayed if response in thumbs)

    def payload(
        self, verdicts: Sequence[Verdict], displayed: Sequence[str], flags: Sequence[str] = ()
    ) -> dict[str, Any]:
        ratings = [verdict for verdict in verdicts if isinstance(verdict, Rating)]
        return {"thumbs": {rating.response_id: "up" if rating.desirable else "down" for rating in ratings}}


THUMBS = Thumbs()
