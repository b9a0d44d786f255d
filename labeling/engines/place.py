"""The servers that answer for the versions at one place: one that Plumbline keeps, or several that somebody else does.

Where there are several, each request goes to the one with the fewest of our own requests in flight, and among those to
the one that was chosen longest ago. One that is dead, or serves another base, is passed over; one that did not answer
when it was looked at last is asked only where no other can be. That is all the balancing there is: vLLM's own ways to
scale out know what is in a server's batch and cache, and stand behind one address.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import count

from labeling.engines.client import EngineClient
from labeling.engines.server_with_adapters import ServedVersion, ServerState, ServerWithAdapters
from labeling.engines.usage import Used, used_together
from storage.errors import AppError, EngineUnavailable


class Place:
    """servers: by their address, or "" for one that Plumbline starts. pinned: version id → the only one that has it.

    devices: of this machine, that they use. found_no_gpu: others have them all, so it is to be made anew when one goes.
    """

    def __init__(
        self,
        servers: Mapping[str, ServerWithAdapters],
        pinned: Mapping[str, str],
        devices: Sequence[str] = (),
        found_no_gpu: bool = False,
    ) -> None:
        self.devices = tuple(devices)
        self.found_no_gpu = found_no_gpu
        self._servers = dict(servers)
        self._pinned = pinned
        self._turn = count(1)
        self._chosen = dict.fromkeys(servers, 0)  # the turn at which each was chosen last
        self._choosing = threading.Lock()

    def tend(self, versions: Sequence[ServedVersion]) -> None:
        for url, server in self._servers.items():
            server.tend_apart(self._at(url, versions))

    def make_room(self, why: str) -> bool:
        """Whether all of them have let go of their device."""
        rested = [server.make_room(why) for server in self._servers.values()]
        return all(rested)

    def stop(self) -> None:
        for server in self._servers.values():
            server.stop()

    def client_of(self, version: ServedVersion) -> tuple[EngineClient, str]:
        """The least loaded server's, and the name of the version there. Raises what `why_not` of a server says."""
        there = self._of(version)
        ready = {url: client for url, server in there.items() if (client := server.client_of(version))}
        if not ready:
            raise self._why_not(version)
        with self._choosing:
            least = min(ready, key=lambda url: (there[url].is_silent, ready[url].usage.in_flight, self._chosen[url]))
            self._chosen[least] = next(self._turn)
        return ready[least], there[least].name_of(version)

    def is_ready(self, version: ServedVersion) -> bool:
        return any(server.client_of(version) for server in self._of(version).values())

    def problem(self, version: ServedVersion) -> str | None:
        """Only where none of them serves it, or may be about to."""
        problems = [server.problem(version) for server in self._of(version).values()]
        return " ".join(dict.fromkeys(filter(None, problems))) if all(problems) else None

    def used(self, version: ServedVersion) -> Used:
        return used_together([found for server in self._of(version).values() if (found := server.counted(version))])

    def state(self, versions: Sequence[ServedVersion]) -> list[ServerState]:
        return [server.state(self._at(url, versions)) for url, server in self._servers.items()]

    def _why_not(self, version: ServedVersion) -> AppError:
        """What may pass comes before what will not."""
        reasons = [server.why_not(version) for server in self._of(version).values()]
        return next((reason for reason in reasons if isinstance(reason, EngineUnavailable)), reasons[0])

    def _of(self, version: ServedVersion) -> dict[str, ServerWithAdapters]:
        """The servers that have this version, or should."""
        return {url: server for url, server in self._servers.items() if self._has(url, version)}

    def _at(self, url: str, versions: Sequence[ServedVersion]) -> list[ServedVersion]:
        return [version for version in versions if self._has(url, version)]

    def _has(self, url: str, version: ServedVersion) -> bool:
        return self._pinned.get(version.id, url) == url
