"""PPO (arXiv:1707.06347, for language models 2203.02155) on one set of weights, in our own trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from alignment.methods.base import ADVANCED, OF_AN_ADAPTER, Inputs, Preset, Report, Tuning
from alignment.methods.online import OnlineMethod
from storage.errors import BadInput

STEPS: Mapping[Preset, int] = {"quick": 12, "balanced": 25, "thorough": 60}


class PPO(OnlineMethod):
    """Learn by trying: the model answers prompts, a reward model scores each answer, and its words follow the score.

    Each word is made likelier or less likely by how much better or worse than expected the answer became with it.
    Policy, parent, reward and value are one set of frozen weights here, and differ by small adapters, so it takes the
    memory of one model and not of four. It follows the reward model into its mistakes: read the answers as they
    change, and stop when they get no better. The reward counts in spreads of the reward model's own scores.
    """

    name: ClassVar[str] = "ppo"
    title: ClassVar[str] = "PPO"
    scores_text: ClassVar[bool] = True
    learning_rates: ClassVar[Mapping[tuple[Literal["lora", "full"], Literal["small", "large"]], float]] = {
        ("lora", "small"): 5e-4,
        ("lora", "large"): 5e-5,
    }

    tuning: Literal["lora", "qlora"] = Field(
        "lora", title="What is trained",
        description="LoRA: small matrices beside the frozen weights. QLoRA: the same, on weights squeezed to 4 bits. "
        "Not full weights: parent, reward and value stand on the same frozen ones.",
    )  # fmt: skip
    layers: Literal["all", "upper half"] = Field(
        "upper half", title="Adapted layers",
        description="upper half: the lower layers stay those of the parent, so they are computed once for all roles "
        "and passes. It costs a third less and reaches as much. A parent that is an adapter keeps its own layers.",
        json_schema_extra=OF_AN_ADAPTER,
    )  # fmt: skip
    learning_rate: float = Field(
        5e-4, gt=0, le=0.1, title="Learning rate",
        description="How far each step moves the model, at first; it falls to nought over the run. Too low and "
        "nothing changes; too high and answers fall apart.",
    )  # fmt: skip
    most_steps: int = Field(
        25, ge=1, le=100_000, title="Iterations",
        description="How often the model answers and learns from it. More reach a higher reward, and in time an "
        "undeserved one.",
    )  # fmt: skip
    batch_size: int = Field(
        16, ge=1, le=1024, title="Answers per minibatch",
        description="Answers that are learned from together.",
    )  # fmt: skip
    accumulate: int = Field(
        4, ge=1, le=256, title="Minibatches per iteration",
        description="This many minibatches of answers are sampled and scored before the model learns from them.",
    )  # fmt: skip
    epochs: int = Field(
        2, ge=1, le=8, title="Passes over the same answers",
        description="How often the model learns from each answer before it samples new ones. More than four strays "
        "too far from what was sampled.",
    )  # fmt: skip
    sampler: Literal["this process", "model server"] = Field(
        "this process", title="Answers come from",
        description="model server: the one that settings.toml names (sampling_server), which gets the adapter anew "
        "each iteration. Faster for large models on a GPU of its own; it must serve the parent's base and see this "
        "machine's folders.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    gold: str = Field(
        "", title="Gold function",
        description="Scores the answers too, is drawn beside the reward and never learned from: what the reward should "
        "have rewarded. Where the reward rises and this falls, the run has gone on for too long.",
        json_schema_extra={**ADVANCED, "choices": "functions"},
    )  # fmt: skip
    kl_target: float = Field(
        0, ge=0, le=1000, title="Steer the drift towards, in nats an answer",
        description="The loyalty is raised while answers stray further than this from the parent, and lowered while "
        "they do not get there. 0 leaves it as it is.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    kl_estimator: Literal["k1", "k2", "k3"] = Field(
        "k1", title="Estimator of the drift that costs",
        description="k1 is unbiased, and the only one whose optimum is reward less beta times drift. k2 and k3 vary "
        "less. What is reported is always k1.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    most_kl: float = Field(
        0.1, ge=0, le=100, title="End an iteration early beyond",
        description="No further minibatch is learned from once a token's KL from what sampled it lies over one and a "
        "half times this. 0 never does.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    clip: float = Field(
        0.1, gt=0, le=1, title="Clip",
        description="How far the chance of a word may move in one iteration before it is left where it is. Small, so "
        "that all words that led to good answers become likelier alike, and not one of them in place of the others.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    value_clip: float = Field(
        0.2, gt=0, le=100, title="Clip of the value",
        description="How far the expected reward may move in one iteration.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    value_weight: float = Field(
        0.1, ge=0, le=10, title="Weight of the value",
        description="How much the error of the expected reward counts beside that of the answers.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    entropy_weight: float = Field(
        0, ge=0, le=1, title="Weight of the entropy",
        description="Rewards answers that stay varied. 0 leaves that to the loyalty to the parent.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    gamma: float = Field(
        1, gt=0, le=1, title="Discount",
        description="What a reward counts for a word earlier. 1: as much; an answer is judged as a whole.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    lam: float = Field(
        0.95, ge=0, le=1, title="Lambda of the advantage",
        description="1 waits for the answer's own reward, 0 trusts the expected one (arXiv:1506.02438).",
        json_schema_extra=ADVANCED,
    )  # fmt: skip

    @classmethod
    def proposed(cls, preset: Preset = "balanced", tuning: Tuning = "lora", parameters: int = 0) -> dict[str, Any]:
        kept: Tuning = "qlora" if tuning == "qlora" else "lora"
        proposal = super().proposed(preset, kept, parameters)
        return {**proposal, "epochs": cls.model_fields["epochs"].default, "most_steps": STEPS[preset]}

    @property
    def rollout(self) -> int:
        """Answers in an iteration."""
        return self.batch_size * self.accumulate

    def steps(self, rows: int) -> int:
        return self.most_steps

    def refuse_processes(self, processes: int) -> None:
        if processes > 1:
            raise BadInput(f"Processes: PPO runs in one, and {processes} were asked for. Choose 1.")

    def refuse_sampler(self, server: str) -> None:
        """Raises BadInput where the answers cannot come from where they should. `server` is its address."""
        title = type(self).model_fields["sampler"].title
        if self.sampler == "this process":
            return
        if not server:
            raise BadInput(
                f"{title}: no model server is named for it. Put its address into settings.toml "
                '(sampling_server = "http://127.0.0.1:8000") and start Plumbline again, or choose this process.'
            )
        if self.temperature != 1:
            raise BadInput(
                f"{title}: model servers report how likely a word was at temperature 1, and Temperature while training "
                f"is {self.temperature:g}, so what was sampled could not be weighed. Set it to 1, or choose this "
                "process."
            )

    def train(self, inputs: Inputs, report: Report) -> Mapping[str, float]:
        from alignment.methods.ppo_training import PPOTraining

        training = PPOTraining(self, inputs, report)
        try:
            return training.fit()
        finally:
            training.close()

    def verdict(self, final: Mapping[str, float]) -> str:
        before, after = final.get("first_reward", 0.0), final.get("reward", 0.0)
        drift = f"at a drift of {final.get('kl', 0.0):.1f} nats an answer from the parent"
        if after <= before:
            return (
                f"the reward did not rise (from {before:.2f} to {after:.2f}). Raise the learning rate or the "
                "iterations, or look whether the reward model can tell answers apart."
            )
        return (
            f"the reward rose from {before:.2f} to {after:.2f} {drift}. Only people can say whether the answers got "
            "better too: compare this version with its parent."
        )
