"""The HTTP routes under the runs page, in plain FastAPI.

A page that follows a run asks every second, so an answer holds only the points since the offset it was given last. All
of it is read from the run's directory and the database at that moment: nothing is kept here that a restart would lose,
so refreshing the page or restarting the app changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from alignment import run_directory, run_queue, settings_file, shared_devices
from alignment.health import health
from alignment.launchers.launch import Launch
from alignment.measured_points import Seen
from alignment.methods import METHODS
from alignment.methods.base import Method, TunedMethod
from alignment.over_optimisation import gold_against_reward
from alignment.progress import Progress, all_points, read_progress
from storage import judgments, model_versions, runs, snapshots
from storage.database import Database
from storage.errors import NotAllowed
from storage.records import RUN_ENDED, Person, Run, Snapshot

PersonOf = Callable[[Request], Person]


def runs_router(database: Database, person_of: PersonOf) -> APIRouter:
    """`person_of` raises NotAllowed where nobody has said who they are."""
    router = APIRouter(prefix="/api/runs")

    @router.get("")
    def list_runs(request: Request) -> dict[str, Any]:
        require_engineer(person_of(request))
        return {"runs": run_summaries(database)}

    @router.get("/{run_id}")
    def one_run(
        request: Request, run_id: str, since: int = Query(0, ge=0), after: float | None = Query(None)
    ) -> dict[str, Any]:
        require_engineer(person_of(request))
        return run_detail(database, run_id, since, after)

    @router.get("/{run_id}/curves")
    def curves(request: Request, run_id: str, against: str = Query(max_length=200)) -> dict[str, Any]:
        require_engineer(person_of(request))
        return laid_over(database, run_id, against)

    @router.get("/{run_id}/settings.yaml")
    def settings_yaml(request: Request, run_id: str) -> Response:
        require_engineer(person_of(request))
        run = runs.get(database, run_id)
        named = {"content-disposition": f'attachment; filename="{run.id}.yaml"'}
        text = settings_file.to_yaml(run.method, run.settings, Launch.of(run.launch).model_dump())
        return Response(text, media_type="application/yaml", headers=named)

    @router.post("/{run_id}/stop")
    def stop(request: Request, run_id: str) -> dict[str, Any]:
        require_engineer(person_of(request))
        run_queue.stop_run(database, run_id)
        return {"state": runs.get(database, run_id).state}

    @router.post("/{run_id}/resume")
    def resume(request: Request, run_id: str) -> dict[str, Any]:
        require_engineer(person_of(request))
        run_queue.resume_run(database, run_id)
        return {"state": runs.get(database, run_id).state}

    @router.post("/{run_id}/again")
    def again(request: Request, run_id: str) -> dict[str, Any]:
        person = person_of(request)
        require_engineer(person)
        home = Path(runs.get(database, run_id).directory).parents[1]
        return {"id": run_queue.run_again(database, run_id, person.name, home).id}

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
    return [run_summary(database, run, line, next_ids.get(run.id)) for run in runs.list_all(database)]


def run_summary(database: Database, run: Run, line: Sequence[Run], becomes: str | None) -> dict[str, Any]:
    progress = None if run.state in RUN_ENDED else read_progress(Path(run.directory))
    state = run.state if progress is None else _live_state(progress)
    verdict = health_json(run, progress) if progress and state == "training" else None
    return {
        "id": run.id,
        "method": method_title(run.method),
        "parent": run.parent_id,
        "becomes": run.version_id or becomes,
        "state": state,
        **(_in_line(run, line) if state == "waiting" else {}),
        "beside_servers": "" if progress is None else _beside_servers(database, run),
        "message": run.message if progress is None else progress.message,
        "health": verdict["short"] if verdict else None,
        "fraction": progress.fraction if progress else None,
        "seconds_left": progress.seconds_left if progress else None,
        "started_by": run.started_by,
        "created_at": run.created_at.isoformat(),
        "ended_at": run.ended_at.isoformat() if run.ended_at else None,
    }


def run_detail(database: Database, run_id: str, since: int = 0, after: float | None = None) -> dict[str, Any]:
    """One run whole, but for the points, which are those since the offset; and the list, so that a page asks once.

    Raises NotFound.
    """
    run = runs.get(database, run_id)
    directory = Path(run.directory)
    snapshot = snapshots.get(database, run.snapshot_id)
    progress = read_progress(directory, since, after=after)
    line = runs.unfinished(database)
    return {
        **run_summary(database, run, line, _next_ids(database, line).get(run.id)),
        "runs": run_summaries(database),
        "method_name": run.method,
        "snapshot": snapshot_json(database, snapshot),
        "settings": settings_json(run),
        "step": progress.step,
        "steps": progress.steps or _planned_steps(run, snapshot),
        "seconds": progress.seconds,
        "points": progress.points,
        "points_from": progress.points_from,
        "offset": progress.offset,
        "health": health_json(run, progress),
        "gold": gold_json(run, progress),
        "best": best_checkpoint(run),
        "evaluation": _json_of(directory / run_directory.EVALUATION),
        "prompts": [prompt[-1]["content"] for prompt in progress.sample_prompts if prompt],
        "samples": [vars(sample) for sample in progress.samples],
        "peak_memory_mb": progress.outcome.peak_memory_mb if progress.outcome else None,
        "made_with": {**_made_with(directory), **_written_to(run)},
        "repeats": _repeated(database, run, progress),
        "attempt": run_directory.attempt(directory),
        **_resumable(run, directory),
        "log": progress.log,
    }


def health_json(run: Run, progress: Progress) -> dict[str, Any] | None:
    """The verdict on all points of the run so far; None where nothing was measured."""
    points = all_points(Path(run.directory))
    verdict = health(run.method, points, run.settings, progress.steps, ended=progress.ended)
    return {**vars(verdict), "short": verdict.short} if verdict else None


def gold_json(run: Run, progress: Progress) -> dict[str, Any] | None:
    """What its gold function says of its reward; None for a run without one."""
    points = all_points(Path(run.directory))
    found = gold_against_reward(Seen(run.method, points, run.settings, progress.steps, progress.ended))
    return {**asdict(found), "kept": _gold_kept(run, points)} if found else None


def _gold_kept(run: Run, points: Sequence[Mapping[str, Any]]) -> str:
    """What gold was at the checkpoint that became the version, by its reward; "" before there is one."""
    measured = [point for point in points if "eval_gold" in point]
    best = best_checkpoint(run) if run.settings.get("keep") == "best" else None
    kept = [point for point in measured if best is None or point["step"] == best["step"]]
    if run.state != "succeeded" or not kept:
        return ""
    step, gold = kept[-1]["step"], kept[-1]["eval_gold"]
    return f"The version is the checkpoint of step {step}: gold {gold:.2f} on held-out prompts."


def best_checkpoint(run: Run) -> dict[str, Any] | None:
    """Where the run did best on held-out rows, by its method's measure. What was measured before training is none."""
    method = _method(run.method)
    if method is None or not issubclass(method, TunedMethod):
        return None
    measure = method.held_out
    points = [point for point in all_points(Path(run.directory)) if measure.metric in point and point["step"] > 0]
    if not points:
        return None
    best = (max if measure.higher_is_better else min)(points, key=lambda point: float(point[measure.metric]))
    return {"step": best["step"], "metric": measure.metric, "value": best[measure.metric], "words": measure.words}


def laid_over(database: Database, run_id: str, against: str) -> dict[str, Any]:
    """All points of a run, and what it has other than the run it is laid over. Raises NotFound."""
    run, other = runs.get(database, run_id), runs.get(database, against)
    return {
        "id": run.id,
        "method": method_title(run.method),
        "state": run.state,
        "points": all_points(Path(run.directory)),
        "differences": differences(database, other, run),
    }


def differences(database: Database, here: Run, there: Run) -> list[dict[str, Any]]:
    """What two runs do not have in common, by the names of the settings; method, parent and data come first."""
    names = [*here.settings, *(name for name in there.settings if name not in here.settings)]
    both = [
        ("method", method_title(here.method), method_title(there.method)),
        ("parent", here.parent_id, there.parent_id),
        ("snapshot", *_snapshots_told_apart(database, here, there)),
        *((name, here.settings.get(name), there.settings.get(name)) for name in names),
    ]
    return [{"name": name, "here": mine, "there": theirs} for name, mine, theirs in both if mine != theirs]


def _snapshots_told_apart(database: Database, *both: Run) -> list[str]:
    """Their names, with the fingerprint where two have the same."""
    read = [snapshots.get(database, run.snapshot_id) for run in both]
    alike = len({one.name for one in read}) < len({one.id for one in read})
    return [f"{one.name} ({one.fingerprint.removeprefix('sha256:')[:8]})" if alike else one.name for one in read]


def _resumable(run: Run, directory: Path) -> dict[str, Any]:
    """Whether the run can be gone on with, and from which step; step 0 starts it over."""
    newest = run_directory.newest_checkpoint(directory)
    return {
        "can_resume": not run_queue.why_not_resumable(run),
        "checkpoint_step": run_directory.step_of(newest) if newest else 0,
    }


def _repeated(database: Database, run: Run, progress: Progress) -> dict[str, Any] | None:
    """The run that this one does again, and once both have succeeded, whether the same weights came of it."""
    if run.repeats is None:
        return None
    first = run_directory.read_outcome(Path(runs.get(database, run.repeats).directory))
    made = [outcome.fingerprint for outcome in (first, progress.outcome) if outcome and outcome.fingerprint]
    return {"id": run.repeats, "same": made[0] == made[1] if len(made) == 2 else None}


def _made_with(directory: Path) -> dict[str, Any]:
    """With what a run was made, so that it can be made again: machine, code and package versions, seed."""
    described = _json_of(directory / run_directory.RUN) or {}
    return {name: described.get(name) for name in ("launch", "hardware", "code", "packages")}


def _written_to(run: Run) -> dict[str, str]:
    """Where the files are, and those of another tracker where one was asked for."""
    tracker = run.settings.get("tracker", "none")
    beside = {} if tracker == "none" else {"tracker": f"{tracker}, in {Path(run.directory) / run_directory.TRACKED}"}
    return {"directory": run.directory, **beside}


def _json_of(path: Path) -> dict[str, Any] | None:
    """None where there is none, or where it is damaged: the run is shown without it."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def settings_json(run: Run) -> list[dict[str, Any]]:
    """Each setting as the form names it, with what the form proposed, so that a page can say what was changed."""
    method = _method(run.method)
    fields = method.model_fields if method else {}
    proposed = {name: field.default for name, field in fields.items()} | _proposed(run)
    return [
        {
            "name": name,
            "title": fields[name].title or name if name in fields else name,
            "value": value,
            "proposed": proposed.get(name, value),
            "changed": name in fields and value != proposed[name],
        }
        for name, value in run.settings.items()
    ]


def _proposed(run: Run) -> dict[str, Any]:
    """What the form proposed for this parent in place of a default (a learning rate depends on size, say)."""
    described = _json_of(Path(run.directory) / run_directory.RUN) or {}
    return dict(described.get("proposed") or {})


def snapshot_json(database: Database, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "dataset_type": snapshot.dataset_type,
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
        made = method.model_validate(dict(run.settings)) if method else None
    except ValidationError:
        return 0
    return made.planned_steps(snapshot.rows) if isinstance(made, TunedMethod) else 0


def _in_line(run: Run, line: Sequence[Run]) -> dict[str, Any]:
    """1 for the run that starts next on its device; behind which run it waits, and when that one should end."""
    mine = set(Launch.of(run.launch).devices)
    ahead = [one for one in line if _is_ahead(one, run) and mine & set(Launch.of(one.launch).devices)]
    last = ahead[-1] if ahead else None
    progress = read_progress(Path(last.directory)) if last and last.state == "training" else None
    return {
        "place": 1 + sum(one.state == "waiting" for one in ahead),
        "device": " and ".join(sorted(mine)),
        "behind": last.id if last else None,
        "starts_in": progress.seconds_left if progress else None,
    }


def _beside_servers(database: Database, run: Run) -> str:
    """What the model servers do for a run that takes turns with them; "" for one that does not."""
    held = shared_devices.of(database, run)
    names = " and ".join(lease.device for lease in held)
    if shared_devices.is_being_freed(held, run):
        return f"Waiting for the model server to free {names}: it finishes the answers that it has begun."
    if any(lease.holder == run.id for lease in held):
        return (
            f"The model server is asleep while this run has {names}, and wakes when no run needs it any more. Labelers "
            "go on with the answers in stock."
        )
    return ""


def _is_ahead(one: Run, run: Run) -> bool:
    return one.id != run.id and (one.state == "training" or one.created_at < run.created_at)


def _next_ids(database: Database, line: Sequence[Run]) -> dict[str, str]:
    """The version that each unfinished run becomes, if those before it in line succeed."""
    first = int(model_versions.next_id(database).removeprefix("v"))
    return {run.id: f"v{first + place}" for place, run in enumerate(line)}
