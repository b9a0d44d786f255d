"""Does a prompt fit the model, with room for an answer? Asked when prompts are imported.

Sampling gives a long prompt a shorter answer, so what is accepted here is answered there.
"""

from __future__ import annotations

from collections.abc import Sequence

from labeling.answering import ROOM_FOR_AN_ANSWER, Answering, rendered, room_left
from storage import model_versions
from storage.database import Database
from storage.records import Message, ModelVersion, Prompt


def too_long(database: Database, engines: Answering, messages: Sequence[Message]) -> str:
    """Why the prompt is too long for a version that is served, in words; empty where it fits all of them.

    Raises BadInput where a chat template refuses the messages, EngineUnavailable where tokens must be counted and the
    model server does not answer yet.
    """
    for version in model_versions.served(database):
        if version.kind == "policy" and (problem := _problem(engines, version, messages)):
            return problem
    return ""


def _problem(engines: Answering, version: ModelVersion, messages: Sequence[Message]) -> str:
    text = rendered(version, Prompt("", tuple(messages), False, "", ""))
    room = room_left(engines, version, text, ROOM_FOR_AN_ANSWER)
    if room >= ROOM_FOR_AN_ANSWER:
        return ""
    return (
        f"the prompt has {version.context_length - room} tokens, and {version.id} reads {version.context_length} "
        f"with {ROOM_FOR_AN_ANSWER} of them kept for the answer"
    )
