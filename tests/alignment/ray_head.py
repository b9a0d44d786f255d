"""A Ray cluster of one machine for a test: started on free ports, and gone with all its processes afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from tests.app_process import wait_until
from tests.free_ports import free_ports

RAY = Path(__file__).parents[2] / ".venv-ray" / "bin" / "ray"
NO_RAY = "There is no .venv-ray: `make .venv-ray/ray` makes it."
MEMORY = "80000000"  # of the object store, which a run does not use
PATIENCE = 120


@contextmanager
def cluster(cpus: int = 2) -> Iterator[str]:
    """The address of its dashboard. Its folder is short, because Ray keeps sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    head = _start(folder, cpus)
    try:
        yield _when_it_answers(head, folder)
    finally:
        _end(head)
        wait_until("nothing is left of the cluster", 60, lambda: not _left(folder))
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, cpus: int) -> psutil.Popen:
    names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port", "metrics-export-port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    (folder / "port").write_text(str(ports["dashboard-port"]))
    with (folder / "head.log").open("wb") as log:
        return psutil.Popen(
            [str(RAY), "start", "--head", "--block", f"--num-cpus={cpus}", "--num-gpus=0", f"--temp-dir={folder}"]
            + ["--disable-usage-stats", f"--object-store-memory={MEMORY}"]
            + ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]  # nothing that others could reach
            + [f"--{name}={port}" for name, port in ports.items()],
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _when_it_answers(head: psutil.Popen, folder: Path) -> str:
    address = f"http://127.0.0.1:{(folder / 'port').read_text()}"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and head.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{address}/api/jobs/", timeout=2).is_success:
                return address
        time.sleep(0.2)
    raise AssertionError(f"The head of the cluster did not start: {(folder / 'head.log').read_text()[-2000:]}")


def _end(head: psutil.Popen) -> None:
    """Its processes are looked up before the head is told, because those that outlive it lose their parent."""
    with suppress(psutil.NoSuchProcess):
        family = [head, *head.children(recursive=True)]
        head.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=10)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)


def _left(folder: Path) -> list[str]:
    """Command lines that still name its folder, which all processes of a cluster do."""
    lines = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return [" ".join(line) for line in lines if any(str(folder) in part for part in line)]
