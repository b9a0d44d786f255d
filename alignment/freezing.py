"""Freeze what people said into a snapshot that a method can learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alignment.datasets import POLICY, Rows, rows_from
from storage import judgments, projects, prompts, responses, snapshots
from storage.database import Database
from storage.errors import BadInput
from storage.records import DatasetType, Demonstration, Judgment, Ranking, Rating, Snapshot

WORDS: dict[DatasetType, str] = {
    "preference": "pairs",
    "unpaired_preference": "thumbs",
    "prompt_completion": "demonstrations",
}


def rows_of_projects(database: Database, project_ids: Sequence[str], dataset_type: DatasetType) -> Rows:
    """The rows that all judgments of these projects imply; of every project and import where none is named."""
    said = _judgments(database, project_ids)
    named = {one for judgment in said for one in _responses_named(judgment)}
    return rows_from(
        dataset_type,
        said,
        prompts.get_many(database, {judgment.prompt_id for judgment in said}),
        responses.get_many(database, named),
    )


def freeze_snapshot(
    database: Database,
    folder: Path,
    *,
    project_ids: Sequence[str] = (),
    dataset_type: DatasetType,
    name: str = "",
) -> Snapshot:
    """An immutable copy of the rows; the one that is there already, where nothing is new.

    Raises BadInput where there are no rows, DiskFull with nothing half-written.
    """
    found = rows_of_projects(database, project_ids, dataset_type)
    if not found.rows:
        raise BadInput(
            f"There are no {WORDS[dataset_type]} to freeze: {found.counts['judgments']} judgments were looked at. "
            "Label some prompts first, or choose another kind."
        )
    return snapshots.freeze(
        database,
        folder,
        name=name.strip() or _name(database, project_ids, dataset_type),
        dataset_type=dataset_type,
        rows=found.rows,
        counts=found.counts,
        policy=POLICY,
        judgment_ids=found.judgment_ids,
    )


def _judgments(database: Database, project_ids: Sequence[str]) -> list[Judgment]:
    if not project_ids:
        return judgments.list_all(database)
    return [judgment for one in project_ids for judgment in judgments.list_all(database, one)]


def _responses_named(judgment: Judgment) -> list[str]:
    named = []
    for verdict in judgment.verdicts:
        match verdict:
            case Rating(response_id):
                named.append(response_id)
            case Ranking(tiers):
                named.extend(one for tier in tiers for one in tier)
            case Demonstration():
                continue
    return named


def _name(database: Database, project_ids: Sequence[str], dataset_type: DatasetType) -> str:
    of = projects.get(database, project_ids[0]).name if len(project_ids) == 1 else "Everything"
    number = sum(1 for one in snapshots.list_all(database) if one.name.startswith(f"{of}, {WORDS[dataset_type]}")) + 1
    return f"{of}, {WORDS[dataset_type]} {number}"
