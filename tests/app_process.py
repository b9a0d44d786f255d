"""The real app as a process of its own, for tests and benchmarks: started, killed, started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[1]
READY = re.compile(r"\[ *([\d.]+) s\] Ready at (http://\S+)")


class AppProcess:
    """`python app.py` on a free port with a home of its own. Use as a context manager."""

    def __init__(self, home: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.home = home
        self.url = ""
        self.cpu_seconds_when_ready = 0.0
        self.output: list[str] = []
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "app.py", "--no-browser", *arguments],
            cwd=ROOT,
            env={**os.environ, "PLUMBLINE_HOME": str(home), "PLUMBLINE_PORT": "0", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, seconds: float = 120) -> AppProcess:
        if not self._ready.wait(seconds) or not self.url:
            raise AssertionError("the app did not start:\n" + "\n".join(self.output[-40:]))
        return self

    def wait_end(self, seconds: float = 120) -> int:
        """Its exit code, once all that it said is in `output`."""
        code = self._process.wait(seconds)
        self._reader.join(seconds)
        return code

    def kill(self) -> None:
        """As a power cut would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def cpu_seconds(self) -> float:
        """User and system time of the web process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def has_loaded(self, library: str) -> bool:
        """Whether the web process has mapped a file of this name."""
        return library in Path(f"/proc/{self.pid}/maps").read_text()

    def __enter__(self) -> AppProcess:
        return self.wait_ready()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            print("\n".join(self.output[-60:]))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output.append(line.rstrip())
            if found := READY.search(line):
                self.cpu_seconds_when_ready, self.url = float(found[1]), found[2]
                self._ready.set()
        self._ready.set()


def wait_until(what: str, seconds: float, is_so: object, pause: float = 0.2) -> None:
    """Until `is_so()` is true; fails with `what` otherwise."""
    assert callable(is_so)
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)
