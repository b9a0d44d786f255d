"""One server process of one base: started, watched, started again when it dies.

It dies with the app, whatever ends the app (tether.py), and its whole process group is swept when it has died itself.
Its port stands in a file, which our own server writes once it answers and the command of vLLM at once; so two apps on
one machine never fight over a number. Whoever answers there is asked which model it serves before it is believed.

It can let go of its device for a while (`rest`): asleep where the server knows how to sleep, as vLLM on a GPU does, and
stopped elsewhere. The next `look` wakes or starts it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from labeling.engines.client import EngineClient
from labeling.engines.model_folder import Look, check_model_folder, look_of, served_context
from labeling.engines.pulse import Pulse
from labeling.engines.tether import POLITE_SECONDS, tethered_group
from labeling.engines.vllm_server import cause
from storage.errors import EngineRefused, EngineUnavailable, ModelNotLoadable
from storage.keys import without_any_key

Status = Literal["starting", "ready", "restarting", "failed", "stopped", "making room", "asleep"]
Command = Callable[[Path, str, Path], list[str]]
"""(folder of the base, its served name, port file) → the command that serves it.

Raises ModelNotLoadable where it cannot succeed, with what to do.
"""

BASE_NAME = "base"
START_SECONDS = 600.0  # a large model on a slow disk
LOOK_SECONDS = 2.0
DEAF_AFTER = 15  # looks without an answer before a living process is given up
PAUSES = (0.5, 2.0, 8.0, 30.0)  # seconds before a start is tried again
SETTLED_SECONDS = 60.0  # a server that has lived so long starts counting its failures anew
_PACKAGES = Path(__file__).parents[2]


def embedded_command(base: Path, name: str, port_file: Path) -> list[str]:
    command = [sys.executable, "-m", "labeling.engines.embedded_server", "--model", str(base)]
    command += ["--max-model-len", str(served_context(base))]
    return [*command, "--served-model-name", name, "--port-file", str(port_file)]


def reward_command(adapter_path: str | None) -> Command:
    """Serves a reward model: whole weights, or an adapter with its head on the base."""

    def command(base: Path, name: str, port_file: Path) -> list[str]:
        adapter = ["--adapter", str(Path(adapter_path).absolute())] if adapter_path else []
        return [*embedded_command(base, name, port_file), "--reward", *adapter]

    return command


class ModelServer:
    """Call `look` again and again, from one thread that lives as long as the app: it starts the process.

    The attributes may be read from any thread. A server has in memory what lay on disk when it was started; where the
    files of its model, or in the folders that are `watched` too, are changed, it is started anew.
    """

    def __init__(
        self,
        base_path: str,
        log_path: Path,
        command: Command = embedded_command,
        watched: Sequence[Path] = (),
        keys: Collection[str] = (),
    ) -> None:
        """keys: variables that hold keys, whatever they are called; the process gets none of them."""
        self.base_path = base_path
        self.base_name = BASE_NAME
        self.log_path = log_path
        self.status: Status = "starting"
        self.detail = ""  # for the person at the screen: what it is doing, or why it is not
        self.client: EngineClient | None = None  # while it is ready
        self.pulse = Pulse()
        self._command = command
        self._keys = keys
        self._process: subprocess.Popen[bytes] | None = None
        self._sleeping: EngineClient | None = None  # that of a process which has only let go of its memory
        self._folder = Path(base_path)
        self._watched = tuple(watched)
        self._looks: tuple[Look, ...] = ()  # of the files that the process was started with
        self._port_file = log_path.with_suffix(".port")
        self._log_starts_at = 0
        self._started_at = 0.0
        self._failures = 0
        self._why = ""  # the latest start failed; shown until one succeeds
        self._try_again_at = 0.0
        self._look_again_at = 0.0
        self._unanswered = 0

    def base_folder(self) -> Path:
        return self._folder

    @property
    def url(self) -> str | None:
        return self.client.url if self.client else None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def is_silent(self) -> bool:
        """It did not answer when it was asked last, and is given time."""
        return self._unanswered > 0

    def look(self) -> None:
        """See how it stands, and do what that calls for. Returns at once, or after the time-out of one request."""
        now = time.monotonic()
        if self.status == "making room":
            self.status, self.detail = "ready", ""
        if self._sleeping is not None:
            self._wake(self._sleeping)
        elif self._process is None:
            if now >= self._try_again_at:
                self.start()
        elif self._process.poll() is not None:
            self._failed(f"The model server of {self.base_path} {self._ending(self._process.returncode)}.")
        elif self.client is None:
            self._look_for_start(now)
        elif now >= self._look_again_at:
            self._look_for_life(now)

    def start(self) -> None:
        """Start the process; the calling thread must live as long as the app."""
        self._port_file.unlink(missing_ok=True)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._folder = check_model_folder(self.base_path)
            self._looks = self._look_at_files()
            command = tethered_group(self._command(self._folder, BASE_NAME, self._port_file.absolute()))
        except ModelNotLoadable as error:  # no matter how often it is tried, unless somebody mends it
            self.status, self.detail = "failed", str(error)
            self._try_again_at = time.monotonic() + PAUSES[-1]
            return
        with self.log_path.open("ab") as log:
            self._log_starts_at = log.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(self._keys),
                start_new_session=True,
            )
        self._started_at = time.monotonic()
        self.status = "restarting" if self._failures else "starting"
        self.detail = f"{self._why}The model is being loaded; try again in a moment."

    def stop(self) -> None:
        """End it, politely first. What it was answering is lost."""
        process = self._process
        if process is not None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=POLITE_SECONDS + 2)
        self._let_go()
        self.status, self.detail = "stopped", ""

    def finish_first(self, why: str) -> None:
        """It is to let go of the device, and is still answering somebody."""
        self.status, self.detail = "making room", why

    def rest(self, why: str) -> None:
        """Let go of the device, and stay so until the next `look`. What it is answering is lost."""
        if self.status != "asleep":
            client = self.client
            if client is not None and _fell_asleep(client):
                self._sleeping, self.client, self.pulse = client, None, Pulse()
            elif self._process is not None:
                self.stop()
        self.status, self.detail = "asleep", why

    def _wake(self, client: EngineClient) -> None:
        """One that does not wake is started anew."""
        self._sleeping, self.client = None, client
        try:
            client.wake_up()
        except (EngineUnavailable, EngineRefused) as error:
            self._failed(f"The model server of {self.base_path} did not wake up ({error}).")
        else:
            self.status, self.detail, self._unanswered = "ready", "", 0

    def log_tail(self, lines: int = 30) -> list[str]:
        """The last lines printed since the latest start."""
        if not self.log_path.is_file():
            return []
        with self.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_starts_at, size - 200_000))
            text = log.read().decode("utf-8", "replace")
        return [line for line in text.splitlines() if line.strip()][-lines:]

    def _look_for_start(self, now: float) -> None:
        if self._port_file.is_file():
            client = EngineClient(f"http://127.0.0.1:{self._port_file.read_text()}")
            if client.health() and self._is_ours(client):
                self.client, self._unanswered = client, 0
                self.status, self.detail, self._why = "ready", "", ""
                return
            client.close()
        if now - self._started_at > START_SECONDS:
            self._failed(f"The model server of {self.base_path} did not start within {START_SECONDS:.0f} seconds.")
        else:
            seconds = f"{now - self._started_at:.0f} seconds"
            self.detail = f"{self._why}The model is being loaded, for {seconds} now; try again in a moment."

    def _is_ours(self, client: EngineClient) -> bool:
        """Another program may have taken the port in the moment between its choice and its use."""
        try:
            return client.base_root() in ("", str(self._folder))
        except (EngineUnavailable, EngineRefused):
            return False

    def _look_for_life(self, now: float) -> None:
        assert self.client is not None
        self._look_again_at = now + LOOK_SECONDS
        if now - self._started_at > SETTLED_SECONDS:
            self._failures = 0
        if self._files_changed():
            self._start_anew(f"The files of {self.base_path} were changed, so its server is started anew.")
        elif self.client.health():
            self._unanswered = 0
            with suppress(EngineUnavailable, EngineRefused):
                self.pulse.feel(self.client.load(), now)
        else:
            self._unanswered += 1
            if self._unanswered >= DEAF_AFTER:
                self._failed(f"The model server of {self.base_path} no longer answers.")

    def _files_changed(self) -> bool:
        """Where a folder is gone the server answers on: it has read it."""
        return any(now and now != then for now, then in zip(self._look_at_files(), self._looks, strict=True))

    def _look_at_files(self) -> tuple[Look, ...]:
        return tuple(look_of(folder) for folder in (self._folder, *self._watched))

    def _start_anew(self, why: str) -> None:
        self.stop()
        self._why, self._unanswered = f"{why} ", 0
        self.start()

    def _failed(self, sentence: str) -> None:
        """Sweep up, and try again after a pause that grows."""
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        self._why = f"{sentence} "
        self._try_again_at = time.monotonic() + pause
        self._let_go()
        self.status = "failed" if self._failures >= len(PAUSES) else "restarting"
        self.detail = f"{sentence} The next try is in {pause:g} seconds."

    def _ending(self, code: int) -> str:
        if code < 0:
            name = signal.Signals(-code).name
            return f"was killed by {name}" + (", as happens when memory runs out" if name == "SIGKILL" else "")
        return f"ended with exit code {code}: {cause(self.log_tail(1000))[:400]} (its log: {self.log_path})"

    def _let_go(self) -> None:
        for client in filter(None, (self.client, self._sleeping)):
            client.close()
        self.client, self._sleeping, self.pulse = None, None, Pulse()
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # itself, and whatever it has left behind
            self._process.wait()
        self._process = None


@contextmanager
def serving(base_path: str, log_path: Path, command: Command = embedded_command) -> Iterator[EngineClient]:
    """A server for the length of a `with` block, for scripts and tests. The base is called `base`.

    Raises EngineUnavailable when it cannot be started.
    """
    server = ModelServer(base_path, log_path, command)
    try:
        while server.client is None:
            server.look()
            if server.status in ("restarting", "failed"):
                raise EngineUnavailable(server.detail)
            time.sleep(0.05)
        yield server.client
    finally:
        server.stop()


def _fell_asleep(client: EngineClient) -> bool:
    try:
        return client.sleep()
    except EngineUnavailable:  # it is gone, or took longer than anybody waits
        return False


def _environment(keys: Collection[str]) -> dict[str, str]:
    """Offline, quiet, without keys, and leaving half of the machine to the labelers unless the user said otherwise."""
    threads = str(max(1, (os.cpu_count() or 1) // 2))
    path = os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH"))))
    defaults = {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    fixed = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "PYTHONPATH": path}
    return defaults | without_any_key(os.environ, keys) | fixed
