"""REINFORCE leave-one-out (arXiv:2402.14740): learning from the model's own answers, through TRL."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from alignment.methods.base import ADVANCED, WHERE, Inputs, Preset, Report, Tuning
from alignment.methods.online import OnlineMethod

STEPS: Mapping[Preset, int] = {"quick": 16, "balanced": 30, "thorough": 60}


class RLOO(OnlineMethod):
    """Learn by trying: the model answers prompts, a reward model scores the answers, and better ones become likelier.

    Each prompt is answered several times, and an answer counts for as much as it scores above the others to the same
    prompt. It needs prompts only, no comparisons, but it follows the reward model into its mistakes: read the answers
    as they change, and do not go on for longer than they get better. The reward counts in spreads of the reward
    model's own scores (their standard deviation), less what the answer strays from the parent.
    """

    name: ClassVar[str] = "rloo"
    title: ClassVar[str] = "RLOO"
    learning_rates: ClassVar[Mapping[tuple[Literal["lora", "full"], Literal["small", "large"]], float]] = {
        ("lora", "small"): 1.5e-3,
        ("lora", "large"): 5e-5,
        ("full", "small"): 5e-5,
        ("full", "large"): 1e-6,  # arXiv:2402.14740, appendix
    }

    learning_rate: float = Field(
        1.5e-3, gt=0, le=0.1, title="Learning rate",
        description="How far each step moves the model. Too low and nothing changes; too high and answers fall apart.",
    )  # fmt: skip
    epochs: int = Field(
        50, ge=1, le=1000, title="Passes over the prompts, at most",
        description="How often each prompt may come. With few prompts this ends the run before its steps do.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    most_steps: int = Field(
        30, ge=1, le=100_000, title="Steps, at most",
        description="How often the model moves. More steps reach a higher reward, and in time an undeserved one.",
    )  # fmt: skip
    batch_size: int = Field(
        32, ge=2, le=1024, title="Answers per batch",
        description="Answers sampled and scored together. A multiple of the answers per prompt.",
    )  # fmt: skip
    answers_per_prompt: int = Field(
        8, ge=2, le=64, title="Answers per prompt",
        description="Each answer is compared with the others to the same prompt. More of them give a steadier signal.",
    )  # fmt: skip
    iterations: int = Field(
        2, ge=1, le=8, title="Steps on the same answers",
        description="How often the model moves before it samples again. Sampling takes most of the time.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip

    @model_validator(mode="after")
    def _whole_groups(self) -> RLOO:
        group = self.answers_per_prompt
        if self.batch_size % group:
            raise ValueError(
                f"answers per batch ({self.batch_size}) must be a multiple of answers per prompt ({group}): "
                f"{group * ceil(self.batch_size / group)}, say"
            )
        return self

    @classmethod
    def proposed(cls, preset: Preset = "balanced", tuning: Tuning = "lora", parameters: int = 0) -> dict[str, Any]:
        proposal = super().proposed(preset, tuning, parameters)
        return {**proposal, "epochs": cls.model_fields["epochs"].default, "most_steps": STEPS[preset]}

    @property
    def prompts_per_step(self) -> int:
        return self.batch_size * self.accumulate // self.answers_per_prompt

    @property
    def whole_steps(self) -> int:
        """The answers that a step learns from again are not kept in a checkpoint."""
        return self.iterations

    def steps(self, rows: int) -> int:
        """Prompts that do not fill a batch are left for another pass."""
        in_a_pass = (rows // self.prompts_per_step) * self.iterations
        return min(self.most_steps, in_a_pass * self.epochs)

    def train(self, inputs: Inputs, report: Report) -> Mapping[str, float]:
        from trl import RLOOTrainer

        from alignment.methods import trl_training
        from alignment.methods.rloo_training import RLOOTraining

        training = RLOOTraining(self, inputs)
        final = trl_training.fit(RLOOTrainer, training.config, self, inputs, report, training.parts())
        return {**final, **training.found}

    def verdict(self, final: Mapping[str, float]) -> str:
        if "first_eval_reward" in final:  # steadier than the rewards of training, each of which is of other prompts
            before, after, where = final["first_eval_reward"], final["eval_reward"], ""
        else:
            before, after = final.get("first_reward", 0.0), final.get("reward", 0.0)
            where = f" from {before:.2f} to {after:.2f} {WHERE}"
        if after <= before:
            return (
                f"the reward did not rise{where}. Raise the learning rate or the steps, or look whether the reward "
                "model can tell answers apart."
            )
        return (
            f"the reward rose{where}, counted in spreads of the reward model's scores. Only people can say whether the "
            "answers got better too: compare this version with its parent."
        )
