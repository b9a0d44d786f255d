"""Brings the running model servers to what is wanted, and keeps them there.

The web process says which versions should answer (`serve`) and asks for a client of one of them; one keeper thread does
the rest: a server for each base in use and one for each reward model, the adapters loaded and unloaded, a dead server
started again and its adapters put back. The keeper starts every child itself, because a child dies with the thread that
started it.

A version that cannot be served is reported in `problems` and disturbs no other.

vLLM is asked for the base as for one more adapter, an untrained one: see base_layers.py. It reads an adapter from disk
again when it has put it aside for others, and dies when its folder is gone; so an adapter is unloaded as soon as that
is seen. On a server that others use too, our adapters have a prefix of their own, and only those are unloaded.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType

from labeling.engines.adopted_server import AdoptedServer
from labeling.engines.base_layers import write_untrained_adapter
from labeling.engines.client import EngineClient, Load
from labeling.engines.faithful import Base, Trained, refuse_other
from labeling.engines.model_folder import check_model_folder
from labeling.engines.model_server import Command, ModelServer, Status, embedded_command, reward_command
from labeling.engines.usage import Used
from storage.errors import AppError, EngineRefused, EngineUnavailable, ModelNotLoadable, NotFound

__all__ = ["Adopted", "Engines", "ModelServer", "ServedVersion", "ServerState", "check_model_folder"]

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
    trained: Trained = field(default_factory=Trained)
    template: str = ""  # the fingerprint of the one that prompts go through

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
class Adopted:
    """A server that somebody else runs."""

    url: str
    key: str | None = None


@dataclass(frozen=True)
class ServerState:
    """One server, for a page: who should answer there, and who does; how long it has been silent while asked."""

    base_path: str
    engine: str
    url: str | None
    pid: int | None
    status: Status
    detail: str
    wanted: tuple[str, ...]
    versions: tuple[str, ...]
    load: Load
    tokens_per_second: float
    silent_seconds: float
    hangs: bool


class Engines:
    """All model servers of the app. Every method may be called from any thread, and none waits but `wait_ready`."""

    def __init__(self, log_folder: Path, command: Command = embedded_command, adopted: Adopted | None = None) -> None:
        """Policies are served with `command`, or by the adopted server; reward models by our own small server."""
        self._log_folder = log_folder
        self._command = command
        self._adopted = adopted
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
        assert server is not None
        return client, server.name_of(version)

    def usage(self, version_id: str) -> Used:
        """What this version was asked since its server was started."""
        try:
            client, name = self.client(version_id)
        except AppError:
            return Used()
        return client.usage.of(name)

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
                self._servers[place] = self._server_for(version)
            self._servers[place].tend_apart(self._at(place))

    def _server_for(self, version: ServedVersion) -> _ServerWithAdapters:
        log = self._log_path(version)
        untrained = log.with_suffix(".untrained").absolute()
        if self._adopted and version.kind == "policy":
            prefix = f"plumbline-{hashlib.sha256(str(log.absolute()).encode()).hexdigest()[:8]}-"
            server = AdoptedServer(self._adopted.url, self._adopted.key, version.base_path)
            return _ServerWithAdapters(server, untrained, prefix)
        command = self._command if version.kind == "policy" else reward_command(version.adapter_path)
        return _ServerWithAdapters(ModelServer(version.base_path, log, command), untrained)

    def _log_path(self, version: ServedVersion) -> Path:
        told_apart = hashlib.sha256(version.place.encode()).hexdigest()[:6]
        name = re.sub(r"[^A-Za-z0-9]+", "_", Path(version.base_path).name)
        return self._log_folder / f"model_server_{name}_{told_apart}.log"


class _ServerWithAdapters:
    """One server and the adapters on it."""

    def __init__(self, server: ModelServer | AdoptedServer, untrained: Path, prefix: str = "") -> None:
        self._server = server
        self._untrained = untrained  # the folder of the adapter that changes nothing
        self._prefix = prefix  # of the names of our adapters
        self._fault = ""  # what the latest look ended with, if it was nothing that can be expected
        self._begin(None)

    def _begin(self, client: EngineClient | None) -> None:
        """A new client is a new start of the server, which has no adapters then."""
        self._client = client
        self._base: Base | None = None
        self._base_name = ""  # what the base is asked as
        self._checked: set[str] = set()  # version ids
        self._loaded: set[str] = set()  # names
        self._in_doubt = True  # only the server knows what is loaded: the reply to the last change may be lost
        self._refused: dict[str, tuple[str, float]] = {}  # version id → why, and when to try again

    def tend_apart(self, versions: Sequence[ServedVersion]) -> None:
        """What nobody foresaw in one server is said of its versions, and is no trouble of the other servers."""
        try:
            self.tend(versions)
            self._fault = ""
        except Exception as error:
            fault = f"Something unexpected went wrong with the model server ({type(error).__name__}: {error})."
            if fault != self._fault:
                log.exception("tending the model server of %s failed", self._server.base_path)
            self._fault = fault

    def tend(self, versions: Sequence[ServedVersion]) -> None:
        self._server.look()
        client = self._server.client
        if client is not self._client:
            self._begin(client)
        if client is None:
            return
        ids = {version.id for version in versions}
        self._refused = {name: reason for name, reason in self._refused.items() if name in ids}
        try:
            client.server_name()  # for the page; it is asked once
            self._bring(client, versions)
        except (EngineUnavailable, EngineRefused) as error:  # the next look will see what has become of it
            self._in_doubt = True
            log.warning("%s", error)

    def problem(self, version: ServedVersion) -> str | None:
        if version.id in self._refused:
            return self._refused[version.id][0]
        if self._fault:
            return self._fault
        return self._server.detail if self._server.status == "failed" else None

    def client_of(self, version: ServedVersion) -> EngineClient | None:
        client = self._server.client
        if client is None or version.kind != "policy":
            return client
        is_there = not version.is_adapter_on_shared_base or self.name_of(version) in self._loaded
        is_ready = client is self._client and self._base_name and is_there and version.id in self._checked
        return client if is_ready else None

    def name_of(self, version: ServedVersion) -> str:
        """Under which the server knows it."""
        if version.is_adapter_on_shared_base:
            return f"{self._prefix}{version.id}"
        return self._base_name or self._server.base_name

    def why_not(self, version: ServedVersion) -> AppError:
        if version.id in self._refused:
            return ModelNotLoadable(self._refused[version.id][0])
        if self._fault or self._server.status == "failed":
            return ModelNotLoadable(self._fault or self._server.detail)
        return EngineUnavailable(self._server.detail or f"Version {version.id} is being loaded: try again in a moment.")

    def state(self, versions: Sequence[ServedVersion]) -> ServerState:
        server, client, pulse = self._server, self._server.client, self._server.pulse
        return ServerState(
            base_path=server.base_path,
            engine=client.known_name if client else "",
            url=client.url if client else None,
            pid=server.pid,
            status=server.status,
            detail=server.detail,
            wanted=tuple(version.id for version in versions),
            versions=tuple(version.id for version in versions if self.client_of(version)),
            load=pulse.load,
            tokens_per_second=pulse.tokens_per_second,
            silent_seconds=pulse.silent_seconds,
            hangs=pulse.hangs,
        )

    def stop(self) -> None:
        """Somebody else's server is left as it was found."""
        client = self._server.client
        if client and self._prefix:
            with suppress(EngineUnavailable, EngineRefused):
                for name in sorted(self._loaded):
                    client.unload_adapter(name)
        self._server.stop()

    # ---- from what is there to what is wanted

    def _bring(self, client: EngineClient, versions: Sequence[ServedVersion]) -> None:
        policies = [version for version in versions if version.kind == "policy"]
        if not policies:
            return
        adapters = {self.name_of(one): one for one in policies if one.is_adapter_on_shared_base}
        if self._in_doubt:
            self._loaded = {name for name in client.adapters() if name.startswith(self._prefix)}
            self._in_doubt = False
        self._drop_what_is_gone(client, adapters.values())
        for name in sorted(self._loaded - adapters.keys() - {self._name_of_untrained}):
            self._unload(client, name)
        self._base_name = self._base_name or self._ask_base_as(client)
        for version in policies:
            if time.monotonic() >= self._refused.get(version.id, ("", 0.0))[1]:
                self._try_to_serve(client, version)

    def _try_to_serve(self, client: EngineClient, version: ServedVersion) -> None:
        try:
            self._check(version)
            if version.is_adapter_on_shared_base and self.name_of(version) not in self._loaded:
                self._load(client, self.name_of(version), Path(str(version.adapter_path)))
            self._refused.pop(version.id, None)
        except ModelNotLoadable as error:
            self._refused[version.id] = (str(error), time.monotonic() + TRY_AGAIN_SECONDS)

    def _check(self, version: ServedVersion) -> None:
        if version.id not in self._checked:
            self._base = self._base or Base.read(self._server.base_folder())
            adapter = Path(version.adapter_path).absolute() if version.adapter_path else None
            refuse_other(version.id, version.trained, self._base, adapter, version.template)
            self._checked.add(version.id)

    @property
    def _name_of_untrained(self) -> str:
        return f"{self._prefix}untrained-base"

    def _ask_base_as(self, client: EngineClient) -> str:
        """Of vLLM, the untrained adapter; where it takes none (it is on another machine, say), the base itself."""
        if not client.speaks_as_vllm:
            return self._server.base_name
        try:
            folder = write_untrained_adapter(self._untrained, self._server.base_folder())
            if self._name_of_untrained not in self._loaded:
                self._load(client, self._name_of_untrained, folder)
        except ModelNotLoadable as error:
            log.warning("%s", error)
            return self._server.base_name
        return self._name_of_untrained

    def _load(self, client: EngineClient, name: str, folder: Path) -> None:
        try:
            client.load_adapter(name, str(folder.absolute()))
        except ModelNotLoadable:
            if name not in client.adapters():  # else it is loaded already, and one name means one set of weights
                raise
        self._loaded.add(name)

    def _unload(self, client: EngineClient, name: str) -> None:
        self._loaded.discard(name)  # first: nobody is to be sent to a version that may be gone
        try:
            client.unload_adapter(name)
        except EngineRefused as error:  # it has none of that name: what was wanted
            log.warning("%s", error)

    def _drop_what_is_gone(self, client: EngineClient, adapters: Iterable[ServedVersion]) -> None:
        for version in adapters:
            if self.name_of(version) in self._loaded and not Path(str(version.adapter_path)).is_dir():
                self._unload(client, self.name_of(version))
                self._checked.discard(version.id)
