"""Brings the running model servers to what is wanted, and keeps them there.

The web process says which versions should answer (`serve`) and asks for a client of one of them; one keeper thread does
the rest: a server for each base in use and one for each reward model, the adapters loaded and unloaded, a dead server
started again and its adapters put back. The keeper starts every child itself, because a child dies with the thread that
started it. Where somebody else runs the servers, each of them is asked for each base (place.py).

A version that cannot be served is reported in `problems` and disturbs no other. On GPUs each base has its own, as vLLM
takes nearly all of one; a base that finds none is refused, and gets its turn when another is switched off. Where the
servers take turns with runs, the keeper also sees whose turn it is (turns.py).
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType

from labeling.engines.adopted_server import AdoptedServer, prefix_of
from labeling.engines.client import EngineClient
from labeling.engines.model_folder import check_model_folder
from labeling.engines.model_server import Command, ModelServer, embedded_command, reward_command
from labeling.engines.place import Place
from labeling.engines.server_with_adapters import ServedVersion, ServerState, ServerWithAdapters
from labeling.engines.turns import Turns
from labeling.engines.usage import Used
from labeling.engines.vllm_server import VLLM, NoGpuLeft
from storage.errors import EngineUnavailable, NotFound
from storage.leases import CPU

__all__ = ["Adopted", "Engines", "ModelServer", "ServedVersion", "ServerState", "check_model_folder"]

TICK_SECONDS = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adopted:
    """Servers that somebody else runs; version id → the one of them that alone answers for it.

    home_id: of this Plumbline, as `adopted_server.home_id` has it; others may use these servers too.
    """

    urls: Sequence[str]
    home_id: str
    key: str | None = None
    pinned: Mapping[str, str] = field(default_factory=dict)


class Engines:
    """All model servers of the app. Every method may be called from any thread, and none waits but `wait_ready`."""

    def __init__(
        self,
        log_folder: Path,
        command: Command = embedded_command,
        adopted: Adopted | None = None,
        turns: Turns | None = None,
        keys: Collection[str] = (),
    ) -> None:
        """Policies are served with `command`, or by the adopted servers; reward models by our own small server.

        `turns`: the devices of `command` that runs take in turns with it. `keys`: variables that no server is to see.
        """
        self._log_folder = log_folder
        self._command = command
        self._adopted = adopted
        self._turns = turns
        self._keys = keys
        self._wanted: tuple[ServedVersion, ...] = ()
        self._places: dict[str, Place] = {}
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
            place = self._places.get(version.place)
            if problem := place and place.problem(version):
                found[version.id] = problem
        return MappingProxyType(found)

    def ready(self, version_id: str) -> bool:
        version = self._wanted_as(version_id)
        place = self._places.get(version.place) if version else None
        return bool(version and place and place.is_ready(version))

    def client(self, version_id: str) -> tuple[EngineClient, str]:
        """The client to ask, and the name under which it knows this version. Ask for it anew for each request.

        Raises NotFound when nobody wants it served, ModelNotLoadable when it was refused, EngineUnavailable while it is
        not there yet, or asleep.
        """
        version = self._wanted_as(version_id)
        if version is None:
            raise NotFound(f"Version {version_id} is not served. Switch it on at the models page.")
        place = self._places.get(version.place)
        if place is None:
            raise EngineUnavailable("The model server is being started.")
        return place.client_of(version)

    def usage(self, version_id: str) -> Used:
        """What this version was asked since its servers were started."""
        version = self._wanted_as(version_id)
        place = self._places.get(version.place) if version else None
        return place.used(version) if version and place else Used()

    def state(self) -> list[ServerState]:
        """The servers, in the order of their versions."""
        return [state for name, place in list(self._places.items()) for state in place.state(self._at(name))]

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

    def _wanted_as(self, version_id: str) -> ServedVersion | None:
        return next((version for version in self._wanted if version.id == version_id), None)

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
        for place in self._places.values():
            place.stop()

    def _tend(self) -> None:
        wanted = {version.place: version for version in self._wanted}
        for name in self._to_leave(wanted):
            self._places[name].stop()
            del self._places[name]
        for name, version in wanted.items():
            if name not in self._places:
                self._places[name] = self._place_for(version)
        resting = self._make_room()
        for name, place in self._places.items():
            if place not in resting:
                place.tend(self._at(name))

    def _to_leave(self, wanted: Collection[str]) -> list[str]:
        """The places that nobody wants, and with these such as may find a GPU now."""
        gone = {name for name in self._places if name not in wanted}
        return [name for name, place in self._places.items() if name in gone or (gone and place.found_no_gpu)]

    def _make_room(self) -> list[Place]:
        """Those that a run has a device of, or is to get it."""
        if self._turns is None:
            return []
        resting = [place for place in self._places.values() if not self._turns.ours(place.devices)]
        rested = [place for place in resting if place.make_room(self._turns.why(place.devices))]
        in_use = {device for place in self._places.values() if place not in rested for device in place.devices}
        self._turns.hand_over(but=in_use)
        return resting

    def _place_for(self, version: ServedVersion) -> Place:
        log = self._log_path(version)
        untrained = log.with_suffix(".untrained").absolute()
        if self._adopted and version.kind == "policy":
            prefix = prefix_of(self._adopted.home_id, version.place)
            servers = {url: AdoptedServer(url, self._adopted.key, version.base_path) for url in self._adopted.urls}
            kept = {url: ServerWithAdapters(server, untrained, prefix) for url, server in servers.items()}
            return Place(kept, self._adopted.pinned)
        command, devices = self._command_for(version)
        watched = [Path(version.adapter_path)] if version.kind != "policy" and version.adapter_path else []
        server = ServerWithAdapters(ModelServer(version.base_path, log, command, watched, self._keys), untrained)
        return Place({"": server}, {}, devices, found_no_gpu=isinstance(command, NoGpuLeft))

    def _command_for(self, version: ServedVersion) -> tuple[Command, tuple[str, ...]]:
        """What serves it, and on which devices."""
        if version.kind != "policy":
            return reward_command(version.adapter_path), (CPU,)
        if not isinstance(self._command, VLLM):
            return self._command, (CPU,)
        taken = {device: name for name, place in self._places.items() for device in place.devices if device != CPU}
        command = self._command.beside(taken)
        return command, command.devices

    def _log_path(self, version: ServedVersion) -> Path:
        told_apart = hashlib.sha256(version.place.encode()).hexdigest()[:6]
        name = re.sub(r"[^A-Za-z0-9]+", "_", Path(version.base_path).name)
        return self._log_folder / f"model_server_{name}_{told_apart}.log"
