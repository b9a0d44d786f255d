"""From the database to snapshots: whose judgments, which prompts, which documents."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from alignment.datasets import POLICY, UNJUDGED_POLICY
from alignment.freezing import freeze_snapshot, rows_of_projects
from alignment.run_offers import found_of
from storage import documents, judgments, projects, prompts, responses, snapshots
from storage.database import Database
from storage.errors import BadInput
from storage.records import Document, Prompt, Ranking
from tests.makers import judgment, project, prompt, response, some_prompts


def document(text: str, source: str = "wiki", *, held_out: bool = False) -> Document:
    return replace(documents.make(text, source=source, licence="CC0"), held_out=held_out)


def asked(text: str, source: str) -> Prompt:
    return replace(prompt(text), source=source, held_out=False)


def test_documents_are_frozen_by_source_and_held_out_ones_never(database: Database, tmp_path: Path) -> None:
    fox, exam, hare = document("Fox."), document("Exam.", held_out=True), document("Hare.", "book")
    documents.add(database, [fox, exam, hare])

    everything = freeze_snapshot(database, tmp_path, dataset_type="language_modeling")
    book = freeze_snapshot(database, tmp_path, sources=["book"], dataset_type="language_modeling")

    assert snapshots.read_rows(Path(everything.path)) == [
        {"text": "Fox.", "document_id": fox.id},
        {"text": "Hare.", "document_id": hare.id},
    ]
    assert (everything.name, book.name) == ("Everything, documents 1", "book, documents 1")
    assert (everything.source_ids, everything.judgment_ids, everything.policy) == (
        (fox.id, hare.id),
        (),
        UNJUDGED_POLICY,
    )
    assert everything.counts == {"documents": 3, "held_out": 1, "duplicates": 0, "rows": 2}
    assert book.source_ids == (hare.id,)


def test_prompts_are_those_that_the_projects_ask(database: Database, tmp_path: Path) -> None:
    ours, theirs, exam = asked("Ours?", "ours"), asked("Theirs?", "theirs"), some_prompts(1, held_out=True)[0]
    prompts.add(database, [ours, theirs, exam])
    projects.save(database, project(id="p1", sources=("ours",)))
    projects.save(database, project(id="p2", sources=()))

    def ids(project_ids: list[str], sources: list[str]) -> set[str]:
        return set(rows_of_projects(database, project_ids, "prompt_only", sources).source_ids)

    assert ids([], []) == ids(["p2"], []) == ids(["p1", "p2"], []) == {ours.id, theirs.id}
    assert ids(["p1"], []) == ids(["p2"], ["ours"]) == ids([], ["ours"]) == {ours.id}
    assert ids(["p1"], ["theirs"]) == set()
    snapshot = freeze_snapshot(database, tmp_path, project_ids=["p1"], dataset_type="prompt_only")
    assert snapshots.read_rows(Path(snapshot.path)) == [
        {"prompt": [{"role": "user", "content": "Ours?"}], "prompt_id": ours.id}
    ]
    assert snapshot.name == "Vaccines, prompts 1"


def test_a_snapshot_says_how_what_contradicts_itself_was_settled(database: Database, tmp_path: Path) -> None:
    (question,) = some_prompts(1)
    prompts.add(database, [question])
    judge(database, question)

    assert freeze_snapshot(database, tmp_path, dataset_type="preference").policy == POLICY


def test_freezing_again_gives_the_snapshot_there_is(database: Database, tmp_path: Path) -> None:
    documents.add(database, [document("Fox.")])

    first, again = (freeze_snapshot(database, tmp_path, dataset_type="language_modeling") for _ in range(2))

    assert again == first


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("language_modeling", "no documents to freeze: 1 documents were looked at, 1 of them held out. Import doc"),
        ("prompt_only", "no prompts to freeze: 0 prompts were looked at, 0 of them held out. Import prompts"),
        ("preference", "no pairs to freeze: 0 judgments were looked at. Label some"),
    ],
)
def test_nothing_to_freeze_is_refused_with_a_way_out(database: Database, tmp_path: Path, kind: str, said: str) -> None:
    documents.add(database, [document("Exam.", held_out=True)])

    with pytest.raises(BadInput, match=said):
        freeze_snapshot(database, tmp_path, dataset_type=kind)
    assert snapshots.list_all(database) == [] and not list(tmp_path.glob("*.parquet"))


def test_thirty_thousand_documents_are_frozen_in_seconds(database: Database, tmp_path: Path) -> None:
    documents.add(database, [document(f"Article {number}. " + "It is red. " * 20) for number in range(30_000)])

    began = time.process_time()
    snapshot = freeze_snapshot(database, tmp_path, dataset_type="language_modeling")

    assert snapshot.rows == 30_000
    assert time.process_time() - began < 15  # about 2 s


def judge(database: Database, question: Prompt) -> None:
    good, bad = response(question.id, "Yes."), response(question.id, "No.")
    responses.add(database, [good, bad])
    said = judgment(question.id, Ranking(((good.id,), (bad.id,))))
    database.write(lambda cursor: judgments.add(cursor, said))


def test_what_people_asked_on_the_compare_page_is_frozen_only_where_that_source_is_named(database: Database) -> None:
    ours, typed = asked("Ours?", "ours"), asked("My secret?", prompts.OWN_PROMPTS)
    prompts.add(database, [ours, typed])
    projects.save(database, project(sources=()))

    for project_ids in ([], ["p1"]):
        assert rows_of_projects(database, project_ids, "prompt_only").source_ids == (ours.id,)
    named = rows_of_projects(database, [], "prompt_only", [prompts.OWN_PROMPTS])
    assert named.source_ids == (typed.id,)
    counted = [found_of(database, "prompt_only", of).rows for of in ("", "ours", prompts.OWN_PROMPTS)]
    assert counted == [1, 1, 1]
