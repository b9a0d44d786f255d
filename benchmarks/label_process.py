"""The label page with a real queue and a real database but no models, as a process that can be killed.

    python -m benchmarks.label_process FOLDER PORT [--lease SECONDS] [--pages] [--count-people]

Whoever sends the cookie person=NAME is that person. `--pages` adds the pages themselves, for a browser.
`--count-people` writes down, for each item handed out, how many people its prompt has at that moment.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from labeling.assignment import Item, Queue
from labeling.feedback import feedback_type
from labeling.routes import label_router
from storage import projects, prompts, responses
from storage.database import Database
from storage.errors import AppError
from storage.records import LATE, Message, Person, Project, Prompt, Response, Sampling, new_id, now

ROOT = Path(__file__).parents[1]
PROJECT = "labels"
FILE = "plumbline.duckdb"
PEOPLE = "people.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--lease", type=float, default=1800.0, help="seconds")
    parser.add_argument("--pages", action="store_true")
    parser.add_argument("--count-people", action="store_true")
    options = parser.parse_args()
    database = Database.open(options.folder / FILE)
    queue = (CountingQueue if options.count_people else Queue)(
        database,
        minimum_responses=lambda name: feedback_type(name).minimum_responses,
        lease=timedelta(seconds=options.lease),
    )
    app = with_pages(database, queue) if options.pages else routes_alone(database, queue)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", timeout_graceful_shutdown=3)
    database.close()


class CountingQueue(Queue):
    """Counts in the tables, not on the board that decides."""

    def take(self, project: Project, labeler: str, count: int, tab: str) -> list[Item]:
        with self._lock:  # nothing is handed out between the taking and the counting
            taken = super().take(project, labeler, count, tab)
            with (self._database.path.parent / PEOPLE).open("a") as file:
                file.writelines(f"{people_of(self._database, one.prompt.id)}\n" for one in taken)
        return taken


def people_of(database: Database, prompt_id: str) -> int:
    """How many hold this prompt under a lease that runs, or have judged it in time."""
    [row] = database.read(
        """
        SELECT count(DISTINCT labeler) AS people
        FROM (
            SELECT labeler FROM assignments
            WHERE prompt_id = $prompt AND state = 'open' AND leased_until > $now
            UNION ALL
            SELECT labeler FROM judgments WHERE prompt_id = $prompt AND NOT list_contains(flags, $late)
        )
        """,
        prompt=prompt_id,
        now=now(),
        late=LATE,
    )
    return int(row["people"])


def routes_alone(database: Database, queue: Queue) -> FastAPI:
    app = FastAPI()
    app.include_router(label_router(queue, database, person_of))
    app.add_exception_handler(AppError, _as_json)
    return app


def with_pages(database: Database, queue: Queue) -> FastAPI:
    from tests.labeling.judging_app import judging_app

    return judging_app(database, queue)


def person_of(request: Request) -> Person:
    return Person(request.cookies.get("person", "maria"), "labeler")


def _as_json(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=error.status if isinstance(error, AppError) else 500)


class LabelProcess:
    """Starts, kills and starts the process again, always at the same address. Use as a context manager."""

    def __init__(self, folder: Path, port: int, *arguments: str) -> None:
        self.folder, self.url = folder, f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "benchmarks.label_process", str(folder), str(port), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 300) -> None:
        """Returns once it answers."""
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env={**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
        )
        deadline = time.monotonic() + seconds
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise AssertionError("the label process did not start")
            time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> LabelProcess:
        self.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return (
                httpx.get(f"{self.url}/api/label/next", params={"tab": "none", "project": "no such"}).status_code == 404
            )
        return False


def fill(
    folder: Path, count: int, *, overlap: int = 1, answers: int = 2, versions: Sequence[str] = ("base",)
) -> Project:
    """A new database with one project: so many prompts, each with so many answers, shared by the versions."""
    database = Database.open(folder / FILE)
    asked = ("ranking", "Rank them.", "Be fair.", 1, tuple(versions), answers, Sampling())
    made = projects.save(database, Project(PROJECT, "Labels", "labeling", *asked, overlap=overlap))
    added = [Prompt(new_id(), _messages(number), False, "benchmark", "CC0") for number in range(count)]
    prompts.add(database, added)
    drawn = [_answer(one, number, versions[number % len(versions)]) for one in added for number in range(answers)]
    responses.add(database, drawn)
    database.close()
    return made


def _messages(number: int) -> tuple[Message, ...]:
    return (Message("user", f"Question {number}: how long does the vaccine keep once it is opened, and where?"),)


def _answer(asked: Prompt, number: int, version: str) -> Response:
    """About as long as a paragraph, and as much alike whoever wrote it."""
    text = (
        f"Of {asked.text} " + "Keep it between two and eight degrees, and note when it was opened. " * 6 + f"({number})"
    )
    return Response(new_id(), asked.id, text, version, version, project_id=PROJECT)


if __name__ == "__main__":
    main()
