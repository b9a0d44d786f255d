"""Label Studio from PyPI beside ours: its own server on SQLite, its own annotation API.

It lives in an environment of its own, .venv-label-studio, made when it is first needed (1 GB, some minutes).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".venv-label-studio"
LOCK = ROOT / "benchmarks" / "requirements-label-studio.lock"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
WHO = {"username": "rater@example.org", "password": "not-a-secret-1"}
QUIET = {  # no telemetry, no look for a newer version
    "COLLECT_ANALYTICS": "false",
    "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}
CONFIG = """<View><Text name="prompt" value="$prompt"/><Text name="a" value="$a"/><Text name="b" value="$b"/>
<Choices name="better" toName="prompt"><Choice value="A"/><Choice value="B"/><Choice value="tie"/></Choices></View>"""
RESULT = [{"from_name": "better", "to_name": "prompt", "type": "choices", "value": {"choices": ["A"]}}]
ANSWER = "Keep it between two and eight degrees, and note when it was opened. " * 6


def is_there() -> bool:
    return (HOME / "made").exists()


def set_up() -> None:
    """Makes the environment where there is none."""
    if is_there():
        return
    print(f"Setting up {HOME.name} (once; some minutes, mostly downloads) ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME)], check=True)
    (HOME / ".gitignore").write_text("*\n")
    quiet = ("--disable-pip-version-check", "--progress-bar", "off", "--quiet")
    subprocess.run([str(HOME / "bin" / "python"), "-m", "pip", "install", *quiet, "-r", str(LOCK)], check=True)
    (HOME / "made").touch()


class LabelStudio:
    """Its server with a project and tasks, while the block runs."""

    def __init__(self, folder: Path, port: int, tasks: int) -> None:
        self._folder, self._tasks = folder, tasks
        self.url = f"http://127.0.0.1:{port}"
        self._client = httpx.Client(base_url=self.url, headers={"Authorization": f"Token {TOKEN}"}, timeout=120)
        self._project = 0

    def __enter__(self) -> LabelStudio:
        set_up()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._log = (self._folder / "log.txt").open("w")
        port = self.url.rsplit(":", 1)[1]
        command = [str(HOME / "bin" / "label-studio"), "start", "--no-browser", "--port", port, "--log-level", "ERROR"]
        account = ["--username", WHO["username"], "--password", WHO["password"], "--user-token", TOKEN]
        where = {"LABEL_STUDIO_BASE_DATA_DIR": str(self._folder), "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true"}
        environment = {**os.environ, **QUIET, **where}
        self._process = subprocess.Popen(
            [*command, *account], env=environment, stdout=self._log, stderr=subprocess.STDOUT, cwd=self._folder
        )
        self._wait_until_ready()
        self._fill()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(30)
        self._log.close()

    def submit_and_next(self) -> float:
        """Seconds for one annotation and the task after it, as its own page asks for them."""
        task = self._next()
        began = time.perf_counter()
        body = {"result": RESULT, "lead_time": 9.0, "project": self._project}
        self._client.post(f"/api/tasks/{task}/annotations/", json=body).raise_for_status()
        self._next()
        return time.perf_counter() - began

    def _next(self) -> int:
        answer = self._client.get(f"/api/projects/{self._project}/next/").raise_for_status()
        return int(answer.json()["id"])

    def _wait_until_ready(self, seconds: float = 900) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with suppress(httpx.HTTPError):
                if self._client.get("/api/projects/").status_code == 200:
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"Label Studio did not start; see {self._folder / 'log.txt'}.")
            time.sleep(0.5)

    def _fill(self) -> None:
        made = self._client.post("/api/projects/", json={"title": "Labels", "label_config": CONFIG}).raise_for_status()
        self._project = int(made.json()["id"])
        tasks: list[dict[str, Any]] = [
            {"data": {"prompt": f"Question {n}: how long does the vaccine keep?", "a": ANSWER, "b": f"{ANSWER} ({n})"}}
            for n in range(self._tasks)
        ]
        self._client.post(f"/api/projects/{self._project}/import", json=tasks).raise_for_status()
