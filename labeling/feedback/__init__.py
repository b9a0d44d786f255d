"""The ways to ask for feedback. A new one is one file here and its name in `FEEDBACK_TYPES`."""

from __future__ import annotations

from labeling.feedback.base import FeedbackType
from labeling.feedback.edit import EDIT
from labeling.feedback.pairwise import PAIRWISE
from labeling.feedback.ranking import RANKING
from labeling.feedback.thumbs import THUMBS
from storage.errors import NotFound

FEEDBACK_TYPES: tuple[FeedbackType, ...] = (THUMBS, RANKING, PAIRWISE, EDIT)


def feedback_type(name: str) -> FeedbackType:
    for candidate in FEEDBACK_TYPES:
        if candidate.name == name:
            return candidate
    known = ", ".join(candidate.name for candidate in FEEDBACK_TYPES)
    raise NotFound(f"There is no feedback type called {name!r}. There are: {known}.")


__all__ = ["EDIT", "FEEDBACK_TYPES", "PAIRWISE", "RANKING", "THUMBS", "FeedbackType", "feedback_type"]
