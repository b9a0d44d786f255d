from __future__ import annotations

import json
from pathlib import Path

import pytest

from labeling.importers.documents import A_LINE_EACH, import_documents
from labeling.importers.imported import Imported
from storage import documents
from storage.database import Database
from storage.errors import BadInput, BadRow


def bring(database: Database, folder: Path, name: str, content: str) -> Imported:
    path = folder / name
    path.write_bytes(content.encode())
    return import_documents(database, path, source="wiki", licence="CC0")


def texts(database: Database) -> list[str]:
    return [one.text for one in documents.in_order(database)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_blank_line_ends_a_document(database: Database, tmp_path: Path, end: str) -> None:
    lines = ["", "A fox.", "It is red.", "", "  ", "A hare.", ""]

    found = bring(database, tmp_path, "a.txt", end.join(lines))

    assert texts(database) == ["A fox.\nIt is red.", "A hare."]
    assert (found.rows, found.new, found.note) == (2, 2, "")


def test_without_a_blank_line_each_line_is_a_document_and_the_sentence_says_so(
    database: Database, tmp_path: Path
) -> None:
    found = bring(database, tmp_path, "a.txt", "A fox.\nA hare.\n")

    assert texts(database) == ["A fox.", "A hare."]
    assert found.sentence("documents").endswith(A_LINE_EACH)


def test_one_line_is_one_document(database: Database, tmp_path: Path) -> None:
    assert bring(database, tmp_path, "a.txt", "A fox.\n").note == ""
    assert texts(database) == ["A fox."]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "A fox.\\n\\nIt is red."}\n"A hare."\n'),
        ("a.json", json.dumps([{"content": "A fox.\n\nIt is red."}, {"document": "A hare.", "id": 7}])),
        ("a.csv", 'text\n"A fox.\n\nIt is red."\nA hare.\n'),
    ],
)
def test_rows_have_a_text(database: Database, tmp_path: Path, name: str, content: str) -> None:
    bring(database, tmp_path, name, content)

    assert texts(database) == ["A fox.\n\nIt is red.", "A hare."]


def test_documents_that_are_there_are_counted_not_doubled(database: Database, tmp_path: Path) -> None:
    first, again = (bring(database, tmp_path, "a.txt", "A fox.\n\nA hare.\n\nA  fox.\n") for _ in range(2))

    assert (first.rows, first.new, first.known) == (3, 2, 1)
    assert (again.new, again.known) == (0, 3)
    assert first.held_out == len(documents.in_order(database, held_out=True))


def test_an_empty_text_is_left_out_and_counted(database: Database, tmp_path: Path) -> None:
    found = bring(database, tmp_path, "a.jsonl", '{"text": " "}\n{"text": "A fox."}')

    assert (found.new, found.left_out) == (1, {"the text is empty": 1})


@pytest.mark.parametrize("content", ['{"text": "A fox."}\n{"body": "A hare."}', '{"text": "A fox."}\n{"text": 5}'])
def test_a_row_without_text_is_named_and_nothing_is_stored(database: Database, tmp_path: Path, content: str) -> None:
    with pytest.raises(BadRow, match="row 2: there is no text"):
        bring(database, tmp_path, "a.jsonl", content)
    assert texts(database) == []


@pytest.mark.parametrize("content", ["", " \n\n \n"])
def test_an_empty_file_is_refused(database: Database, tmp_path: Path, content: str) -> None:
    with pytest.raises(BadInput, match="is empty"):
        bring(database, tmp_path, "a.txt", content)
