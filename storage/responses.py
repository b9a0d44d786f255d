"""Responses: answers to prompts, and how each was made."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from storage.database import Cursor, Database, Row, insert
from storage.records import Response, Sampling


def add(database: Database, responses: Sequence[Response]) -> None:
    """Stores all or none."""
    database.write(lambda cursor: insert_all(cursor, responses))


def insert_all(cursor: Cursor, responses: Sequence[Response]) -> None:
    insert(cursor, "responses", [_as_row(response) for response in responses])


def get_many(database: Database, response_ids: Collection[str]) -> dict[str, Response]:
    """By id; unknown ids are absent."""
    rows = database.read("SELECT * FROM responses WHERE id IN (SELECT unnest($ids))", ids=list(response_ids))
    return {row["id"]: _from_row(row) for row in rows}


def ids_by_text(cursor: Cursor, author: str) -> dict[tuple[str, str], str]:
    """Ids of what an author wrote, by (prompt id, text)."""
    found = cursor.execute("SELECT prompt_id, text, id FROM responses WHERE author = $author", {"author": author})
    return {(prompt_id, text): response_id for prompt_id, text, response_id in found.fetchall()}


def by_prompt(database: Database, project_id: str) -> dict[str, list[Response]]:
    """What was sampled for a project, by prompt, in the order of sampling."""
    found: dict[str, list[Response]] = {}
    rows = database.read("SELECT * FROM responses WHERE project_id = $id ORDER BY created_at, id", id=project_id)
    for row in rows:
        found.setdefault(row["prompt_id"], []).append(_from_row(row))
    return found


def count(database: Database, project_id: str, prompt_id: str) -> int:
    """How many were given to a prompt in a project."""
    rows = database.read(
        "SELECT count(*) AS n FROM responses WHERE project_id = $project AND prompt_id = $prompt",
        project=project_id,
        prompt=prompt_id,
    )
    return int(rows[0]["n"])


def main_writer(database: Database, judgment_ids: Collection[str]) -> str | None:
    """The version that wrote most of the answers these judgments are about; None where no version did."""
    rows = database.read(
        """
        SELECT version_id
        FROM responses
        WHERE version_id IS NOT NULL
          AND id IN (SELECT unnest(displayed_order) FROM judgments WHERE id IN (SELECT unnest($ids)))
        GROUP BY version_id
        ORDER BY count(*) DESC, version_id
        LIMIT 1
        """,
        ids=list(judgment_ids),
    )
    return rows[0]["version_id"] if rows else None


def _as_row(response: Response) -> Row:
    sampling = response.sampling
    return {
        "id": response.id,
        "prompt_id": response.prompt_id,
        "text": response.text,
        "version_id": response.version_id,
        "author": response.author,
        "temperature": sampling.temperature if sampling else None,
        "top_p": sampling.top_p if sampling else None,
        "max_tokens": sampling.max_tokens if sampling else None,
        "system": sampling.system if sampling else "",
        "sampling_seed": sampling.seed if sampling else 0,
        "seed": response.seed,
        "prompt_tokens": response.prompt_tokens,
        "completion_tokens": response.completion_tokens,
        "latency_seconds": response.latency_seconds,
        "finish_reason": response.finish_reason,
        "engine": response.engine,
        "project_id": response.project_id,
        "created_at": response.created_at,
    }


def _from_row(row: Row) -> Response:
    return Response(
        id=row["id"],
        prompt_id=row["prompt_id"],
        text=row["text"],
        version_id=row["version_id"],
        author=row["author"],
        sampling=_sampling(row) if row["temperature"] is not None else None,
        seed=row["seed"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        latency_seconds=row["latency_seconds"],
        finish_reason=row["finish_reason"],
        engine=row["engine"],
        project_id=row["project_id"],
        created_at=row["created_at"],
    )


def _sampling(row: Row) -> Sampling:
    return Sampling(row["temperature"], row["top_p"], row["max_tokens"], row["sampling_seed"], row["system"])
