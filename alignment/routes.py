"""The HTTP routes under the runs page and the models page, in plain FastAPI.

A page that follows a run asks every second, so an answer holds only the points since the offset it was given last. All
of it is read from the run's directory and the database at that moment: nothing is kept here, so refreshing the page or
restarting the app changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, ValidationError

from alignment import run_queue
from alignment.base_models import add_base
from alignment.methods import METHODS
from alignment.methods.base import Method
from alignment.progress import Progress, read_progress
from storage import judgments, model_versions, runs, snapshots
from storage.database import Database
from storage.errors import NotAllowed
from storage.records import RUN_ENDED, ModelVersion, Person, Run, Snapshot

PersonOf = Callable[[Request], Person]
WinRateOf = Callable[[str, str], Mapping[str, float] | None]
"""(version, parent) -> {"value", "low", "high", "judgments"} from blind comparisons; None where there are none."""


class Serving(Protocol):
    """What the model servers say of a version: labeling.engines.supervisor.Engines is one."""

    @property
    def problems(self) -> Mapping[str, str]: ...

    def ready(self, version_id: str) -> bool: ...


class BaseModelBody(BaseModel):
    """A folder, or a Hugging Face id that is in the cache."""

    place: str = Field(max_length=4_096)
    note: str = Field("", max_length=1_000)


def runs_router(database: Database, person_of: PersonOf) -> APIRouter:
    """`person_of` raises NotAllowed where nobody has said who they are."""
    router = APIRouter(prefix="/api/runs")

    @router.get("")
    def list_runs(request: Request) -> dict[str, Any]:
        require_engineer(person_of(request))
        return {"runs": run_summaries(database)}

    @router.get("/{run_id}")
    def one_run(request: Request, run_id: str, since: int = Query(0, ge=0)) -> dict[str, Any]:
        require_engineer(person_of(request))
        return run_detail(database, run_id, since)

    @router.post("/{run_id}/stop")
    def stop(request: Request, run_id: str) -> dict[str, Any]:
        require_engineer(person_of(request))
        run_queue.stop_run(database, run_id)
        return {"state": runs.get(database, run_id).state}

    return router


def models_router(
    database: Database,
    person_of: PersonOf,
    serving: Serving,
    win_rate_of: WinRateOf,
    served_changed: Callable[[], None],
) -> APIRouter:
    """`served_changed` is called after a version was loaded, unloaded or added: the servers are to follow."""
    router = APIRouter(prefix="/api/models")

    @router.get("")
    def list_versions(request: Request) -> dict[str, Any]:
        require_engineer(person_of(request))
        return {"versions": version_list(database, serving, win_rate_of)}

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

    def serve(request: Request, version_id: str, served: bool) -> dict[str, Any]:
        require_engineer(person_of(request))
        version = model_versions.set_served(database, version_id, served)
        served_changed()
        return {"id": version.id, "served": version.served}

    return router


def require_engineer(person: Person) -> None:
    """Raises NotAllowed."""
    if person.role != "engineer":
        raise NotAllowed(
            f"Runs and models are for engineers, and {person.name} is a {person.role}. Ask an engineer, or "
            "change who you are at the top right."
        )


# ---- runs -----------------------------------------------------------------------------------------------------------


def run_summaries(database: Database) -> list[dict[str, Any]]:
    """Every run, newest first. Only those that have not ended are looked up on disk."""
    line = runs.unfinished(database)
    next_ids = _next_ids(database, line)
    return [run_summary(run, line, next_ids.get(run.id)) for run in runs.list_all(database)]


def run_summary(run: Run, line: Sequence[Run], becomes: str | None) -> dict[str, Any]:
    progress = None if run.state in RUN_ENDED else read_progress(Path(run.directory))
    state = run.state if progress is None else _live_state(progress)
    return {
        "id": run.id,
        "method": method_title(run.method),
        "parent": run.parent_id,
        "becomes": run.version_id or becomes,
        "state": state,
        "place": _place(run, line) if state == "waiting" else None,
        "message": run.message if progress is None else progress.message,
        "fraction": progress.fraction if progress else None,
        "seconds_left": progress.seconds_left if progress else None,
        "started_by": run.started_by,
        "created_at": run.created_at.isoformat(),
        "ended_at": run.ended_at.isoformat() if run.ended_at else None,
    }


def run_detail(database: Database, run_id: str, since: int) -> dict[str, Any]:
    """One run whole, but for the points, which are those since the offset. Raises NotFound."""
    run = runs.get(database, run_id)
    snapshot = snapshots.get(database, run.snapshot_id)
    progress = read_progress(Path(run.directory), since)
    line = runs.unfinished(database)
    return {
        **run_summary(run, line, _next_ids(database, line).get(run.id)),
        "snapshot": snapshot_json(database, snapshot),
        "settings": settings_json(run),
        "step": progress.step,
        "steps": progress.steps or _planned_steps(run, snapshot),
        "seconds": progress.seconds,
        "points": progress.points,
        "offset": progress.offset,
        "prompts": [prompt[-1]["content"] for prompt in progress.sample_prompts if prompt],
        "samples": [vars(sample) for sample in progress.samples],
        "peak_memory_mb": progress.outcome.peak_memory_mb if progress.outcome else None,
        "log": progress.log,
    }


def settings_json(run: Run) -> list[dict[str, Any]]:
    """Each setting as the form names it, with the default it had, so that a page can say what was changed."""
    method = _method(run.method)
    fields = method.model_fields if method else {}
    return [
        {
            "name": name,
            "title": fields[name].title or name if name in fields else name,
            "value": value,
            "changed": name in fields and value != fields[name].default,
        }
        for name, value in run.settings.items()
    ]


def snapshot_json(database: Database, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "rows": snapshot.rows,
        "rows_are": rows_are(snapshot.dataset_type),
        "judgments": len(snapshot.judgment_ids),
        "people": judgments.labelers(database, snapshot.judgment_ids),
        "fingerprint": snapshot.fingerprint,
        "counts": dict(snapshot.counts),
        "policy": snapshot.policy,
        "created_at": snapshot.created_at.isoformat(),
    }


def rows_are(dataset_type: str) -> str:
    """What a person calls the rows of this type: pairs, thumbs, examples."""
    return next((method.rows_are for method in METHODS if method.reads == dataset_type), "rows")


def method_title(name: str) -> str:
    method = _method(name)
    return method.title if method else name


def _live_state(progress: Progress) -> str:
    """In the page's words. A directory that has ended is still `training` until the app has stored what came of it."""
    return "waiting" if progress.state == "prepared" else "training"


def _method(name: str) -> type[Method] | None:
    """None for a method that this Plumbline does not have (any more): old runs are still shown."""
    return next((method for method in METHODS if method.name == name), None)


def _planned_steps(run: Run, snapshot: Snapshot) -> int:
    """0 where nobody knows any more: the method is gone, or has other settings today."""
    method = _method(run.method)
    try:
        return method.model_validate(dict(run.settings)).steps(snapshot.rows) if method else 0
    except ValidationError:
        return 0


def _place(run: Run, line: Sequence[Run]) -> int:
    """1 for the run that starts next."""
    return 1 + sum(one.state == "waiting" and one.created_at < run.created_at for one in line)


def _next_ids(database: Database, line: Sequence[Run]) -> dict[str, str]:
    """The version that each unfinished run becomes, if those before it in line succeed."""
    first = int(model_versions.next_id(database).removeprefix("v"))
    return {run.id: f"v{first + place}" for place, run in enumerate(line)}


# ---- models ---------------------------------------------------------------------------------------------------------


def version_list(database: Database, serving: Serving, win_rate_of: WinRateOf) -> list[dict[str, Any]]:
    """Newest first, each with everything the detail card says."""
    made_by = {run.id: run for run in runs.list_all(database)}
    frozen = {snapshot.id: snapshot for snapshot in snapshots.list_all(database)}
    found = []
    for version in reversed(model_versions.list_all(database)):
        run = made_by.get(version.run_id or "")
        snapshot = frozen.get(run.snapshot_id) if run else None
        found.append(
            {
                **version_json(version),
                **state_json(version, serving),
                "method": method_title(run.method) if run else None,
                "run": _run_behind(run) if run else None,
                "snapshot": snapshot_json(database, snapshot) if snapshot else None,
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


def state_json(version: ModelVersion, serving: Serving) -> dict[str, Any]:
    """A state is a word and a sentence: stored, served, starting, or problem."""
    if not version.served:
        return {"served": False, "state": "stored", "sentence": "Kept on disk; no server answers as it."}
    if problem := serving.problems.get(version.id):
        return {"served": True, "state": "problem", "sentence": problem}
    if serving.ready(version.id):
        return {"served": True, "state": "served", "sentence": "A model server answers as this version."}
    return {"served": True, "state": "starting", "sentence": "Its model server is starting."}


def _run_behind(run: Run) -> dict[str, Any]:
    changed = [setting for setting in settings_json(run) if setting["changed"]]
    return {"id": run.id, "message": run.message, "changed": changed}
