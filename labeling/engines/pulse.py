"""How a server is doing, from what it says of itself every few seconds.

That a server answers /health says little: one that hangs may do so for ever. What counts is whether tokens come while
somebody waits for them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from labeling.engines.client import Load

WINDOW_SECONDS = 20.0  # speed is that of the latest
SILENT_SECONDS = 30.0  # without a token while requests are running: it hangs


@dataclass(frozen=True)
class _Beat:
    at: float
    load: Load


class Pulse:
    """The latest figures of one server, from its start on."""

    def __init__(self) -> None:
        self._beats: deque[_Beat] = deque()
        self._moved_at: float | None = None  # when tokens came last, or nobody waited for any

    @property
    def load(self) -> Load:
        return self._beats[-1].load if self._beats else Load()

    def feel(self, load: Load, now: float) -> None:
        idle = load.running == 0 and load.waiting == 0
        if self._moved_at is None or idle or load.tokens_generated > self.load.tokens_generated:
            self._moved_at = now
        self._beats.append(_Beat(now, load))
        while self._beats[0].at < now - WINDOW_SECONDS:
            self._beats.popleft()

    @property
    def tokens_per_second(self) -> float:
        """Over the window; pauses count."""
        if len(self._beats) < 2:
            return 0.0
        first, last = self._beats[0], self._beats[-1]
        return (last.load.tokens_generated - first.load.tokens_generated) / (last.at - first.at)

    @property
    def silent_seconds(self) -> float:
        """How long requests have been running without a token."""
        return self._beats[-1].at - self._moved_at if self._beats and self._moved_at is not None else 0.0

    @property
    def hangs(self) -> bool:
        return self.silent_seconds >= SILENT_SECONDS
