"""Demonstrations: a prompt with the answer it should get, written by a person elsewhere.

Each becomes a prompt, and a judgment by the imported source that says what the response should have been.
Shapes: prompt and completion (or response, output, answer), or a conversation whose last turn is the assistant's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labeling.importers.files import FileRow, messages_of, read_rows
from labeling.importers.prompts import Fits, Imported, check_fits, messages_of_text, tags_of
from storage import judgments, prompts
from storage.database import Cursor, Database
from storage.records import Demonstration, Judgment, Message, Prompt, new_id


@dataclass(frozen=True)
class _Shown:
    prompt: Prompt
    answer: str


def import_demonstrations(
    database: Database, path: Path, *, source: str, licence: str, fits: Fits = lambda messages: ""
) -> Imported:
    """Stores the demonstrations of a file, all or none. Raises BadInput, BadRow."""
    rows = read_rows(path)
    shown = [_shown(row, source, licence, fits) for row in rows]
    return database.write(lambda cursor: _store(cursor, shown, source))


def _store(cursor: Cursor, shown: list[_Shown], source: str) -> Imported:
    prompts.insert_new(cursor, [one.prompt for one in shown])
    stored = prompts.ids_by_hash(cursor, [prompts.text_hash(one.prompt.messages) for one in shown])
    already = _known(cursor, source)
    fresh: dict[tuple[str, str], Judgment] = {}
    held_out = 0
    for one in shown:
        prompt_id = stored[prompts.text_hash(one.prompt.messages)]
        if (prompt_id, one.answer) not in already and (prompt_id, one.answer) not in fresh:
            fresh[prompt_id, one.answer] = _judgment(prompt_id, one.answer, source)
            held_out += one.prompt.held_out
    judgments.insert_all(cursor, list(fresh.values()))
    return Imported(len(shown), len(fresh), len(shown) - len(fresh), held_out)


def _known(cursor: Cursor, source: str) -> set[tuple[str, str]]:
    """(prompt id, answer) of what this source brought before."""
    rows = cursor.execute(
        """
        SELECT j.prompt_id, v.text
        FROM judgments AS j
        JOIN verdicts AS v ON v.judgment_id = j.id
        WHERE j.labeler = $labeler AND v.kind = 'demonstration'
        """,
        {"labeler": _labeler(source)},
    ).fetchall()
    return {(prompt_id, text) for prompt_id, text in rows}


def _judgment(prompt_id: str, answer: str, source: str) -> Judgment:
    return Judgment(
        id=new_id(),
        prompt_id=prompt_id,
        labeler=_labeler(source),
        feedback_type="import",
        verdicts=(Demonstration(answer),),
        displayed_order=(),
    )


def _labeler(source: str) -> str:
    return f"import: {source}"


def _shown(row: FileRow, source: str, licence: str, fits: Fits) -> _Shown:
    messages, answer = _asked_and_answered(row)
    check_fits(row, messages, fits)
    return _Shown(prompts.make(messages, source=source, licence=licence, tags=tags_of(row)), answer)


def _asked_and_answered(row: FileRow) -> tuple[list[Message], str]:
    answer = row.first_of("completion", "response", "output", "answer", "chosen")
    if answer is None and (turns := row.first_of("messages", "conversations")) is not None:
        messages = messages_of(row, turns)
        if len(messages) < 2 or messages[-1].role != "assistant":
            row.refuse("the conversation does not end with an answer", "The last turn is the assistant's.")
        return messages[:-1], messages[-1].content
    if isinstance(answer, list):
        answer = messages_of(row, answer)[-1].content
    if not isinstance(answer, str) or not answer.strip():
        row.refuse("there is no answer", "Give the field 'completion', 'response', 'output' or 'answer'.")
    return messages_of_text(row, row.first_of("prompt", "question", "instruction")), answer
