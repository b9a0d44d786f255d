"""A real vLLM server for a test: started as the app starts it, and gone with all of its processes afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from labeling.engines.client import EngineClient
from labeling.engines.model_server import serving
from labeling.engines.vllm_server import VLLM, installed
from tests.app_process import wait_until

NO_VLLM = "There is no .venv-vllm: `make vllm` makes it."
EVERYTHING = "PLUMBLINE_TEST_EVERYTHING"  # of .ci/run, where a skipped test would go unseen
FEW_SLOTS = VLLM(arguments=("--max-lora-rank", "16", "--max-loras", "4"))  # fewer than a test loads


def skip_without_vllm() -> None:
    """Where everything is to be tested, the test fails instead."""
    if not installed():
        (pytest.fail if os.environ.get(EVERYTHING) else pytest.skip)(NO_VLLM)


@contextmanager
def vllm(model: Path, log: Path) -> Iterator[EngineClient]:
    """Serves the model in this folder as `base`. The heads of its attention must be 32 wide or wider."""
    before = _children()
    with serving(str(model), log, FEW_SLOTS) as client:
        (leader,) = _children() - before
        yield client
    wait_until("all processes of vLLM are gone", 60, lambda: not group(leader))


def group(leader: int) -> list[int]:
    """The living processes of its group. A killed one may stay for a moment as a zombie of its parent."""
    found = []
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError):
            if os.getpgid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def _children() -> set[int]:
    return {process.pid for process in psutil.Process().children()}
