"""Projects: what is asked of people, and which versions answer. Guidelines keep every version they ever had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from storage.database import Cursor, Database, Row, insert, rows_of
from storage.errors import NotFound
from storage.records import Project, Purpose, Sampling, now

_WITH_GUIDELINES = """
    SELECT p.*, g.text AS guidelines, g.version AS guideline_version
    FROM projects AS p
    JOIN guidelines AS g ON g.project_id = p.id
"""
_LATEST_OF_ONE = f"{_WITH_GUIDELINES} WHERE p.id = $id ORDER BY g.version DESC LIMIT 1"
_LATEST_OF_ALL = f"""
    {_WITH_GUIDELINES}
    QUALIFY row_number() OVER (PARTITION BY p.id ORDER BY g.version DESC) = 1
    ORDER BY p.created_at, p.id
"""


def save(database: Database, project: Project) -> Project:
    """Stores a new project or the changes to one. Changed guidelines become the next version of them."""
    return database.write(lambda cursor: _save(cursor, project))


def get(database: Database, project_id: str) -> Project:
    """Raises NotFound."""
    rows = database.read(_LATEST_OF_ONE, id=project_id)
    if rows:
        return _from_row(rows[0])
    raise NotFound(f"There is no project {project_id}. Choose one from the projects page.")


def list_all(database: Database, purpose: Purpose | None = None) -> list[Project]:
    """Oldest first."""
    projects = [_from_row(row) for row in database.read(_LATEST_OF_ALL)]
    return [project for project in projects if purpose in (None, project.purpose)]


def names(database: Database, purpose: Purpose) -> dict[str, str]:
    """Name by id, oldest first: all that a menu needs."""
    rows = database.read(
        "SELECT id, name FROM projects WHERE purpose = $purpose ORDER BY created_at, id", purpose=purpose
    )
    return {row["id"]: row["name"] for row in rows}


def guidelines(database: Database, project_id: str, version: int) -> str:
    """The text that people judged by then. Raises NotFound."""
    wanted = {"id": project_id, "version": version}
    rows = database.read("SELECT text FROM guidelines WHERE project_id = $id AND version = $version", **wanted)
    if not rows:
        raise NotFound(f"There are no guidelines number {version} of this project.")
    return str(rows[0]["text"])


def _save(cursor: Cursor, project: Project) -> Project:
    last = rows_of(
        cursor.execute(
            "SELECT version, text FROM guidelines WHERE project_id = $id ORDER BY version DESC LIMIT 1",
            {"id": project.id},
        )
    )
    version = last[0]["version"] if last else 0
    if not last or last[0]["text"] != project.guidelines:
        version += 1
        row = {"project_id": project.id, "version": version, "text": project.guidelines, "created_at": now()}
        insert(cursor, "guidelines", [row])
    cursor.execute("DELETE FROM projects WHERE id = $id", {"id": project.id})
    insert(cursor, "projects", [_as_row(project)])
    return _from_row({**_as_row(project), "guidelines": project.guidelines, "guideline_version": version})


def _as_row(project: Project) -> Row:
    return {
        "id": project.id,
        "name": project.name,
        "purpose": project.purpose,
        "feedback_type": project.feedback_type,
        "instruction": project.instruction,
        "version_ids": list(project.version_ids),
        "sources": list(project.sources),
        "responses_per_prompt": project.responses_per_prompt,
        "temperature": project.sampling.temperature,
        "top_p": project.sampling.top_p,
        "max_tokens": project.sampling.max_tokens,
        "seed": project.sampling.seed,
        "system": project.sampling.system,
        "samplings": [{"version_id": one, **asdict(own)} for one, own in project.samplings.items()],
        "overlap": project.overlap,
        "gold_share": project.gold_share,
        "repeat_share": project.repeat_share,
        "calibration": project.calibration,
        "criteria": list(project.criteria),
        "reasons": list(project.reasons),
        "pair_from_edit": project.pair_from_edit,
        "created_at": project.created_at,
    }


def _from_row(row: Row) -> Project:
    return Project(
        id=row["id"],
        name=row["name"],
        purpose=row["purpose"],
        feedback_type=row["feedback_type"],
        instruction=row["instruction"],
        guidelines=row["guidelines"],
        guideline_version=row["guideline_version"],
        version_ids=tuple(row["version_ids"]),
        responses_per_prompt=row["responses_per_prompt"],
        sampling=_sampling(row),
        samplings={one["version_id"]: _sampling(one) for one in row["samplings"]},
        sources=tuple(row["sources"]),
        overlap=row["overlap"],
        gold_share=row["gold_share"],
        repeat_share=row["repeat_share"],
        calibration=row["calibration"],
        criteria=tuple(row["criteria"]),
        reasons=tuple(row["reasons"]),
        pair_from_edit=row["pair_from_edit"],
        created_at=row["created_at"],
    )


def _sampling(row: Mapping[str, Any]) -> Sampling:
    return Sampling(row["temperature"], row["top_p"], row["max_tokens"], row["seed"], row["system"])
