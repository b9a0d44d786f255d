"""What a new run may be made of: methods with what they would read, data, snapshots, versions to start from.

The new-run page shows these; none of it needs Gradio. `of` names where rows come from: a project for what people said,
a source for documents and prompts, nothing for all there is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from alignment import model_size
from alignment.advisor import NOT_COMPARED, Advice, Agreement, Evidence, Readable, advise, agreement
from alignment.datasets import rows_from
from alignment.freezing import said_in
from alignment.methods import METHODS
from alignment.methods.base import Method, Parent
from alignment.methods.online import why_apart
from alignment.routes import rows_are
from alignment.scorers.chosen import FUNCTION, JUDGE, functions
from labeling.engines.template import INSTRUCTION_TEMPLATE
from storage import documents, model_versions, projects, prompts, responses, runs, snapshots
from storage.database import Database, Row
from storage.endpoints import Judge
from storage.errors import AppError, NotEnoughFeedback
from storage.records import DatasetType, Judgment, ModelVersion, Prompt, Response, Run, Snapshot
from storage.settings import Settings

EVERYTHING = ""  # the choice "all of it"
FROM_SOURCES: Mapping[DatasetType, str] = {"language_modeling": "documents", "prompt_only": "prompts"}
Choices = list[tuple[str, str]]


@dataclass(frozen=True)
class Found:
    """The rows of one dataset type that there are now, the judgment each comes from, and all that support them.

    `agreement`: how far the people who made these judgments agree, where they compared answers.
    """

    counts: Mapping[str, int]
    ids: tuple[str, ...] = ()
    judgment_ids: tuple[str, ...] = ()
    unknown_licence: bool = False
    agreement: Agreement = NOT_COMPARED

    @property
    def rows(self) -> int:
        return self.counts.get("rows", 0)


@dataclass(frozen=True)
class Offer:
    """A method as its card shows it. `missing` says what stands in the way, `warning` what to know; mostly empty."""

    name: str
    title: str
    sentence: str
    rows: int
    reads: str
    missing: str
    warning: str = ""


# ---- methods and the data they would read ---------------------------------------------------------------------------


def found_now(database: Database, project: str = EVERYTHING, source: str = EVERYTHING) -> dict[DatasetType, Found]:
    """For each dataset type that a method reads. What people said is read once for all of them."""
    types = dict.fromkeys(method.reads for method in METHODS)
    said = said_in(database, chosen(project))
    return {
        reads: _unjudged(database, reads, source) if reads in FROM_SOURCES else _judged(reads, *said) for reads in types
    }


def found_of(database: Database, reads: DatasetType, of: str = EVERYTHING) -> Found:
    if reads in FROM_SOURCES:
        return _unjudged(database, reads, of)
    return _judged(reads, *said_in(database, chosen(of)))


def offers(database: Database, found: Mapping[DatasetType, Found]) -> list[Offer]:
    """Every method, with what the data there is now would give it."""
    scored = bool(reward_model_choices(database))
    return [_offer(method, found[method.reads], scored) for method in METHODS]


def advice(database: Database, found: Mapping[DatasetType, Found], parent: ModelVersion | None) -> Advice:
    """What to do with it."""
    return advise(evidence(database, found, parent))


def evidence(database: Database, found: Mapping[DatasetType, Found], parent: ModelVersion | None) -> Evidence:
    line = _runs_behind(database, parent)
    learned = _learned(database, line)
    missing = {offer.name: offer.missing for offer in offers(database, found)}
    rewards = reward_model_choices(database)
    thumbs = found["unpaired_preference"].counts
    return Evidence(
        parent=parent.id if parent else "the model",
        answers=parent is None or _answers(parent, line),
        readable={
            method.name: _readable(method, found[method.reads], learned, missing[method.name]) for method in METHODS
        },
        judgments={method.name: len(found[method.reads].judgment_ids) for method in METHODS},
        thumbs=(thumbs.get("desirable", 0), thumbs.get("undesirable", 0)),
        agreement=found["preference"].agreement,
        reward_model=rewards[0][1] if rewards else "",
    )


def _judged(
    reads: DatasetType, said: list[Judgment], asked: Mapping[str, Prompt], answered: Mapping[str, Response]
) -> Found:
    rows = rows_from(reads, said, asked, answered)
    ids = tuple(row["judgment_id"] for row in rows.rows)
    return Found(
        rows.counts,
        ids,
        rows.judgment_ids,
        agreement=agreement(said) if reads == "preference" else NOT_COMPARED,
    )


def _unjudged(database: Database, reads: DatasetType, of: str) -> Found:
    """As a snapshot would: nothing held out, and what people asked on the compare page only where it is named."""
    column = FROM_SOURCES[reads]
    there = _sources(database, reads)
    named = [one for one in there if one["source"] == of or (of == EVERYTHING and one["source"] != prompts.OWN_PROMPTS)]
    rows = sum(int(str(one[column])) - int(str(one["held_out"])) for one in named)
    unknown = any(str(one["licence"]).strip().lower() in documents.UNKNOWN_LICENCES for one in named)
    return Found({"rows": rows}, unknown_licence=unknown)


def _sources(database: Database, reads: DatasetType) -> list[Row]:
    return documents.sources(database) if reads == "language_modeling" else prompts.sources(database)


def _offer(method: type[Method], found: Found, scored: bool) -> Offer:
    return Offer(
        name=method.name,
        title=method.title,
        sentence=(method.__doc__ or "").strip().splitlines()[0],
        rows=found.rows,
        reads=f"reads {found.rows:,} {method.rows_are}",
        missing=_missing(method, found, scored),
        warning="Licence unknown" if found.unknown_licence and method.reads == "language_modeling" else "",
    )


def _missing(method: type[Method], found: Found, scored: bool) -> str:
    if method.asks_reward_model and not scored:
        return "No reward model"
    try:
        method.refuse_too_little(found.rows, found.counts)
    except NotEnoughFeedback as error:
        return f"Needs {method.needs} {method.rows_are}" if found.rows < method.needs else str(error)
    return ""


def _readable(method: type[Method], found: Found, learned: Collection[str], refusal: str) -> Readable:
    known = sum(one in learned for one in found.ids)
    if method.reads in FROM_SOURCES:
        known = found.rows if method.reads in learned else 0
    new = found.rows - known
    return Readable(method.title, method.rows_are, method.needs, found.rows, new, not refusal, refusal)


def _runs_behind(database: Database, version: ModelVersion | None) -> list[Run]:
    """The runs of the line that ends in this version."""
    versions = {one.id: one for one in model_versions.list_all(database)}
    there = {run.id: run for run in runs.list_all(database)}
    line = []
    while version is not None:
        if version.run_id in there:
            line.append(there[str(version.run_id)])
        version = versions.get(version.parent_id or "")
    return line


def _learned(database: Database, line: Sequence[Run]) -> set[str]:
    """The judgments that these runs learned from; for documents and prompts, that they were read at all."""
    used = {run.snapshot_id for run in line}
    read = [snapshot for snapshot in snapshots.list_all(database) if snapshot.id in used]
    return {one for snapshot in read for one in snapshot.judgment_ids} | {snapshot.dataset_type for snapshot in read}


def _answers(version: ModelVersion, line: Sequence[Run]) -> bool:
    """A base that brings no chat template was never taught to answer, unless a run of ours has done it since."""
    return version.template != INSTRUCTION_TEMPLATE or any(run.method != "pretrain" for run in line)


# ---- what can be chosen ---------------------------------------------------------------------------------------------


def data_choices(database: Database, reads: DatasetType) -> Choices:
    """Where the rows of the next snapshot may come from."""
    if reads in FROM_SOURCES:
        named = dict.fromkeys(str(one["source"]) for one in _sources(database, reads))
        return [("All sources", EVERYTHING), *((name, name) for name in named)]
    labeling = projects.list_all(database, "labeling")
    return [("All projects and imports", EVERYTHING), *((project.name, project.id) for project in labeling)]


def snapshot_choices(database: Database, reads: DatasetType) -> Choices:
    """The snapshots of these rows, newest first."""
    return [
        (_named(snapshot), snapshot.id) for snapshot in snapshots.list_all(database) if snapshot.dataset_type == reads
    ]


def parent_choices(database: Database) -> Choices:
    """Versions that answer, newest first."""
    policies = [version for version in model_versions.list_all(database) if version.kind == "policy"]
    return [(f"{version.id}, {'served' if version.served else 'stored'}", version.id) for version in reversed(policies)]


def function_choices(known: Settings) -> list[dict[str, str]]:
    """Python functions that may score answers; those that come along last."""
    return [
        {
            "id": f"{FUNCTION}:{one.name}",
            "words": one.name,
            "note": one.note or f"A Python function of this server: {one.at}.",
        }
        for one in functions(known).values()
    ]


def judge_choices(known: Settings) -> list[dict[str, str]]:
    """Endpoints that may score answers, and what is sent to them."""
    return [
        {
            "id": f"{JUDGE}:{one.name}",
            "words": f"{one.name}: {one.model} at {one.url}",
            "note": f"Every answer and its prompt are sent to {one.url}" + _leaves(one),
        }
        for one in known.judges.values()
    ]


def _leaves(judge: Judge) -> str:
    if judge.is_outside:
        return ": they leave this machine."
    return ", on this machine." if judge.is_here else ", inside."


def apart(database: Database, parent: ModelVersion) -> dict[str, str]:
    """By reward model, why a run of PPO from this parent loads all of it beside itself; only where it does."""
    scorers = [version for version in model_versions.list_all(database) if version.kind == "reward_model"]
    found = {one.id: _why_apart(_as_read(parent), _as_read(one)) for one in scorers}
    return {one: why for one, why in found.items() if why}


def _as_read(version: ModelVersion) -> Parent:
    return Parent(version.id, version.base_path, version.adapter_path, version.template)


@lru_cache(maxsize=256)
def _why_apart(parent: Parent, reward: Parent) -> str:
    """Remembered, because weights never change in place."""
    try:
        return why_apart(parent, reward)
    except AppError:  # the files of one are gone, which is said when a run is started
        return ""


def reward_model_choices(database: Database) -> Choices:
    """Versions that score answers, newest first."""
    scorers = [version for version in model_versions.list_all(database) if version.kind == "reward_model"]
    return [(f"{version.id}, on {version.parent_id}", version.id) for version in reversed(scorers)]


def proposed_parent(database: Database, snapshot_id: str | None = None, behind: Collection[str] = ()) -> str | None:
    """Who wrote most of the judged answers, since judgments say most about their own author; else the newest served."""
    policies = [version for version in model_versions.list_all(database) if version.kind == "policy"]
    writer = responses.main_writer(database, behind) if behind else _writer(database, snapshot_id)
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


def not_frozen_yet(snapshot: Snapshot, found: Found) -> str:
    """What the chosen data would add to a snapshot; empty where it adds nothing."""
    are = rows_are(snapshot.dataset_type)
    if snapshot.dataset_type in FROM_SOURCES:
        more, came = found.rows - snapshot.rows, "imported"
    else:
        frozen = set(snapshot.judgment_ids)
        more, came = sum(one not in frozen for one in found.ids), "judged"
    if more <= 0:
        return ""
    if more == 1:
        return f"1 more of the {are} was {came} since; freeze again to use it."
    return f"{more:,} more {are} were {came} since; freeze again to use them."


@lru_cache(maxsize=64)
def parameters(base_path: str) -> int:
    """Of a version's base; remembered, because weights never change in place."""
    return model_size.parameters(base_path)


def chosen(of: str) -> Sequence[str]:
    return [of] if of else []


def _writer(database: Database, snapshot_id: str | None) -> str | None:
    if not snapshot_id:
        return None
    return responses.main_writer(database, snapshots.get(database, snapshot_id).judgment_ids)


def _named(snapshot: Snapshot) -> str:
    return f"{snapshot.name} ({snapshot.rows:,})"
