"""How much memory there is, and how much of it a new process may take: of the machine, or of the container it runs in.

A container, a job of a cluster or a service of systemd is a cgroup with a limit of its own, and /proc/meminfo knows
nothing of it: a process that takes what the machine has free is killed there. A cgroup lies in others, and each of
them may have a limit, so the least of all counts. Files that are cached count as free everywhere, since the kernel
drops them first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

UNKNOWN = 2**62  # as much as one likes


@dataclass(frozen=True)
class _Version:
    """Where one of the two kinds of cgroups keeps its figures, and what it calls them."""

    root: str
    line: str  # of /proc/self/cgroup
    limit: str
    used: str
    cached: tuple[str, ...]


_VERSIONS = (
    _Version("sys/fs/cgroup", r"^0::(.*)$", "memory.max", "memory.current", ("active_file", "inactive_file")),
    _Version(
        "sys/fs/cgroup/memory",
        r"^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
    ),
)


def available_memory(system: Path = Path("/")) -> int:
    """In bytes; UNKNOWN where nobody says."""
    return min(_of_machine(system, "MemAvailable"), *_of_groups(system, _left_in))


def total_memory(system: Path = Path("/")) -> int:
    """In bytes; UNKNOWN where nobody says."""
    return min(_of_machine(system, "MemTotal"), *_of_groups(system, _limit_of))


def _of_machine(system: Path, what: str) -> int:
    with suppress(OSError):
        if found := re.search(rf"^{what}:\s+(\d+) kB", (system / "proc/meminfo").read_text(), re.MULTILINE):
            return int(found[1]) * 1024
    return UNKNOWN


def _of_groups(system: Path, figure: Callable[[Path, _Version], int]) -> Iterator[int]:
    """The figure of our cgroup and of each that it lies in. From inside a container only the outermost may be seen."""
    yield UNKNOWN
    for version in _VERSIONS:
        with suppress(OSError):
            if found := re.search(version.line, (system / "proc/self/cgroup").read_text(), re.MULTILINE):
                own = Path(found[1].lstrip("/"))
                for group in (own, *own.parents):
                    with suppress(OSError, ValueError):  # it is not there, or has no limit: `max`
                        yield figure(system / version.root / group, version)


def _limit_of(group: Path, version: _Version) -> int:
    return int((group / version.limit).read_text())


def _left_in(group: Path, version: _Version) -> int:
    used = int((group / version.used).read_text())
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return max(0, _limit_of(group, version) - used + sum(int(stat.get(name, 0)) for name in version.cached))
