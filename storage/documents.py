"""Documents to continue pre-training on, and which of them are held out.

As with prompts, the hash of the text alone decides what is held out: the same document is held out in every file and
on every machine, so perplexity on the held-out ones is never measured on text that was learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence

from storage.database import Cursor, Database, Row, insert, rows_of
from storage.prompts import HELD_OUT_PERCENT, sources_of
from storage.records import Document, new_id

UNKNOWN_LICENCES = ("", "unknown")


def make(text: str, *, source: str, licence: str) -> Document:
    """A new document; held out or not by its hash."""
    return Document(id=new_id(), text=text, held_out=is_held_out(text), source=source, licence=licence)


def is_held_out(text: str) -> bool:
    """True for HELD_OUT_PERCENT of all documents."""
    return int(text_hash(text)[:8], 16) % 100 < HELD_OUT_PERCENT


def text_hash(text: str) -> str:
    """SHA-256 of the words; differences in white space make no new document."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()


def add(database: Database, documents: Sequence[Document]) -> int:
    """Stores those that are not there yet, all or none; returns how many were new."""
    return database.write(lambda cursor: insert_new(cursor, documents))


def insert_new(cursor: Cursor, documents: Sequence[Document]) -> int:
    before = _count(cursor)
    insert(cursor, "documents", [_as_row(document) for document in documents], or_ignore=True)
    return _count(cursor) - before


def unlicensed(database: Database, document_ids: Collection[str]) -> int:
    """How many of these nobody noted a licence of."""
    rows = database.read(
        """
        SELECT count(*) AS documents
        FROM documents
        WHERE id IN (SELECT unnest($ids))
          AND list_contains($unknown, lower(trim(licence)))
        """,
        ids=list(document_ids),
        unknown=list(UNKNOWN_LICENCES),
    )
    return int(rows[0]["documents"])


def held_out_hashes(database: Database) -> list[str]:
    """The text hashes of the documents that are never learned from."""
    rows = database.read("SELECT text_hash FROM documents WHERE held_out ORDER BY text_hash")
    return [row["text_hash"] for row in rows]


def known_hashes(database: Database, hashes: Iterable[str]) -> set[str]:
    """Those of these text hashes that are stored."""
    rows = database.read(
        "SELECT text_hash FROM documents WHERE text_hash IN (SELECT unnest($hashes))", hashes=list(hashes)
    )
    return {row["text_hash"] for row in rows}


def in_order(database: Database, *, held_out: bool | None = None, sources: Sequence[str] = ()) -> list[Document]:
    """Documents of these sources (of all where none is named), oldest first; those to train on are `held_out=False`."""
    rows = database.read(
        """
        SELECT *
        FROM documents
        WHERE ($held_out IS NULL OR held_out = $held_out)
          AND (len($sources) = 0 OR list_contains($sources, source))
        ORDER BY created_at, id
        """,
        held_out=held_out,
        sources=list(sources),
    )
    return [_from_row(row) for row in rows]


def sources(database: Database) -> list[Row]:
    """One row a source: source, licence, documents, held_out, first_at."""
    return sources_of(database, "documents")


def _count(cursor: Cursor) -> int:
    return int(rows_of(cursor.execute("SELECT count(*) AS n FROM documents"))[0]["n"])


def _as_row(document: Document) -> Row:
    return {
        "id": document.id,
        "text_hash": text_hash(document.text),
        "text": document.text,
        "held_out": document.held_out,
        "source": document.source,
        "licence": document.licence,
        "created_at": document.created_at,
    }


def _from_row(row: Row) -> Document:
    return Document(**{name: row[name] for name in Document.__dataclass_fields__})
