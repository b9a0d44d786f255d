"""The HTTP routes under the models page, in plain FastAPI.

All but the figures of servers and endpoints is read from the database and from the directories of the runs at that
moment, so refreshing the page or restarting the app changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from json import JSONDecodeError, loads
from pathlib import Path
from typing import Any, Protocol

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from alignment.base_models import add_base
from alignment.routes import PersonOf, method_title, require_engineer, settings_json, snapshot_json
from alignment.run_directory import EVALUATION
from alignment.scoring import Scores, score_answers
from labeling.engines.endpoints import EndpointState
from labeling.engines.model_server import Status
from labeling.engines.supervisor import ServerState
from labeling.engines.usage import Used
from storage import model_versions, runs, snapshots
from storage.database import Database
from storage.records import ModelVersion, Run

WinRateOf = Callable[[str, str], Mapping[str, float] | None]
"""(version, parent) -> {"value", "low", "high", "judgments"} from blind comparisons; None where there are none."""


class Serving(Protocol):
    """What the model servers say of a version, and of themselves: labeling.engines.supervisor.Engines is one."""

    @property
    def problems(self) -> Mapping[str, str]: ...

    def ready(self, version_id: str) -> bool: ...

    def client(self, version_id: str) -> tuple[Scores, str]: ...

    def usage(self, version_id: str) -> Used: ...

    def state(self) -> list[ServerState]: ...


class BaseModelBody(BaseModel):
    """A folder, or a Hugging Face id that is in the cache."""

    place: str = Field(max_length=4_096)
    note: str = Field("", max_length=1_000)


class AnswersBody(BaseModel):
    """Answers to one prompt, to be scored."""

    prompt: str = Field(max_length=100_000)
    answers: list[str] = Field(min_length=1, max_length=4)


def models_router(
    database: Database,
    person_of: PersonOf,
    serving: Serving,
    win_rate_of: WinRateOf,
    served_changed: Callable[[], None],
    endpoints: Callable[[], Sequence[EndpointState]],
) -> APIRouter:
    """`served_changed` is called after a version was loaded, unloaded or added: the servers are to follow."""
    router = APIRouter(prefix="/api/models")

    @router.get("")
    def list_versions(request: Request) -> dict[str, Any]:
        require_engineer(person_of(request))
        return {"versions": version_list(database, serving, win_rate_of)}

    @router.get("/servers")
    def list_servers(request: Request) -> dict[str, Any]:
        """Figures that change by the second; the page asks for them apart."""
        require_engineer(person_of(request))
        served = {version.id: version for version in model_versions.served(database)}
        return {
            "servers": [server_json(state, served) for state in serving.state()],
            "used": {version_id: asdict(serving.usage(version_id)) for version_id in served},
            "endpoints": [endpoint_json(state) for state in endpoints()],
        }

    @router.post("")
    def add(request: Request, body: BaseModelBody) -> dict[str, Any]:
        require_engineer(person_of(request))
        version = add_base(database, body.place, note=body.note.strip())
        served_changed()
        return {"id": version.id}

    @router.post("/{version_id}/load")
    def load(request: Request, version_id: str) -> dict[str, Any]:
        return serve(request, version_id, True)

    @router.post("/{version_id}/unload")
    def unload(request: Request, version_id: str) -> dict[str, Any]:
        return serve(request, version_id, False)

    @router.post("/{version_id}/score")
    def score(request: Request, version_id: str, body: AnswersBody) -> dict[str, Any]:
        require_engineer(person_of(request))
        version = model_versions.get(database, version_id)
        client, name = serving.client(version_id)
        return {"scores": score_answers(client, name, version, body.prompt, body.answers)}

    def serve(request: Request, version_id: str, served: bool) -> dict[str, Any]:
        require_engineer(person_of(request))
        version = model_versions.set_served(database, version_id, served)
        served_changed()
        return {"id": version.id, "served": version.served}

    return router


def version_list(database: Database, serving: Serving, win_rate_of: WinRateOf) -> list[dict[str, Any]]:
    """Newest first, each with everything the detail card says."""
    made_by = {run.id: run for run in runs.list_all(database)}
    frozen = {snapshot.id: snapshot for snapshot in snapshots.list_all(database)}
    resting = _resting(serving)
    found = []
    for version in reversed(model_versions.list_all(database)):
        run = made_by.get(version.run_id or "")
        snapshot = frozen.get(run.snapshot_id) if run else None
        found.append(
            {
                **version_json(version),
                **state_json(version, serving, resting.get(version.id, "")),
                "method": method_title(run.method) if run else None,
                "run": _run_behind(run) if run else None,
                "snapshot": snapshot_json(database, snapshot) if snapshot else None,
                "evaluation": _evaluation(run) if run and version.kind == "reward_model" else None,
                "wins": win_rate_of(version.id, version.parent_id) if version.parent_id else None,
            }
        )
    return found


def version_json(version: ModelVersion) -> dict[str, Any]:
    return {
        "id": version.id,
        "kind": version.kind,
        "parent": version.parent_id,
        "base": Path(version.base_path).name,
        "base_path": version.base_path,
        "adapter": version.adapter_path is not None,
        "template": version.template,
        "fingerprint": version.fingerprint,
        "context_length": version.context_length,
        "note": version.note,
        "created_at": version.created_at.isoformat(),
    }


def _resting(serving: Serving) -> dict[str, str]:
    """The versions whose server makes room for a run, or sleeps while it trains, and what is to be said of that."""
    resting = [state for state in serving.state() if state.status in ("making room", "asleep")]
    return {version_id: state.detail for state in resting for version_id in state.wanted}


def state_json(version: ModelVersion, serving: Serving, resting: str = "") -> dict[str, Any]:
    """A state is a word and a sentence: stored, served, asleep, starting, or problem."""
    does = "answers" if version.kind == "policy" else "scores"
    if not version.served:
        return {"served": False, "state": "stored", "sentence": f"Kept on disk; no server {does} as it."}
    if problem := serving.problems.get(version.id):
        return {"served": True, "state": "problem", "sentence": problem}
    if resting:
        return {"served": True, "state": "asleep", "sentence": resting}
    if serving.ready(version.id):
        return {"served": True, "state": "served", "sentence": f"A model server {does} as this version."}
    return {"served": True, "state": "starting", "sentence": "Its model server is starting."}


def server_json(state: ServerState, served: Mapping[str, ModelVersion]) -> dict[str, Any]:
    """One server with its light: a kind and a word, and what stands behind it in a sentence."""
    light, word, sentence = _light(state)
    apart = [_why_apart(served[one]) for one in state.wanted if one in served]
    return {
        "base": Path(state.base_path).name,
        "base_path": state.base_path,
        "engine": state.engine,
        "url": state.url,
        "is_ours": state.is_ours,
        "light": light,
        "word": word,
        "sentence": " ".join(filter(None, [sentence, *apart])),
        "running": state.load.running,
        "waiting": state.load.waiting,
        "tokens_per_second": state.tokens_per_second,
        "versions": list(state.wanted),
    }


_NOT_READY: Mapping[Status, str] = {
    "starting": "Starting",
    "restarting": "Starting again",
    "stopped": "Stopped",
    "making room": "Making room",
    "asleep": "Asleep",
}


def _light(state: ServerState) -> tuple[str, str, str]:
    """It is well when tokens come while somebody waits for them, or nobody waits; that it says so is not enough."""
    if state.status == "failed":
        return "bad", "Down", state.detail
    if state.status != "ready":
        return "wait", _NOT_READY[state.status], state.detail
    if state.hangs:
        silent = (
            f"{state.load.running} requests are running and no token has come for {state.silent_seconds:.0f} seconds."
        )
        return "bad", "Hangs", f"{silent} If that goes on, unload its versions and load them again: it is started anew."
    if state.detail:
        return "warn", "Silent", state.detail
    if missing := [one for one in state.wanted if one not in state.versions]:
        return "warn", "Incomplete", f"Not served yet, or refused: {', '.join(missing)}."
    return "run", "Answering" if state.load.running else "Ready", ""


def endpoint_json(state: EndpointState) -> dict[str, Any]:
    """One endpoint with its light, which is that of its last request."""
    if state.problem:
        light, word = "bad", "No answer"
    elif state.used.in_flight:
        light, word = "run", "Answering"
    else:
        light, word = ("run", "Answers") if state.used.requests else ("", "Not asked yet")
    return {
        "id": state.version_id,
        "url": state.url,
        "light": light,
        "word": word,
        "sentence": state.problem,
        "used": asdict(state.used),
    }


def _why_apart(version: ModelVersion) -> str:
    if version.kind == "reward_model":
        return f"{version.id} scores answers, so it has a server of its own."
    if version.adapter_path is None and version.run_id is not None:
        return f"{version.id} is whole weights of its own, so it has a server of its own."
    return ""


def _run_behind(run: Run) -> dict[str, Any]:
    changed = [setting for setting in settings_json(run) if setting["changed"]]
    return {"id": run.id, "message": run.message, "changed": changed}


def _evaluation(run: Run) -> dict[str, Any] | None:
    """What its run measured on held-out pairs; None where it held none out, or its directory is gone."""
    try:
        measured: dict[str, Any] = loads((Path(run.directory) / EVALUATION).read_text())
    except (FileNotFoundError, JSONDecodeError):
        return None
    return measured
