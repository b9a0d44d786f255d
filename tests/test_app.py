"""How a home begins, without a browser."""

from __future__ import annotations

import pytest

import app
from storage import model_versions, projects, prompts
from storage.database import Database
from storage.errors import ModelNotLoadable


def held(database: Database) -> tuple[list[str], int, int]:
    versions = [one.id for one in model_versions.list_all(database)]
    asked = sum(row["prompts"] for row in prompts.sources(database))
    return versions, len(projects.list_all(database)), asked


def test_a_new_home_holds_the_starter_and_something_to_judge(database: Database) -> None:
    app._first_start(database, "")

    assert held(database) == (["documents-only", "base"], 1, 2000)
    assert [one.id for one in model_versions.served(database)] == ["base"]


def test_a_second_start_changes_nothing(database: Database) -> None:
    app._first_start(database, "")
    before = held(database)
    app._first_start(database, "")

    assert held(database) == before


def test_a_start_that_was_cut_short_is_made_good(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(app, "add_first_project", cut)
        app._first_start(database, "")
    app._first_start(database, "")

    assert held(database) == (["documents-only", "base"], 1, 2000)


def test_the_same_model_may_be_named_at_every_start(database: Database) -> None:
    named = str(app.STARTER / "chat")
    app._first_start(database, named)
    app._first_start(database, f"{named}/")

    assert held(database)[0] == ["chat"]


def test_a_model_that_is_none_leaves_an_empty_home(database: Database) -> None:
    with pytest.raises(ModelNotLoadable):
        app._first_start(database, "/nowhere/at/all")
    assert held(database) == ([], 0, 0)
