"""The pages on which people judge and where a lead says what they are asked, with everything under them and no models.

Answers are put in by hand.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from labeling import compare_page, label_page, projects_page
from labeling.answering import Answerers
from labeling.assignment import Queue
from labeling.compare_routes import compare_router
from labeling.comparison import comparison_of, leaving
from labeling.engines.client import EngineClient
from labeling.feedback import feedback_type
from labeling.guard import Guard
from labeling.own_prompts import OwnPrompts
from labeling.routes import label_router
from storage import model_versions, projects, prompts, responses
from storage.database import Database
from storage.errors import AppError, EngineUnavailable
from storage.records import Message, ModelVersion, Person, Project, Prompt, Sampling, new_id
from storage.records import Response as Answer

ASSETS = Path(__file__).parents[2] / "assets"
GUIDELINES = "Correct **first**."


def person_of(request: Request) -> Person:
    return Person(request.cookies.get("person", "maria"), "lead" if "lead" in request.cookies else "labeler")


def new_queue(database: Database, **given: Any) -> Queue:
    return Queue(database, minimum_responses=lambda name: feedback_type(name).minimum_responses, **given)


def add_versions(database: Database, *names: str) -> None:
    for name in names:
        parent = names[0] if name != names[0] else None
        model_versions.add(database, ModelVersion(name, "/model", None, parent, None, "{{ }}", name, 512))


def add_project(
    database: Database, name: str, kind: str = "ranking", answers: Sequence[Sequence[str]] = (), **fields: Any
) -> Project:
    """A labelling project whose prompts are "Question 0 of …", "Question 1 of …" with these answers."""
    asked = Project(name, name, "labeling", kind, "Rank them.", GUIDELINES, 1, ("base",), 6, Sampling(), (name,))
    project = projects.save(database, replace(asked, **fields))
    for number, texts in enumerate(answers):
        _add_prompt(database, project, _prompt(name, f"Question {number} of {name}"), [("base", one) for one in texts])
    return project


def add_comparison(database: Database, count: int) -> Project:
    """base against v1 on `count` held-out prompts; v1 always says "good"."""
    project = comparison_of(database, "base", "v1")
    texts = [("base", "Something bad and long."), ("v1", "Something good.")]
    for number in range(count):
        asked = replace(_prompt("held", f"Held-out question {number}"), held_out=True)
        _add_prompt(database, project, asked, texts)
    return project


def _add_prompt(database: Database, project: Project, asked: Prompt, texts: Sequence[tuple[str, str]]) -> None:
    prompts.add(database, [asked])
    responses.add(database, [Answer(new_id(), asked.id, text, who, who, project_id=project.id) for who, text in texts])


def _prompt(source: str, text: str) -> Prompt:
    return Prompt(new_id(), (Message("user", text),), False, source, "CC0")


class Nobody:
    """No model is served."""

    def client(self, version_id: str, /) -> tuple[EngineClient, str]:
        raise EngineUnavailable("The model server is being started.")


def judging_api(database: Database, queue: Queue, answerers: Answerers | None = None) -> FastAPI:
    """The routes alone: quick to build."""
    app = FastAPI()
    app.include_router(label_router(queue, database, person_of))
    app.include_router(
        compare_router(
            database,
            person_of,
            lambda a, b, person: comparison_of(database, a, b),
            lambda a, b: leaving(database, a, b),
            OwnPrompts(database, answerers or Answerers(Nobody())),
        )
    )
    app.add_exception_handler(AppError, _as_json)
    return app


def judging_app(database: Database, queue: Queue, answerers: Answerers | None = None) -> FastAPI:
    """The routes and the pages, behind the guard with its content security policy."""
    app = judging_api(database, queue, answerers)
    app.mount("/ui", StaticFiles(directory=ASSETS))
    app.add_api_route("/api/me", lambda: {"name": "maria", "role": "labeler"}, methods=["GET"])
    for path in ("/manifest.json", "/favicon.ico"):
        app.add_api_route(path, lambda: Response(status_code=204), methods=["GET"])
    made = projects_page.build(database, person_of, lambda project: queue.forget())
    pages = (("/label", label_page, label_page.build()), ("/compare", compare_page, compare_page.build()))
    heads = {}
    for path, module, page in (*pages, ("/projects", projects_page, made)):
        app = gr.mount_gradio_app(app, page, path=path, footer_links=[], run_history=False)
        heads[path] = _head(module.STYLES, module.SCRIPTS)
    app.add_middleware(Guard, person_of=person_of, roles={}, heads=heads)
    return app


def _head(styles: Sequence[str], scripts: Sequence[str]) -> str:
    links = "".join(f'<link rel="stylesheet" href="/ui/{name}">' for name in ("plumbline.css", *styles))
    return links + "".join(f'<script src="/ui/{name}"></script>' for name in ("plumbline.js", *scripts))


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address at which the app answers, from a thread of this process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # who comes before the server has started waits for it
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=10)


def _as_json(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=error.status if isinstance(error, AppError) else 500)
