"""Projects: what is asked of people, and which versions answer. Guidelines keep every version they ever had."""

from __future__ import annotations

from storage.database import Cursor, Database, Row, insert, rows_of
from storage.errors import NotFound
from storage.records import Project, Purpose, Sampling, now

_SELECT = """
    SELECT p.*, g.text AS guidelines, g.version AS guideline_version
    FROM projects AS p
    JOIN guidelines AS g ON g.project_id = p.id
    QUALIFY row_number() OVER (PARTITION BY p.id ORDER BY g.version DESC) = 1
    ORDER BY p.created_at, p.id
"""


def save(database: Database, project: Project) -> Project:
    """Stores a new project or the changes to one. Changed guidelines become the next version of them."""
    return database.write(lambda cursor: _save(cursor, project))


def get(database: Database, project_id: str) -> Project:
    """Raises NotFound."""
    for project in list_all(database):
        if project.id == project_id:
            return project
    raise NotFound(f"There is no project {project_id}. Choose one from the projects page.")


def list_all(database: Database, purpose: Purpose | None = None) -> list[Project]:
    """Oldest first."""
    projects = [_from_row(row) for row in database.read(_SELECT)]
    return [project for project in projects if purpose in (None, project.purpose)]


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
        sampling=Sampling(row["temperature"], row["top_p"], row["max_tokens"]),
        sources=tuple(row["sources"]),
        created_at=row["created_at"],
    )
