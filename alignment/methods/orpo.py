"""Odds ratio preference optimisation (arXiv:2403.07691), through TRL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from alignment.methods.base import HeldOutMeasure, Inputs, Report, TunedMethod, gap_verdict
from storage.records import DatasetType


class ORPO(TunedMethod):
    """Learn from comparisons without a second model to compare with.

    The model learns to write the better answer, as in SFT, and at the same time that the better one is likelier than
    the worse one. No reference is held in memory, so it is the lightest method for comparisons, and it does in one step
    what SFT and then DPO do in two. Nothing holds it to its parent, so watch the answers.
    """

    name: ClassVar[str] = "orpo"
    title: ClassVar[str] = "ORPO"
    reads: ClassVar[DatasetType] = "preference"
    needs: ClassVar[int] = 16
    rows_are: ClassVar[str] = "pairs"
    held_out: ClassVar[HeldOutMeasure] = HeldOutMeasure("eval_loss", "loss on held-out pairs")
    # full, large: the paper's (arXiv:2403.07691); lora, large and full, small: not measured
    learning_rates: ClassVar = {
        ("lora", "small"): 7e-4,
        ("lora", "large"): 5e-5,
        ("full", "small"): 1e-4,
        ("full", "large"): 8e-6,
    }

    learning_rate: float = Field(
        7e-4, gt=0, le=0.1, title="Learning rate",
        description="How far each step moves the model. Too low and nothing changes; too high and answers fall apart.",
    )  # fmt: skip
    batch_size: int = Field(
        4, ge=1, le=256, title="Pairs per batch",
        description="Pairs read together. Smaller batches take more steps and less memory.",
    )  # fmt: skip
    beta: float = Field(
        20.0, gt=0, le=100, title="Weight of the comparison (beta)",
        description="How much the comparison counts beside writing the better answer. A small model needs about 20; "
        "the paper has 0.1 for large ones.",
    )  # fmt: skip  # on the starter model 0.5 left 49 % of the answers well formed, 20 left 82 %

    def train(self, inputs: Inputs, report: Report) -> Mapping[str, float]:
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        from alignment.methods import trl_training

        # -log p(chosen) - beta * log sigmoid(log odds(chosen) - log odds(rejected)), Eq. 6 and 7; TRL's likelihood term
        # covers the prompt too
        config = ORPOConfig(**trl_training.arguments(self, inputs), beta=self.beta)
        return trl_training.fit(trl_training.counting(ORPOTrainer), config, self, inputs, report)

    def verdict(self, final: Mapping[str, float]) -> str:
        return gap_verdict(final, self.beta)
