"""What an answer is worth to a run that learns from its own: how PPO comes by its scores. Imported inside a run only.

A reward model on the same base is an adapter and a head on the backbone that the run has anyway. Everything else is
given the text: a Python function, a judge, a reward model that reads other tokens or stands on other weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from alignment.methods.base import Inputs, Messages, Parent, TextReward
from alignment.methods.online import refuse_changed, why_apart
from alignment.methods.ppo_backbone import Backbone, Row
from alignment.scorers.process import RewardProcess
from labeling.engines.reward_scorer import read_examples, read_scale
from storage.errors import BadInput


class Reward(Protocol):
    on_backbone: Parent | None
    """The reward model whose adapter the backbone is to carry, if any."""

    def __call__(
        self, backbone: Backbone, rows: Sequence[Row], prompts: Sequence[Messages], texts: Sequence[str]
    ) -> Tensor:
        """(rows,), float32."""

    def check(self, backbone: Backbone) -> None:
        """Raises RunFailed where it does not score as it did when it was made."""

    def close(self) -> None:
        """The run is over."""


class OnBackbone:
    """A reward model of the same base, in spreads of its own scores on answers that people compared (reward.json).

    Mean and spread are those of its training, fixed before the run: a moving scale would move the goal.
    """

    def __init__(self, version: Parent) -> None:
        self.on_backbone: Parent | None = version
        self._folder = Path(str(version.adapter_path))
        self._scale = read_scale(self._folder)

    def __call__(
        self, backbone: Backbone, rows: Sequence[Row], prompts: Sequence[Messages], texts: Sequence[str]
    ) -> Tensor:
        return (backbone.scores(rows) - self._scale.mean) / self._scale.std

    def check(self, backbone: Backbone) -> None:
        examples = read_examples(self._folder)
        if not examples:
            return
        rows = [Row.of(example.tokens, backbone.device) for example in examples]
        apart = (backbone.scores(rows).cpu() - torch.tensor([example.score for example in examples])).abs().max().item()
        refuse_changed(apart, backbone.equal * max(1.0, self._scale.std))

    def close(self) -> None: ...


class OnText:
    """A reward that reads what a person would read."""

    on_backbone: Parent | None = None

    def __init__(self, function: TextReward) -> None:
        self._function = function

    def __call__(
        self, backbone: Backbone, rows: Sequence[Row], prompts: Sequence[Messages], texts: Sequence[str]
    ) -> Tensor:
        return torch.tensor(list(self._function(prompts, texts)), dtype=torch.float32, device=backbone.device)

    def check(self, backbone: Backbone) -> None: ...

    def close(self) -> None: ...


class InAProcess(OnText):
    """A reward model that the backbone cannot carry, with all of its weights in a process of its own.

    That process itself refuses a model that scores otherwise than it did.
    """

    def __init__(self, version: Parent) -> None:
        self._process = RewardProcess(version)
        super().__init__(self._process)

    def close(self) -> None:
        self._process.close()


def reward_of(inputs: Inputs) -> Reward:
    if inputs.scored_by:
        return OnText(inputs.scored_by)
    if inputs.reward is None:
        raise BadInput(
            "PPO has the model's answers scored, by a reward model, a function or a judge, and none was chosen. Choose "
            "one in the form; the method Reward model trains one from comparisons."
        )
    if why_apart(inputs.parent, inputs.reward):
        return InAProcess(inputs.reward)
    return OnBackbone(inputs.reward)
