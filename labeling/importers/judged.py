"""Answers that come with a verdict: they become responses, and judgments by the source that brought them.

The length of a prompt is not looked at here: no version has to answer it, and a run says which rows are too long for
the model it trains. A file that is imported again brings nothing new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labeling.importers.files import FileRow, read_rows
from labeling.importers.imported import Imported, read_each
from labeling.importers.prompts import is_confidential, tags_of
from storage import judgments, prompts, responses
from storage.database import Cursor, Database
from storage.records import Demonstration, Judgment, Message, Prompt, Ranking, Rating, Response, Verdict, new_id

BY = "import: "  # before the source, in the name of who wrote the answers and said which are good
LICENCE = "Licence: "  # before the licence, in the note: the prompts may have come earlier, under another one


@dataclass(frozen=True)
class Said:
    """What a row says: the messages that ask, and a verdict in which the texts of the answers stand for their ids."""

    asked: Sequence[Message]
    verdict: Verdict


@dataclass(frozen=True)
class _Judged:
    prompt: Prompt
    verdict: Verdict


def import_judged(
    database: Database,
    path: Path,
    read: Callable[[FileRow], Said],
    *,
    source: str,
    licence: str,
    confidential: bool = False,
) -> Imported:
    """Stores what the rows of a file say, all or none. Raises BadInput, BadRow."""
    rows = read_rows(path)

    def judged(row: FileRow) -> _Judged:
        said = read(row)
        origin = {"source": source, "licence": licence}
        made = prompts.make(said.asked, **origin, tags=tags_of(row), confidential=is_confidential(row, confidential))
        return _Judged(made, said.verdict)

    found, left_out = read_each(rows, judged)
    fresh, held_out = database.write(lambda cursor: _store(cursor, found, BY + source, LICENCE + licence))
    return Imported(len(rows), fresh, len(found) - fresh, held_out, left_out)


def _store(cursor: Cursor, found: Sequence[_Judged], labeler: str, note: str) -> tuple[int, int]:
    """(how many are new, how many of those are on held-out prompts)"""
    ids = _prompt_ids(cursor, found)
    texts = _response_ids(cursor, zip(ids, found, strict=True), labeler)
    already = judgments.said_by(cursor, labeler)
    fresh: dict[tuple[str, Verdict], Prompt] = {}
    for prompt_id, one in zip(ids, found, strict=True):
        said = (prompt_id, _with_ids(one.verdict, prompt_id, texts))
        if said not in already:
            fresh.setdefault(said, one.prompt)
    judgments.insert_all(cursor, [_judgment(prompt_id, verdict, labeler, note) for prompt_id, verdict in fresh])
    return len(fresh), sum(prompt.held_out for prompt in fresh.values())


def _prompt_ids(cursor: Cursor, found: Sequence[_Judged]) -> list[str]:
    """The stored id of each one's prompt. Only new prompts are inserted: passing over those that are there is slow."""
    hashes = [prompts.text_hash(one.prompt.messages) for one in found]
    stored = prompts.ids_by_hash(cursor, hashes)
    new = {text_hash: one.prompt for text_hash, one in zip(hashes, found, strict=True) if text_hash not in stored}
    prompts.insert_new(cursor, list(new.values()))
    prompts.keep_confidential(cursor, [one.prompt for one in found])
    stored.update({text_hash: prompt.id for text_hash, prompt in new.items()})
    return [stored[text_hash] for text_hash in hashes]


def _response_ids(cursor: Cursor, found: Iterable[tuple[str, _Judged]], author: str) -> dict[tuple[str, str], str]:
    """The ids of this source's answers by (prompt id, text), the new ones stored."""
    stored = responses.ids_by_text(cursor, author)
    new: dict[tuple[str, str], Response] = {}
    for prompt_id, one in found:
        for text in _texts(one.verdict):
            if (prompt_id, text) not in stored and (prompt_id, text) not in new:
                new[prompt_id, text] = Response(new_id(), prompt_id, text, version_id=None, author=author)
    responses.insert_all(cursor, list(new.values()))
    return {**stored, **{key: response.id for key, response in new.items()}}


def _texts(verdict: Verdict) -> list[str]:
    match verdict:
        case Ranking(tiers):
            return [text for tier in tiers for text in tier]
        case Rating(text):
            return [text]
        case Demonstration():
            return []


def _with_ids(verdict: Verdict, prompt_id: str, ids: Mapping[tuple[str, str], str]) -> Verdict:
    """The verdict with the ids of the responses in place of their texts."""
    match verdict:
        case Ranking(tiers, strength):
            return Ranking(tuple(tuple(ids[prompt_id, text] for text in tier) for tier in tiers), strength)
        case Rating(text, desirable):
            return Rating(ids[prompt_id, text], desirable)
        case Demonstration():
            return verdict


def _judgment(prompt_id: str, verdict: Verdict, labeler: str, note: str) -> Judgment:
    """Nobody saw the answers in an order, so none is kept."""
    return Judgment(
        id=new_id(),
        prompt_id=prompt_id,
        labeler=labeler,
        feedback_type="import",
        verdicts=(verdict,),
        displayed_order=(),
        note=note,
    )
