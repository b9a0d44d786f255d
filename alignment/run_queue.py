"""Runs wait in line, one trains at a time on each device, and each that succeeds leaves a model version.

`start_run` prepares a directory and puts the run in line; `follow`, called again and again by one thread of the app,
does the rest. Each of its steps looks at the directories first and only then at what the database believes, and can be
done twice: so a crash between any two steps, of the app or of a run, is put right by the next pass.

A run on a cluster is handed over at once: its line is the cluster's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignment import devices, run_directory, shared_devices
from alignment.launchers import Launch, Launcher, launcher_for
from alignment.launchers.launch import refuse_launch
from alignment.methods import method_named
from alignment.methods.base import Method, TunedMethod
from alignment.progress import message_of
from alignment.run_directory import DirectoryState, Outcome
from alignment.run_preparation import (
    described,
    note_confidential,
    prepare,
    refuse,
    refuse_sampler,
    scoring_for,
    validated,
    validated_launch,
    with_adapter_of,
)
from labeling.engines.model_folder import served_context
from storage import leases, model_versions, runs, snapshots
from storage.database import Database
from storage.errors import AppError, BadInput
from storage.leases import SERVER
from storage.model_versions import MadeWith
from storage.records import RUN_ENDED, ModelVersion, Run, now
from storage.settings import read_home

__all__ = [
    "follow",
    "line_before",
    "refuse",
    "resume_run",
    "run_again",
    "start_run",
    "stop_run",
    "validated",
    "why_not_resumable",
    "with_adapter_of",
]

STOPPED_IN_LINE = "Stopped by request before it started."
WAITING = "Waiting for its turn."

log = logging.getLogger(__name__)
_changing = threading.Lock()  # two people starting or resuming at once must not be given the same id or attempt


# ---- what a person asks for -----------------------------------------------------------------------------------------


def start_run(
    database: Database,
    method_name: str,
    settings: Mapping[str, Any],
    snapshot_id: str,
    parent_id: str,
    started_by: str,
    home: Path,
    launch: Mapping[str, Any] | None = None,
) -> Run:
    """Put a run in line. Raises BadInput, NotFound, NotEnoughFeedback or DiskFull before anything is stored."""
    asked = Run("", method_name, settings, snapshot_id, parent_id, "", "waiting", started_by=started_by)
    return _put_in_line(database, replace(asked, launch=launch or {}), home, {})


def run_again(database: Database, run_id: str, started_by: str, home: Path) -> Run:
    """The same once more, from the same seed: on the same machine its adapter is equal bit for bit."""
    first = runs.get(database, run_id)
    again = replace(first, state="waiting", message="", version_id=None, ended_at=None, created_at=now())
    again = replace(again, started_by=started_by, repeats=first.id, launch=Launch.of(first.launch).model_dump())
    return _put_in_line(database, again, home, {"repeats": first.id, **_same_prompts(first)})


def _put_in_line(database: Database, asked: Run, home: Path, more: Mapping[str, Any]) -> Run:
    """Look up and refuse first; then the directory, and the row in the database last."""
    method = validated(asked.method, asked.settings)
    snapshot = snapshots.get(database, asked.snapshot_id)
    parent = model_versions.get(database, asked.parent_id)
    refuse(method, snapshot, parent)
    scoring = scoring_for(database, method, parent, home)
    refuse_sampler(method, scoring)
    method = with_adapter_of(parent, method)
    launch = _settled(database, method, asked.launch, home)
    with _changing:
        run_id = runs.next_id(database, method.name)
        directory = (home / "runs" / run_id).resolve()
        prepare(directory, {**described(database, run_id, method, snapshot, parent, scoring, launch), **more}, snapshot)
        run = replace(
            asked, id=run_id, settings=method.model_dump(), launch=launch, directory=str(directory), created_at=now()
        )
        runs.add(database, run)
    return run


def _same_prompts(first: Run) -> dict[str, Any]:
    """So that the answers can be laid side by side, also where there are more held-out prompts now."""
    try:
        return {"sample_prompts": run_directory.read_run(Path(first.directory))["sample_prompts"]}
    except (AppError, KeyError):  # its directory is gone; what it was made of is in the database
        return {}


def resume_run(database: Database, run_id: str) -> Run:
    """Put a run that was stopped, killed or failed in line again, to go on from its newest whole checkpoint.

    Raises NotFound, BadInput where there is nothing to resume, and Locked where it trains after all.
    """
    with _changing:
        run = runs.get(database, run_id)
        if why := why_not_resumable(run):
            raise BadInput(why)
        run_directory.reopen(Path(run.directory))
        return runs.set_state(database, run.id, "waiting", message=WAITING)


def why_not_resumable(run: Run) -> str:
    """A sentence, or nothing where the run can be resumed."""
    if run.state == "waiting":
        return f"{run.id} is in line already: it starts when its device is free."
    if run.state == "training":
        return f"{run.id} is training; there is nothing to resume."
    if run.state == "succeeded":
        return f"{run.id} has reached its end: its result is {run.version_id}. Run it again, or train on from there."
    if not (Path(run.directory) / run_directory.RUN).exists():
        return f"The directory of {run.id} is gone, so there is nothing to go on from. Run it again."
    return ""


def stop_run(database: Database, run_id: str, launcher: Launcher | None = None) -> None:
    """Ask a run to stop: at once where it waits, at its next step where it trains. One that ended stays as it is."""
    run = runs.get(database, run_id)
    if run.state in RUN_ENDED:
        return
    launcher = launcher or launcher_for(run)
    if launcher.status(Path(run.directory)) == "prepared":
        _end_in_line(database, run, launcher)
    else:
        launcher.stop(Path(run.directory))


def line_before(run: Run, unfinished: Iterable[Run]) -> int:
    """How many runs that wait come before this one on the devices it needs; 0 for the next to start."""
    needed = set(Launch.of(run.launch).devices)
    older = (one for one in unfinished if one.created_at < run.created_at)
    return sum(one.state == "waiting" and bool(needed & set(Launch.of(one.launch).devices)) for one in older)


# ---- where it trains ------------------------------------------------------------------------------------------------


def _settled(database: Database, method: Method, launch: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Where a run will train, with nothing left open. Raises BadInput where it could not."""
    asked = validated_launch(launch)
    address = read_home(home).ray_address
    if not asked.device:
        asked = asked.model_copy(update={"device": _shortest_line(database) if asked.where == "local" else devices.CPU})
    refuse_launch(asked, devices.devices(), address)
    if isinstance(method, TunedMethod):
        method.refuse_processes(asked.processes)
        method.refuse_what_is_missing()  # also for a cluster: it runs this very installation
    return {**asked.model_dump(), **({"address": address} if asked.where == "ray" else {})}


def _shortest_line(database: Database) -> str:
    """The first GPU with the fewest runs, among those one that puts no server to sleep; the processor without GPUs."""
    names = [gpu.name for gpu in devices.gpus()] or [devices.CPU]
    waiting = [name for run in runs.unfinished(database) for name in Launch.of(run.launch).devices]
    serving = {lease.device for lease in leases.list_all(database) if lease.holder == SERVER}
    return min(names, key=lambda name: (waiting.count(name), name in serving))


# ---- one pass over all runs -----------------------------------------------------------------------------------------


def follow(database: Database, on_version: Callable[[ModelVersion], None], launcher: Launcher | None = None) -> None:
    """One pass over all runs that have not ended. `on_version` is told of each new version."""
    line: list[Run] = []
    training: list[Run] = []
    for run in runs.unfinished(database):
        state: DirectoryState | None = None
        try:
            state = (launcher or launcher_for(run)).status(Path(run.directory))
            if state == "prepared":
                line.append(run)
            elif state in ("starting", "training"):
                training.append(run)
                _note_training(database, run)
            else:
                _finish(database, run, state, on_version)
        except Exception:  # one run that cannot be followed holds up no other …
            log.exception("following the run %s failed", run.id)
            if state is None and run.state == "training":  # … unless it may be training still, on its devices
                training.append(run)
    starting = _next_in(line, training)
    shared_devices.settle(database, training, starting, line)
    for run in starting:
        if shared_devices.may_start(database, run):
            _launch(database, run, launcher or launcher_for(run))


def _next_in(line: Sequence[Run], training: Sequence[Run]) -> list[Run]:
    """Who may start now. One that needs two GPUs is not passed by those that need one: it keeps its place on both."""
    chosen = []
    busy = {device for run in training for device in Launch.of(run.launch).devices}
    for run in line:
        needed = set(Launch.of(run.launch).devices)
        if not needed & busy:
            chosen.append(run)
        busy = busy | needed
    return chosen


def _launch(database: Database, run: Run, launcher: Launcher) -> None:
    try:
        note_confidential(database, Path(run.directory))
        launcher.submit(Path(run.directory))
        started = launcher.status(Path(run.directory)) != "prepared"
    except AppError as error:
        runs.set_state(database, run.id, "failed", message=str(error), ended_at=now())
    except Exception as error:
        log.exception("starting the run %s failed", run.id)
        sentence = f"The run could not be started: {error}. The whole story is in the log of the app."
        runs.set_state(database, run.id, "failed", message=sentence, ended_at=now())
    else:
        if started:
            _note_training(database, run)


def _note_training(database: Database, run: Run) -> None:
    if run.state != "training":
        runs.set_state(database, run.id, "training", message="Training.")


def _end_in_line(database: Database, run: Run, launcher: Launcher) -> None:
    """Through outcome.json, so that a pass that is about to launch it sees that it is over."""
    try:
        run_directory.end_before_it_begins(Path(run.directory), STOPPED_IN_LINE)
    except run_directory.Locked:  # a pass launched it in this very moment
        launcher.stop(Path(run.directory))
    else:
        runs.set_state(database, run.id, "stopped", message=STOPPED_IN_LINE, ended_at=now())


# ---- how it ended ---------------------------------------------------------------------------------------------------


def _finish(database: Database, run: Run, state: DirectoryState, on_version: Callable[[ModelVersion], None]) -> None:
    """Store how a run ended. The version is added first: one run makes one version, however often this is done."""
    outcome = run_directory.read_outcome(Path(run.directory))
    if outcome is None:
        runs.set_state(database, run.id, "killed", message=_last_words(run, state), ended_at=now())
    elif outcome.state == "succeeded":
        made_with = MadeWith(**outcome.made_with) if outcome.made_with else None  # of an older run
        made = model_versions.add(database, _version(database, run, outcome), made_with)
        message = f"{outcome.message} It is version {made.id}."
        runs.set_state(database, run.id, "succeeded", message=message, version_id=made.id, ended_at=now())
        on_version(made)
    else:
        runs.set_state(database, run.id, outcome.state, message=outcome.message, ended_at=now())


def _last_words(run: Run, state: DirectoryState) -> str:
    """Of a run that left no outcome: what the cluster said where it never began, else what the directory tells."""
    directory = Path(run.directory)
    said = run_directory.read_submission(directory)
    began = run_directory.read_pid(directory) is not None
    return str(said["sentence"]) if said and not began else message_of(state, None)


def _version(database: Database, run: Run, outcome: Outcome) -> ModelVersion:
    """An adapter on the base of its parent, or whole weights, which are a base of their own."""
    parent = model_versions.get(database, run.parent_id)
    model = Path(run.directory) / run_directory.MODEL
    whole = (model / "config.json").exists() and not (model / "adapter_config.json").exists()
    return ModelVersion(
        id=model_versions.next_id(database),
        base_path=str(model) if whole else parent.base_path,
        adapter_path=None if whole else str(model),
        parent_id=parent.id,
        run_id=run.id,
        template=_trained_template(run),
        fingerprint=outcome.fingerprint,
        context_length=served_context(model) if whole else parent.context_length,
        kind=method_named(run.method).makes,
    )


def _trained_template(run: Run) -> str:
    """What the run trained with, which is what must be served."""
    template: str = run_directory.read_run(Path(run.directory))["parent"]["template"]
    return template
