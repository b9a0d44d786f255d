"""Assignments: who holds which responses, in which order, until when."""

from __future__ import annotations

from collections.abc import Sequence

from storage.database import Cursor, Database, Row, insert
from storage.errors import NotFound
from storage.records import Assignment


def add(database: Database, assignments: Sequence[Assignment]) -> None:
    database.write(lambda cursor: insert_all(cursor, assignments))


def insert_all(cursor: Cursor, assignments: Sequence[Assignment]) -> None:
    insert(cursor, "assignments", [_as_row(one) for one in assignments])


def get(database: Database, assignment_id: str) -> Assignment:
    """Raises NotFound."""
    rows = database.read("SELECT * FROM assignments WHERE id = $id", id=assignment_id)
    if not rows:
        raise NotFound("This item is not known here any more. Reload the page to go on with the next one.")
    return _from_row(rows[0])


def list_all(database: Database, project_id: str) -> list[Assignment]:
    """Oldest first."""
    rows = database.read("SELECT * FROM assignments WHERE project_id = $id ORDER BY created_at, id", id=project_id)
    return [_from_row(row) for row in rows]


def update(cursor: Cursor, assignment: Assignment) -> None:
    """Its state, lease and skip reason; the rest never changes."""
    cursor.execute(
        """
        UPDATE assignments
        SET state = $state,
            leased_until = $leased_until,
            skip_reason = $skip_reason
        WHERE id = $id
        """,
        {
            "state": assignment.state,
            "leased_until": assignment.leased_until,
            "skip_reason": assignment.skip_reason,
            "id": assignment.id,
        },
    )


def update_all(cursor: Cursor, changed: Sequence[Assignment]) -> None:
    for one in changed:
        update(cursor, one)


def _as_row(assignment: Assignment) -> Row:
    return {
        "id": assignment.id,
        "project_id": assignment.project_id,
        "prompt_id": assignment.prompt_id,
        "labeler": assignment.labeler,
        "displayed_order": list(assignment.displayed_order),
        "leased_until": assignment.leased_until,
        "state": assignment.state,
        "skip_reason": assignment.skip_reason,
        "created_at": assignment.created_at,
    }


def _from_row(row: Row) -> Assignment:
    return Assignment(**{**row, "displayed_order": tuple(row["displayed_order"])})
