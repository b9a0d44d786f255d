"""The endpoints that the settings name: one client for each, and how each of them does.

Nobody asks an endpoint just to see whether it is there, since it may be paid for each answer: it does as its last
request went.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from labeling.engines.endpoint_client import EndpointClient, IsConfidential
from labeling.engines.usage import Used
from storage.endpoints import Endpoint
from storage.errors import EngineRefused, NotFound


@dataclass(frozen=True)
class EndpointState:
    """`problem` is why its last request came to nothing, in a sentence; empty where it did not."""

    version_id: str
    url: str
    problem: str
    used: Used


class Endpoints:
    """By the id under which an endpoint's answers are stored. May be used by many threads."""

    def __init__(
        self,
        named: Mapping[str, Endpoint] = MappingProxyType({}),
        is_confidential: IsConfidential = lambda messages: False,
    ) -> None:
        self._named = named
        self._is_confidential = is_confidential
        self._clients: dict[str, EndpointClient] = {}
        self._lock = threading.Lock()

    def client(self, version_id: str) -> EndpointClient:
        """Raises NotFound where the settings name it no more, EngineRefused where its key cannot be had."""
        if version_id not in self._named:
            raise NotFound(
                f"{version_id} is not in settings.toml any more. Put it back and start Plumbline again, or choose "
                "somebody else to answer."
            )
        with self._lock:
            if version_id not in self._clients:
                self._clients[version_id] = EndpointClient(self._named[version_id], self._is_confidential)
            return self._clients[version_id]

    def state(self) -> list[EndpointState]:
        return [self._state_of(version_id) for version_id in self._named]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _state_of(self, version_id: str) -> EndpointState:
        url = self._named[version_id].url
        try:
            client = self.client(version_id)
        except EngineRefused as error:
            return EndpointState(version_id, url, str(error), Used())
        return EndpointState(version_id, url, client.problem, client.used)
