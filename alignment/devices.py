"""Where a run can train: the GPUs of this machine, and its processor. Found without torch, so the app can ask.

Names are those of CUDA in the order of the PCI bus (`cuda:0`), which is also the order of nvidia-smi; `visible` makes
a process see the devices of its run and no other. A GPU that CUDA_VISIBLE_DEVICES hides from the app is not offered.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from labeling.engines.free_memory import total_memory

CPU = "cpu"
_ASKED = "index,uuid,name,memory.total"


@dataclass(frozen=True)
class Device:
    """`name` as run.json has it, `words` as a person reads it; 0 MB where nobody could say."""

    name: str
    words: str
    memory_mb: int


def devices() -> list[Device]:
    """The best first: GPUs, then the processor, which is always there."""
    return [*gpus(), Device(CPU, f"Processor ({cores()} cores)", memory_mb())]


@cache
def gpus() -> tuple[Device, ...]:
    """NVIDIA GPUs, asked for once: they do not come and go while the app runs."""
    found = _asked_of_nvidia_smi() or _listed_by_the_driver()
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return tuple(device for device, _ in found)
    wanted = {name.strip() for name in shown.split(",")}
    return tuple(device for device, names in found if wanted & names)


def taken(device: str, processes: int) -> tuple[str, ...]:
    """The devices of a run: one GPU for each process, counted on from the first; the processor is shared by all."""
    if device == CPU:
        return (CPU,)
    first = int(device.removeprefix("cuda:"))
    return tuple(f"cuda:{number}" for number in range(first, first + processes))


def visible(names: Sequence[str]) -> dict[str, str]:
    """The environment in which a process sees these devices and no other."""
    numbers = [name.removeprefix("cuda:") for name in names if name != CPU]
    return {"CUDA_VISIBLE_DEVICES": ",".join(numbers), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def hardware() -> dict[str, Any]:
    """What this machine is made of, for run.json: the same adapter bit for bit is promised on the same machine only."""
    return {
        "machine": platform.node(),
        "processor": processor(),
        "cores": cores(),
        "memory_mb": memory_mb(),
        "gpus": [gpu.words for gpu in gpus()],
    }


@cache
def processor() -> str:
    """Its model name, or its architecture where the system does not tell more."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        named = None
    return named.group(1).strip() if named else platform.processor() or platform.machine()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_mb() -> int:
    """Of the machine, or of the container where that has less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(whole, total_memory()) // 2**20


# ---- looking for GPUs -----------------------------------------------------------------------------------------------

Found = list[tuple[Device, set[str]]]  # with the names that CUDA_VISIBLE_DEVICES may have for it


def _asked_of_nvidia_smi() -> Found:
    command = ["nvidia-smi", f"--query-gpu={_ASKED}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return parsed(answer)


def parsed(answer: str) -> Found:
    """What nvidia-smi says, one line a GPU: `0, GPU-5c1f…, NVIDIA H100 80GB HBM3, 81559`."""
    found = []
    for line in answer.strip().splitlines():
        index, uuid, name, memory = (part.strip() for part in line.split(","))
        megabytes = int(memory) if memory.isdigit() else 0
        words = f"GPU {index}: {name}" + (f", {megabytes / 1024:.0f} GB" if megabytes else "")
        found.append((Device(f"cuda:{index}", words, megabytes), {index, uuid}))
    return found


def _listed_by_the_driver() -> Found:
    """Where nvidia-smi is not installed: what the driver lists, or else the device files alone."""
    described = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    names = [_model(path.read_text()) for path in described]
    if not names:
        names = ["NVIDIA"] * len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit()])
    return [(Device(f"cuda:{index}", f"GPU {index}: {name}", 0), {str(index)}) for index, name in enumerate(names)]


def _model(information: str) -> str:
    named = re.search(r"^Model:\s*(.+)$", information, re.MULTILINE)
    return named.group(1).strip() if named else "NVIDIA"
