"""A real vLLM server for a test: bound to the test by tether.py, and gone with all of its processes afterwards.

What each setting is for: float32, so that its answers can be compared with the trainer's; --generation-config vllm, so
that a model's own defaults change nothing; one cache of a gigabyte, as a test needs no more; no just-in-time
compilation, which would take the first request half a minute.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from labeling.engines.client import EngineClient
from labeling.engines.tether import tethered

ROOT = Path(__file__).parents[1]
VLLM = ROOT / ".venv-vllm"
NO_VLLM = "There is no .venv-vllm: `make vllm` makes it."
EVERYTHING = "PLUMBLINE_TEST_EVERYTHING"  # of .ci/run, where a skipped test would go unseen
PATIENCE = 300  # it takes half a minute alone
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
}


def skip_without_vllm() -> None:
    """Where everything is to be tested, the test fails instead."""
    if not (VLLM / "vllm").exists():
        (pytest.fail if os.environ.get(EVERYTHING) else pytest.skip)(NO_VLLM)


@contextmanager
def vllm(model: Path, log: Path) -> Iterator[EngineClient]:
    """Serves the model in this folder as `base`. The heads of its attention must be 32 wide or wider."""
    port = _free_port()
    with log.open("wb") as printed:
        process = subprocess.Popen(
            tethered(_command(model, port), signal.SIGTERM),
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    client = EngineClient(f"http://127.0.0.1:{port}")
    try:
        _wait(process, client, log)
        yield client
    finally:
        client.close()
        _end(process)
        assert group(process.pid) == []


def group(leader: int) -> list[int]:
    """The living processes of its group. A killed one may stay for a moment as a zombie of its parent."""
    found = []
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError):
            if os.getpgid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def _command(model: Path, port: int) -> list[str]:
    command = [str(VLLM / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "base", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--enable-lora", "--max-lora-rank", "16", "--max-loras", "4", "--enforce-eager"]
    return [*command, "--generation-config", "vllm"]


def _wait(process: subprocess.Popen[bytes], client: EngineClient, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not client.health():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-4000:]
        time.sleep(0.5)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Politely, then the whole group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    deadline = time.monotonic() + 10
    while group(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
