"""What a model was asked, and how fast it answered, counted by the client: a server counts all of its models as one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median

from storage.errors import EngineUnavailable

_REMEMBERED = 200  # requests that speed and latency are taken from


@dataclass(frozen=True)
class Used:
    """`tokens_per_second` is over the time in which somebody waited for an answer whose tokens were counted."""

    requests: int = 0
    tokens: int = 0
    in_flight: int = 0
    tokens_per_second: float | None = None
    seconds_a_request: float | None = None  # the median


@dataclass(frozen=True)
class _Request:
    started: float
    ended: float
    tokens: int


@dataclass
class Asking:
    """One request under way."""

    tokens: int = 0


@dataclass
class _Counted:
    requests: int = 0
    tokens: int = 0
    in_flight: int = 0
    latest: deque[_Request] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


class Usage:
    """Of all models that one client asks. May be used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: dict[str, _Counted] = {}
        self._shut = ""  # why nobody may ask any more

    @contextmanager
    def asking(self, model: str) -> Iterator[Asking]:
        """A request, from asking to its last token. One that fails counts for nothing."""
        asking, started = Asking(), time.monotonic()
        with self.under_way(model):
            yield asking
            self._count(model, _Request(started, time.monotonic(), asking.tokens))

    @contextmanager
    def under_way(self, model: str) -> Iterator[None]:
        """What is waited for and counts for nothing else. Raises EngineUnavailable where the server makes room."""
        with self._lock:
            if self._shut:
                raise EngineUnavailable(self._shut)
            self._counted.setdefault(model, _Counted()).in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self._counted[model].in_flight -= 1

    def shut(self, why: str, at_once: bool = False) -> bool:
        """From now on nobody may ask; not before nothing is under way, unless `at_once`. Whether it is so now."""
        with self._lock:
            if at_once or not any(counted.in_flight for counted in self._counted.values()):
                self._shut = why
            return bool(self._shut)

    def open(self) -> None:
        with self._lock:
            self._shut = ""

    @property
    def in_flight(self) -> int:
        """Of all models together."""
        with self._lock:
            return sum(counted.in_flight for counted in self._counted.values())

    def of(self, model: str) -> Used:
        return used_together([(self, model)])

    def _copy(self, model: str) -> _Counted:
        with self._lock:
            counted = self._counted.get(model, _Counted())
            return replace(counted, latest=counted.latest.copy())

    def _count(self, model: str, request: _Request) -> None:
        with self._lock:
            counted = self._counted[model]
            counted.requests += 1
            counted.tokens += request.tokens
            counted.latest.append(request)


def used_together(counters: Sequence[tuple[Usage, str]]) -> Used:
    """One version on all of its servers: who counts its requests there, and under which name."""
    counted = [usage._copy(model) for usage, model in counters]
    latest = sorted((request for one in counted for request in one.latest), key=lambda request: request.started)
    used = Used(*(sum(getattr(one, total) for one in counted) for total in ("requests", "tokens", "in_flight")))
    if not latest:
        return used
    told = [request for request in latest if request.tokens]  # not every endpoint says how many
    speed = sum(request.tokens for request in told) / max(busy_seconds(told), 1e-9)
    seconds = median(request.ended - request.started for request in latest)
    return replace(used, tokens_per_second=speed, seconds_a_request=seconds)


def busy_seconds(requests: list[_Request]) -> float:
    """How long at least one of them was under way. They come in the order in which they started."""
    busy, until = 0.0, float("-inf")
    for request in requests:
        busy += max(0.0, request.ended - max(request.started, until))
        until = max(until, request.ended)
    return busy
