from __future__ import annotations

from storage import model_versions
from storage.database import Database
from storage.model_versions import MadeWith


def test_what_a_version_was_made_with_is_noted_once(database: Database):
    first = MadeWith("sha256:words", "sha256:form")
    model_versions.note_made_with(database, "v1", first)
    model_versions.note_made_with(database, "v1", MadeWith("sha256:other words", "sha256:form"))
    assert model_versions.made_with(database) == {"v1": first}
