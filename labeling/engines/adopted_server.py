"""A model server that somebody else runs: asked, and neither started nor stopped.

It is believed to serve a base when its model lies in the same folder, or its weights have the same fingerprint; where
its files cannot be read here (another machine), when its folder or its model has the same name.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from labeling.engines.client import EngineClient
from labeling.engines.model_folder import base_fingerprint, check_model_folder
from labeling.engines.model_server import LOOK_SECONDS, Status
from labeling.engines.pulse import Pulse
from storage.errors import AppError, EngineRefused, EngineUnavailable, ModelNotLoadable


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
        self._asking = EngineClient(url, key)
        self._folder = Path(base_path)
        self._look_again_at = 0.0

    def base_folder(self) -> Path:
        return self._folder

    def look(self) -> None:
        now = time.monotonic()
        if now < self._look_again_at:
            return
        self._look_again_at = now + LOOK_SECONDS
        try:
            self._see()
            self.status, self.detail, self.client = "ready", "", self._asking
        except EngineUnavailable:
            self.status, self.client, self.pulse = "failed", None, Pulse()
            self.detail = f"Nobody answers at {self._url}, where settings.toml has the model server. Start it there."
        except AppError as error:
            self.status, self.detail, self.client = "failed", str(error), None
        else:
            with suppress(EngineUnavailable, EngineRefused):  # only vLLM and ours tell
                self.pulse.feel(self._asking.load(), now)

    def stop(self) -> None:
        """It runs on."""
        self.client = None
        self._asking.close()
        self.status, self.detail = "stopped", ""

    def _see(self) -> None:
        """Raises EngineUnavailable, EngineRefused (a wrong key, say), ModelNotLoadable for another base."""
        if not self._asking.answers():
            raise EngineUnavailable("nobody is there")
        if self.client is not None:
            return
        self._folder = check_model_folder(self.base_path)
        names, root = self._asking.bases(), self._asking.base_root()
        if not names:
            raise ModelNotLoadable(f"The model server at {self._url} names no model.")
        if not self._same(root, names):
            raise ModelNotLoadable(
                f"The model server at {self._url} serves {root or names[0]}, and this version stands on "
                f"{self._folder}. Start a server with that model and name its address, or unload this version."
            )
        self.base_name = names[0]

    def _same(self, root: str, names: list[str]) -> bool:
        try:
            return base_fingerprint(check_model_folder(root)) == base_fingerprint(self._folder)
        except ModelNotLoadable:
            return self._folder.name in {Path(name).name for name in (root, *names)}
