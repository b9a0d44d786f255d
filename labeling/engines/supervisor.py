"""Brings the running model servers to what is wanted, and keeps them there.

The web process says which versions should answer (`serve`) and asks for a client of one of them; one keeper thread does
the rest: a server for each base in use and one for each reward model, the adapters loaded and unloaded, a dead server
started again and its adapters put back. The keeper starts every child itself, because a child dies with the thread that
started it.

A version that cannot be served is reported in `problems` and disturbs no other.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType

from labeling.engines.client import EngineClient
from labeling.engines.model_folder import check_model_folder
from labeling.engines.model_server import BASE_NAME, Command, ModelServer, Status, embedded_command, reward_command
from storage.errors import AppError, EngineRefused, EngineUnavailable, ModelNotLoadable, NotFound

__all__ = ["Engines", "ModelServer", "ServedVersion", "ServerState", "check_model_folder"]

TICK_SECONDS = 0.2
TRY_AGAIN_SECONDS = 30.0  # after an adapter was refused: its folder may have been mended

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedVersion:
    """A model version that should answer. A version is immutable: other weights have another id."""

    id: str
    base_path: str
    adapter_path: str | None
    kind: str = "policy"

    @property
    def place(self) -> str:
        """Versions at one place share a server: all policies of a base do; a reward model is alone."""
        return (
            self.base_path if self.kind == "policy" else f"{self.base_path} scored by {self.adapter_path or 'itself'}"
        )

    @property
    def is_adapter_on_shared_base(self) -> bool:
        return self.kind == "policy" and self.adapter_path is not None


@dataclass(frozen=True)
class ServerState:
    """One server, for a page."""

    base_path: str
    url: str | None
    pid: int | None
    status: Status
    detail: str
    versions: tuple[str, ...]
    tokens_generated: int


class Engines:
    """All model servers of the app. Every method may be called from any thread, and none waits but `wait_ready`."""

    def __init__(self, log_folder: Path, command: Command = embedded_command) -> None:
        self._log_folder = log_folder
        self._command = command
        self._wanted: tuple[ServedVersion, ...] = ()
        self._servers: dict[str, _ServerWithAdapters] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._keeper = threading.Thread(target=self._keep, name="model-servers", daemon=True)
        self._keeper.start()

    def serve(self, versions: Sequence[ServedVersion]) -> None:
        """From now on these versions should answer, and no others."""
        with self._changed:
            self._wanted = tuple(versions)
            self._changed.notify_all()

    @property
    def problems(self) -> Mapping[str, str]:
        """Version id → why it is not served, in a sentence. A server that is starting, or starting again, is none."""
        found: dict[str, str] = {}
        for version in self._wanted:
            server = self._servers.get(version.place)
            if problem := server and server.problem(version):
                found[version.id] = problem
        return MappingProxyType(found)

    def ready(self, version_id: str) -> bool:
        try:
            self.client(version_id)
        except AppError:
            return False
        return True

    def client(self, version_id: str) -> tuple[EngineClient, str]:
        """The client to ask, and the name under which it knows this version.

        Raises NotFound when nobody wants it served, ModelNotLoadable when it was refused, EngineUnavailable while it is
        not there yet.
        """
        version = next((version for version in self._wanted if version.id == version_id), None)
        if version is None:
            raise NotFound(f"Version {version_id} is not served. Switch it on at the models page.")
        server = self._servers.get(version.place)
        client = server.client_of(version) if server else None
        if client is None:
            raise (server.why_not(version) if server else EngineUnavailable("The model server is being started."))
        return client, version.id if version.is_adapter_on_shared_base else BASE_NAME

    def state(self) -> list[ServerState]:
        """The servers, in the order of their versions."""
        return [server.state(self._at(place)) for place, server in list(self._servers.items())]

    def wait_ready(self, *version_ids: str, timeout: float = 120.0) -> None:
        """Until all these versions answer. Raises what `client` raises when one cannot, or not in time."""
        deadline = time.monotonic() + timeout
        for version_id in version_ids:
            while not self.ready(version_id):
                if time.monotonic() > deadline or version_id in self.problems:
                    self.client(version_id)
                time.sleep(0.05)

    def stop(self) -> None:
        """End all servers."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._keeper.join()

    def __enter__(self) -> Engines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _at(self, place: str) -> tuple[ServedVersion, ...]:
        return tuple(version for version in self._wanted if version.place == place)

    def _keep(self) -> None:
        while not self._stopping:
            try:
                self._tend()
            except Exception:  # a bug must not end the keeper: the servers would die with it
                log.exception("tending the model servers failed")
            with self._changed:
                if not self._stopping:
                    self._changed.wait(TICK_SECONDS)
        for server in self._servers.values():
            server.stop()

    def _tend(self) -> None:
        wanted = {version.place: version for version in self._wanted}
        for place in [place for place in self._servers if place not in wanted]:
            self._servers[place].stop()
            del self._servers[place]
        for place, version in wanted.items():
            if place not in self._servers:
                self._servers[place] = _ServerWithAdapters(self._server_for(version))
            self._servers[place].tend(self._at(place))

    def _server_for(self, version: ServedVersion) -> ModelServer:
        command = self._command if version.kind == "policy" else reward_command(version.adapter_path)
        return ModelServer(version.base_path, self._log_path(version), command)

    def _log_path(self, version: ServedVersion) -> Path:
        told_apart = hashlib.sha256(version.place.encode()).hexdigest()[:6]
        name = re.sub(r"[^A-Za-z0-9]+", "_", Path(version.base_path).name)
        return self._log_folder / f"model_server_{name}_{told_apart}.log"


class _ServerWithAdapters:
    """One server and the adapters on it."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server
        self._loaded_into: EngineClient | None = None  # a client a start: a new one begins without adapters
        self._loaded: set[str] = set()  # version ids
        self._in_doubt = True  # only the server knows what is loaded: the reply to the last change may be lost
        self._refused: dict[str, tuple[str, float]] = {}  # version id → why, and when to try again

    def tend(self, versions: Sequence[ServedVersion]) -> None:
        self._server.look()
        client = self._server.client
        if client is not self._loaded_into:
            self._loaded_into, self._loaded, self._refused, self._in_doubt = client, set(), {}, True
        if client is None:
            return
        wanted = {one.id: str(one.adapter_path) for one in versions if one.is_adapter_on_shared_base}
        self._refused = {name: reason for name, reason in self._refused.items() if name in wanted}
        try:
            self._bring(client, wanted)
        except EngineUnavailable as error:  # the next look will see what has become of it
            self._in_doubt = True
            log.warning("%s", error)

    def problem(self, version: ServedVersion) -> str | None:
        if version.id in self._refused:
            return self._refused[version.id][0]
        return self._server.detail if self._server.status == "failed" else None

    def client_of(self, version: ServedVersion) -> EngineClient | None:
        client = self._server.client
        if client is None or not version.is_adapter_on_shared_base:
            return client
        return client if client is self._loaded_into and version.id in self._loaded else None

    def why_not(self, version: ServedVersion) -> AppError:
        if version.id in self._refused:
            return ModelNotLoadable(self._refused[version.id][0])
        if self._server.status == "failed":
            return ModelNotLoadable(self._server.detail)
        return EngineUnavailable(self._server.detail or f"Version {version.id} is being loaded: try again in a moment.")

    def state(self, versions: Sequence[ServedVersion]) -> ServerState:
        server = self._server
        return ServerState(
            base_path=server.base_path,
            url=server.url,
            pid=server.pid,
            status=server.status,
            detail=server.detail,
            versions=tuple(version.id for version in versions if self.client_of(version)),
            tokens_generated=server.tokens_generated,
        )

    def stop(self) -> None:
        self._server.stop()

    def _bring(self, client: EngineClient, wanted: Mapping[str, str]) -> None:
        if self._in_doubt:
            self._loaded = set(client.models()) - {BASE_NAME}
            self._in_doubt = False
        for name in sorted(self._loaded - wanted.keys()):
            self._unload(client, name)
        for name, path in wanted.items():
            if name not in self._loaded and time.monotonic() >= self._refused.get(name, ("", 0.0))[1]:
                self._load(client, name, path)

    def _unload(self, client: EngineClient, name: str) -> None:
        self._loaded.discard(name)  # first: nobody is to be sent to a version that may be gone
        try:
            client.unload_adapter(name)
        except EngineRefused as error:  # it has none of that name: what was wanted
            log.warning("%s", error)

    def _load(self, client: EngineClient, name: str, path: str) -> None:
        try:
            client.load_adapter(name, str(Path(path).absolute()))
        except ModelNotLoadable as error:
            if name not in client.models():  # else it is loaded already, and one id means one set of weights
                self._refused[name] = (str(error), time.monotonic() + TRY_AGAIN_SECONDS)
                return
        self._loaded.add(name)
        self._refused.pop(name, None)
