"""What a model was asked, and how fast it answered, counted by the client: a server counts all of its models as one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

_REMEMBERED = 200  # requests that speed and latency are taken from


@dataclass(frozen=True)
class Used:
    """`tokens_per_second` counts only the time in which somebody waited for an answer."""

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

    @contextmanager
    def asking(self, model: str) -> Iterator[Asking]:
        """A request, from asking to its last token. One that fails counts for nothing."""
        asking, started = Asking(), time.monotonic()
        with self._lock:
            self._counted.setdefault(model, _Counted()).in_flight += 1
        try:
            yield asking
            self._count(model, _Request(started, time.monotonic(), asking.tokens))
        finally:
            with self._lock:
                self._counted[model].in_flight -= 1

    def of(self, model: str) -> Used:
        with self._lock:
            counted = self._counted.get(model, _Counted())
            latest = sorted(counted.latest, key=lambda request: request.started)
            totals = (counted.requests, counted.tokens, counted.in_flight)
        if not latest:
            return Used(*totals)
        speed = sum(request.tokens for request in latest) / max(busy_seconds(latest), 1e-9)
        return Used(*totals, speed, median(request.ended - request.started for request in latest))

    def _count(self, model: str, request: _Request) -> None:
        with self._lock:
            counted = self._counted[model]
            counted.requests += 1
            counted.tokens += request.tokens
            counted.latest.append(request)


def busy_seconds(requests: list[_Request]) -> float:
    """How long at least one of them was under way. They come in the order in which they started."""
    busy, until = 0.0, float("-inf")
    for request in requests:
        busy += max(0.0, request.ended - max(request.started, until))
        until = max(until, request.ended)
    return busy
