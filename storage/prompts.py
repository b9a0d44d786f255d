"""Prompts, and which of them are held out.

Whether a prompt is held out is decided by the hash of its messages alone, so the same prompt is held out in every
file, on every machine, for ever, and nobody's judgment on it can reach a snapshot by another way in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from storage.database import Cursor, Database, Row, insert, rows_of
from storage.errors import NotFound
from storage.records import Message, Project, Prompt, new_id

HELD_OUT_PERCENT = 20
OWN_PROMPTS = "Compare page"
"""The source of what people asked there themselves."""


def make(
    messages: Sequence[Message], *, source: str, licence: str, tags: Sequence[str] = (), confidential: bool = False
) -> Prompt:
    """A new prompt; held out or not by its hash."""
    return Prompt(
        id=new_id(),
        messages=tuple(messages),
        held_out=is_held_out(messages),
        source=source,
        licence=licence,
        tags=tuple(tags),
        confidential=confidential,
    )


def is_held_out(messages: Sequence[Message]) -> bool:
    """True for HELD_OUT_PERCENT of all prompts."""
    return int(text_hash(messages)[:8], 16) % 100 < HELD_OUT_PERCENT


def messages_of(told: Sequence[Mapping[str, str]]) -> list[Message]:
    """From role and content, as model servers and datasets write them."""
    return [Message(one["role"], one["content"]) for one in told]  # type: ignore[arg-type]  # a role of their own is of no prompt that is stored here


def text_hash(messages: Sequence[Message]) -> str:
    """SHA-256 of the roles and words; differences in white space make no new prompt."""
    canonical = [[message.role, " ".join(message.content.split())] for message in messages]
    return hashlib.sha256(json.dumps(canonical, ensure_ascii=False).encode()).hexdigest()


def add(database: Database, prompts: Sequence[Prompt]) -> int:
    """Stores those that are not there yet, all or none; returns how many were new."""
    return database.write(lambda cursor: insert_new(cursor, prompts))


def insert_new(cursor: Cursor, prompts: Sequence[Prompt]) -> int:
    before = _count(cursor)
    insert(cursor, "prompts", [_as_row(prompt) for prompt in prompts], or_ignore=True)
    return _count(cursor) - before


def get(database: Database, prompt_id: str) -> Prompt:
    """Raises NotFound."""
    rows = database.read("SELECT * FROM prompts WHERE id = $id", id=prompt_id)
    if not rows:
        raise NotFound(f"There is no prompt {prompt_id}.")
    return _from_row(rows[0])


def get_many(database: Database, prompt_ids: Collection[str]) -> dict[str, Prompt]:
    """By id; unknown ids are absent."""
    rows = database.read("SELECT * FROM prompts WHERE id IN (SELECT unnest($ids))", ids=list(prompt_ids))
    return {row["id"]: _from_row(row) for row in rows}


def by_messages(database: Database, messages: Sequence[Message]) -> Prompt | None:
    """The stored prompt of these words, if there is one."""
    rows = database.read("SELECT * FROM prompts WHERE text_hash = $text_hash", text_hash=text_hash(messages))
    return _from_row(rows[0]) if rows else None


def known_hashes(database: Database, hashes: Iterable[str]) -> set[str]:
    """Those of these text hashes that are stored."""
    rows = database.read(
        "SELECT text_hash FROM prompts WHERE text_hash IN (SELECT unnest($hashes))", hashes=list(hashes)
    )
    return {row["text_hash"] for row in rows}


def ids_by_hash(cursor: Cursor, hashes: Iterable[str]) -> dict[str, str]:
    """Stored ids by text hash."""
    found = rows_of(
        cursor.execute(
            "SELECT text_hash, id FROM prompts WHERE text_hash IN (SELECT unnest($hashes))", {"hashes": list(hashes)}
        )
    )
    return {row["text_hash"]: row["id"] for row in found}


def in_order(database: Database, *, held_out: bool | None = None, sources: Sequence[str] = ()) -> list[Prompt]:
    """Prompts of these sources (of all where none is named), oldest first; those to train on are `held_out=False`."""
    rows = database.read(
        """
        SELECT *
        FROM prompts
        WHERE ($held_out IS NULL OR held_out = $held_out)
          AND (len($sources) = 0 OR list_contains($sources, source))
        ORDER BY created_at, id
        """,
        held_out=held_out,
        sources=list(sources),
    )
    return [_from_row(row) for row in rows]


def in_sources(database: Database, sources: Sequence[str], *, held_out: bool | None = None) -> list[Prompt]:
    """The same without what people asked on the compare page, unless that source is named."""
    found = in_order(database, held_out=held_out, sources=sources)
    return [one for one in found if one.source != OWN_PROMPTS or OWN_PROMPTS in sources]


def asked_by(database: Database, project: Project) -> list[Prompt]:
    """The prompts of a project, oldest first: of a comparison those that are held out.

    Where an endpoint outside answers, none is confidential. What people asked on the compare page is asked again only
    by a project that names that source.
    """
    found = _chosen_by(database, project)
    return [one for one in found if not one.confidential] if answers_outside(database, project) else found


def kept_here(database: Database, project: Project) -> int:
    """How many prompts a project leaves out, because they are confidential and an endpoint outside answers in it."""
    if not answers_outside(database, project):
        return 0
    return sum(one.confidential for one in _chosen_by(database, project))


def answers_outside(database: Database, project: Project) -> bool:
    """Whether what a project asks leaves this machine."""
    statement = "SELECT 1 FROM model_versions WHERE kind = 'outside_endpoint' AND id IN (SELECT unnest($ids))"
    return bool(database.read(statement, ids=list(project.version_ids)))


def confidential_hashes(database: Database) -> list[str]:
    """The text hashes of the prompts that never leave for an endpoint outside."""
    rows = database.read("SELECT text_hash FROM prompts WHERE confidential ORDER BY text_hash")
    return [row["text_hash"] for row in rows]


def is_confidential(database: Database, messages: Sequence[Message]) -> bool:
    """Whether these words are stored as confidential, whoever asks them again."""
    known = by_messages(database, messages)
    return known is not None and known.confidential


def keep_confidential(cursor: Cursor, prompts: Sequence[Prompt]) -> None:
    """Those of these that are confidential are so from now on, also where they were stored before."""
    hashes = [text_hash(prompt.messages) for prompt in prompts if prompt.confidential]
    if hashes:
        statement = "UPDATE prompts SET confidential = true WHERE text_hash IN (SELECT unnest($hashes))"
        cursor.execute(statement, {"hashes": hashes})


def take_over(cursor: Cursor, found: Sequence[Prompt]) -> None:
    """Those of these that people only asked on the compare page so far are from now on what they were imported as.

    They were not there to be asked before, so they are as new as the others of their file: votes that somebody cast on
    a prompt of their own stay apart from what is measured.
    """
    rows = {row["text_hash"]: row for row in map(_as_row, reversed(found))}
    asked = "SELECT text_hash FROM prompts WHERE source = $own AND text_hash IN (SELECT unnest($hashes))"
    own = rows_of(cursor.execute(asked, {"own": OWN_PROMPTS, "hashes": list(rows)}))
    statement = """
        UPDATE prompts
        SET source = $source, licence = $licence, tags = $tags, created_at = $created_at
        WHERE text_hash = $text_hash
    """
    for row in (rows[one["text_hash"]] for one in own):
        names = ("source", "licence", "tags", "created_at", "text_hash")
        cursor.execute(statement, {name: row[name] for name in names})


def mark_confidential(database: Database, source: str, confidential: bool) -> int:
    """Marks every prompt of a source, or takes the mark away; returns how many there are. Raises NotFound."""
    there = database.read("SELECT count(*) AS n FROM prompts WHERE source = $source", source=source)[0]["n"]
    if not there:
        raise NotFound(f"There are no prompts from {source}. Reload the page to see those there are.")
    statement = "UPDATE prompts SET confidential = $confidential WHERE source = $source"
    database.write(lambda cursor: cursor.execute(statement, {"confidential": confidential, "source": source}))
    return int(there)


def held_out(database: Database, limit: int) -> list[Prompt]:
    """The first held-out prompts."""
    return in_order(database, held_out=True)[:limit]


def held_out_hashes(database: Database) -> list[str]:
    """The text hashes of the prompts that are never learned from."""
    rows = database.read("SELECT text_hash FROM prompts WHERE held_out ORDER BY text_hash")
    return [row["text_hash"] for row in rows]


def sources(database: Database) -> list[Row]:
    """One row a source: source, licence, prompts, held_out, confidential, first_at."""
    return sources_of(database, "prompts")


def sources_of(database: Database, table: Literal["prompts", "documents"]) -> list[Row]:
    """Where the rows of a table came from; how many they are bears the name of the table."""
    return database.read(
        f"""
        SELECT
            source,
            licence,
            count(*) AS {table},
            count(*) FILTER (held_out) AS held_out,
            {"count(*) FILTER (confidential)" if table == "prompts" else "0"} AS confidential,
            min(created_at) AS first_at
        FROM {table}
        GROUP BY source, licence
        ORDER BY first_at
        """
    )


def _chosen_by(database: Database, project: Project) -> list[Prompt]:
    return in_sources(database, project.sources, held_out=project.purpose == "comparison")


def _count(cursor: Cursor) -> int:
    return int(rows_of(cursor.execute("SELECT count(*) AS n FROM prompts"))[0]["n"])


def _as_row(prompt: Prompt) -> Row:
    return {
        "id": prompt.id,
        "text_hash": text_hash(prompt.messages),
        "messages": [message.as_dict() for message in prompt.messages],
        "held_out": prompt.held_out,
        "source": prompt.source,
        "licence": prompt.licence,
        "tags": list(prompt.tags),
        "confidential": prompt.confidential,
        "created_at": prompt.created_at,
    }


def _from_row(row: Row) -> Prompt:
    return Prompt(
        id=row["id"],
        messages=tuple(Message(**message) for message in row["messages"]),
        held_out=row["held_out"],
        source=row["source"],
        licence=row["licence"],
        tags=tuple(row["tags"]),
        confidential=row["confidential"],
        created_at=row["created_at"],
    )
