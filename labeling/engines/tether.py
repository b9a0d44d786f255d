"""python -m labeling.engines.tether SIGNAL PARENT_PID COMMAND…: run COMMAND, and end when the parent dies.

The kernel sends SIGNAL to this process when the *thread* that started it ends, by whatever cause, kill -9 included
(PR_SET_PDEATHSIG, Linux). So start it from a thread that lives as long as the app. The setting outlives exec; doing it
here instead of between fork and exec keeps Python code out of the forked child of a process with many threads.

With a SIGNAL this process becomes the command. With `group` it stays, and takes the whole process group along when it
is told to end or its parent dies: a server may have children that outlive it, and may hang while it answers somebody.
It is asked politely first. Start it in a session of its own then.

Elsewhere than on Linux the command runs untethered.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from types import FrameType

GROUP = "group"
POLITE_SECONDS = 3.0  # of the five after which nothing may be left
_PR_SET_PDEATHSIG = 1


def tethered(command: list[str], signal_number: int) -> list[str]:
    """`command` as a child of this process that gets `signal_number` when the calling thread is gone."""
    return [sys.executable, "-m", "labeling.engines.tether", str(signal_number), str(os.getpid()), *command]


def tethered_group(command: list[str]) -> list[str]:
    """`command` and all that it starts, gone when this one ends or the calling thread is gone."""
    return [sys.executable, "-m", "labeling.engines.tether", GROUP, str(os.getpid()), *command]


def main(arguments: list[str]) -> None:
    how, parent, *command = arguments
    if how == GROUP:
        signal.signal(signal.SIGTERM, _leave)
    _die_with_parent(signal.SIGTERM if how == GROUP else int(how))
    if os.getppid() != int(parent):  # it died before the line above
        raise SystemExit(1)
    if how == GROUP:
        _watch(command)
    os.execvp(command[0], command)


def _die_with_parent(signal_number: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def _watch(command: list[str]) -> None:
    """Until the command ends, or we are told to; then nobody of the group is left, this process included."""
    child = subprocess.Popen(tethered(command, signal.SIGKILL))
    try:
        code = child.wait()
    except _Told:
        with suppress(subprocess.TimeoutExpired):
            child.terminate()
            child.wait(POLITE_SECONDS)
        os.killpg(0, signal.SIGKILL)
    _end_as(code)


def _end_as(code: int) -> None:
    """Whoever started us sees how the command ended; what it left behind is swept by them (`killpg`)."""
    if code < 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    raise SystemExit(code)


class _Told(BaseException):
    """SIGTERM came: from whoever started us, or from the kernel because they are dead."""


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Told


if __name__ == "__main__":
    main(sys.argv[1:])
