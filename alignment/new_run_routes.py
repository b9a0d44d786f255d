"""The HTTP routes under the new-run page, in plain FastAPI.

One answer holds all that the form shows, so that choosing another method, preset or version draws at once; what is
typed is checked by the class of the method while it is typed. Nothing is kept here between two requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from alignment import run_offers, run_queue, settings_file
from alignment.devices import devices
from alignment.freezing import freeze_snapshot
from alignment.launchers import Launch
from alignment.methods import METHODS, method_named
from alignment.methods.base import Method, TunedMethod
from alignment.methods.online import OnlineMethod
from alignment.routes import PersonOf, method_title, require_engineer, snapshot_json
from alignment.run_form import fields_of, proposals
from alignment.run_offers import EVERYTHING, FROM_SOURCES, Choices, Found, chosen, found_now, found_of
from alignment.setting_faults import faults
from storage import model_versions, runs, settings, snapshots
from storage.database import Database
from storage.errors import AppError, BadInput
from storage.records import DatasetType, ModelVersion, Run, Snapshot

LONGEST_FILE = 100_000  # characters of a settings file


class FreezeBody(BaseModel):
    """`of` is a project or a source, empty for all there is."""

    method: str
    of: str = EVERYTHING


class SettingsBody(BaseModel):
    """Settings as they stand in the form, whether or not they are right yet."""

    method: str
    settings: dict[str, Any] = {}
    launch: dict[str, Any] = {}
    rows: int = Field(0, ge=0)
    presets: dict[str, dict[str, Any]] = {}


class StartBody(BaseModel):
    method: str
    settings: dict[str, Any] = {}
    launch: dict[str, Any] = {}
    snapshot_id: str = ""
    parent_id: str = ""


class FileBody(BaseModel):
    text: str = Field(max_length=LONGEST_FILE)


def new_run_router(database: Database, person_of: PersonOf, home: Path) -> APIRouter:
    """`home` is the folder that holds runs/ and snapshots/."""
    router = APIRouter(prefix="/api/new-run")

    @router.get("")
    def whole_form(
        request: Request, project: str = EVERYTHING, source: str = EVERYTHING, like: str = ""
    ) -> dict[str, Any]:
        require_engineer(person_of(request))
        return form(database, home, project, source, like)

    @router.get("/snapshots/{snapshot_id}")
    def one_snapshot(request: Request, snapshot_id: str, parent: str = "", of: str = EVERYTHING) -> dict[str, Any]:
        require_engineer(person_of(request))
        return snapshot_notes(database, snapshot_id, parent, of)

    @router.post("/freeze")
    def freeze_now(request: Request, body: FreezeBody) -> dict[str, Any]:
        require_engineer(person_of(request))
        there = {one.id for one in snapshots.list_all(database)}
        made = freeze(database, home, body.method, body.of)
        words = f"Nothing is new since {made.name}." if made.id in there else f"Frozen as {made.name}."
        return {"id": made.id, "kind": "" if made.id in there else "ok", "sentence": words}

    @router.post("/check")
    def check(request: Request, body: SettingsBody) -> dict[str, Any]:
        require_engineer(person_of(request))
        return checked(body)

    @router.post("/start")
    def start_now(request: Request, body: StartBody) -> dict[str, Any]:
        person = person_of(request)
        require_engineer(person)
        return {"id": start(database, home, person.name, body).id}

    @router.post("/to-yaml")
    def to_yaml(request: Request, body: SettingsBody) -> dict[str, Any]:
        require_engineer(person_of(request))
        return {"text": settings_file.to_yaml(body.method, body.settings, body.launch)}

    @router.post("/from-yaml")
    def from_yaml(request: Request, body: FileBody) -> dict[str, Any]:
        require_engineer(person_of(request))
        method, given, launch = settings_file.from_yaml(body.text, Launch)
        return {"method": method, "settings": given, "launch": launch}

    return router


# ---- what the page shows --------------------------------------------------------------------------------------------


def form(
    database: Database, home: Path, project: str = EVERYTHING, source: str = EVERYTHING, like: str = ""
) -> dict[str, Any]:
    """Everything: the methods with their fields, what can be chosen, what is proposed, and the line it would join."""
    found = found_now(database, project, source)
    versions = {version.id: version for version in model_versions.list_all(database)}
    parent = run_offers.proposed_parent(database, behind=_judged(found))
    known = settings.read_home(home)
    return {
        "advice": vars(run_offers.advice(database, found, versions.get(parent or ""))),
        "methods": _methods_json(database, run_offers.offers(database, found)),
        "parent": parent,
        "parents": [
            {
                "id": one,
                "words": words,
                **_parent_json(versions[one]),
                "apart": run_offers.apart(database, versions[one]),
            }
            for words, one in run_offers.parent_choices(database)
        ],
        "reward_models": _choices_json(run_offers.reward_model_choices(database)),
        "functions": run_offers.function_choices(known),
        "judges": run_offers.judge_choices(known),
        "launch": _launch_json(home),
        "line": _line(database),
        "like": _like(database, like) if like else None,
    }


def snapshot_notes(database: Database, snapshot_id: str, parent_id: str, of: str) -> dict[str, Any]:
    """What is in a snapshot, and what to know before it is used."""
    snapshot = snapshots.get(database, snapshot_id)
    found = found_of(database, snapshot.dataset_type, of)
    notes = [
        run_offers.other_author(database, snapshot_id, parent_id),
        run_offers.not_frozen_yet(snapshot, found),
    ]
    return {**snapshot_json(database, snapshot), "notes": [note for note in notes if note]}


def checked(body: SettingsBody) -> dict[str, Any]:
    """What is wrong, field by field, and how many steps each preset would take on so many rows."""
    method = method_named(body.method)
    return {
        "faults": faults(method, body.settings),
        "launch_faults": faults(Launch, body.launch),
        "steps": {name: _steps(method, given, body.rows) for name, given in body.presets.items()},
    }


# ---- what its buttons do --------------------------------------------------------------------------------------------


def freeze(database: Database, home: Path, method_name: str, of: str) -> Snapshot:
    """Raises NotEnoughFeedback or BadInput, with nothing stored."""
    method = method_named(method_name)
    found = found_of(database, method.reads, of)
    method.refuse_too_little(found.rows, found.counts)
    from_sources = method.reads in FROM_SOURCES
    return freeze_snapshot(
        database,
        home / "snapshots",
        project_ids=() if from_sources else chosen(of),
        sources=chosen(of) if from_sources else (),
        dataset_type=method.reads,
    )


def start(database: Database, home: Path, started_by: str, body: StartBody) -> Run:
    """Raises what run_queue.start_run raises, and asks for what was not chosen."""
    if not body.snapshot_id:
        raise AppError(
            "There is no snapshot to learn from yet. Freeze one first: the button is under What it learns from."
        )
    if not body.parent_id:
        raise AppError("There is no version to start from. Add a base model on the Models page.")
    method = method_named(body.method)
    if method.asks_reward_model and not body.settings.get("reward_model"):
        raise BadInput(
            f"{method.title} asks a reward model how good each answer is, and none is chosen. Choose one, train one "
            "first (the method is called Reward model), or choose a function or a judge."
        )
    return run_queue.start_run(
        database, body.method, body.settings, body.snapshot_id, body.parent_id, started_by, home, launch=body.launch
    )


# ---- in JSON --------------------------------------------------------------------------------------------------------


def _methods_json(database: Database, offered: Sequence[run_offers.Offer]) -> list[dict[str, Any]]:
    """What several methods read alike is looked up once."""
    reads = {method_named(offer.name).reads for offer in offered}
    frozen = {one: _choices_json(run_offers.snapshot_choices(database, one)) for one in reads}
    data = {one: _choices_json(run_offers.data_choices(database, one)) for one in reads}
    return [_method_json(offer, frozen, data) for offer in offered]


def _method_json(
    offer: run_offers.Offer, frozen: Mapping[DatasetType, Any], data: Mapping[DatasetType, Any]
) -> dict[str, Any]:
    method = method_named(offer.name)
    return {
        **vars(offer),
        "rows_are": method.rows_are,
        "reads_type": method.reads,
        "makes": method.makes,
        "asks_reward_model": method.asks_reward_model,
        "scores_text": issubclass(method, OnlineMethod) and method.scores_text,
        "fields": fields_of(method),
        "snapshots": frozen[method.reads],
        "data": data[method.reads],
        "data_title": f"{FROM_SOURCES.get(method.reads, 'judgments').capitalize()} of",
    }


def _parent_json(version: ModelVersion) -> dict[str, Any]:
    size = run_offers.parameters(version.base_path)
    return {
        "proposals": {method.name: proposals(method, size) for method in METHODS},
        "fixed": _adapter_of(version),
    }


def _adapter_of(version: ModelVersion) -> dict[str, Any]:
    """The settings that a LoRA run from this version cannot choose: it goes on training the adapter there is."""
    tuned = next((method for method in METHODS if issubclass(method, TunedMethod)), None)
    if version.adapter_path is None or tuned is None:
        return {}
    try:
        settled = run_queue.with_adapter_of(version, tuned.model_validate({}))
    except AppError:  # its files are gone, which is said when the run is started
        return {}
    return {field["name"]: getattr(settled, field["name"]) for field in fields_of(tuned) if field["only_for"]}


def _choices_json(choices: Choices) -> list[dict[str, str]]:
    return [{"words": words, "id": one} for words, one in choices]


def _judged(found: Mapping[DatasetType, Found]) -> set[str]:
    return {one for rows in found.values() for one in rows.ids}


def _launch_json(home: Path) -> dict[str, Any]:
    """The fields of where a run may run: the devices of this machine, and Ray only where a cluster is named."""
    named = bool(settings.read_home(home).ray_address)
    found = devices()
    shown = [field for field in fields_of(Launch) if named or field["name"] != "where"]
    machine = [
        {"id": "", "words": "The one with the shortest line"},
        *({"id": one.name, "words": one.words} for one in found),
    ]
    return {"fields": shown, "devices": machine if len(found) > 1 else machine[1:]}


def _line(database: Database) -> dict[str, Any]:
    """Whether it would start at once."""
    waiting = runs.unfinished(database)
    training = next((run.id for run in waiting if run.state == "training"), "")
    if training:
        return {"words": f"Waits in line behind {training}, which is training."}
    return {"words": "Starts at once; this machine is free." if not waiting else "Waits in line."}


def _like(database: Database, run_id: str) -> dict[str, Any]:
    """What another run was made of, to begin from."""
    run = runs.get(database, run_id)
    return {
        "id": run.id,
        "title": method_title(run.method),
        "method": run.method,
        "settings": dict(run.settings),
        "launch": Launch.of(run.launch).model_dump(),
        "snapshot_id": run.snapshot_id,
        "parent_id": run.parent_id,
    }


def _steps(method: type[Method], given: Mapping[str, Any], rows: int) -> int | None:
    """None where the settings are not right yet."""
    if faults(method, given):
        return None
    made = method.model_validate(dict(given))
    return made.planned_steps(rows) if isinstance(made, TunedMethod) else made.steps(rows)
