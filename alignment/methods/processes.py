"""A run of several processes, as accelerate starts them: who writes, and how all of them come to the same decision."""

from __future__ import annotations

import os

import torch
from torch import distributed


def first_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def sharded() -> bool:
    """Whether no process holds the whole model: it cannot answer prompts along the way then."""
    return "true" in (os.environ.get("ACCELERATE_USE_FSDP"), os.environ.get("ACCELERATE_USE_DEEPSPEED"))


def anywhere(fact: bool) -> bool:
    """Whether it holds in any process of this run, so that all of them do the same."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return fact
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    count = torch.tensor(int(fact), device=device)
    distributed.all_reduce(count)
    return bool(count)


def everybody_is_here() -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
