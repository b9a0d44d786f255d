"""Runs, as the app remembers them. What happens inside one is in its directory."""

from __future__ import annotations

import json
from datetime import datetime

from storage.database import Database, Row, insert
from storage.errors import NotFound
from storage.records import RUN_ENDED, Run, RunState


def add(database: Database, run: Run) -> None:
    database.write(lambda cursor: insert(cursor, "runs", [_as_row(run)]))


def get(database: Database, run_id: str) -> Run:
    """Raises NotFound."""
    rows = database.read("SELECT * FROM runs WHERE id = $id", id=run_id)
    if not rows:
        raise NotFound(f"There is no run {run_id}. The runs page lists those there are.")
    return _from_row(rows[0])


def list_all(database: Database) -> list[Run]:
    """Newest first."""
    return [_from_row(row) for row in database.read("SELECT * FROM runs ORDER BY created_at DESC, id")]


def unfinished(database: Database) -> list[Run]:
    """Waiting or training, oldest first."""
    statement = "SELECT * FROM runs WHERE NOT list_contains($ended, state) ORDER BY created_at, id"
    return [_from_row(row) for row in database.read(statement, ended=list(RUN_ENDED))]


def next_id(database: Database, method: str) -> str:
    """dpo-01, dpo-02, …: the first number that is free."""
    taken = {run.id for run in list_all(database)}
    return next(name for number in range(1, len(taken) + 2) if (name := f"{method}-{number:02d}") not in taken)


def set_state(
    database: Database,
    run_id: str,
    state: RunState,
    *,
    message: str = "",
    version_id: str | None = None,
    ended_at: datetime | None = None,
) -> Run:
    """Raises NotFound."""
    statement = """
        UPDATE runs
        SET state = $state,
            message = $message,
            version_id = $version_id,
            ended_at = $ended_at
        WHERE id = $id
    """
    values = {"state": state, "message": message, "version_id": version_id, "ended_at": ended_at, "id": run_id}
    database.write(lambda cursor: cursor.execute(statement, values))
    return get(database, run_id)


def _as_row(run: Run) -> Row:
    row = {name: getattr(run, name) for name in Run.__dataclass_fields__}
    return {**row, "settings": json.dumps(dict(run.settings)), "launch": json.dumps(dict(run.launch))}


def _from_row(row: Row) -> Run:
    return Run(**{**row, "settings": json.loads(row["settings"]), "launch": json.loads(row["launch"])})
