"""Who runs a run: this machine, or a Ray cluster."""

from __future__ import annotations

from functools import cache

from alignment.launchers.base import Launcher
from alignment.launchers.launch import Launch
from alignment.launchers.local import LocalLauncher
from alignment.launchers.ray import RayLauncher
from storage.records import Run

__all__ = ["Launch", "Launcher", "LocalLauncher", "RayLauncher", "launcher_for"]


def launcher_for(run: Run) -> Launcher:
    """The launcher that started this run, or will. It is one for all runs there, as it keeps what it has seen."""
    return _ray(run.launch["address"]) if run.launch.get("where") == "ray" else _local()


@cache
def _local() -> LocalLauncher:
    return LocalLauncher()


@cache
def _ray(address: str) -> RayLauncher:
    return RayLauncher(address)
