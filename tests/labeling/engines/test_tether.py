"""A command and all that it starts end when they are told to, and when the one who started them is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from labeling.engines.tether import tethered_group
from tests.app_process import wait_until
from tests.labeling.engines.conftest import ROOT
from tests.vllm_process import group

# A server that has a child, and neither of them listens to SIGTERM.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; "
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"])
time.sleep(600)
"""


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[str]]:
    command = tethered_group([sys.executable, "-c", STUBBORN])
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    assert len(group(process.pid)) == 3
    yield process
    process.kill()
    process.wait()


def test_those_who_do_not_listen_are_gone_within_seconds_all_the_same(stubborn: subprocess.Popen[str]):
    stubborn.terminate()
    wait_until("nobody of the group is left", 60, lambda: not group(stubborn.pid), pause=0.05)  # after three seconds
    assert stubborn.wait(60) == -signal.SIGKILL


def test_it_ends_as_its_command_ended():
    for code in ("raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)"):
        process = subprocess.Popen(tethered_group([sys.executable, "-c", code]), cwd=ROOT, start_new_session=True)
        assert process.wait(60) == (3 if "Exit" in code else -9)
