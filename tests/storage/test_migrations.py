"""A database that an older Plumbline wrote opens, keeps what it holds, and takes what is new."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest

from storage import documents, migrations, model_versions, runs, snapshots
from storage.database import Database
from storage.model_versions import MadeWith
from storage.records import DatasetType

MESSAGES = [{"role": "user", "content": "Why?"}]
ANSWER = [{"role": "assistant", "content": "Because."}]
ROWS: dict[DatasetType, dict[str, object]] = {
    "preference": {"prompt": MESSAGES, "chosen": ANSWER, "rejected": MESSAGES, "judgment_id": "j"},
    "unpaired_preference": {"prompt": MESSAGES, "completion": ANSWER, "label": False, "judgment_id": "j"},
    "prompt_completion": {"prompt": MESSAGES, "completion": ANSWER, "judgment_id": "j"},
    "language_modeling": {"text": "A fox.", "document_id": "d"},
    "prompt_only": {"prompt": MESSAGES, "prompt_id": "p"},
}


@pytest.fixture
def step_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as schema step 1 left it, with a snapshot and a run."""
    path = tmp_path / "old.duckdb"
    with monkeypatch.context() as old, duckdb.connect(str(path)) as connection:
        old.setattr(migrations, "STEPS", migrations.STEPS[:1])
        migrations.apply(connection)
        connection.execute(
            "INSERT INTO snapshots VALUES ('s1', 'Round 1', 'preference', 2, 'f', '/gone.parquet', 'majority', "
            "$counts, ['j1', 'j2'], '2031-01-01 00:00:00+00')",
            {"counts": json.dumps({"judgments": 2, "rows": 2})},
        )
        connection.execute(
            "INSERT INTO runs VALUES ('dpo-01', 'dpo', '{\"beta\": 0.1}', 's1', 'base', '/runs/dpo-01', 'succeeded', "
            "'Done.', 'v1', 'ana', '2031-01-01 00:00:00+00', NULL)"
        )
    return path


def test_what_an_old_database_holds_is_read_with_the_new_fields_empty(step_1: Path) -> None:
    database = Database.open(step_1)

    kept, run = snapshots.get(database, "s1"), runs.get(database, "dpo-01")
    database.close()

    assert (kept.dataset_type, kept.rows, kept.judgment_ids, kept.source_ids) == ("preference", 2, ("j1", "j2"), ())
    assert (run.settings, run.version_id, dict(run.launch), run.repeats) == ({"beta": 0.1}, "v1", {}, None)


def test_an_old_database_takes_snapshots_of_every_type_and_has_them_when_it_is_opened_again(
    step_1: Path, tmp_path: Path
) -> None:
    database = Database.open(step_1)
    made = {
        kind: snapshots.freeze(
            database,
            tmp_path / "snapshots",
            name=kind,
            dataset_type=kind,
            rows=[row],
            counts={"rows": 1},
            policy="all",
            source_ids=["p"] if kind == "prompt_only" else [],
        )
        for kind, row in ROWS.items()
    }
    documents.add(database, [documents.make("A fox.", source="book", licence="Own")])
    database.close()

    again = Database.open(step_1)
    found = {kind: snapshots.get(again, one.id) for kind, one in made.items()}
    stored = documents.in_order(again)
    again.close()

    assert found == made and set(found) == set(snapshots.COLUMNS)
    assert {kind: snapshots.read_rows(Path(one.path)) for kind, one in found.items()} == {
        kind: [row] for kind, row in ROWS.items()
    }
    assert [one.text for one in stored] == ["A fox."]


VERSION = (
    "INSERT INTO model_versions VALUES ('v1', '/base', '/runs/dpo-01/model', 'base', 'dpo-01', '{{ a }}', 'abc', 512, "
    "'policy', true, '', '2031-01-01 00:00:00+00')"
)
NOTED = "INSERT INTO versions_made_with VALUES ('v1', 'sha256:words', 'sha256:form')"


@pytest.mark.parametrize(
    ("steps", "rows", "noted"),
    [
        (3, [VERSION], {}),  # before anything was noted
        (4, [VERSION, NOTED], {"v1": MadeWith("sha256:words", "sha256:form", "")}),  # before the base was
    ],
)
def test_versions_of_an_old_database_are_kept_and_what_was_not_noted_of_them_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, rows: list[str], noted: dict[str, MadeWith]
):
    with monkeypatch.context() as old, duckdb.connect(str(tmp_path / "old.duckdb")) as connection:
        old.setattr(migrations, "STEPS", migrations.STEPS[:steps])
        migrations.apply(connection)
        for row in rows:
            connection.execute(row)
    database = Database.open(tmp_path / "old.duckdb")
    (kept,), before = model_versions.list_all(database), model_versions.made_with(database)
    model_versions.note_made_with(database, "v1", MadeWith("sha256:words", "sha256:form", "sha256:base"))
    after = model_versions.made_with(database)
    database.close()
    assert (kept.id, kept.adapter_path, kept.fingerprint) == ("v1", "/runs/dpo-01/model", "abc") and before == noted
    assert after == {"v1": MadeWith("sha256:words", "sha256:form", "sha256:base")}
