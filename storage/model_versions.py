"""Model versions: the base, and everything that was made from it; and endpoints, which answer as versions do.

Only `served` ever changes.

Beside a version stand the fingerprints of the base, the tokenizer and the template that it was made with, stored with
it: whoever serves it later can tell that they are still the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from storage.database import Cursor, Database, Row, insert, rows_of
from storage.endpoints import Endpoint
from storage.errors import NotFound
from storage.records import ModelVersion


def add(database: Database, version: ModelVersion, made_with: MadeWith | None = None) -> ModelVersion:
    """Stores a version and what it was made with, both or neither.

    One run makes one version: where its run already made one, that one is returned.
    """
    return database.write(lambda cursor: _add(cursor, version, made_with))


def get(database: Database, version_id: str) -> ModelVersion:
    """A version or an endpoint. Raises NotFound."""
    for version in _all(database):
        if version.id == version_id:
            return version
    raise NotFound(f"There is no model version {version_id}. The models page lists those there are.")


def list_all(database: Database) -> list[ModelVersion]:
    """Those that have weights here, oldest first."""
    return [version for version in _all(database) if not version.is_endpoint]


def endpoints(database: Database) -> list[ModelVersion]:
    """All that the settings ever named, oldest first; `served` are those that they name now."""
    return [version for version in _all(database) if version.is_endpoint]


def answering(database: Database) -> list[ModelVersion]:
    """Whom a project or a comparison can ask: the endpoints that the settings name, then versions, oldest first."""
    policies = [version for version in list_all(database) if version.kind == "policy"]
    return [*(one for one in endpoints(database) if one.served), *policies]


def keep_endpoints(database: Database, named: Iterable[Endpoint]) -> dict[str, Endpoint]:
    """From now on these endpoints can answer, and no others; returns them by the id that each has as an answerer.

    Another model or another place is another answerer: no answer of one place is ever counted as one of the other.
    """
    there = {one.id: one.base_path for one in endpoints(database)}
    wanted = {answerer_id(one, there): one for one in named}
    for version_id in sorted(wanted.keys() - there):
        add(database, _answerer(version_id, wanted[version_id]))
    for version_id in sorted(there.keys() | wanted.keys()):
        set_served(database, version_id, version_id in wanted)
    return wanted


def answerer_id(endpoint: Endpoint, there: Mapping[str, str]) -> str:
    """The pages call it so, too. Its address joins it where that name is one of another place (`there`: id → url)."""
    name = f"{'outside' if endpoint.is_outside else 'inside'}: {endpoint.name} ({endpoint.model})"
    return name if there.get(name, endpoint.url) == endpoint.url else f"{name} at {endpoint.url}"


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
    """Fingerprints. That of the base is empty where an older Plumbline noted the others."""

    tokenizer: str
    template: str
    base: str = ""


def note_made_with(database: Database, version_id: str, made_with: MadeWith) -> None:
    """Of a version that was stored without. What was noted first stays."""
    database.write(lambda cursor: _note(cursor, version_id, made_with))


def made_with(database: Database) -> dict[str, MadeWith]:
    """By version id."""
    rows = database.read("SELECT * FROM versions_made_with")
    return {row["version_id"]: MadeWith(row["tokenizer"], row["template"], row["base"]) for row in rows}


def next_id(database: Database) -> str:
    """v1, v2, …: the first number that is free."""
    taken = {version.id for version in list_all(database)}
    return next(name for number in range(1, len(taken) + 2) if (name := f"v{number}") not in taken)


def _all(database: Database) -> list[ModelVersion]:
    return [ModelVersion(**row) for row in database.read("SELECT * FROM model_versions ORDER BY created_at, id")]


def _answerer(version_id: str, endpoint: Endpoint) -> ModelVersion:
    return ModelVersion(
        id=version_id,
        base_path=endpoint.url,
        adapter_path=None,
        parent_id=None,
        run_id=None,
        template="",
        fingerprint="",
        context_length=0,  # nobody knows it
        kind="outside_endpoint" if endpoint.is_outside else "endpoint",
    )


def _add(cursor: Cursor, version: ModelVersion, made_with: MadeWith | None) -> ModelVersion:
    if version.run_id is not None:
        statement = "SELECT * FROM model_versions WHERE run_id = $run"
        if there := rows_of(cursor.execute(statement, {"run": version.run_id})):
            return ModelVersion(**there[0])
    insert(cursor, "model_versions", [_as_row(version)])
    if made_with:
        _note(cursor, version.id, made_with)
    return version


def _note(cursor: Cursor, version_id: str, made_with: MadeWith) -> None:
    statement = """
        INSERT INTO versions_made_with (version_id, tokenizer, template, base)
        VALUES ($version_id, $tokenizer, $template, $base)
        ON CONFLICT (version_id) DO UPDATE
        SET base = CASE WHEN base = '' THEN excluded.base ELSE base END
    """
    cursor.execute(statement, {"version_id": version_id, **asdict(made_with)})


def _as_row(version: ModelVersion) -> Row:
    return {name: getattr(version, name) for name in ModelVersion.__dataclass_fields__}
