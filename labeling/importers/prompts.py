"""Prompts: a text (`prompt`, `question`, `instruction` with `input`) or a conversation that ends with a user turn.

A row's `confidential` says whether it may leave for an endpoint outside, whatever is said of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from labeling.importers.conversations import messages_to_answer
from labeling.importers.files import FileRow, read_rows
from labeling.importers.imported import Imported, read_each
from storage import prompts
from storage.database import Cursor, Database
from storage.errors import BadInput
from storage.records import Message, Prompt

_YES, _NO = {"true", "yes", "1"}, {"false", "no", "0"}
Fits = Callable[[Sequence[Message]], str]
"""Says in words why a prompt is too long for the model, or nothing. Raises BadInput where it cannot be asked at all."""


def import_prompts(
    database: Database,
    path: Path,
    *,
    source: str,
    licence: str,
    confidential: bool = False,
    fits: Fits = lambda messages: "",
) -> Imported:
    """Stores the prompts of a file, all or none. Raises BadInput, BadRow.

    A prompt that is here already becomes confidential where this file says so, and never the other way. One that was
    only asked on the compare page so far belongs to this source from now on.
    """
    rows = read_rows(path)
    found, left_out = read_each(rows, lambda row: _prompt(row, source, licence, confidential, fits))
    by_hash: dict[str, Prompt] = {}
    for prompt in found:
        by_hash.setdefault(prompts.text_hash(prompt.messages), prompt)
    known = prompts.known_hashes(database, by_hash)
    new = [prompt for text_hash, prompt in by_hash.items() if text_hash not in known]
    database.write(lambda cursor: _store(cursor, new, found))
    return Imported(len(rows), len(new), len(found) - len(new), sum(prompt.held_out for prompt in new), left_out)


def tags_of(row: FileRow) -> list[str]:
    """Its `tags`, or the `category` that Dolly gives."""
    tags, category = row.first_of("tags"), row.first_of("category")
    if isinstance(tags, list):
        return [str(tag) for tag in tags]
    return [category] if isinstance(category, str) else []


def _store(cursor: Cursor, new: Sequence[Prompt], found: Sequence[Prompt]) -> None:
    prompts.take_over(cursor, found)
    prompts.insert_new(cursor, new)
    prompts.keep_confidential(cursor, found)


def is_confidential(row: FileRow, batch: bool) -> bool:
    """What its `confidential` says, or else the whole batch. Raises BadRow for anything that is neither yes nor no."""
    said = row.first_of("confidential")
    if said is None or said == "":
        return batch
    word = str(said).strip().lower()
    if word not in _YES | _NO:
        row.refuse(f"confidential is {said!r}", "Write true or false.")
    return word in _YES


def _prompt(row: FileRow, source: str, licence: str, confidential: bool, fits: Fits) -> Prompt:
    messages = messages_to_answer(row)
    _check_fits(row, messages, fits)
    kept = is_confidential(row, confidential)
    return prompts.make(messages, source=source, licence=licence, tags=tags_of(row), confidential=kept)


def _check_fits(row: FileRow, messages: Sequence[Message], fits: Fits) -> None:
    """Raises BadRow for a prompt that the model cannot be asked."""
    try:
        too_long = fits(messages)
    except BadInput as error:
        row.refuse(str(error).removesuffix("."), "Mend or remove the row.")
    if too_long:
        row.refuse(too_long, "Shorten it, or choose a model with a longer context.")
