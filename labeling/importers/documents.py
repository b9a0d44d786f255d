"""Documents for continued pre-training: plain text, or rows with a `text`.

In a text file a blank line ends a document. Many corpora have a document a line and no blank line at all; there each
line is one, and the page says so. A file that is one long document has to be given as a row with `text`.
"""

from __future__ import annotations

import re
from pathlib import Path

from labeling.importers.files import FileRow, read_rows, text_of
from labeling.importers.imported import Imported, SaysNothing, read_each
from storage import documents
from storage.database import Database
from storage.errors import BadInput

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
A_LINE_EACH = "The file has no blank line, so each line is a document."


def import_documents(database: Database, path: Path, *, source: str, licence: str) -> Imported:
    """Stores the documents of a file, all or none. Raises BadInput, BadRow."""
    if path.suffix.lower() == ".txt":
        rows, note = _blocks(path)
    else:
        rows, note = read_rows(path, plain="text"), ""
    texts, left_out = read_each(rows, _text)
    by_hash = {documents.text_hash(text): text for text in reversed(texts)}
    known = documents.known_hashes(database, by_hash)
    fresh = [text for text_hash, text in reversed(by_hash.items()) if text_hash not in known]
    new = [documents.make(text, source=source, licence=licence) for text in fresh]
    documents.add(database, new)
    held_out = sum(document.held_out for document in new)
    return Imported(len(rows), len(new), len(texts) - len(new), held_out, left_out, note)


def _blocks(path: Path) -> tuple[list[FileRow], str]:
    """The documents of a text file, and how they were told apart where that may surprise."""
    text = text_of(path).replace("\r\n", "\n").strip("\n")
    blocks = _BLANK_LINES.split(text)
    note = ""
    if len(blocks) == 1 and "\n" in text:
        blocks, note = text.split("\n"), A_LINE_EACH
    if not text.strip():
        raise BadInput(f"{path.name} is empty: it has no document to import. Choose another file.")
    return [FileRow(path.name, number, {"text": block}) for number, block in enumerate(blocks, start=1)], note


def _text(row: FileRow) -> str:
    text = row.first_of("text", "content", "document")
    if not isinstance(text, str):
        named = ", ".join(sorted(row.fields)) or "none"
        row.refuse(f"there is no text (fields here: {named})", "Give the field 'text'.")
    if not text.strip():
        raise SaysNothing("the text is empty")
    return text
