"""Judgments, append-only. A changed mind is a new judgment that supersedes the old one, which stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from storage.database import Cursor, Database, Row, insert, rows_of
from storage.records import Demonstration, Judgment, Ranking, Rating, Score, Verdict

_STANDING = "id NOT IN (SELECT supersedes FROM judgments WHERE supersedes IS NOT NULL)"


def add(cursor: Cursor, judgment: Judgment) -> bool:
    """Stores a judgment once: False where its id (the idempotency key) is there already."""
    there = cursor.execute("SELECT 1 FROM judgments WHERE id = $id", {"id": judgment.id}).fetchone()
    if there:
        return False
    insert(cursor, "judgments", [_as_row(judgment)])
    insert(cursor, "verdicts", [_verdict_row(judgment.id, *numbered) for numbered in enumerate(judgment.verdicts)])
    return True


def insert_all(cursor: Cursor, judgments: Sequence[Judgment]) -> None:
    """Many new judgments at once, as an import brings them."""
    insert(cursor, "judgments", [_as_row(judgment) for judgment in judgments])
    verdicts = [_verdict_row(one.id, *numbered) for one in judgments for numbered in enumerate(one.verdicts)]
    insert(cursor, "verdicts", verdicts)


def list_all(database: Database, project_id: str | None = None) -> list[Judgment]:
    """Every judgment ever made (of one project), superseded ones too, oldest first."""
    return _read(database, "$project IS NULL OR project_id = $project", project=project_id)


def standing(database: Database, project_id: str | None = None) -> list[Judgment]:
    """Those that nothing supersedes, oldest first."""
    return _read(database, f"({_STANDING}) AND ($project IS NULL OR project_id = $project)", project=project_id)


def recent(database: Database, project_id: str, labeler: str, limit: int = 10) -> list[Judgment]:
    """One person's last standing judgments of items they were given, newest first."""
    theirs = f"({_STANDING}) AND project_id = $project AND labeler = $labeler AND assignment_id IS NOT NULL"
    return _read(database, theirs, project=project_id, labeler=labeler)[::-1][:limit]


def flagged(database: Database, project_id: str, flag: str) -> list[Judgment]:
    """The standing judgments of a project that carry this flag, oldest first."""
    condition = f"({_STANDING}) AND project_id = $project AND list_contains(flags, $flag)"
    return _read(database, condition, project=project_id, flag=flag)


def get(database: Database, judgment_id: str) -> Judgment | None:
    found = _read(database, "id = $id", id=judgment_id)
    return found[0] if found else None


def _read(database: Database, condition: str, **parameters: object) -> list[Judgment]:
    rows = database.read(f"SELECT * FROM judgments WHERE {condition} ORDER BY judged_at, id", **parameters)
    verdicts: dict[str, list[Verdict]] = {}
    for row in database.read(
        f"""
        SELECT v.*
        FROM verdicts AS v
        WHERE v.judgment_id IN (SELECT id FROM judgments WHERE {condition})
        ORDER BY v.judgment_id, v.position
        """,
        **parameters,
    ):
        verdicts.setdefault(row["judgment_id"], []).append(_verdict(row))
    return [_from_row(row, verdicts.get(row["id"], [])) for row in rows]


def said_by(cursor: Cursor, labeler: str) -> set[tuple[str, Verdict]]:
    """(prompt id, verdict) of everything one labeler ever said."""
    rows = rows_of(
        cursor.execute(
            """
            SELECT
                j.prompt_id,
                v.*
            FROM judgments AS j
            JOIN verdicts AS v ON v.judgment_id = j.id
            WHERE j.labeler = $labeler
            """,
            {"labeler": labeler},
        )
    )
    return {(row["prompt_id"], _verdict(row)) for row in rows}


def imported(database: Database) -> list[Row]:
    """What files brought, one row a source, kind of verdict and note: with judgments, held_out and first_at."""
    return database.read(
        """
        SELECT
            j.labeler,
            v.kind,
            j.note,
            count(*) AS judgments,
            count(*) FILTER (p.held_out) AS held_out,
            min(j.judged_at) AS first_at
        FROM judgments AS j
        JOIN verdicts AS v ON v.judgment_id = j.id AND v.position = 0
        JOIN prompts AS p ON p.id = j.prompt_id
        WHERE j.feedback_type = 'import'
        GROUP BY j.labeler, v.kind, j.note
        ORDER BY first_at
        """
    )


def labelers(database: Database, judgment_ids: Sequence[str]) -> int:
    """How many people (or sources) made these judgments."""
    rows = database.read(
        "SELECT count(DISTINCT labeler) AS n FROM judgments WHERE id IN (SELECT unnest($ids))", ids=list(judgment_ids)
    )
    return int(rows[0]["n"])


def count(database: Database) -> int:
    return int(database.read("SELECT count(*) AS n FROM judgments")[0]["n"])


def superseded_by(cursor: Cursor, judgment_id: str) -> str | None:
    """The judgment that already replaced this one, if any."""
    rows = rows_of(cursor.execute("SELECT id FROM judgments WHERE supersedes = $id", {"id": judgment_id}))
    return rows[0]["id"] if rows else None


def _as_row(judgment: Judgment) -> Row:
    return {
        "id": judgment.id,
        "prompt_id": judgment.prompt_id,
        "project_id": judgment.project_id,
        "assignment_id": judgment.assignment_id,
        "labeler": judgment.labeler,
        "feedback_type": judgment.feedback_type,
        "displayed_order": list(judgment.displayed_order),
        "guideline_version": judgment.guideline_version,
        "focused_seconds": judgment.focused_seconds,
        "note": judgment.note,
        "flags": list(judgment.flags),
        "reasons": list(judgment.reasons),
        "scores": [asdict(score) for score in judgment.scores],
        "supersedes": judgment.supersedes,
        "judged_at": judgment.judged_at,
    }


def _from_row(row: Row, verdicts: Sequence[Verdict]) -> Judgment:
    lists = {name: tuple(row[name]) for name in ("displayed_order", "flags", "reasons")}
    scores = tuple(Score(**score) for score in row["scores"])
    return Judgment(verdicts=tuple(verdicts), **{**row, **lists, "scores": scores})


def _verdict_row(judgment_id: str, position: int, verdict: Verdict) -> Row:
    row: Row = dict.fromkeys(("response_id", "desirable", "tiers", "strength", "text", "preferred"))
    row = {"judgment_id": judgment_id, "position": position, "kind": type(verdict).__name__.lower(), **row}
    match verdict:
        case Rating(response_id, desirable):
            return {**row, "response_id": response_id, "desirable": desirable}
        case Ranking(tiers, strength):
            return {**row, "tiers": [list(tier) for tier in tiers], "strength": strength}
        case Demonstration(text, improves, preferred):
            return {**row, "text": text, "response_id": improves, "preferred": preferred}


def _verdict(row: Row) -> Verdict:
    match row["kind"]:
        case "rating":
            return Rating(row["response_id"], row["desirable"])
        case "ranking":
            return Ranking(tuple(tuple(tier) for tier in row["tiers"]), row["strength"])
        case _:
            return Demonstration(row["text"], row["response_id"], bool(row["preferred"]))
