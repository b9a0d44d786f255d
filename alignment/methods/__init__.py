"""The alignment methods. A new one is one file and its name here."""

from __future__ import annotations

from alignment.methods.base import Method
from alignment.methods.dpo import DPO
from alignment.methods.kto import KTO
from alignment.methods.orpo import ORPO
from alignment.methods.ppo import PPO
from alignment.methods.pretrain import Pretrain
from alignment.methods.reward_model import RewardModel
from alignment.methods.rloo import RLOO
from alignment.methods.sft import SFT
from storage.errors import NotFound

METHODS: tuple[type[Method], ...] = (Pretrain, SFT, RewardModel, PPO, DPO, KTO, ORPO, RLOO)


def method_named(name: str) -> type[Method]:
    for method in METHODS:
        if method.name == name:
            return method
    raise NotFound(f"There is no method called {name!r}. There are: {', '.join(m.name for m in METHODS)}.")
