"""What was asked and what was answered, from whatever fields of a row hold them.

The shapes are those in which public files come: a text or a list of turns as `prompt` (also `question`, `instruction`
with `input`, `context` and `system`), a conversation as `messages` or `conversations`, and the two-voice texts of
hh-rlhf, "\\n\\nHuman: …\\n\\nAssistant: …".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from labeling.importers.files import FileRow, kind_of, messages_of
from labeling.importers.imported import SaysNothing
from storage.records import Message

_VOICE = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def messages_to_answer(row: FileRow) -> list[Message]:
    """The messages that ask. Raises BadRow."""
    if (turns := row.first_of("messages", "conversations")) is not None:
        messages = messages_of(row, turns)
    else:
        messages = messages_of_text(row, row.first_of("prompt", "question", "instruction"))
    if messages[-1].role != "user":
        row.refuse("the conversation does not end with a user's turn", "A prompt ends where the answer begins.")
    return messages


def asked_and_answered(row: FileRow, *names: str) -> tuple[list[Message], str]:
    """The messages before the answer in the first of these fields, and its text.

    An answer may bring its conversation along, as UltraFeedback's lists of turns and hh-rlhf's texts do; where no such
    field is there, the row's own conversation ends with the answer. Raises BadRow, SaysNothing.
    """
    answer = row.first_of(*names)
    if answer is None:
        turns = row.first_of("messages", "conversations")
        if turns is None:
            row.refuse("there is no answer", f"Give the field {_or(names)}.")
        return _answered(messages_of(row, turns))
    if isinstance(answer, str) and _is_dialogue(answer):
        return _answered(_dialogue(answer))
    if isinstance(answer, list) and len(answer) > 1:
        return _answered(_starting_with_a_question(row, messages_of(row, answer)))
    return messages_to_answer(row), _text_of(row, answer)


def messages_of_text(row: FileRow, text: object) -> list[Message]:
    """A prompt from its text and the fields that go with it; a list of turns as it is."""
    if isinstance(text, list):
        return messages_of(row, text)
    if text is not None and not isinstance(text, str):
        row.refuse(f"the prompt is {kind_of(text)}, not text", "Put it in quotation marks.")
    if text is None or not text.strip():
        named = ", ".join(sorted(row.fields)) or "none"
        row.refuse(f"there is no prompt (fields here: {named})", "Give the field 'prompt', 'question' or 'messages'.")
    if _is_dialogue(text):
        return _dialogue(text)
    head = _together(row, "system", "context")
    asked = "\n\n".join(part for part in (text.strip(), _together(row, "input")) if part)
    return [*([Message("system", head)] if head else []), Message("user", asked)]


def _together(row: FileRow, *names: str) -> str:
    """The texts of those fields that hold any, with a blank line between."""
    found = [row.fields.get(name) for name in names]
    return "\n\n".join(text.strip() for text in found if isinstance(text, str) and text.strip())


def _text_of(row: FileRow, answer: Any) -> str:
    """An answer that is a text, or the assistant's turn. White space is part of it."""
    turn = answer[0] if isinstance(answer, list) and answer else answer
    text = turn.get("content", turn.get("value")) if isinstance(turn, dict) else turn
    if not isinstance(text, str):
        row.refuse(f"the answer is {kind_of(text)}, not text", "Put it in quotation marks, or write a turn.")
    if not text.strip():
        raise SaysNothing("an answer is empty")
    return text


def _answered(messages: Sequence[Message]) -> tuple[list[Message], str]:
    if len(messages) < 2 or messages[-1].role != "assistant" or messages[-2].role != "user":
        raise SaysNothing("the conversation does not end with a question and its answer")
    return list(messages[:-1]), messages[-1].content


def _starting_with_a_question(row: FileRow, messages: list[Message]) -> list[Message]:
    if messages[0].role == "assistant":
        row.refuse("the answer has more than one turn", "Put the turns before the last one into the prompt.")
    return messages


def _is_dialogue(text: str) -> bool:
    return text.lstrip().startswith("Human:") and "\n\nAssistant:" in text


def _dialogue(text: str) -> list[Message]:
    """The turns of an hh-rlhf text; what stands empty at its end is the answer that is asked for."""
    _, *parts = _VOICE.split(text.strip())
    turns = [(voice, said.strip()) for voice, said in zip(parts[::2], parts[1::2], strict=True)]
    if turns[-1] == ("Assistant", ""):
        turns.pop()
    if not turns or not all(said for _, said in turns):
        raise SaysNothing("a turn of the conversation is empty")
    return [Message(_ROLES[voice], said) for voice, said in turns]  # type: ignore[arg-type]  # user or assistant


def _or(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}" if len(quoted) > 1 else quoted[0]
