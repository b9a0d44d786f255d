"""The thread that owns the weights.

Requests put rows in a queue; between two steps rows join the running batch, finished ones and those whose client has
gone leave it, and adapters are loaded and deleted. So one thread touches the weights, and nothing else needs a lock on
them.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from labeling.engines.embedded_adapters import BASE
from labeling.engines.embedded_model import Batch, EmbeddedModel, Row, Sampling
from labeling.engines.text_stream import TextStream

MAX_ROWS = 64
MAX_READING = 8192  # prompt tokens, padding included, read in one step: bounds memory, and how long others wait

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Piece:
    """What sample `index` has newly said; the last piece says why it ended. logprobs: a token each, where asked for."""

    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None
    logprobs: list[float] = field(default_factory=list)


Deliver = Callable[[Piece | Exception], None]


@dataclass(frozen=True)
class Order:
    """One request: n samples of one prompt by one version."""

    model: str
    prompt: Sequence[int]
    samplings: Sequence[Sampling]
    stop: Sequence[str]
    stream: bool
    ignore_eos: bool
    deliver: Deliver  # called on the scheduler's thread


class Answer(Row):
    """A row together with where its pieces go."""

    def __init__(self, order: Order, index: int, version: str, model: EmbeddedModel) -> None:
        super().__init__(order.prompt, version, order.samplings[index])
        self.order = order
        self.index = index
        self.cancelled = False
        self._text = TextStream(model.decode, order.prompt, order.stop)
        self._eos_ids = frozenset() if order.ignore_eos else model.eos_ids
        self._told = 0  # tokens delivered so far
        self._untold_text = ""
        self._watched = order.stream or bool(order.stop)

    def tell(self) -> bool:
        """Deliver what the newest token adds. True when this was the last."""
        reason = self._finish_reason()
        if reason is None and not self._watched:
            return False
        self._untold_text += self._text.push(self._unread(skip_last=reason == "stop"))
        if reason is not None:
            self._untold_text += self._text.finish()
        if self._text.stopped:
            reason = "stop"
        if reason is not None or self.order.stream:
            self._deliver(reason)
        return reason is not None

    def _finish_reason(self) -> str | None:
        if self.token_ids[-1] in self._eos_ids:
            return "stop"
        return "length" if len(self.token_ids) >= self.sampling.max_tokens else None

    def _unread(self, skip_last: bool) -> list[int]:
        """Tokens not yet in the text; the token that ends an answer never is."""
        new = self.token_ids[-1:] if self._watched else list(self.token_ids)
        return new[:-1] if skip_last else new

    def _deliver(self, reason: str | None) -> None:
        new = slice(self._told, None)
        self.order.deliver(Piece(self.index, self._untold_text, self.token_ids[new], reason, self.logprobs[new]))
        self._told, self._untold_text = len(self.token_ids), ""


class UnknownModel(Exception):
    """No version of that name is served."""


class Scheduler:
    """Answers orders and manages adapters. All public methods may be called from any thread."""

    def __init__(self, model: EmbeddedModel) -> None:
        self.tokens_generated = 0
        self._model = model
        self._batch = Batch(model)
        self._waiting: deque[Answer] = deque()
        self._entering: list[Answer] = []
        self._calls: deque[tuple[Future[None], Callable[[], None]]] = deque()
        self._adapters: dict[str, str] = {}  # served name → name on the base
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="weights", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def running(self) -> int:
        return len(self._batch.rows)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, order: Order, is_base: bool) -> list[Answer]:
        """The rows that will answer, for `cancel`. Raises UnknownModel."""
        with self._changed:
            version = BASE if is_base else self._adapters.get(order.model)
            if version is None:
                raise UnknownModel(order.model)
            answers = [Answer(order, index, version, self._model) for index in range(len(order.samplings))]
            self._waiting.extend(answers)
            self._changed.notify()
        return answers

    def cancel(self, answers: Sequence[Answer]) -> None:
        """These rows leave before the next step."""
        with self._changed:
            for answer in answers:
                answer.cancelled = True
            self._waiting = deque(answer for answer in self._waiting if not answer.cancelled)
            self._changed.notify()

    def load(self, name: str, folder: Path) -> Future[None]:
        """Fails with AdapterRefused."""

        def load() -> None:
            self._adapters[name] = self._model.adapters.load(folder)

        return self._between_steps(load)

    def unload(self, name: str) -> Future[None]:
        """Rows that are being answered finish with the old weights; they are deleted after the last of them."""

        def unload() -> None:
            with self._changed:
                self._adapters.pop(name, None)

        return self._between_steps(unload)

    def _between_steps(self, call: Callable[[], None]) -> Future[None]:
        done: Future[None] = Future()
        with self._changed:
            self._calls.append((done, call))
            self._changed.notify()
        return done

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._batch.rows or self._waiting or self._calls)
            self._make_calls()
            with self._failing_rows():
                self._batch.keep([i for i, row in enumerate(self._answers()) if not row.cancelled])
                self._delete_unused()
                self._advance()

    def _advance(self) -> None:
        """Newcomers say their first token, or everybody says one more."""
        self._entering = self._newcomers()
        if self._entering:
            self._batch.join(self._entering)
        elif self._batch.rows:
            self._batch.step()
        spoke = self._entering or self._answers()
        self.tokens_generated += len(spoke)
        finished = {answer for answer in spoke if answer.tell()}
        self._batch.keep([i for i, row in enumerate(self._answers()) if row not in finished])

    def _newcomers(self) -> list[Answer]:
        """The next rows in the queue that there is room for."""
        newcomers: list[Answer] = []
        longest = 0
        with self._changed:
            while self._waiting and len(self._batch.rows) + len(newcomers) < MAX_ROWS:
                longest = max(longest, len(self._waiting[0].prompt))
                if newcomers and longest * (len(newcomers) + 1) > MAX_READING:
                    break
                newcomers.append(self._waiting.popleft())
        return newcomers

    def _delete_unused(self) -> None:
        with self._changed:
            rows = [*self._answers(), *self._waiting]
            used = {row.version for row in rows} | set(self._adapters.values())
        for name in self._model.adapters.names() - used:
            self._model.adapters.delete(name)

    def _make_calls(self) -> None:
        while self._calls:
            done, call = self._calls.popleft()
            try:
                call()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    @contextmanager
    def _failing_rows(self) -> Iterator[None]:
        """A step that fails (out of memory, say) fails the rows in it; the server goes on with the next ones."""
        try:
            yield
        except Exception as error:
            log.exception("a step failed")
            for answer in {*self._answers(), *self._entering}:
                answer.order.deliver(error)
            self._batch = Batch(self._model)

    def _answers(self) -> list[Answer]:
        return [row for row in self._batch.rows if isinstance(row, Answer)]
