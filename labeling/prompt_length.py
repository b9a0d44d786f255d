"""Does a prompt fit the model, with room for an answer? Asked when prompts are imported.

A byte-level tokenizer never makes more tokens than there are bytes, so most prompts are known to fit without asking;
the model server counts the tokens of the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from labeling.sampling import Answering, rendered
from storage import model_versions
from storage.database import Database
from storage.records import Message, ModelVersion, Prompt

ROOM_FOR_AN_ANSWER = 64
MARGIN_BYTES = 64  # beginning-of-text and the like


def too_long(database: Database, engines: Answering, messages: Sequence[Message]) -> str:
    """Why the prompt is too long for a version that is served, in words; empty where it fits all of them.

    Raises EngineUnavailable where tokens must be counted and the model server does not answer yet.
    """
    for version in model_versions.served(database):
        if version.kind == "policy" and (problem := _problem(engines, version, messages)):
            return problem
    return ""


def _problem(engines: Answering, version: ModelVersion, messages: Sequence[Message]) -> str:
    text = rendered(version, Prompt("", tuple(messages), False, "", ""))
    limit = version.context_length - ROOM_FOR_AN_ANSWER
    if len(text.encode()) + MARGIN_BYTES <= limit:
        return ""
    client, name = engines.client(version.id)
    tokens = len(client.tokenize(name, text))
    if tokens <= limit:
        return ""
    return (
        f"the prompt has {tokens} tokens, and {version.id} reads {version.context_length} "
        f"with {ROOM_FOR_AN_ANSWER} of them kept for the answer"
    )
