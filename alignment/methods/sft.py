"""Supervised fine-tuning, through TRL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from alignment.methods.base import ADVANCED, HeldOutMeasure, Inputs, Report, TunedMethod
from labeling.engines.template import INSTRUCTION_TEMPLATE
from storage.records import DatasetType

BOTH = "(the averages of the first and the last fifth of the steps)"  # where the losses of the verdict were taken


class SFT(TunedMethod):
    """Learn from examples: this is what the answer should have been.

    The model learns to write the answers that people wrote or rewrote, word by word; the prompt itself is not learned.
    Use it first when the model does not yet answer in the form you want at all: comparisons can only choose among
    answers that it already gives.
    """

    name: ClassVar[str] = "sft"
    title: ClassVar[str] = "SFT"
    reads: ClassVar[DatasetType] = "prompt_completion"
    needs: ClassVar[int] = 8
    rows_are: ClassVar[str] = "examples"
    held_out: ClassVar[HeldOutMeasure] = HeldOutMeasure("eval_loss", "loss on held-out examples")
    # lora, large: QLoRA's for 7B models (arXiv:2305.14314); full, large: Zephyr's (arXiv:2310.16944); full, small: a
    # tenth of what the starter model was pre-trained with, not measured
    learning_rates: ClassVar = {
        ("lora", "small"): 1e-3,
        ("lora", "large"): 2e-4,
        ("full", "small"): 2e-4,
        ("full", "large"): 2e-5,
    }

    epochs: int = Field(
        3, ge=1, le=20, title="Passes over the data",
        description="How often each example is seen. More than three on few examples learns them by heart.",
    )  # fmt: skip
    batch_size: int = Field(
        4, ge=1, le=256, title="Examples per batch",
        description="Examples read together. Smaller batches take more steps and less memory.",
    )  # fmt: skip
    prompt_template: Literal["model", "instruction"] = Field(
        "model", title="Prompt template",
        description="model: the parent's own. instruction: '### Instruction:' and '### Response:', for a base model "
        "that has never answered; the version is then served with it too.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip

    def template_for(self, parent_template: str) -> str:
        return INSTRUCTION_TEMPLATE if self.prompt_template == "instruction" else parent_template

    def train(self, inputs: Inputs, report: Report) -> Mapping[str, float]:
        from trl import SFTConfig, SFTTrainer

        from alignment.methods import trl_training

        config = SFTConfig(**trl_training.arguments(self, inputs), completion_only_loss=True)
        return trl_training.fit(SFTTrainer, config, self, inputs, report)

    def verdict(self, final: Mapping[str, float]) -> str:
        return fall_verdict(final, "the examples")


def fall_verdict(final: Mapping[str, float], rows: str) -> str:
    """How far the loss fell while learning these rows."""
    first, last = final.get("first_loss", 0.0), final.get("loss", 0.0)
    if last > 0.97 * first:
        return (
            f"the model learned next to nothing: its loss went from {first:.2f} to {last:.2f} {BOTH}. "
            "Raise the learning rate or add a pass over the data."
        )
    return f"its loss on {rows} fell from {first:.2f} to {last:.2f} {BOTH}."
