"""Edit: an answer rewritten into what it should have been, by itself or beside any other judgment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from labeling.feedback.base import FeedbackType, Payload, answers_by_response
from labeling.said import said
from storage.errors import BadInput
from storage.records import Demonstration, Verdict

LONGEST = 100_000  # characters


class Edit(FeedbackType):
    """A demonstration for every answer that was rewritten. One that was left as it is says that it was ideal."""

    name = "edit"
    title = "Edit"
    explanation = (
        "An answer is rewritten into the ideal one. The slowest to give and the richest: a demonstration for SFT and, "
        "if you like, a pair of the ideal over the original."
    )
    minimum_responses = 1

    def verdicts(self, payload: Payload, displayed: Sequence[str]) -> tuple[Verdict, ...]:
        written = rewrites(payload, displayed)
        if not written:
            raise BadInput("No answer is rewritten yet. Rewrite one into what it should have been, or skip the prompt.")
        return written

    def payload(
        self, verdicts: Sequence[Verdict], displayed: Sequence[str], flags: Sequence[str] = ()
    ) -> dict[str, Any]:
        written = [one for one in verdicts if isinstance(one, Demonstration) and one.improves]
        return {"rewrites": {one.improves: one.text for one in written}} if written else {}


def rewrites(payload: Payload, displayed: Sequence[str]) -> tuple[Demonstration, ...]:
    """The ideal answers in `payload`, in displayed order; an emptied one is none."""
    if "rewrites" not in payload:
        return ()
    texts = answers_by_response(payload, "rewrites", displayed)
    for text in texts.values():
        if not isinstance(text, str):
            raise BadInput("A rewritten answer is a text. Nothing was saved; reload the page.")
        if len(text) > LONGEST:  # as an answer that is longer itself is, opened and submitted unchanged
            raise BadInput(said("rewrite_too_long", n=LONGEST))
    return tuple(Demonstration(texts[one], improves=one) for one in displayed if texts.get(one, "").strip())


def as_pairs(verdicts: Sequence[Verdict], originals: Mapping[str, str]) -> tuple[Verdict, ...]:
    """Each rewritten answer also counts as better than its original, unless nothing was changed."""
    return tuple(_as_pair(one, originals) if isinstance(one, Demonstration) else one for one in verdicts)


def _as_pair(written: Demonstration, originals: Mapping[str, str]) -> Demonstration:
    original = originals.get(written.improves or "")
    return replace(written, preferred=original is not None and original.strip() != written.text.strip())


EDIT = Edit()
