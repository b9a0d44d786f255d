"""Versions, and what stands beside them."""

from __future__ import annotations

import pytest

from storage import model_versions
from storage.database import Cursor, Database
from storage.endpoints import Endpoint
from storage.model_versions import MadeWith
from tests.makers import version

NOTED = MadeWith("sha256:words", "sha256:form", "sha256:base")


def test_what_a_version_was_made_with_is_noted_once(database: Database):
    model_versions.note_made_with(database, "v1", NOTED)
    model_versions.note_made_with(database, "v1", MadeWith("sha256:other words", "sha256:form", "sha256:other base"))
    assert model_versions.made_with(database) == {"v1": NOTED}


def test_a_base_that_an_older_plumbline_did_not_note_is_added_and_the_rest_stays(database: Database):
    model_versions.note_made_with(database, "v1", MadeWith("sha256:words", "sha256:form"))
    model_versions.note_made_with(database, "v1", MadeWith("sha256:other words", "sha256:form", "sha256:base"))
    assert model_versions.made_with(database) == {"v1": NOTED}


def test_a_version_is_stored_with_what_it_was_made_with(database: Database):
    model_versions.add(database, version("v1", run_id="dpo-01"), NOTED)
    model_versions.add(database, version("v2", run_id="dpo-01"), MadeWith("", ""))  # the same run once more
    assert [one.id for one in model_versions.list_all(database)] == ["v1"]
    assert model_versions.made_with(database) == {"v1": NOTED}


def test_a_version_whose_fingerprints_cannot_be_stored_is_not_stored(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    def fail(cursor: Cursor, version_id: str, made_with: MadeWith) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(model_versions, "_note", fail)
    with pytest.raises(OSError, match="the disk is full"):
        model_versions.add(database, version("v1"), NOTED)
    assert model_versions.list_all(database) == []


def test_an_endpoint_that_moved_is_another_answerer_and_is_the_first_again_where_it_moves_back(database: Database):
    here, there = Endpoint("house", "https://a.org", "big"), Endpoint("house", "https://b.org", "big")
    old, new = "outside: house (big)", "outside: house (big) at https://b.org"

    assert [list(model_versions.keep_endpoints(database, [one])) for one in (here, there, here)] == [
        [old],
        [new],
        [old],
    ]
    stored = {one.id: (one.base_path, one.served) for one in model_versions.endpoints(database)}
    assert stored == {old: ("https://a.org", True), new: ("https://b.org", False)}
