"""What a new run may be made of: methods with what they would read, snapshots, parents, projects.

The new-run page shows these; none of it needs Gradio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignment.freezing import rows_of_projects
from alignment.methods import METHODS, method_named
from alignment.methods.base import Method
from alignment.routes import rows_are
from storage import model_versions, projects, responses, snapshots
from storage.database import Database
from storage.errors import NotEnoughFeedback
from storage.records import Snapshot

EVERYTHING = ""  # the choice "all projects"
Choices = list[tuple[str, str]]


@dataclass(frozen=True)
class Offer:
    """A method as its card shows it. `missing` is empty where there is enough to learn from."""

    name: str
    title: str
    sentence: str
    rows: int
    reads: str
    missing: str


def offers(database: Database, project_id: str) -> list[Offer]:
    """Every method, with what the judgments there are now would give it."""
    found = {
        reads: rows_of_projects(database, chosen_projects(project_id), reads).counts
        for reads in {m.reads for m in METHODS}
    }
    return [_offer(method, found[method.reads]) for method in METHODS]


def _offer(method: type[Method], counts: Mapping[str, int]) -> Offer:
    rows = counts.get("rows", 0)
    return Offer(
        name=method.name,
        title=method.title,
        sentence=(method.__doc__ or "").strip().splitlines()[0],
        rows=rows,
        reads=f"reads {rows:,} {method.rows_are}",
        missing=_missing(method, rows, counts),
    )


def _missing(method: type[Method], rows: int, counts: Mapping[str, int]) -> str:
    try:
        method.refuse_too_little(rows, counts)
    except NotEnoughFeedback as error:
        return f"Needs {method.needs} {method.rows_are}" if rows < method.needs else str(error)
    return ""


def snapshot_choices(database: Database, method_name: str) -> Choices:
    """The snapshots that this method can read, newest first."""
    reads = method_named(method_name).reads
    return [
        (_named(snapshot), snapshot.id) for snapshot in snapshots.list_all(database) if snapshot.dataset_type == reads
    ]


def parent_choices(database: Database) -> Choices:
    """Versions that answer, newest first."""
    policies = [version for version in model_versions.list_all(database) if version.kind == "policy"]
    return [(f"{version.id}, {'served' if version.served else 'stored'}", version.id) for version in reversed(policies)]


def proposed_parent(database: Database, snapshot_id: str | None) -> str | None:
    """Who wrote most of the judged answers, since judgments say most about their own author; else the newest served."""
    policies = [version for version in model_versions.list_all(database) if version.kind == "policy"]
    writer = _writer(database, snapshot_id)
    if writer in {version.id for version in policies}:
        return writer
    served = [version for version in policies if version.served]
    return next((version.id for version in reversed(served or policies)), None)


def other_author(database: Database, snapshot_id: str, parent_id: str | None) -> str:
    """What to know where another version than the chosen one wrote the answers; empty where there is nothing."""
    writer = _writer(database, snapshot_id)
    if not writer or not parent_id or writer == parent_id:
        return ""
    return f"These answers were written by {writer}, not by {parent_id}."


def not_frozen_yet(database: Database, snapshot: Snapshot, project_id: str) -> str:
    """What the judgments of the chosen projects would add to a snapshot; empty where they add nothing."""
    frozen = set(snapshot.judgment_ids)
    rows = rows_of_projects(database, chosen_projects(project_id), snapshot.dataset_type).rows
    more = sum(row["judgment_id"] not in frozen for row in rows)
    are = rows_are(snapshot.dataset_type)
    if more == 0:
        return ""
    if more == 1:
        return f"1 more of the {are} was judged since; freeze again to use it."
    return f"{more:,} more {are} were judged since; freeze again to use them."


def _writer(database: Database, snapshot_id: str | None) -> str | None:
    if not snapshot_id:
        return None
    return responses.main_writer(database, snapshots.get(database, snapshot_id).judgment_ids)


def project_choices(database: Database) -> Choices:
    labeling = projects.list_all(database, "labeling")
    return [("All projects and imports", EVERYTHING), *((project.name, project.id) for project in labeling)]


def _named(snapshot: Snapshot) -> str:
    return f"{snapshot.name} ({snapshot.rows:,} {rows_are(snapshot.dataset_type)}, {snapshot.created_at:%d %b %H:%M})"


def chosen_projects(project_id: str) -> Sequence[str]:
    return [project_id] if project_id else []
