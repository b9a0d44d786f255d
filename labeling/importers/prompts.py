"""Prompts: a text (`prompt`, `question`, `instruction` with `input`) or a conversation that ends with a user turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from labeling.importers.conversations import messages_to_answer
from labeling.importers.files import FileRow, read_rows
from labeling.importers.imported import Imported, read_each
from storage import prompts
from storage.database import Database
from storage.errors import BadInput
from storage.records import Message, Prompt

Fits = Callable[[Sequence[Message]], str]
"""Says in words why a prompt is too long for the model, or nothing. Raises BadInput where it cannot be asked at all."""


def import_prompts(
    database: Database, path: Path, *, source: str, licence: str, fits: Fits = lambda messages: ""
) -> Imported:
    """Stores the prompts of a file, all or none. Raises BadInput, BadRow."""
    rows = read_rows(path)
    found, left_out = read_each(rows, lambda row: _prompt(row, source, licence, fits))
    by_hash: dict[str, Prompt] = {}
    for prompt in found:
        by_hash.setdefault(prompts.text_hash(prompt.messages), prompt)
    known = prompts.known_hashes(database, by_hash)
    new = [prompt for text_hash, prompt in by_hash.items() if text_hash not in known]
    prompts.add(database, new)
    return Imported(len(rows), len(new), len(found) - len(new), sum(prompt.held_out for prompt in new), left_out)


def tags_of(row: FileRow) -> list[str]:
    """Its `tags`, or the `category` that Dolly gives."""
    tags, category = row.first_of("tags"), row.first_of("category")
    if isinstance(tags, list):
        return [str(tag) for tag in tags]
    return [category] if isinstance(category, str) else []


def _prompt(row: FileRow, source: str, licence: str, fits: Fits) -> Prompt:
    messages = messages_to_answer(row)
    _check_fits(row, messages, fits)
    return prompts.make(messages, source=source, licence=licence, tags=tags_of(row))


def _check_fits(row: FileRow, messages: Sequence[Message], fits: Fits) -> None:
    """Raises BadRow for a prompt that the model cannot be asked."""
    try:
        too_long = fits(messages)
    except BadInput as error:
        row.refuse(str(error).removesuffix("."), "Mend or remove the row.")
    if too_long:
        row.refuse(too_long, "Shorten it, or choose a model with a longer context.")
