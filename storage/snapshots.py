"""Snapshots: judgments frozen into Parquet, so that a run can be traced to them and repeated.

The fingerprint is the SHA-256 of the Parquet file. Freezing the same judgments again gives the same file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from storage.database import Database, Row, insert, is_full, rows_of
from storage.errors import DiskFull, NotFound
from storage.records import DatasetType, Snapshot, new_id

_MESSAGES = "STRUCT(role VARCHAR, content VARCHAR)[]"
COLUMNS: Mapping[DatasetType, Mapping[str, str]] = {
    "preference": {"prompt": _MESSAGES, "chosen": _MESSAGES, "rejected": _MESSAGES, "judgment_id": "VARCHAR"},
    "unpaired_preference": {
        "prompt": _MESSAGES,
        "completion": _MESSAGES,
        "label": "BOOLEAN",
        "judgment_id": "VARCHAR",
    },
    "prompt_completion": {"prompt": _MESSAGES, "completion": _MESSAGES, "judgment_id": "VARCHAR"},
    "language_modeling": {"text": "VARCHAR", "document_id": "VARCHAR"},
    "prompt_only": {"prompt": _MESSAGES, "prompt_id": "VARCHAR"},
}


def freeze(
    database: Database,
    folder: Path,
    *,
    name: str,
    dataset_type: DatasetType,
    rows: Sequence[Mapping[str, Any]],
    counts: Mapping[str, int],
    policy: str,
    judgment_ids: Sequence[str] = (),
    source_ids: Sequence[str] = (),
) -> Snapshot:
    """Writes the rows under `folder` and remembers them; the snapshot that is there already, where these rows are one.

    Raises DiskFull with nothing half-written.
    """
    snapshot_id = new_id()
    path = folder / f"{snapshot_id}.parquet"
    write_parquet(path, dataset_type, rows)
    written = fingerprint(path)
    if there := _frozen_already(database, dataset_type, written):
        path.unlink()
        return there
    snapshot = Snapshot(
        id=snapshot_id,
        name=name,
        dataset_type=dataset_type,
        rows=len(rows),
        fingerprint=written,
        path=str(path),
        policy=policy,
        counts=dict(counts),
        judgment_ids=tuple(judgment_ids),
        source_ids=tuple(source_ids),
    )
    database.write(lambda cursor: insert(cursor, "snapshots", [_as_row(snapshot)]))
    return snapshot


def _frozen_already(database: Database, dataset_type: DatasetType, written: str) -> Snapshot | None:
    """One whose file is gone is none: the same rows have to be frozen again to be used."""
    rows = database.read(
        """
        SELECT *
        FROM snapshots
        WHERE dataset_type = $dataset_type AND fingerprint = $fingerprint
        ORDER BY created_at, id
        """,
        dataset_type=dataset_type,
        fingerprint=written,
    )
    return next((one for one in map(_from_row, rows) if Path(one.path).exists()), None)


def write_parquet(path: Path, dataset_type: DatasetType, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows in the columns of their dataset type. Raises DiskFull."""
    part = path.with_suffix(".part")
    columns = COLUMNS[dataset_type]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(config={"threads": 1}) as scratch:  # not the owner's connection: rows pass through memory
            declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
            scratch.execute(f"CREATE TABLE rows ({declared})")
            insert(scratch, "rows", [{name: row[name] for name in columns} for row in rows])
            scratch.execute(f"COPY rows TO {_quoted(part)} (FORMAT parquet, COMPRESSION zstd)")
        part.replace(path)
    except (OSError, duckdb.IOException) as error:
        part.unlink(missing_ok=True)
        if is_full(error):
            raise DiskFull(
                f"The disk that holds {path.parent} is full: nothing was frozen. Free some space."
            ) from error
        raise


def read_rows(path: Path) -> list[Row]:
    """The rows back from Parquet."""
    with duckdb.connect(config={"threads": 1}) as scratch:
        return rows_of(scratch.execute(f"SELECT * FROM read_parquet({_quoted(path)})"))


def fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def get(database: Database, snapshot_id: str) -> Snapshot:
    """Raises NotFound."""
    rows = database.read("SELECT * FROM snapshots WHERE id = $id", id=snapshot_id)
    if not rows:
        raise NotFound(f"There is no snapshot {snapshot_id}. The data page lists those there are.")
    return _from_row(rows[0])


def list_all(database: Database) -> list[Snapshot]:
    """Newest first."""
    return [_from_row(row) for row in database.read("SELECT * FROM snapshots ORDER BY created_at DESC, id")]


def _as_row(snapshot: Snapshot) -> Row:
    row = {name: getattr(snapshot, name) for name in Snapshot.__dataclass_fields__}
    lists = {"judgment_ids": list(snapshot.judgment_ids), "source_ids": list(snapshot.source_ids)}
    return {**row, "counts": json.dumps(dict(snapshot.counts)), **lists}


def _from_row(row: Row) -> Snapshot:
    lists = {name: tuple(row[name]) for name in ("judgment_ids", "source_ids")}
    return Snapshot(**{**row, "counts": json.loads(row["counts"]), **lists})


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
