"""Ask for responses ahead of the labelers, and keep the pool of unjudged work full, so that nobody waits for a model.

A thread looks at every project in turn. Where fewer than AHEAD items are ready, it samples the next prompts, several
requests at a time so that the server can mix them in one batch.

Where nobody answers, a project rests, longer each time, and other prompts are asked first then. A project that asks an
endpoint has a thread of its own, so that nobody else waits for its tries. An endpoint may be paid for each answer, so
it is asked only while everybody else who is to answer is there, and after them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from labeling.answering import Answerers, Answering, seed_for
from labeling.assignment import Queue
from labeling.engines.client import Completion
from labeling.engines.endpoints import Endpoints
from storage import model_versions, projects, prompts, responses
from storage.database import Database
from storage.errors import AppError, BadInput, EngineRefused, EngineUnavailable, NotAllowed, NotFound
from storage.records import ModelVersion, Project, Prompt, Response, Sampling, new_id

AHEAD = 24
PROMPTS_A_BATCH = 8
ENOUGH_TRIES = 3  # a prompt whose samples are all alike is drawn again this often, then left out
RESTS = (1.0, 16.0)  # seconds after nobody answered any prompt, doubled each further time, and the longest
RESTS_OF_ENDPOINTS = (15.0, 600.0)
WENT_WRONG = "Something unexpected went wrong while sampling; the log says what."
LAST_WORDS_SECONDS = 1.0  # that those who ask endpoints have when the app ends

_log = logging.getLogger(__name__)
Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Drawn:
    """What came of one prompt: the answers, or why it was refused, or why somebody was not there to answer it."""

    prompt: Prompt
    responses: list[Response] = field(default_factory=list)
    refusal: str = ""
    away: str = ""


class Sampler:
    """Fills the pools in the background; `problem` says what stops it."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        engines: Answering,
        ahead: int = AHEAD,
        endpoints: Endpoints | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._queue = queue
        self._answerers = Answerers(engines, endpoints or Endpoints())
        self._ahead = ahead
        self._clock = clock  # seconds, by which projects rest
        self._tries: dict[tuple[str, str], int] = {}  # (project id, prompt id) -> how often it was drawn in vain
        self._away: dict[str, set[str]] = {}  # project id -> ids of prompts that nobody was there to answer
        self._problems: dict[str, str] = {}
        self._rested: dict[str, float] = {}  # project id -> when it may be tried again
        self._rest: dict[str, float] = {}  # project id -> how long it was left alone last
        self._apart: dict[str, threading.Thread] = {}  # project id -> the thread that fills it
        self._wake = threading.Event()
        self._stop = threading.Event()

    def problem(self, project: Project) -> str:
        """Why this project's pool does not fill, in a sentence; empty while it does.

        What is confidential is not missed here: a project that asks outside was never going to ask it.
        """
        return self._problems.get(project.id, "") or self._left_out_sentence(project)

    def wake(self) -> None:
        """Look again now: prompts, a project or a version are new."""
        self._tries.clear()
        self._away.clear()
        self._rested.clear()
        self._rest.clear()
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
            until = time.monotonic() + LAST_WORDS_SECONDS
            for apart in list(self._apart.values()):  # one whose endpoint hangs is left behind
                apart.join(timeout=max(0.0, until - time.monotonic()))

    def fill(self) -> int:
        """One look at every project, each awaited; returns how many prompts were sampled."""
        return sum(self._try_to_fill(project) for project in projects.list_all(self._database))

    def _fill_side_by_side(self) -> int:
        """The same; a project that asks an endpoint is begun, and is counted by nobody."""
        endpoints = {one.id for one in model_versions.endpoints(self._database)}
        asking: list[Project] = []
        own: list[Project] = []
        for project in projects.list_all(self._database):
            (own if endpoints.isdisjoint(project.version_ids) else asking).append(project)
        for project in asking:
            self._begin_apart(project)
        return sum(self._try_to_fill(project) for project in own)

    def _begin_apart(self, project: Project) -> None:
        there = self._apart.get(project.id)
        if there is None or not there.is_alive():
            thread = threading.Thread(target=self._fill_apart, args=(project,), name="sampling", daemon=True)
            self._apart[project.id] = thread
            thread.start()

    def _fill_apart(self, project: Project) -> None:
        if self._try_to_fill(project):
            self._wake.set()  # there may be more to fill

    def _run(self, pause: float) -> None:
        while not self._stop.is_set():
            try:
                busy = self._fill_side_by_side() > 0
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
            self._problems[project.id] = WENT_WRONG
            return 0

    def _fill_project(self, project: Project) -> int:
        todo = self._todo(project)
        if not todo or self._clock() < self._rested.get(project.id, 0.0):
            return 0
        try:
            versions = self._all_there(project)
        except AppError as error:
            self._problems[project.id] = str(error)
            return 0
        self._problems.pop(project.id, None)
        return self._keep(project, each_in_a_thread(lambda prompt: self._sample(project, versions, prompt), todo))

    def _all_there(self, project: Project) -> list[ModelVersion]:
        """Whoever is to answer. Raises where one of them cannot: then nobody is asked."""
        versions = [model_versions.get(self._database, one) for one in project.version_ids]
        for version in versions:
            self._answerers.engine_of(version)
        return versions

    def _keep(self, project: Project, drawn: Sequence[Drawn]) -> int:
        """Stores what came and counts the tries; returns how many prompts were sampled.

        Where nobody was there to answer, it is not the prompt's fault: nothing is counted, and others come before it.
        Where that is so of all prompts, the project rests.
        """
        new = [response for one in drawn for response in one.responses]
        why = [sentence for one in drawn if (sentence := _why_none(one))]
        if why and not new:
            self._problems[project.id] = why[-1]
        if self._stop.is_set():  # the app ends, and its database with it
            return 0
        responses.add(self._database, new)
        self._queue.add_responses(project, new)
        answered = [one.prompt for one in drawn if not one.away]
        self._away.setdefault(project.id, set()).update(one.prompt.id for one in drawn if one.away)
        self._away[project.id].difference_update(prompt.id for prompt in answered)
        if not answered:
            self._leave_alone(project)
            return 0
        self._rest.pop(project.id, None)
        for prompt in answered:
            self._tries[project.id, prompt.id] = self._tried(project, prompt) + 1
        return len(drawn)

    def _leave_alone(self, project: Project) -> None:
        """For a while: an endpoint's bill or a busy server is not to grow by asking."""
        asks_endpoint = any(model_versions.get(self._database, one).is_endpoint for one in project.version_ids)
        first, longest = RESTS_OF_ENDPOINTS if asks_endpoint else RESTS
        rest = min(longest, 2 * self._rest.get(project.id, first / 2))
        self._rest[project.id], self._rested[project.id] = rest, self._clock() + rest

    def _todo(self, project: Project) -> list[Prompt]:
        left_out = self._left_out(project, self._queue.lacking(project))
        last = self._away.get(project.id, ())
        return self._queue.unsampled(project, self._ahead, leave_out=left_out, last=last)[:PROMPTS_A_BATCH]

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

    def _sample(self, project: Project, versions: Sequence[ModelVersion], prompt: Prompt) -> Drawn:
        """All versions' responses to one prompt, or none: what keeps one prompt from being answered stops no other.

        What is stored sets the seed, so that no answer is drawn twice, by whomever it is looked at again.
        """
        attempt = responses.count(self._database, project.id, prompt.id)
        endpoints_last = sorted(shares_of(project, versions), key=lambda share: share[0].is_endpoint)
        try:
            found = [
                response
                for version, count in endpoints_last
                for response in sample_version(self._answerers, project, version, prompt, count, attempt)
            ]
        except (EngineUnavailable, NotFound) as error:
            return Drawn(prompt, away=str(error))
        except (EngineRefused, BadInput, NotAllowed) as error:  # the engine, the chat template, or it is confidential
            return Drawn(prompt, refusal=str(error))
        except Exception:  # a bug that one prompt meets must not lose the answers to the others
            _log.exception("sampling prompt %s failed", prompt.id)
            return Drawn(prompt, away=WENT_WRONG)
        return Drawn(prompt, found)


def each_in_a_thread(work: Callable[[Given], Made], given: Sequence[Given]) -> list[Made]:
    """What comes of each, in order. Unlike those of an executor, these threads keep nobody from ending the app."""
    made: list[Future[Made]] = [Future() for _ in given]

    def run(one: Given, future: Future[Made]) -> None:
        try:
            future.set_result(work(one))
        except Exception as error:  # whoever waits for it raises it
            future.set_exception(error)

    for one, future in zip(given, made, strict=True):
        threading.Thread(target=run, args=(one, future), name="sampling", daemon=True).start()
    return [future.result() for future in made]


def _why_none(drawn: Drawn) -> str:
    return drawn.away or (f"A prompt was left out. {drawn.refusal}" if drawn.refusal else "")


def shares_of(project: Project, versions: Sequence[ModelVersion]) -> list[tuple[ModelVersion, int]]:
    """How many responses each version gives: one each in a comparison, else an even share of the project's number."""
    if project.purpose == "comparison":
        return [(version, 1) for version in versions]
    each, rest = divmod(project.responses_per_prompt, len(versions))
    shares = [(version, each + (place < rest)) for place, version in enumerate(versions)]
    return [(version, count) for version, count in shares if count]


def sample_version(
    answerers: Answerers, project: Project, version: ModelVersion, prompt: Prompt, count: int, attempt: int = 0
) -> list[Response]:
    """`count` responses of one version to one prompt. Raises what asking raises."""
    seed = seed_for(project, version, prompt, attempt)
    sampling, completions = answerers.answers(version, prompt, project.sampling_of(version.id), count, seed)
    return [response_of(project, version, prompt, sampling, completion) for completion in completions]


def kept_here_sentence(database: Database, project: Project) -> str:
    """How many prompts a project leaves out because they may not leave; empty where there are none."""
    count = prompts.kept_here(database, project)
    if not count:
        return ""
    are = "1 confidential prompt is" if count == 1 else f"{count:,} confidential prompts are"
    return f"{are} left out: what is confidential is never sent to an endpoint outside."


def prompts_are(count: int) -> str:
    return "1 prompt is" if count == 1 else f"{count} prompts are"


def response_of(
    project: Project, version: ModelVersion, prompt: Prompt, sampling: Sampling, completion: Completion
) -> Response:
    """Where the endpoint does not count tokens, nothing is noted."""
    return Response(
        id=new_id(),
        prompt_id=prompt.id,
        text=completion.text,
        version_id=version.id,
        author=version.id,
        sampling=sampling,
        seed=completion.seed,
        prompt_tokens=completion.prompt_tokens or None,
        completion_tokens=completion.completion_tokens or None,
        latency_seconds=completion.latency_seconds,
        finish_reason=completion.finish_reason,
        engine=completion.engine,
        project_id=project.id,
    )
