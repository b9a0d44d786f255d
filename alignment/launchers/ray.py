"""Runs on a Ray cluster, through the REST API that its dashboard serves for jobs. No ray package is needed here.

The cluster must see this installation and the directory of the run under the same paths (one machine, or shared
storage). Then the directory is the truth as it is for a process here: whether the run trains, and how it ended, is read
from its lock and its outcome. Ray is asked only for what the directory cannot know: that the job lies in the line of
the cluster, or that it ended before it took its lock. What Ray said is kept in submission.json, for the page.
"""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from alignment import run_directory
from alignment.devices import CPU
from alignment.launchers.launch import Launch, command
from alignment.launchers.local import REPOSITORY
from alignment.run_directory import DirectoryState
from storage.errors import RunFailed

ASK_SECONDS = 2.0  # between two questions about the same run
AWAY_SECONDS = 10.0  # before a cluster that did not answer is asked again
TIMEOUT = 3.0
STOPPED_IN_LINE = "Stopped by request while it waited in the line of the cluster."
GIVEN_UP = "failed to start within"  # of RAY_JOB_START_TIMEOUT_SECONDS
SHORT = 80  # characters of an answer that was not expected
OVER = ("STOPPED", "FAILED", "SUCCEEDED")


@dataclass(frozen=True)
class Answer:
    """What Ray says of a job: PENDING, RUNNING, STOPPED, FAILED or SUCCEEDED; UNKNOWN where it knows of none."""

    status: str
    message: str


class ClusterAway(Exception):
    """The cluster did not answer; the message says so to the person at the screen."""


class RayLauncher:
    """Keeps nothing but its last question to each run, so that following many runs asks seldom."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._http = httpx.Client(base_url=self.address, timeout=TIMEOUT)
        self._answers: dict[str, tuple[float, Answer]] = {}
        self._away_until = 0.0
        self._why = ""

    def submit(self, directory: Path) -> None:
        """Idempotent: the name of the job follows from the run and its attempt, and Ray takes a name once.

        A cluster that does not answer leaves the run in line; raises RunFailed where Ray refuses it, or is not Ray.
        """
        job = job_name(directory)
        try:
            self._refuse_a_stranger()
            answer = self._call("POST", "/api/jobs/", json=_described(directory, job))
        except ClusterAway as away:
            _note(directory, self.address, job, str(away))
            return
        if answer.is_error and "already exists" not in answer.text:
            raise RunFailed(f"Ray at {self.address} refused the run: {_last_line(answer.text)}")
        self._answers.pop(job, None)
        _note(directory, self.address, job, f"Handed to the Ray cluster at {self.address}.")

    def status(self, directory: Path) -> DirectoryState:
        state = run_directory.state_of(directory)
        if state in ("ended", "training", "missing"):
            return state
        if run_directory.read_pid(directory) is not None:
            return run_directory.state_of(directory)  # it may have taken its lock since
        if run_directory.read_submission(directory) is None:
            return "prepared"
        return self._before_the_lock(directory, job_name(directory))

    def logs(self, directory: Path) -> str:
        """What the run printed; what Ray has to say of it where it printed nothing."""
        with suppress(FileNotFoundError):
            return (directory / run_directory.LOG).read_text(errors="replace")
        try:
            answer = self._call("GET", f"/api/jobs/{job_name(directory)}/logs")
        except ClusterAway as away:
            return str(away)
        return str(_said(answer).get("logs", ""))

    def stop(self, directory: Path) -> None:
        """By the file, which lets a run that trains keep a checkpoint; Ray's own stop is for one still in its line."""
        with suppress(FileNotFoundError, RunFailed):  # the directory is gone
            (directory / run_directory.STOP).touch()
            if run_directory.read_pid(directory) is None and run_directory.read_submission(directory):
                self._stop_in_line(directory, job_name(directory))

    def _refuse_a_stranger(self) -> None:
        """Before a shell command is sent to whatever listens there. Raises ClusterAway or RunFailed."""
        found = self._call("GET", "/api/version")
        if found.is_server_error:  # of a proxy before a dashboard that is still starting, for instance
            raise ClusterAway(f"Ray at {self.address} answered with an error: {_last_line(found.text)}")
        if "ray_version" not in _said(found):
            raise RunFailed(
                f"What answers at {self.address} is no Ray dashboard: asked for its version, it said "
                f"{_in_short(found)}. Put the address of the dashboard into settings.toml (ray_address) and run again, "
                "or run on this machine."
            )

    def _stop_in_line(self, directory: Path, job: str) -> None:
        """The outcome is written here, so that it holds too where the cluster is away and starts the job later."""
        self._answers.pop(job, None)
        with suppress(ClusterAway):
            if self._asked(job).status == "RUNNING":
                return  # it is about to take its lock, and will see the file
            self._call("POST", f"/api/jobs/{job}/stop")
        with suppress(run_directory.Locked):
            run_directory.end_before_it_begins(directory, STOPPED_IN_LINE)

    def _before_the_lock(self, directory: Path, job: str) -> DirectoryState:
        try:
            answer = self._asked(job)
        except ClusterAway as away:
            _note(directory, self.address, job, str(away))
            return "starting"
        _note(directory, self.address, job, _in_words(answer, self.address))
        if GIVEN_UP in answer.message:
            self._hand_back(job)
            return "prepared"
        if answer.status == "UNKNOWN":
            return "prepared"  # the cluster forgot it, or never got it: it is handed over again
        if answer.status not in OVER:
            return "starting"
        state = run_directory.state_of(directory)  # it may have locked, trained and ended while Ray was asked
        return state if state in ("ended", "training") else "killed"

    def _hand_back(self, job: str) -> None:
        """Ray takes a job out of its line after 15 minutes. Ours waits on: forgotten there, it is handed over again."""
        self._answers.pop(job, None)
        with suppress(ClusterAway):
            self._call("DELETE", f"/api/jobs/{job}")

    def _asked(self, job: str) -> Answer:
        """Ray's word on a job, at most a few seconds old. Raises ClusterAway."""
        when, answer = self._answers.get(job, (0.0, None))
        if answer and time.monotonic() - when < ASK_SECONDS:
            return answer
        found = self._call("GET", f"/api/jobs/{job}")
        said = _said(found)
        if found.status_code == 404:
            answer = Answer("UNKNOWN", "")
        elif found.is_error:
            raise ClusterAway(f"Ray at {self.address} answered with an error: {_last_line(found.text)}")
        elif "status" not in said:
            raise ClusterAway(
                f"What answers at {self.address} is no Ray dashboard any more: it said {_in_short(found)}."
            )
        else:
            answer = Answer(said["status"], said.get("message") or "")
        self._answers[job] = (time.monotonic(), answer)
        return answer

    def _call(self, verb: str, path: str, **given: Any) -> httpx.Response:
        """Raises ClusterAway, for a while without asking again: the thread that follows all runs waits for this."""
        if time.monotonic() > self._away_until:
            try:
                return self._http.request(verb, path, **given)
            except httpx.HTTPError as error:
                self._away_until = time.monotonic() + AWAY_SECONDS
                self._why = str(error) or type(error).__name__
        raise ClusterAway(
            f"The Ray cluster at {self.address} does not answer ({self._why}). It is asked again every "
            f"{AWAY_SECONDS:.0f} s; start it, or stop this run and start it on this machine."
        )


def job_name(directory: Path) -> str:
    """The run and its attempt, with a few letters that tell it from a run of the same name of another Plumbline."""
    described = run_directory.read_run(directory)
    letters = hashlib.sha256(f"{directory.resolve()} {described['created_at']}".encode()).hexdigest()[:8]
    return f"{described['id']}-{run_directory.attempt(directory)}-{letters}"


def _described(directory: Path, job: str) -> Mapping[str, Any]:
    """The job as Ray takes it: a shell command, and what it needs of the cluster before it may start."""
    launch = Launch.of(run_directory.read_run(directory)["launch"])
    needs = {"entrypoint_num_cpus": launch.processes}
    if launch.device != CPU:
        needs["entrypoint_num_gpus"] = launch.processes
    return {"entrypoint": _shell(launch, directory.resolve()), "submission_id": job, **needs}


def _shell(launch: Launch, directory: Path) -> str:
    """`exec`, so that the signals of Ray reach the run; its words go to its own log, as they do here."""
    environment = ["PYTHONUNBUFFERED=1", "OMP_NUM_THREADS=1"]
    environment += ["CUDA_VISIBLE_DEVICES="] if launch.device == CPU else []
    log = shlex.quote(str(directory / run_directory.LOG))
    return (
        f"cd {shlex.quote(str(REPOSITORY))} && {' '.join(environment)} "
        f"exec {shlex.join(command(launch, directory))} >> {log} 2>&1"
    )


def _in_words(answer: Answer, address: str) -> str:
    """For the page, while the directory itself has nothing to say."""
    return {
        "PENDING": f"In the line of the Ray cluster at {address}. {answer.message}",
        "RUNNING": f"Starting on the Ray cluster at {address}.",
        "UNKNOWN": f"The Ray cluster at {address} does not know this run (any more); it is handed over again.",
    }.get(answer.status, f"The Ray cluster at {address} ended the run before it began to train. {answer.message}")


def _note(directory: Path, address: str, job: str, sentence: str) -> None:
    """Written where it says something new."""
    known = run_directory.read_submission(directory)
    now = {"address": address, "job": job, "sentence": sentence}
    if known != now:
        run_directory.write_json(directory / run_directory.SUBMISSION, now)


def _said(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer; nothing where it is none."""
    try:
        said = answer.json()
    except ValueError:  # a page, for instance
        return {}
    return said if isinstance(said, dict) else {}


def _in_short(answer: httpx.Response) -> str:
    words = " ".join(answer.text.split())
    return f"{answer.status_code} {answer.reason_phrase}, {words[:SHORT]!r}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 1]
    return lines[-1] if lines else "(nothing was said)"
