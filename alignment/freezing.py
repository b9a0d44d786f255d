"""Freeze what there is to learn from into a snapshot: what people said, or documents, or prompts.

Judgments are chosen by project. Documents belong to no project, so they are chosen by source. Prompts are chosen by
either: those that a project asks, or those that came from a source.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alignment.datasets import (
    POLICY,
    UNJUDGED_POLICY,
    Rows,
    document_rows,
    prompt_rows,
    rows_from,
)
from storage import documents, judgments, projects, prompts, responses, snapshots
from storage.database import Database
from storage.errors import BadInput
from storage.records import DatasetType, Demonstration, Judgment, Prompt, Ranking, Rating, Response, Snapshot

WORDS: dict[DatasetType, str] = {
    "preference": "pairs",
    "unpaired_preference": "thumbs",
    "prompt_completion": "demonstrations",
    "language_modeling": "documents",
    "prompt_only": "prompts",
}
COUNTED: dict[DatasetType, str] = {"language_modeling": "documents", "prompt_only": "prompts"}
"""What is looked at where it is no judgment; the name of its number among the counts."""
_WAY_OUT: dict[DatasetType, str] = {
    "language_modeling": "Import documents on the Data page first.",
    "prompt_only": "Import prompts on the Data page first.",
}


def rows_of_projects(
    database: Database, project_ids: Sequence[str], dataset_type: DatasetType, sources: Sequence[str] = ()
) -> Rows:
    """The rows there would be now.

    Judgments: of these projects; of every project and import where none is named. Prompts: those that these projects
    ask, and of these sources only; all where nothing is named, but what people asked on the compare page only where
    that source is named. Documents: of these sources, all where none is named;
    the projects say nothing about them.
    """
    if dataset_type == "language_modeling":
        return document_rows(documents.in_order(database, sources=sources))
    if dataset_type == "prompt_only":
        chosen = _prompt_sources(database, project_ids, sources)
        return prompt_rows(prompts.in_sources(database, chosen) if chosen is not None else [])
    return rows_from(dataset_type, *said_in(database, project_ids))


def freeze_snapshot(
    database: Database,
    folder: Path,
    *,
    project_ids: Sequence[str] = (),
    sources: Sequence[str] = (),
    dataset_type: DatasetType,
    name: str = "",
) -> Snapshot:
    """An immutable copy of the rows that `rows_of_projects` gives; the one that is there already, where nothing is new.

    Raises BadInput where there are no rows, DiskFull with nothing half-written.
    """
    found = rows_of_projects(database, project_ids, dataset_type, sources)
    if not found.rows:
        raise BadInput(_nothing_to_freeze(found))
    return snapshots.freeze(
        database,
        folder,
        name=name.strip() or _name(database, project_ids, sources, dataset_type),
        dataset_type=dataset_type,
        rows=found.rows,
        counts=found.counts,
        policy=UNJUDGED_POLICY if dataset_type in COUNTED else POLICY,
        judgment_ids=found.judgment_ids,
        source_ids=found.source_ids,
    )


def said_in(
    database: Database, project_ids: Sequence[str]
) -> tuple[list[Judgment], dict[str, Prompt], dict[str, Response]]:
    """The judgments of these projects (of all where none is named), with the prompts and responses they are about."""
    said = _judgments(database, project_ids)
    named = {one for judgment in said for one in _responses_named(judgment)}
    asked = {judgment.prompt_id for judgment in said}
    return said, prompts.get_many(database, asked), responses.get_many(database, named)


def _prompt_sources(database: Database, project_ids: Sequence[str], sources: Sequence[str]) -> list[str] | None:
    """The sources whose prompts are meant; an empty list means all of them, None means that there are none."""
    asked = [projects.get(database, one).sources for one in project_ids]
    if not asked or () in asked:
        return list(sources)  # some project asks the prompts of every source
    chosen = {source for one in asked for source in one if not sources or source in sources}
    return sorted(chosen) or None


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
            case Demonstration(improves=improves):
                named.extend([improves] if improves else [])
    return named


def _nothing_to_freeze(found: Rows) -> str:
    of = COUNTED.get(found.dataset_type, "judgments")
    looked_at = f"{found.counts[of]} {of} were looked at"
    if found.dataset_type in COUNTED:
        looked_at += f", {found.counts['held_out']} of them held out"
    way_out = _WAY_OUT.get(found.dataset_type, "Label some prompts first, or choose another kind.")
    return f"There are no {WORDS[found.dataset_type]} to freeze: {looked_at}. {way_out}"


def _name(database: Database, project_ids: Sequence[str], sources: Sequence[str], dataset_type: DatasetType) -> str:
    of = f"{_chosen(database, project_ids, sources, dataset_type)}, {WORDS[dataset_type]}"
    return f"{of} {sum(1 for one in snapshots.list_all(database) if one.name.startswith(of)) + 1}"


def _chosen(database: Database, project_ids: Sequence[str], sources: Sequence[str], dataset_type: DatasetType) -> str:
    """What the rows are of, in a name."""
    if len(sources) == 1 and dataset_type in COUNTED:
        return sources[0]
    if len(project_ids) == 1 and dataset_type != "language_modeling":
        return projects.get(database, project_ids[0]).name
    return "Everything"
