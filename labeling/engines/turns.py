"""The model servers' side of a device that they share with runs, one at a time.

vLLM takes nearly all of a GPU's memory, so a run beside it would fail. Where they take turns, a run that is next in
line asks for the device through its lease in storage (storage/leases.py). The servers then answer nobody new, let what
is being answered come to its end, let go of the memory and hand the device over. They take it back when no run needs
it: after the last run in line, however that ended, and not between two. People go on with the answers in stock
meanwhile; the sampler passes on why there are no more and when there will be.

Each server has devices of its own, and rests for a run on one of these only; a device that no server uses is nobody's,
so a run there waits for nothing.

A run takes a turn only where it trains on a device of the model servers: not on another GPU, and not on a cluster. What
a run asks for on the way never needs our servers: its answers along the way, and the reward model that PPO and RLOO
learn from, are computed in its own process; judges are endpoints elsewhere. The model server that may answer for PPO
(`sampling_server`) is one that somebody else runs, and those are never put to sleep; it needs memory of its own.

Two Plumblines with homes of their own know nothing of each other: give each a GPU of its own (CUDA_VISIBLE_DEVICES).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from storage import leases
from storage.database import Database
from storage.leases import CPU, NOBODY, SERVER, Lease


class Turns:
    """The devices that the model servers of one app may use, by the names that runs have for them."""

    def __init__(self, database: Database, devices: Sequence[str]) -> None:
        self._database = database
        leases.share(database, devices)

    def ours(self, devices: Sequence[str]) -> bool:
        """Whether a server may use these now. What nobody has or wants becomes the servers'."""
        held = self._held(devices)
        if any(lease.run for lease in held):
            return False
        for lease in held:
            if lease.holder == NOBODY:
                leases.take(self._database, lease.device)
        return all(lease.holder == SERVER and not lease.run for lease in self._held(devices))

    def hand_over(self, but: Collection[str]) -> None:
        """No server has any memory of a device, but of these."""
        for lease in leases.list_all(self._database):
            if lease.holder == SERVER and lease.device not in but:
                leases.hand_over(self._database, lease.device)

    def why(self, devices: Sequence[str]) -> str:
        """Why a server on these rests, for whoever waits for answers, and when that ends."""
        lease = next((lease for lease in self._held(devices) if lease.run), None)
        if lease is None:
            return "The model is about to answer again."
        device = _in_words(lease.device)
        if lease.holder == SERVER:
            return f"The model finishes the answers it has begun and makes room for the run {lease.run} on {device}."
        return f"The model is asleep while the run {lease.run} trains on {device}. {_until(lease)}"

    def _held(self, devices: Sequence[str]) -> list[Lease]:
        """The leases of those that are shared."""
        return [lease for lease in leases.list_all(self._database) if lease.device in devices]


def _until(lease: Lease) -> str:
    if lease.free_at is None:
        return "It answers again once that run, and those in line behind it, have ended."
    return f"It answers again when that ends, near {lease.free_at.astimezone():%H:%M}."


def _in_words(device: str) -> str:
    return "the processor" if device == CPU else f"GPU {device.removeprefix('cuda:')}"
