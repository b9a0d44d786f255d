"""A model server that somebody else runs: asked, and neither started nor stopped.

It is believed to serve a base when its model lies in the same folder, or its weights have the same fingerprint; where
its files cannot be read here (another machine), when its folder or its model has the same name. That is asked again at
each look: whoever runs it may start it anew with another model.

It is given as much time as one of our own before it counts as gone. Several Plumblines may use one server: what each
puts there has a prefix made of an id that its home folder keeps.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from labeling.engines.client import EngineClient
from labeling.engines.model_folder import base_fingerprint, check_model_folder
from labeling.engines.model_server import DEAF_AFTER, LOOK_SECONDS, Status
from labeling.engines.pulse import Pulse
from storage.errors import AppError, EngineRefused, EngineUnavailable, ModelNotLoadable, WrongKey
from storage.keys import ENGINE_KEY

HOME_ID = "home_id"  # a file in the home folder


def home_id(home: Path) -> str:
    """An id that no other home has; made when it is asked for first."""
    file = home / HOME_ID
    if not file.is_file():
        home.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(f"{uuid4().hex}\n", encoding="utf-8")
        part.replace(file)
    return file.read_text(encoding="utf-8").strip()


def prefix_of(home_id: str, place: str) -> str:
    """Of the names of the adapters that this home puts on somebody else's server for the versions at this place."""
    return f"plumbline-{hashlib.sha256(f'{home_id} {place}'.encode()).hexdigest()[:12]}-"


class AdoptedServer:
    """The server at `url`, for the versions on one base. `look` again and again; any thread may read the attributes."""

    pid = None

    def __init__(self, url: str, key: str | None, base_path: str) -> None:
        self.base_path = base_path
        self.status: Status = "starting"
        self.detail = f"The model server at {url} is being asked what it serves."
        self.client: EngineClient | None = None
        self.base_name = ""
        self.pulse = Pulse()
        self._url = url
        self._has_key = bool(key)
        self._asking = EngineClient(url, key)
        self._folder = Path(base_path)
        self._believed: tuple[str, list[str]] = ("", [])  # what it said it serves when that was found right
        self._look_again_at = 0.0
        self._unanswered = 0
        self._silent_since = 0.0

    @property
    def url(self) -> str:
        return self._url

    def base_folder(self) -> Path:
        return self._folder

    @property
    def is_silent(self) -> bool:
        """It did not answer when it was asked last, and is given time."""
        return self._unanswered > 0

    def look(self) -> None:
        now = time.monotonic()
        if now < self._look_again_at:
            return
        self._look_again_at = now + LOOK_SECONDS
        try:
            self._see()
        except EngineUnavailable as error:
            self._missed(now, str(error))
        except AppError as error:
            self._fail(str(error))
        else:
            self._unanswered = 0
            self.status, self.detail, self.client = "ready", "", self._asking
            with suppress(EngineUnavailable, EngineRefused):  # only vLLM and ours tell
                self.pulse.feel(self._asking.load(), now)

    def _missed(self, now: float, why: str) -> None:
        """One look without an answer ends nothing: what it is answering may come yet."""
        self._unanswered += 1
        if self._unanswered == 1:
            self._silent_since = now
        if self.client is None or self._unanswered >= DEAF_AFTER:
            self._fail(why)
            return
        self.detail = (
            f"The model server at {self._url} has not answered for {now - self._silent_since + LOOK_SECONDS:.0f} "
            f"seconds. It is asked {DEAF_AFTER - self._unanswered} times more before it counts as gone."
        )

    def _fail(self, sentence: str) -> None:
        self.status, self.detail, self.client, self.pulse = "failed", sentence, None, Pulse()

    def stop(self) -> None:
        """It runs on."""
        self.client = None
        self._asking.close()
        self.status, self.detail = "stopped", ""

    def _see(self) -> None:
        """Raises EngineUnavailable, EngineRefused (a wrong key, say), ModelNotLoadable for another base."""
        if not self._asking.answers():
            raise EngineUnavailable(
                f"Nobody answers at {self._url}, where settings.toml has the model server. Start it there."
            )
        served = self._served()
        if self.client is not None and served == self._believed:
            return
        self._folder = check_model_folder(self.base_path)
        root, names = served
        if not names:
            raise ModelNotLoadable(f"The model server at {self._url} names no model.")
        if not self._same(root, names):
            raise ModelNotLoadable(
                f"The model server at {self._url} serves {root or names[0]}, and this version stands on "
                f"{self._folder}. Start a server with that model and name its address, or unload this version."
            )
        self.base_name, self._believed = names[0], served

    def _served(self) -> tuple[str, list[str]]:
        """Where it has its base from, and the base's names."""
        try:
            return self._asking.base_root(), self._asking.bases()
        except WrongKey as refused:
            raise EngineRefused(
                f"The model server at {self._url} wants {'another' if self._has_key else 'a'} key. Put it into the "
                f"variable {ENGINE_KEY} before Plumbline is started. ({refused})"
            ) from refused

    def _same(self, root: str, names: list[str]) -> bool:
        try:
            return base_fingerprint(check_model_folder(root)) == base_fingerprint(self._folder)
        except ModelNotLoadable:
            return self._folder.name in {Path(name).name for name in (root, *names)}
