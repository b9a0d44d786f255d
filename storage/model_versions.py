"""Model versions: the base, and everything that was made from it. Only `served` ever changes.

Beside a version stand the fingerprints of the tokenizer and the template that it was made with, noted once: whoever
serves it later can tell that they are still the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Cursor, Database, Row, insert, rows_of
from storage.errors import NotFound
from storage.records import ModelVersion


def add(database: Database, version: ModelVersion) -> ModelVersion:
    """Stores a version. One run makes one version: where its run already made one, that one is returned."""
    return database.write(lambda cursor: _add(cursor, version))


def get(database: Database, version_id: str) -> ModelVersion:
    """Raises NotFound."""
    for version in list_all(database):
        if version.id == version_id:
            return version
    raise NotFound(f"There is no model version {version_id}. The models page lists those there are.")


def list_all(database: Database) -> list[ModelVersion]:
    """Oldest first."""
    return [ModelVersion(**row) for row in database.read("SELECT * FROM model_versions ORDER BY created_at, id")]


def served(database: Database) -> list[ModelVersion]:
    """Those that the model servers are to answer as."""
    return [version for version in list_all(database) if version.served]


def set_served(database: Database, version_id: str, value: bool) -> ModelVersion:
    """Raises NotFound."""
    get(database, version_id)
    statement = "UPDATE model_versions SET served = $served WHERE id = $id"
    database.write(lambda cursor: cursor.execute(statement, {"served": value, "id": version_id}))
    return get(database, version_id)


@dataclass(frozen=True)
class MadeWith:
    """Fingerprints."""

    tokenizer: str
    template: str


def note_made_with(database: Database, version_id: str, made_with: MadeWith) -> None:
    """What was noted first stays."""
    row = {"version_id": version_id, "tokenizer": made_with.tokenizer, "template": made_with.template}
    statement = "INSERT INTO versions_made_with VALUES ($version_id, $tokenizer, $template) ON CONFLICT DO NOTHING"
    database.write(lambda cursor: cursor.execute(statement, row))


def made_with(database: Database) -> dict[str, MadeWith]:
    """By version id."""
    rows = database.read("SELECT * FROM versions_made_with")
    return {row["version_id"]: MadeWith(row["tokenizer"], row["template"]) for row in rows}


def next_id(database: Database) -> str:
    """v1, v2, …: the first number that is free."""
    taken = {version.id for version in list_all(database)}
    return next(name for number in range(1, len(taken) + 2) if (name := f"v{number}") not in taken)


def _add(cursor: Cursor, version: ModelVersion) -> ModelVersion:
    if version.run_id is not None:
        statement = "SELECT * FROM model_versions WHERE run_id = $run"
        if there := rows_of(cursor.execute(statement, {"run": version.run_id})):
            return ModelVersion(**there[0])
    insert(cursor, "model_versions", [_as_row(version)])
    return version


def _as_row(version: ModelVersion) -> Row:
    return {name: getattr(version, name) for name in ModelVersion.__dataclass_fields__}
