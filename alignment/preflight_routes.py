"""The two routes under "Before it starts": ask what would happen, and read what is known by now.

Each question is a job with a folder under <home>/preflight, named by what was asked: the same question is answered from
what is there. An answer is good for a while only, since memory and disk fill up; and a new question of a person ends
the job of the last one, because a form is typed in.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Lock
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from alignment import devices, run_directory, shared_devices
from alignment.launchers.environment import environment_for
from alignment.launchers.launch import Launch
from alignment.launchers.local import REPOSITORY
from alignment.methods.base import Method
from alignment.preflight import ANSWER, ASKED, Asked
from alignment.routes import PersonOf, require_engineer
from alignment.run_preparation import (
    Scoring,
    as_parent,
    refuse,
    scoring_for,
    validated,
    validated_launch,
    with_adapter_of,
)
from alignment.scorers.chosen import is_version
from alignment.timing import Earlier
from storage import documents, model_versions, prompts, runs, snapshots
from storage.database import Database
from storage.errors import BadInput, NotEnoughFeedback, NotFound
from storage.records import ModelVersion, Snapshot
from storage.settings import read_home

FRESH_SECONDS = 600.0  # then memory and disk are looked at again
KEPT_SECONDS = 86_400.0
EARLIER_RUNS = 3
REPLACED = (
    "Another check of yours took its place before it had an answer (in another tab, perhaps). Check again, or start "
    "the run without it."
)
LEFT = "The check was given up, because a run was started or its page was left. Ask again, or start without it."
ENDED = "The check was ended from outside before it had an answer. Ask again, or start the run without it."


class PreflightBody(BaseModel):
    """The form as it is filled now."""

    method: str = Field(max_length=100)
    settings: dict[str, Any]
    snapshot_id: str = Field(max_length=100)
    parent_id: str = Field(max_length=200)
    launch: dict[str, Any] = Field(default_factory=dict)


def preflight_router(database: Database, person_of: PersonOf, home: Path) -> APIRouter:
    router = APIRouter(prefix="/api/runs/preflight")
    jobs = Jobs(home / "preflight")

    @router.post("")
    def ask(request: Request, body: PreflightBody) -> dict[str, str]:
        person = person_of(request)
        require_engineer(person)
        return {"id": jobs.ask(asked(database, body, home), person.name)}

    @router.get("/{job_id}")
    def answer(request: Request, job_id: str) -> dict[str, Any]:
        require_engineer(person_of(request))
        return jobs.answer(job_id)

    @router.post("/{job_id}/leave")
    def leave(request: Request, job_id: str) -> dict[str, str]:
        person = person_of(request)
        require_engineer(person)
        jobs.leave(job_id, person.name)
        return {"id": job_id}

    return router


# ---- the jobs -------------------------------------------------------------------------------------------------------


class Jobs:
    """The processes that this app started. After a restart there are none; the folders tell what became of them.

    People who ask the same question wait for the same process, so it is ended when the last of them has left it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._running: dict[str, subprocess.Popen[bytes]] = {}  # by question
        self._waiting: dict[str, str] = {}  # by person: which question
        self._changing = Lock()

    def ask(self, question: Asked, person: str) -> str:
        """The name of the answer; a process is on its way to it, where it is not there."""
        job_id = _named(question)
        with self._changing:
            if self._waiting.get(person) != job_id:
                self._give_up(person, REPLACED)
            self._waiting[person] = job_id
            if not (self._alive(job_id) or _is_fresh(self._root / job_id)):
                self._start(job_id, question)
        return job_id

    def leave(self, job_id: str, person: str) -> None:
        """This person waits no more: where nobody else does, the run that was started has the machine to itself."""
        with self._changing:
            if self._waiting.get(person) == job_id:
                self._give_up(person, LEFT)

    def answer(self, job_id: str) -> dict[str, Any]:
        """What is known by now. Raises NotFound."""
        folder = self._root / job_id
        if not re.fullmatch(r"[0-9a-f]{24}", job_id) or not folder.exists():
            raise NotFound("Nobody asked this, or it was long ago. Reload the page.")
        alive = self._alive(job_id)  # before it is read: it may end in between
        found = _read(folder)
        if found["state"] == "working" and not alive:
            return {**found, "state": "failed", "error": ENDED}
        return found

    def _start(self, job_id: str, question: Asked) -> None:
        self._tidy()
        folder = self._root / job_id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run_directory.write_json(folder / ASKED, asdict(question))
        with (folder / run_directory.LOG).open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "alignment.preflight", str(folder.resolve())],
                cwd=REPOSITORY,
                env=environment_for(asdict(question), self._root.parent),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, so that the process that times a step ends with it
            )
        self._running[job_id] = child

    def _give_up(self, person: str, why: str) -> None:
        """End the job that this person waited for, unless others wait for it too."""
        job_id = self._waiting.pop(person, None)
        child = self._running.get(job_id) if job_id and job_id not in self._waiting.values() else None
        if child and child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
            child.wait()
            run_directory.write_json(self._root / str(job_id) / ANSWER, {"state": "failed", "error": why})

    def _alive(self, job_id: str) -> bool:
        child = self._running.get(job_id)
        return (child is not None and child.poll() is None) or run_directory.lock_is_held(self._root / job_id)

    def _tidy(self) -> None:
        """Processes that have ended, and answers of days ago: nobody asks for them again."""
        self._running = {job_id: child for job_id, child in self._running.items() if child.poll() is None}
        for folder in self._root.glob("*/"):
            if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _named(question: Asked) -> str:
    told = json.dumps(asdict(question), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()[:24]


def _read(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / ANSWER).read_text())
    except FileNotFoundError:
        return {"state": "working", "progress": "Starting"}
    return found


def _is_fresh(folder: Path) -> bool:
    try:
        age = time.time() - (folder / ANSWER).stat().st_mtime
    except FileNotFoundError:
        return False
    return age < FRESH_SECONDS and _read(folder)["state"] == "ready"


# ---- what is asked --------------------------------------------------------------------------------------------------


def asked(database: Database, body: PreflightBody, home: Path) -> Asked:
    """All that the database knows of it. Raises BadInput or NotFound for what is no question."""
    method, launch = validated(body.method, body.settings), _somewhere(validated_launch(body.launch))
    snapshot = snapshots.get(database, body.snapshot_id)
    parent = model_versions.get(database, body.parent_id)
    with suppress(NotEnoughFeedback):  # which is one of the checks
        refuse(method, snapshot, parent)
    method = with_adapter_of(parent, method)
    scoring, fault = _scoring(database, method, parent, home)
    return Asked(
        method=method.name,
        settings=method.model_dump(),
        launch=launch.model_dump(),
        snapshot=_snapshot_json(snapshot),
        parent=asdict(as_parent(replace(parent, template=method.template_for(parent.template)))),
        template=parent.template,
        **scoring.as_json(),
        fault=fault,
        held_out=_held_out(database, method),
        unknown_licences=_unknown_licences(database, snapshot),
        earlier=[asdict(one) for one in earlier(database, method, parent, launch)],
        ray_address=read_home(home).ray_address,
        handed_over=shared_devices.had_by_others(database, launch),
    )


def _somewhere(launch: Launch) -> Launch:
    """Where it would run if nobody chooses: on the best device there is."""
    best = devices.devices()[0].name if launch.where == "local" else devices.CPU
    return launch if launch.device else launch.model_copy(update={"device": best})


def earlier(database: Database, method: Method, parent: ModelVersion, launch: Launch) -> list[Earlier]:
    """The newest runs that a step of this one should take as long as."""
    bases = {one.id: one.base_path for one in model_versions.list_all(database)}
    tuning = getattr(method, "tuning", None)
    alike = [
        run
        for run in runs.list_all(database)
        if (run.method, run.settings.get("tuning"), bases.get(run.parent_id)) == (method.name, tuning, parent.base_path)
        and _place(Launch.of(run.launch)) == _place(launch)
        and _scorer(run.settings) == _scorer(method.model_dump())
        and (Path(run.directory) / run_directory.OUTCOME).exists()
    ]
    return [Earlier(run.id, run.directory, run.settings) for run in alike[:EARLIER_RUNS]]


def _scorer(settings: Mapping[str, Any]) -> str:
    """Functions and judges take their own time; reward models much the same."""
    chosen = str(settings.get("reward_model", ""))
    return "" if is_version(chosen) else chosen


def _place(launch: Launch) -> tuple[str, str, int, str]:
    return launch.where, launch.device or "cpu", launch.processes, launch.sharding


def _scoring(database: Database, method: Method, parent: ModelVersion, home: Path) -> tuple[Scoring, str]:
    """What scores its answers; nothing, and why."""
    try:
        return scoring_for(database, method, parent, home), ""
    except BadInput as error:
        return Scoring(), str(error)


def _snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "path": str(Path(snapshot.path).resolve()),
        "fingerprint": snapshot.fingerprint,
        "rows": snapshot.rows,
        "counts": dict(snapshot.counts),
    }


def _held_out(database: Database, method: Method) -> list[str]:
    """Hashes of the texts that comparisons are made on."""
    if method.reads == "language_modeling":
        return documents.held_out_hashes(database)
    return prompts.held_out_hashes(database)


def _unknown_licences(database: Database, snapshot: Snapshot) -> int:
    if snapshot.dataset_type != "language_modeling":
        return 0
    return documents.unlicensed(database, snapshot.source_ids)
