"""Prompts: a text (`prompt`, `question`, `instruction` with `input`) or a conversation that ends with a user turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labeling.importers.files import FileRow, kind_of, messages_of, read_rows
from storage import prompts
from storage.database import Database
from storage.errors import BadInput
from storage.records import Message, Prompt

Fits = Callable[[Sequence[Message]], str]
"""Says in words why a prompt is too long for the model, or nothing. Raises BadInput where it cannot be asked at all."""


@dataclass(frozen=True)
class Imported:
    """Rows in the file; how many were new, were there before, and are held out among the new ones."""

    rows: int
    new: int
    known: int
    held_out: int

    def sentence(self, what: str) -> str:
        """What came of it; `what` is the plural."""
        if not self.new:
            return f"Nothing new: all {self.rows} are here already."
        known = f" {self.known} were here already." if self.known else ""
        return f"{self.new} {what if self.new > 1 else what[:-1]} imported, {self.held_out} of them held out.{known}"


def import_prompts(
    database: Database, path: Path, *, source: str, licence: str, fits: Fits = lambda messages: ""
) -> Imported:
    """Stores the prompts of a file, all or none. Raises BadInput, BadRow."""
    rows = read_rows(path)
    found = [_prompt(row, source, licence, fits) for row in rows]
    by_hash: dict[str, Prompt] = {}
    for prompt in found:
        by_hash.setdefault(prompts.text_hash(prompt.messages), prompt)
    known = prompts.known_hashes(database, by_hash)
    new = [prompt for text_hash, prompt in by_hash.items() if text_hash not in known]
    prompts.add(database, new)
    return Imported(len(rows), len(new), len(rows) - len(new), sum(prompt.held_out for prompt in new))


def messages_to_answer(row: FileRow) -> list[Message]:
    """The messages that ask, from whatever fields hold them. Raises BadRow."""
    if (turns := row.first_of("messages", "conversations")) is not None:
        messages = messages_of(row, turns)
    else:
        messages = messages_of_text(row, row.first_of("prompt", "question", "instruction"))
    if messages[-1].role != "user":
        row.refuse("the conversation does not end with a user's turn", "A prompt ends where the answer begins.")
    return messages


def messages_of_text(row: FileRow, text: object) -> list[Message]:
    if isinstance(text, list):
        return messages_of(row, text)
    if text is not None and not isinstance(text, str):
        row.refuse(f"the prompt is {kind_of(text)}, not text", "Put it in quotation marks.")
    if text is None or not text.strip():
        named = ", ".join(sorted(row.fields)) or "none"
        row.refuse(f"there is no prompt (fields here: {named})", "Give the field 'prompt', 'question' or 'messages'.")
    more = row.first_of("input", "context")
    system = row.first_of("system")
    asked = f"{text.strip()}\n\n{more.strip()}" if isinstance(more, str) and more.strip() else text.strip()
    head = [Message("system", system)] if isinstance(system, str) and system.strip() else []
    return [*head, Message("user", asked)]


def check_fits(row: FileRow, messages: Sequence[Message], fits: Fits) -> None:
    """Raises BadRow for a prompt that the model cannot be asked."""
    try:
        too_long = fits(messages)
    except BadInput as error:
        row.refuse(str(error).removesuffix("."), "Mend or remove the row.")
    if too_long:
        row.refuse(too_long, "Shorten it, or choose a model with a longer context.")


def tags_of(row: FileRow) -> list[str]:
    tags = row.first_of("tags")
    return [str(tag) for tag in tags] if isinstance(tags, list) else []


def _prompt(row: FileRow, source: str, licence: str, fits: Fits) -> Prompt:
    messages = messages_to_answer(row)
    check_fits(row, messages, fits)
    return prompts.make(messages, source=source, licence=licence, tags=tags_of(row))
