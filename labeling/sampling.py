"""Ask the engine for responses, and keep the pool of unjudged work full, so that nobody waits for a model.

A thread looks at every project in turn. Where fewer than AHEAD items are ready, it samples the next prompts, several
requests at a time so that the server can mix them in one batch. A seed is derived from the text of the prompt and the
names of project and version, never from an id made at random, so another home with the same prompts and versions draws
the same pool, and no two versions share their noise.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from labeling.assignment import Queue, prompts_are
from labeling.engines.client import Completion, EngineClient
from labeling.engines.template import read_template, render
from storage import model_versions, projects, prompts, responses
from storage.database import Database
from storage.errors import AppError, BadInput, EngineRefused
from storage.records import ModelVersion, Project, Prompt, Response, Sampling, new_id

AHEAD = 24
PROMPTS_A_BATCH = 8
ENOUGH_TRIES = 3  # a prompt whose samples are all alike is drawn again this often, then left out
ROOM_FOR_AN_ANSWER = 64  # tokens; a prompt that leaves less of the context is too long
MARGIN_BYTES = 64  # beginning-of-text and the like

_log = logging.getLogger(__name__)


class Answering(Protocol):
    """What sampling needs of the engines: a client and the model's name there for a version."""

    def client(self, version_id: str, /) -> tuple[EngineClient, str]: ...


class Sampler:
    """Fills the pools in the background; `problem` says what stops it."""

    def __init__(self, database: Database, queue: Queue, engines: Answering, ahead: int = AHEAD) -> None:
        self._database = database
        self._queue = queue
        self._engines = engines
        self._ahead = ahead
        self._tries: dict[tuple[str, str], int] = {}  # (project id, prompt id) -> how often it was drawn in vain
        self._problems: dict[str, str] = {}
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(PROMPTS_A_BATCH, thread_name_prefix="sampling")

    def problem(self, project: Project) -> str:
        """Why this project's pool does not fill, in a sentence; empty while it does."""
        return self._problems.get(project.id, "") or self._left_out_sentence(project)

    def wake(self) -> None:
        """Look again now: prompts, a project or a version are new."""
        self._tries.clear()
        self._wake.set()

    @contextmanager
    def running(self, pause: float = 1.0) -> Iterator[None]:
        """Fills the pools in a thread of its own until the block ends."""
        thread = threading.Thread(target=self._run, args=(pause,), name="sampler", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._wake.set()
            thread.join(timeout=10)
            self._pool.shutdown(wait=False, cancel_futures=True)

    def fill(self) -> int:
        """One look at every project; returns how many prompts were sampled."""
        return sum(self._try_to_fill(project) for project in projects.list_all(self._database))

    def _run(self, pause: float) -> None:
        while not self._stop.is_set():
            try:
                busy = self.fill() > 0
            except Exception:  # a bug must not end the thread that everybody waits for
                _log.exception("sampling failed")
                busy = False
            if not busy:
                self._wake.wait(pause)
                self._wake.clear()

    def _try_to_fill(self, project: Project) -> int:
        try:
            return self._fill_project(project)
        except Exception:  # a bug in one project must not starve those after it
            _log.exception("sampling for project %s failed", project.id)
            self._problems[project.id] = "Something unexpected went wrong while sampling; the log says what."
            return 0

    def _fill_project(self, project: Project) -> int:
        todo = self._todo(project)
        if not todo:
            return 0
        try:
            versions = [model_versions.get(self._database, one) for one in project.version_ids]
            self._problems.pop(project.id, None)
            drawn = list(self._pool.map(lambda prompt: self._sample(project, versions, prompt), todo))
        except AppError as error:
            self._problems[project.id] = str(error)
            return 0
        new = [response for of_prompt in drawn for response in of_prompt]
        responses.add(self._database, new)
        self._queue.add_responses(project, new)
        for prompt in todo:
            self._tries[project.id, prompt.id] = self._tried(project, prompt) + 1
        return len(todo)

    def _todo(self, project: Project) -> list[Prompt]:
        left_out = self._left_out(project, self._queue.lacking(project))
        return self._queue.unsampled(project, self._ahead, leave_out=left_out)[:PROMPTS_A_BATCH]

    def _left_out(self, project: Project, lacking: Sequence[Prompt]) -> set[str]:
        """The ids of those prompts that are not drawn any more."""
        return {one.id for one in lacking if self._tried(project, one) >= ENOUGH_TRIES}

    def _left_out_sentence(self, project: Project) -> str:
        """For a project where nothing but prompts that are left out lacks answers; empty otherwise."""
        lacking = self._queue.lacking(project)
        count = len(self._left_out(project, lacking))
        if not count or count < len(lacking):
            return ""
        return f"{prompts_are(count)} left out: the answers are all alike, or the model refuses to give any."

    def _tried(self, project: Project, prompt: Prompt) -> int:
        return self._tries.get((project.id, prompt.id), 0)

    def _sample(self, project: Project, versions: Sequence[ModelVersion], prompt: Prompt) -> list[Response]:
        """All versions' responses to one prompt; none where it is refused, which stops no other."""
        attempt = self._tried(project, prompt)
        try:
            return [
                response
                for version, count in shares_of(project, versions)
                for response in sample_version(self._engines, project, version, prompt, count, attempt)
            ]
        except (EngineRefused, BadInput) as error:  # the engine, or the chat template
            self._problems[project.id] = f"A prompt was left out. {error}"
            return []


def shares_of(project: Project, versions: Sequence[ModelVersion]) -> list[tuple[ModelVersion, int]]:
    """How many responses each version gives: one each in a comparison, else an even share of the project's number."""
    if project.purpose == "comparison":
        return [(version, 1) for version in versions]
    each, rest = divmod(project.responses_per_prompt, len(versions))
    shares = [(version, each + (place < rest)) for place, version in enumerate(versions)]
    return [(version, count) for version, count in shares if count]


def sample_version(
    engines: Answering, project: Project, version: ModelVersion, prompt: Prompt, count: int, attempt: int = 0
) -> list[Response]:
    """`count` responses of one version to one prompt, shorter where the context leaves less than the project allows.

    Raises EngineUnavailable, EngineRefused, and BadInput where the chat template refuses the prompt.
    """
    client, name = engines.client(version.id)
    text = rendered(version, prompt)
    sampling = _within_context(engines, version, text, project.sampling)
    completions = client.complete(
        name,
        text,
        n=count,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=seed_of(project.name, prompts.text_hash(prompt.messages), version.id, attempt),
    )
    engine = client.server_name()
    return [_response(project, version, prompt, sampling, completion, engine) for completion in completions]


def rendered(version: ModelVersion, prompt: Prompt) -> str:
    """The prompt as this version was trained to read it."""
    bos, eos = _special_tokens(version.base_path)
    messages = [message.as_dict() for message in prompt.messages]
    return render(version.template, messages, add_generation_prompt=True, bos_token=bos, eos_token=eos)


def room_left(engines: Answering, version: ModelVersion, text: str, wanted: int) -> int:
    """How many tokens of the context a rendered prompt leaves; a lower bound where that is known to be enough.

    A byte-level tokenizer never makes more tokens than there are bytes, so for most prompts nobody has to be asked;
    the model server counts the tokens of the others. Raises EngineUnavailable.
    """
    room = version.context_length - len(text.encode()) - MARGIN_BYTES
    if room >= wanted:
        return room
    client, name = engines.client(version.id)
    return version.context_length - len(client.tokenize(name, text))


def seed_of(*parts: object) -> int:
    """A 31-bit seed from whatever names the sample."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1


@lru_cache
def _special_tokens(base_path: str) -> tuple[str, str]:
    _, bos, eos = read_template(Path(base_path))
    return bos, eos


def _within_context(engines: Answering, version: ModelVersion, text: str, sampling: Sampling) -> Sampling:
    """The sampling with no more tokens than fit; below ROOM_FOR_AN_ANSWER the engine may refuse."""
    room = max(ROOM_FOR_AN_ANSWER, room_left(engines, version, text, sampling.max_tokens))
    return replace(sampling, max_tokens=min(sampling.max_tokens, room))


def _response(
    project: Project, version: ModelVersion, prompt: Prompt, sampling: Sampling, completion: Completion, engine: str
) -> Response:
    return Response(
        id=new_id(),
        prompt_id=prompt.id,
        text=completion.text,
        version_id=version.id,
        author=version.id,
        sampling=sampling,
        seed=completion.seed,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        latency_seconds=completion.latency_seconds,
        finish_reason=completion.finish_reason,
        engine=engine,
        project_id=project.id,
    )
