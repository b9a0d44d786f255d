from __future__ import annotations

from dataclasses import replace

from storage import documents
from storage.database import Database
from storage.records import Document


def document(text: str, source: str = "wiki") -> Document:
    return documents.make(text, source=source, licence="CC BY-SA 4.0")


def test_a_document_comes_back_as_it_went_in_and_is_stored_once_whatever_its_white_space(database: Database) -> None:
    first, again = document("A fox.\n  It is red."), document("A fox. It is red.")

    assert documents.add(database, [first]) == 1
    assert documents.add(database, [again, first]) == 0
    assert documents.in_order(database) == [first]
    assert documents.known_hashes(database, [documents.text_hash(" A  fox. It is red."), "0"]) == {
        documents.text_hash(first.text)
    }


def test_the_same_document_is_held_out_everywhere_and_about_a_fifth_are() -> None:
    texts = [f"Article {number}." for number in range(2000)]

    held_out = [documents.is_held_out(text) for text in texts]

    assert held_out == [documents.is_held_out(f"  {text}\n") for text in texts]
    assert 0.17 < sum(held_out) / len(held_out) < 0.23


def test_documents_come_by_side_and_source_and_are_counted(database: Database) -> None:
    learned = replace(document("One."), held_out=False)
    exam = replace(document("Two."), held_out=True)
    other = replace(document("Three.", source="book"), held_out=False)
    documents.add(database, [learned, exam, other])

    assert documents.in_order(database, held_out=False) == [learned, other]
    assert documents.in_order(database, held_out=True) == [exam]
    assert documents.in_order(database, sources=["wiki"]) == [learned, exam]
    assert documents.held_out_hashes(database) == [documents.text_hash("Two.")]
    assert [(row["source"], row["documents"], row["held_out"]) for row in documents.sources(database)] == [
        ("wiki", 2, 1),
        ("book", 1, 0),
    ]


def test_documents_whose_licence_nobody_noted_are_counted(database: Database) -> None:
    known = document("One.")
    unknown = [replace(document(text), licence=licence) for text, licence in (("Two.", " Unknown"), ("Three.", ""))]
    documents.add(database, [known, *unknown])

    assert documents.unlicensed(database, [known.id, unknown[0].id, unknown[1].id]) == 2
    assert documents.unlicensed(database, [known.id]) == 0
