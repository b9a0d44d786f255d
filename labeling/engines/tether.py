"""python -m labeling.engines.tether SIGNAL PARENT_PID COMMAND…: become COMMAND, and die when the parent dies.

The kernel sends SIGNAL to this process when the *thread* that started it ends, by whatever cause, kill -9 included
(PR_SET_PDEATHSIG, Linux). So start it from a thread that lives as long as the app. The setting outlives exec; doing it
here instead of between fork and exec keeps Python code out of the forked child of a process with many threads.

Elsewhere than on Linux the command runs untethered.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def tethered(command: list[str], signal_number: int) -> list[str]:
    """`command` as a child of this process that gets `signal_number` when the calling thread is gone."""
    return [sys.executable, "-m", "labeling.engines.tether", str(signal_number), str(os.getpid()), *command]


def main(arguments: list[str]) -> None:
    signal_number, parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
    if os.getppid() != int(parent):  # it died before the line above
        raise SystemExit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
