"""One model server and the versions on it: their adapters loaded and unloaded, each checked before it is served.

vLLM is asked for the base as for one more adapter, an untrained one: see base_layers.py. Where it refuses that one, the
base is refused too, unless no adapter can ever share a batch with it: an answer of the base that an adapter gave would
be believed. vLLM reads an adapter from disk
again when it has put it aside for others, and dies when its folder is gone; so an adapter is unloaded as soon as that
is seen. On a server that others use too, our adapters have a prefix of their own, and only those are unloaded; what
others unload is put back.

What was found right is looked at again as soon as its files look otherwise (their sizes and times), and not before.

Before a server goes to sleep its adapters are taken off, and they are put on again when it has woken: so nothing hangs
on what it keeps of them while it sleeps. Whoever got its client before and asks late is told to come again; a server
without the adapter would say that there is no such model, and one asleep nothing at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from labeling.engines.adopted_server import AdoptedServer
from labeling.engines.base_layers import no_base_beside_adapters, takes_no_adapters, write_untrained_adapter
from labeling.engines.client import EngineClient, Load
from labeling.engines.faithful import Base, Trained, refuse_other
from labeling.engines.model_folder import Look, look_of
from labeling.engines.model_server import ModelServer, Status
from labeling.engines.usage import Usage
from labeling.engines.whole_weights import Reader, StillReading
from storage.errors import AppError, EngineRefused, EngineUnavailable, ModelNotLoadable

LIST_SECONDS = 5.0  # before a server that others use too is asked again which adapters it has
TRY_AGAIN_SECONDS = 30.0  # after an adapter was refused: its folder may have been mended
PATIENCE_SECONDS = 60.0  # for answers under way before the server sleeps; longer ones are made again when it has woken

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
class ServerState:
    """One server, for a page: who should answer there, and who does; how long it has been silent while asked."""

    base_path: str
    engine: str
    url: str | None
    is_ours: bool
    pid: int | None
    status: Status
    detail: str
    wanted: tuple[str, ...]
    versions: tuple[str, ...]
    load: Load
    tokens_per_second: float
    silent_seconds: float
    hangs: bool


class ServerWithAdapters:
    """One server and the adapters on it."""

    def __init__(self, server: ModelServer | AdoptedServer, untrained: Path, prefix: str = "") -> None:
        self._server = server
        self._untrained = untrained  # the folder of the adapter that changes nothing
        self._prefix = prefix  # of the names of our adapters
        self._fault = ""  # what the latest look ended with, if it was nothing that can be expected
        self._leaving_since: float | None = None  # it is to make room: nobody is sent here any more
        self._begin(None)

    def _begin(self, client: EngineClient | None) -> None:
        """A new client is a new start of the server, which has no adapters then."""
        self._client = client
        self._base: Base | None = None
        self._base_name = ""  # what the base is asked as
        self._base_is_alone = False  # the server takes no adapters and has none: the base has its own name
        self._checked: dict[str, tuple[Look, Look]] = {}  # version id → how base and adapter looked then
        self._reader: Reader | None = None  # of weights that a version has for itself
        self._reading: set[str] = set()  # version ids
        self._listed_at = 0.0
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

    def make_room(self, why: str) -> bool:
        """Whether it has let go of its device. Ask again and again: what it is answering may come to its end first."""
        assert isinstance(self._server, ModelServer)  # somebody else's is never put to sleep
        client, now = self._server.client, time.monotonic()
        if self._leaving_since is None:
            self._leaving_since = now
            return False  # who was sent here a moment ago may be about to ask
        if client and not client.usage.shut(why, at_once=now - self._leaving_since >= PATIENCE_SECONDS):
            self._server.finish_first(why)
            return False
        if client:
            self._take_adapters_off(client)
        self._server.rest(why)
        self._begin(None)
        return True

    def tend(self, versions: Sequence[ServedVersion]) -> None:
        self._leaving_since = None
        self._server.look()
        client = self._server.client
        if client is not self._client:
            self._begin(client)
        if client is None or self._server.is_silent:
            return
        client.usage.open()
        ids = {version.id for version in versions}
        self._refused = {name: reason for name, reason in self._refused.items() if name in ids}
        self._checked = {name: looks for name, looks in self._checked.items() if name in ids}
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

    @property
    def is_silent(self) -> bool:
        return self._server.is_silent

    def client_of(self, version: ServedVersion) -> EngineClient | None:
        client = self._server.client
        if client is None or self._leaving_since is not None:
            return None
        has_a_name = self.name_of(version) in self._loaded if version.is_adapter_on_shared_base else self._base_name
        return client if client is self._client and has_a_name and version.id in self._checked else None

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
        if version.id in self._reading:
            return EngineUnavailable(
                f"The weights of {version.id} are being read, as their files look otherwise than when they were "
                "stored. Try again in a moment."
            )
        return EngineUnavailable(self._server.detail or f"Version {version.id} is being loaded: try again in a moment.")

    def state(self, versions: Sequence[ServedVersion]) -> ServerState:
        server, client, pulse = self._server, self._server.client, self._server.pulse
        return ServerState(
            base_path=server.base_path,
            engine=client.known_name if client else "",
            url=server.url,
            is_ours=isinstance(server, ModelServer),
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
        if self._server.client and self._prefix:
            self._take_adapters_off(self._server.client)
        self._server.stop()

    def counted(self, version: ServedVersion) -> tuple[Usage, str] | None:
        """Where its requests are counted, and under which name; None while the server is away."""
        client = self._server.client
        return (client.usage, self.name_of(version)) if client else None

    def _take_adapters_off(self, client: EngineClient) -> None:
        with suppress(EngineUnavailable, EngineRefused):
            for name in sorted(self._loaded):
                client.unload_adapter(name)

    # ---- from what is there to what is wanted

    def _bring(self, client: EngineClient, versions: Sequence[ServedVersion]) -> None:
        adapters = {self.name_of(one): one for one in versions if one.is_adapter_on_shared_base}
        if any(version.kind == "policy" for version in versions):
            self._list(client)
        self._drop_what_is_gone(client, adapters.values())
        for name in sorted(self._loaded - adapters.keys() - {self._name_of_untrained}):
            self._unload(client, name)
        for version in versions:
            if time.monotonic() >= self._refused.get(version.id, ("", 0.0))[1]:
                self._try_to_serve(client, version)

    def _list(self, client: EngineClient) -> None:
        """Which of our adapters it has, where that is not known; somebody may unload them where others use it too."""
        now = time.monotonic()
        if self._in_doubt or (self._prefix and now >= self._listed_at + LIST_SECONDS):
            there = client.adapters()
            self._loaded = {name for name in there if name.startswith(self._prefix)}
            self._base_is_alone = self._base_is_alone and not there
            self._in_doubt, self._listed_at = False, now

    def _try_to_serve(self, client: EngineClient, version: ServedVersion) -> None:
        try:
            self._check(version)
            if not version.is_adapter_on_shared_base:
                self._base_name = self._ask_base_as(client, version)
            elif self.name_of(version) not in self._loaded:
                self._load(client, self.name_of(version), Path(str(version.adapter_path)))
            self._refused.pop(version.id, None)
        except ModelNotLoadable as error:
            self._refuse(client, version, error)

    def _refuse(self, client: EngineClient, version: ServedVersion, why: ModelNotLoadable) -> None:
        """What was right and is not any more is taken off: vLLM may read its files again at any time."""
        self._refused[version.id] = (str(why), time.monotonic() + TRY_AGAIN_SECONDS)
        if version.is_adapter_on_shared_base and self.name_of(version) in self._loaded:
            self._unload(client, self.name_of(version))

    def _check(self, version: ServedVersion) -> None:
        """Raises ModelNotLoadable."""
        base, adapter = self._base_now(), Path(version.adapter_path).absolute() if version.adapter_path else None
        looks = (base.look, look_of(adapter) if adapter else ())
        if self._checked.get(version.id) == looks:
            return
        self._checked.pop(version.id, None)
        self._reading.discard(version.id)
        self._reader = self._reader or Reader(base.folder)
        try:
            refuse_other(version.id, version.trained, base, adapter, version.template, version.kind, self._reader)
            self._checked[version.id] = looks
        except StillReading:
            self._reading.add(version.id)

    def _base_now(self) -> Base:
        """As it lies on disk, read again where its files look otherwise. Raises ModelNotLoadable."""
        folder = self._server.base_folder()
        look = look_of(folder) or (self._base.look if self._base else ())  # a server answers on where its base is gone
        try:
            if self._base is None or self._base.look != look:
                self._base = Base.read(folder)
        except (OSError, ValueError) as error:
            raise ModelNotLoadable(f"The files of {folder} cannot be read ({error}). Put them back.") from error
        return self._base

    @property
    def _name_of_untrained(self) -> str:
        return f"{self._prefix}untrained-base"

    def _ask_base_as(self, client: EngineClient, version: ServedVersion) -> str:
        """Of vLLM, the untrained adapter. Raises ModelNotLoadable where it takes none and may have others."""
        if version.kind != "policy" or not client.speaks_as_vllm or self._base_is_alone:
            return self._server.base_name
        if self._name_of_untrained not in self._loaded:
            self._base_name = ""  # until it is there: nobody is to be sent to a name that is gone
            try:
                folder = write_untrained_adapter(self._untrained, self._server.base_folder())
                self._load(client, self._name_of_untrained, folder)
            except ModelNotLoadable as refused:
                self._base_is_alone = takes_no_adapters(str(refused)) and not client.adapters()
                if self._base_is_alone:
                    return self._server.base_name
                raise no_base_beside_adapters(version.id, client.url, self._untrained, refused) from refused
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
                self._checked.pop(version.id, None)
