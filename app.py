"""Plumbline: builds the app and runs it. The only place where both halves meet.

    python app.py [--model FOLDER_OR_HUB_ID] [--no-browser]

One process owns the database, serves the pages, and keeps two threads: one samples responses ahead of the labelers, the
other keeps what runs in step with what is stored (runs that ended become versions, served versions are loaded).
"""

from __future__ import annotations

import argparse
import errno
import inspect
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

# Before Gradio and huggingface_hub are imported: no call home, and no statistics over all past events at each event.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

_getfile = inspect.getfile


def _no_file_of_gradio(thing: object) -> str:
    if getattr(thing, "__module__", "").startswith("gradio."):
        raise OSError("Gradio writes a type stub for each of its 76 components at every import, unless it has no file")
    return _getfile(thing)  # type: ignore[arg-type]  # whatever inspect itself takes


inspect.getfile = _no_file_of_gradio  # type: ignore[assignment]  # saves half of a start's time
import gradio as gr

inspect.getfile = _getfile

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from alignment import models_page, run_queue, runs_page
from alignment.base_models import add_base, already_there, note_what_was_not_noted
from alignment.devices import gpus
from alignment.models_routes import models_router
from alignment.new_run_routes import new_run_router
from alignment.preflight_routes import preflight_router
from alignment.routes import runs_router
from labeling import compare_page, data_page, label_page, projects_page, quality_page
from labeling.answering import Answerers, endpoints_of
from labeling.assignment import Queue
from labeling.compare_routes import compare_router
from labeling.comparison import comparison_of, leaving, win_rate_of
from labeling.engines.choice import engines_of
from labeling.engines.endpoints import Endpoints
from labeling.engines.faithful import Trained, template_fingerprint
from labeling.engines.supervisor import Engines, ServedVersion
from labeling.feedback import feedback_type
from labeling.first_project import add_first_project
from labeling.guard import Guard
from labeling.identity import Identity, identity_router
from labeling.own_prompts import OwnPrompts
from labeling.prompt_length import too_long
from labeling.quality_routes import quality_router
from labeling.routes import label_router
from labeling.sampling import Sampler
from storage import model_versions, projects, settings
from storage.database import Database
from storage.errors import AppError
from storage.records import Message, ModelVersion, Role
from storage.settings import Settings

ASSETS = Path(__file__).parent / "assets"
STARTER = ASSETS / "starter_model"
UNREAD = "documents-only"  # the starter model's first stage
LARGEST_UPLOAD = "500mb"
ROLES: dict[str, Role] = {
    "/label": "labeler",
    "/compare": "labeler",
    "/data": "lead",
    "/projects": "lead",
    "/quality": "lead",
    "/runs": "engineer",
    "/models": "engineer",
}
_log = logging.getLogger("plumbline")


@dataclass(frozen=True)
class Services:
    """What the pages are given. Made once, in `running`."""

    settings: Settings
    database: Database
    engines: Engines
    endpoints: Endpoints
    queue: Queue
    sampler: Sampler
    identity: Identity
    own_prompts: OwnPrompts


def main() -> int:
    options = _options()
    try:
        chosen = settings.read()
        _say(f"Opening {chosen.database}")
        with _listening(chosen.port) as listener, running(chosen, options.model) as services:
            signal.signal(signal.SIGTERM, _leave)  # uvicorn hands the signal on to us when it has stopped
            server = uvicorn.Server(uvicorn.Config(build(services), log_level="warning", timeout_graceful_shutdown=3))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            _say(f"Ready at {url}  (Ctrl+C stops it)")
            if not options.no_browser and os.environ.get("DISPLAY"):
                webbrowser.open(url)
            server.run(sockets=[listener])
    except AppError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # Ctrl+C; everything is stopped by now
        return 0
    return 0


@contextmanager
def running(chosen: Settings, model: str = "") -> Iterator[Services]:
    """The services, started; stopped in the opposite order. Raises AppError for whatever a person can mend."""
    with ExitStack() as stack:
        database = Database.open(chosen.database)
        stack.callback(database.close)
        _first_start(database, model)
        endpoints = endpoints_of(database, chosen.endpoints.values())
        engines = stack.enter_context(engines_of(chosen, database, [gpu.name for gpu in gpus()]))
        queue = Queue(
            database,
            minimum_responses=lambda name: feedback_type(name).minimum_responses,
            why_waiting=lambda project: sampler.problem(project),
        )
        sampler = Sampler(database, queue, engines, endpoints=endpoints)
        identity = Identity(database, chosen)
        own_prompts = OwnPrompts(database, Answerers(engines, endpoints))
        services = Services(chosen, database, engines, endpoints, queue, sampler, identity, own_prompts)
        stack.enter_context(_kept_in_step(services))
        stack.enter_context(sampler.running())
        stack.callback(endpoints.close)  # first of all: whoever waits for another try is let go
        yield services


def build(services: Services) -> FastAPI:
    """The web app: our routes, our static files, and a Gradio page for each room."""
    app = FastAPI(title="Plumbline", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(identity_router(services.identity))
    app.add_exception_handler(AppError, _as_json)
    app.add_exception_handler(RequestValidationError, _as_invalid)
    app.mount("/ui", StaticFiles(directory=ASSETS), name="ui")

    @app.get("/")
    def home() -> RedirectResponse:
        return RedirectResponse("/label/", status_code=303)

    @app.get("/runs/new/")
    def new_run() -> RedirectResponse:
        return RedirectResponse("/runs/new", status_code=303)

    @app.get("/favicon.ico")
    def icon() -> FileResponse:
        return FileResponse(ASSETS / "favicon.svg", media_type="image/svg+xml")

    @app.get("/manifest.json")
    def manifest() -> FileResponse:
        return FileResponse(ASSETS / "manifest.json", media_type="application/manifest+json")

    os.environ["GRADIO_TEMP_DIR"] = str(services.settings.home / "uploads")  # read when a page is built
    heads = _mount_pages(app, services)
    app.add_middleware(CORSMiddleware, allow_origins=[])  # or Gradio's mounts add their own, which let every origin in
    app.add_middleware(Guard, person_of=services.identity.person_of, roles=ROLES, heads=heads)
    app.add_middleware(GZipMiddleware, minimum_size=1024)
    return app


# ---- the pages -------------------------------------------------------------------------------------------------------


def _mount_pages(app: FastAPI, services: Services) -> dict[str, str]:
    """Adds each page and its routes; returns what goes into the head of each."""
    database, home, identity = services.database, services.settings.home, services.identity
    person_of = identity.person_of
    app.include_router(label_router(services.queue, database, person_of))
    app.include_router(
        compare_router(
            database,
            person_of,
            lambda a, b, person: comparison_of(database, a, b),
            lambda a, b: leaving(database, a, b),
            services.own_prompts,
        )
    )
    app.include_router(quality_router(services.queue, database, person_of))
    app.include_router(data_page.data_router(database, person_of, lambda: _new_work(services)))
    app.include_router(preflight_router(database, person_of, home))  # its paths begin like those of one run
    app.include_router(runs_router(database, person_of))
    app.include_router(new_run_router(database, person_of, home))
    app.include_router(
        models_router(
            database,
            person_of,
            services.engines,
            lambda version, parent: win_rate_of(database, version, parent),
            lambda: serve_what_is_stored(services),
            services.endpoints.state,
        )
    )
    pages = {
        "/label": (label_page.build(), label_page),
        "/compare": (compare_page.build(), compare_page),
        "/data": (data_page.build(database, _fits(services), person_of, lambda: _new_work(services)), data_page),
        "/projects": (projects_page.build(database, person_of, lambda project: _new_work(services)), projects_page),
        "/quality": (quality_page.build(), quality_page),
        "/runs": (runs_page.runs_page(database, home, person_of), runs_page),
        "/models": (models_page.models_page(), models_page),
    }
    warnings.filterwarnings("ignore", "SSR mode is not supported")  # nobody asked for it
    for path, (page, _) in pages.items():
        gr.mount_gradio_app(
            app,
            page,
            path=path,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            show_error=False,
            allowed_paths=[],
            max_file_size=LARGEST_UPLOAD,
        )
    return {path: _head(module.SCRIPTS, module.STYLES) for path, (_, module) in pages.items()}


def _head(scripts: Sequence[str], styles: Sequence[str]) -> str:
    links = "".join(f'<link rel="stylesheet" href="/ui/{name}">' for name in ("plumbline.css", *styles))
    return links + "".join(f'<script src="/ui/{name}"></script>' for name in ("plumbline.js", *scripts))


def _fits(services: Services) -> Callable[[Sequence[Message]], str]:
    return lambda messages: too_long(services.database, services.engines, messages)


def _new_work(services: Services) -> None:
    """Prompts or projects changed: look at the tables again."""
    services.queue.forget()
    services.sampler.wake()


# ---- keeping in step -------------------------------------------------------------------------------------------------


@contextmanager
def _kept_in_step(services: Services) -> Iterator[None]:
    """Again and again: runs that ended become versions, and the servers serve what storage marks as served."""
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(0.5):
            try:
                keep_in_step(services)
            except Exception:  # a bug must not end the thread that everything waits for
                _log.exception("keeping in step failed")

    serve_what_is_stored(services)
    thread = threading.Thread(target=keep, name="keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)


def keep_in_step(services: Services) -> None:
    run_queue.follow(services.database, lambda version: serve_what_is_stored(services))


def serve_what_is_stored(services: Services) -> None:
    """Tells the model servers which versions storage marks as served, and the sampler to look again."""
    note_what_was_not_noted(services.database)
    noted = model_versions.made_with(services.database)
    served = model_versions.served(services.database)
    services.engines.serve([_to_serve(one, noted.get(one.id)) for one in served])
    services.sampler.wake()


def _to_serve(version: ModelVersion, made_with: model_versions.MadeWith | None) -> ServedVersion:
    trained, template = Trained.of(version, made_with), template_fingerprint(version.template)
    return ServedVersion(version.id, version.base_path, version.adapter_path, version.kind, trained, template)


def _first_start(database: Database, model: str) -> None:
    """A home gets the model it is started with and something to judge; what is there already stays as it is.

    Each step looks for itself, so a start that was cut short is made good by the next one.
    """
    there = model_versions.list_all(database)
    if model:
        first = already_there(database, model) or add_base(database, model)
    elif not there or there[0].id == UNREAD:
        first = _add_starter(database, {one.id: one for one in there})
    else:
        first = there[0]
    if not projects.list_all(database, "labeling"):
        add_first_project(database, first.id, STARTER / "prompts.jsonl")


def _add_starter(database: Database, there: Mapping[str, ModelVersion]) -> ModelVersion:
    """Both stages of the starter model; the one that answers is the newer and the served one."""
    if UNREAD not in there:
        note = "The starter model before it learned to answer: it has only read documents."
        add_base(database, str(STARTER / "base"), version_id=UNREAD, served=False, note=note)
    note = "The starter model, ready to answer."
    return there.get("base") or add_base(database, str(STARTER / "chat"), version_id="base", note=note)


# ---- small things ----------------------------------------------------------------------------------------------------


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Plumbline: from human preferences to a better model.")
    parser.add_argument("--model", default="", help="a model folder or a cached Hugging Face id to begin with")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    return parser.parse_args()


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """A loopback socket that is ours before anything else is started. Raises AppError for a port that is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)  # now, so that a second app that starts at the same moment is told
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise AppError(f"Port {port} cannot be opened ({error.strerror}). Choose another one.") from error
        raise AppError(
            f"Port {port} is taken: another Plumbline may be running (open http://127.0.0.1:{port}). "
            f"Stop it, or choose another port: make run PLUMBLINE_PORT={port + 1}"
        ) from error
    with listener:
        yield listener


def _leave(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the app as Ctrl+C does: in order, and with a clean exit."""
    raise KeyboardInterrupt


def _as_json(request: Request, error: Exception) -> JSONResponse:
    status = error.status if isinstance(error, AppError) else 500
    return JSONResponse({"error": str(error)}, status_code=status)


def _as_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
    return JSONResponse({"error": f"This request cannot be used: {found}. Nothing was stored."}, status_code=422)


def _say(text: str) -> None:
    print(f"[{time.process_time():4.1f} s] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
