"""Ask for responses ahead of the labelers, and keep the pool of unjudged work full, so that nobody waits for a model.

A thread looks at every project in turn. Where fewer than AHEAD items are ready, it samples the next prompts, several
requests at a time so that the server can mix them in one batch. A project whose endpoint does not answer is left alone
for a while, so that the others need not wait for its tries again and again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from labeling.answering import Answerers, Answering, seed_for
from labeling.assignment import Queue
from labeling.engines.client import Completion
from labeling.engines.endpoint_client import Endpoints
from storage import model_versions, projects, prompts, responses
from storage.database import Database
from storage.errors import AppError, BadInput, EngineRefused, NotAllowed
from storage.records import ModelVersion, Project, Prompt, Response, Sampling, new_id

AHEAD = 24
PROMPTS_A_BATCH = 8
ENOUGH_TRIES = 3  # a prompt whose samples are all alike is drawn again this often, then left out
REST_SECONDS = 15.0  # after an endpoint did not answer, however often it was asked

_log = logging.getLogger(__name__)


class Sampler:
    """Fills the pools in the background; `problem` says what stops it."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        engines: Answering,
        ahead: int = AHEAD,
        endpoints: Endpoints | None = None,
    ) -> None:
        self._database = database
        self._queue = queue
        self._answerers = Answerers(engines, endpoints or Endpoints())
        self._ahead = ahead
        self._tries: dict[tuple[str, str], int] = {}  # (project id, prompt id) -> how often it was drawn in vain
        self._problems: dict[str, str] = {}
        self._rested: dict[str, float] = {}  # project id -> when it may be tried again
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(PROMPTS_A_BATCH, thread_name_prefix="sampling")

    def problem(self, project: Project) -> str:
        """Why this project's pool does not fill, in a sentence; empty while it does."""
        found = self._problems.get(project.id, "") or self._left_out_sentence(project)
        return " ".join(filter(None, (found, kept_here_sentence(self._database, project))))

    def wake(self) -> None:
        """Look again now: prompts, a project or a version are new."""
        self._tries.clear()
        self._rested.clear()
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
        if not todo or time.monotonic() < self._rested.get(project.id, 0.0):
            return 0
        versions = []
        try:
            versions = [model_versions.get(self._database, one) for one in project.version_ids]
            self._problems.pop(project.id, None)
            drawn = list(self._pool.map(lambda prompt: self._sample(project, versions, prompt), todo))
        except AppError as error:
            self._problems[project.id] = str(error)
            if any(version.is_endpoint for version in versions):
                self._rested[project.id] = time.monotonic() + REST_SECONDS
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
                for response in sample_version(self._answerers, project, version, prompt, count, attempt)
            ]
        except (EngineRefused, BadInput, NotAllowed) as error:  # the engine, the chat template, or it is confidential
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
