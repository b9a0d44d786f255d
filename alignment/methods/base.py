"""What every alignment method says about itself.

One class says all there is to say about a method: its docstring is the page's text, its fields are the form, the
command line and run.json, `reads` chooses the data, `train` does the work. The web process imports these classes to
draw the form, so torch and trl are imported inside `train` only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from alignment.methods.held_out import Split, split_by_prompt
from alignment.rules.preferences import is_saturated, is_unmoved
from storage.errors import BadInput, NotEnoughFeedback
from storage.records import DatasetType

WHERE = "(the average of the last fifth of the steps)"  # where the metrics of a verdict were taken
ADVANCED: dict[str, Any] = {"advanced": True}  # fields that a form may fold away
OF_AN_ADAPTER: dict[str, Any] = {**ADVANCED, "only_for": {"tuning": ["lora", "qlora"]}}  # nothing to full weights
ATTENTION = ("attn", "attention")  # what families of models call their attention block

Tuning = Literal["lora", "qlora", "full"]
Preset = Literal["quick", "balanced", "thorough"]
PRESETS: tuple[Preset, ...] = ("quick", "balanced", "thorough")
LOGGED_STEPS = 250  # a run logs every step up to twice as many less one, then every second, and so on
SMALL_MODEL = 100_000_000  # parameters; below, a LoRA learns at rates that would tear a large model apart


@dataclass(frozen=True)
class Parent:
    """The model version that training starts from, and whose answers it must not drift too far from."""

    id: str
    base_path: str
    adapter_path: str | None
    template: str


Messages = Sequence[Mapping[str, str]]
TextReward = Callable[[Sequence[Messages], Sequence[str]], Sequence[float]]
"""Prompts and their answers → what each answer is worth."""


@dataclass(frozen=True)
class Inputs:
    """What a run is given: rows, parent, its own folder.

    reward:     the reward model that scores, where the method asks for one
    scored_by:  a function that scores in its place
    gold:       a function that scores too, and is only shown: what the reward should have rewarded
    sampled_by: the address of a model server that gives the answers, where the run does not itself
    checkpoint: the folder to go on from, where the run was stopped or killed before
    """

    rows: Sequence[Mapping[str, Any]]
    parent: Parent
    folder: Path
    reward: Parent | None = None
    checkpoint: Path | None = None
    scored_by: TextReward | None = None
    gold: TextReward | None = None
    sampled_by: str = ""


@dataclass(frozen=True)
class HeldOutMeasure:
    """What tells on held-out rows whether a method works: the name of the metric, its words, and where better is."""

    metric: str
    words: str
    higher_is_better: bool = False


class Stopped(Exception):
    """Training ended early because it was asked to. The checkpoint of its last step is kept."""


class Report(Protocol):
    """Where a method tells how far it is. It raises what should end the run: a loss that is not a number, say."""

    def metrics(self, step: int, steps: int, values: Mapping[str, float]) -> None: ...

    def samples(self, step: int, texts: Sequence[str]) -> None: ...

    def note(self, sentence: str) -> None:
        """Something the person at the screen should read beside the outcome."""

    def evaluation(self, values: Mapping[str, Any]) -> None:
        """What was measured on held-out rows at the end, beyond the curves: a calibration table, say."""

    @property
    def sample_prompts(self) -> Sequence[Sequence[Mapping[str, str]]]: ...

    @property
    def stop_asked(self) -> bool: ...


class Method(BaseModel, ABC):
    """A way to learn from feedback."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    title: ClassVar[str]
    reads: ClassVar[DatasetType]
    needs: ClassVar[int]  # rows below which a run is refused
    rows_are: ClassVar[str]  # what a person calls these rows
    makes: ClassVar[Literal["policy", "reward_model"]] = "policy"
    asks_reward_model: ClassVar[bool] = False  # then there is a field `reward_model`, the id of a version

    seed: int = Field(
        0, ge=0, title="Seed",
        description="The same seed on the same data gives the same model, bit for bit on one CPU core.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip

    @classmethod
    def refuse_too_little(cls, rows: int, counts: Mapping[str, int]) -> None:
        """Raise NotEnoughFeedback where a run would be wasted. `counts` are those of the snapshot."""
        if rows < cls.needs:
            raise NotEnoughFeedback(cls.title, cls.rows_are, found=rows, needed=cls.needs)

    @classmethod
    def proposed(cls, preset: Preset = "balanced", tuning: Tuning = "lora", parameters: int = 0) -> dict[str, Any]:
        """What the form fills in for a model of this many parameters. A setting not named keeps its default."""
        return {}

    @abstractmethod
    def steps(self, rows: int) -> int:
        """How many optimiser steps this many rows take."""

    def split(self, rows: Sequence[Mapping[str, Any]]) -> Split:
        """The rows to learn from, and those to measure on only."""
        return Split(list(rows), [])

    def template_for(self, parent_template: str) -> str:
        """The prompt template to train with, and so to serve with: the parent's, unless the method says otherwise."""
        return parent_template

    @abstractmethod
    def train(self, inputs: Inputs, report: Report) -> Mapping[str, float]:
        """Learn from the rows, leave the result in folder/model, return the metrics at the end."""

    @abstractmethod
    def verdict(self, final: Mapping[str, float]) -> str:
        """What the metrics at the end mean, in a sentence that continues "Trained on 98 pairs in 11 s; "."""


class TunedMethod(Method):
    """A method that tunes weights by gradient: a LoRA adapter beside the frozen base, or all of the weights.

    The defaults were measured on the starter model (3 million parameters, one CPU core, LoRA). `proposed` gives those
    for other sizes and for full weights: learning rates from papers are for whole large models (5e-7 and the like) and
    teach a LoRA on a small model nothing.
    """

    held_out: ClassVar[HeldOutMeasure] = HeldOutMeasure("eval_loss", "loss on held-out rows")
    learning_rates: ClassVar[Mapping[tuple[Literal["lora", "full"], Literal["small", "large"]], float]] = {}

    tuning: Tuning = Field(
        "lora", title="What is trained",
        description="LoRA: small matrices beside the frozen weights. QLoRA: the same, on weights squeezed to 4 bits. "
        "Full weights: every one, for four times the memory; the version then has a model server of its own.",
    )  # fmt: skip
    learning_rate: float = Field(
        1e-3, gt=0, le=0.1, title="Learning rate",
        description="How far each step moves the model. Too low and nothing changes; too high and answers fall apart.",
    )  # fmt: skip
    epochs: int = Field(
        2, ge=1, le=20, title="Passes over the data",
        description="How often each example is seen. More than three on few examples learns them by heart.",
    )  # fmt: skip
    batch_size: int = Field(
        8, ge=1, le=256, title="Examples per batch",
        description="Examples read together. Smaller batches take more steps and less memory.",
    )  # fmt: skip
    accumulate: int = Field(
        1, ge=1, le=256, title="Batches per step",
        description="Batches added up before the model moves: the effect of a large batch in the memory of a small.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    lora_rank: int = Field(
        16, ge=1, le=64, title="Adapter rank",
        description="How much the adapter can hold. 16 is enough for a style; a larger one makes a larger file.",
        json_schema_extra=OF_AN_ADAPTER,
    )  # fmt: skip
    lora_alpha: int = Field(
        32, ge=1, le=512, title="Adapter strength",
        description="Scales what the adapter adds (by strength / rank). Twice the rank is usual.",
        json_schema_extra=OF_AN_ADAPTER,
    )  # fmt: skip
    target_modules: Literal["all-linear", "attention"] = Field(
        "all-linear", title="Adapted matrices",
        description="all-linear: attention and feed-forward. attention: fewer weights, and less that can be learned.",
        json_schema_extra=OF_AN_ADAPTER,
    )  # fmt: skip
    layers: Literal["all", "upper half"] = Field(
        "all", title="Adapted layers",
        description="upper half: the lower layers stay those of the base, so PPO can compute them once and share them.",
        json_schema_extra=OF_AN_ADAPTER,
    )  # fmt: skip
    max_length: int = Field(
        1024, ge=16, le=131072, title="Longest example, in tokens",
        description="Prompt and answer together; what is longer is cut at the end, and the run says how many were.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    held_out_share: float = Field(
        0.1, ge=0, le=0.5, title="Held-out share of the prompts",
        description="These prompts' rows are not learned from but measured on as training goes. 0 measures nothing.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    evaluations: int = Field(
        4, ge=1, le=50, title="Measurements on held-out rows",
        description="How often they are measured, and a checkpoint kept, evenly over the run; once more before it.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    keep: Literal["best", "last"] = Field(
        "best", title="Which checkpoint becomes the version",
        description="best: the one that did best on held-out rows. last: the one at the end.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    patience: int = Field(
        0, ge=0, le=50, title="Stop early after",
        description="End the run when this many measurements in a row were no better than the best. 0 never does.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    tracker: Literal["none", "tensorboard", "trackio", "mlflow", "wandb"] = Field(
        "none", title="Also log to",
        description="The run's own files always have everything. Another tracker must be installed beside Plumbline.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip

    @classmethod
    def proposed(cls, preset: Preset = "balanced", tuning: Tuning = "lora", parameters: int = 0) -> dict[str, Any]:
        size: Literal["small", "large"] = "small" if parameters < SMALL_MODEL else "large"
        rate = cls.learning_rates[("full" if tuning == "full" else "lora", size)]
        usual = int(cls.model_fields["epochs"].default)
        epochs = {"quick": 1, "balanced": usual, "thorough": usual + 1}[preset]
        return {"tuning": tuning, "learning_rate": rate, "epochs": epochs}

    @property
    def whole_steps(self) -> int:
        """A run can be stopped and measured, and so go on exactly, at every multiple of this many steps."""
        return 1

    @property
    def answer_room(self) -> int:
        """How many tokens a prompt must leave: those of a whole answer where the model writes it while it trains."""
        return 1

    def split(self, rows: Sequence[Mapping[str, Any]]) -> Split:
        return split_by_prompt(rows, self.held_out_share, self.seed)

    def steps(self, rows: int) -> int:
        """Of this many rows that are learned from, the held-out ones not among them."""
        batches = ceil(rows / self.batch_size)
        return ceil(batches / self.accumulate) * self.epochs

    def planned_steps(self, rows: int) -> int:
        """Of a whole snapshot, about: which rows are held out shows once they are read. 0 where nobody can tell yet."""
        return self.steps(rows - round(self.held_out_share * rows))

    def refuse_what_is_missing(self) -> None:
        """Raises BadInput where a package that these settings need is not installed here."""
        if self.tracker != "none" and find_spec(self.tracker) is None:
            raise BadInput(
                f"Also log to: {self.tracker} is not installed. Install it with `pip install {self.tracker}` beside "
                "Plumbline, or choose none: the run's own files have everything."
            )
        if self.tuning == "qlora" and find_spec("bitsandbytes") is None:
            raise BadInput(
                "What is trained: qlora needs the package bitsandbytes, which squeezes weights to 4 bits. Install it "
                "with `pip install bitsandbytes`, or choose lora."
            )

    def refuse_processes(self, processes: int) -> None:
        """Raises BadInput where a batch cannot be shared by this many processes."""
        if self.batch_size % processes:
            raise BadInput(
                f"{type(self).model_fields['batch_size'].title}: {self.batch_size} cannot be shared evenly by "
                f"{processes} processes. Choose a multiple of {processes}, or fewer processes."
            )

    def held_out_verdict(self, final: Mapping[str, float]) -> str:
        """Which checkpoint became the version, and what it measured on the held-out rows; empty without such rows."""
        name, words = self.held_out.metric, self.held_out.words
        if name not in final or f"first_{name}" not in final:
            return ""
        first, chosen, step = final[f"first_{name}"], final[name], final["chosen_step"]
        sentence = f"The {words} went from {first:.3g} to {chosen:.3g} at step {step:.0f}, which is the version."
        if (chosen > first) is self.held_out.higher_is_better and chosen != first:
            return sentence
        return f"{sentence} That is no better than before training, so compare the two before you use it."


def margin_verdict(final: Mapping[str, float], beta: float) -> str:
    """What the margin at the end (the average of the last fifth of the steps) says.

    It grows with beta, so it is judged in nats, margin / beta, as health does while the run goes on.
    """
    margin, chosen = final.get("rewards/margins", 0.0), final.get("rewards/chosen", 0.0)
    if is_unmoved(margin / beta):
        return (
            f"the model learned next to nothing: the preferred answers gained a margin of only {margin:.2f} {WHERE}. "
            "Raise the learning rate, add a pass over the data, or label more."
        )
    if is_saturated(margin / beta, chosen / beta):
        return (
            f"the margin of {margin:.2f} {WHERE} is far beyond a healthy run and the answers may have fallen apart. "
            "Read the samples before you use this version, or lower the learning rate."
        )
    return f"the preferred answers gained a margin of {margin:.2f} {WHERE}."


def gap_verdict(final: Mapping[str, float], beta: float) -> str:
    """For methods without a reference: how far the two answers moved apart, in log-probability a token.

    Their margin is beta times that gap and is not nought before training, so only its growth says something.
    """
    before, after = final.get("first_rewards/margins", 0.0) / beta, final.get("rewards/margins", 0.0) / beta
    likelihood, at_first = final.get("nll_loss", 0.0), final.get("first_nll_loss", 0.0)
    gap = f"the gap between preferred and other answers went from {before:.2f} to {after:.2f} a token {WHERE}"
    if at_first and likelihood > 1.5 * at_first:
        return (
            f"{gap}, but the preferred answers themselves became unlikely (their loss went from {at_first:.2f} to "
            f"{likelihood:.2f}). Read the samples before you use this version, or lower the learning rate."
        )
    if after - before < 0.02:
        return f"the model learned next to nothing: {gap}. Raise the learning rate, add a pass, or label more."
    return f"{gap}."


def adapter_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an adapter_config.json says, in the words of the form: a run from this adapter goes on with these."""
    modules = config.get("target_modules") or []
    names = [modules] if isinstance(modules, str) else list(modules)
    return {
        "lora_rank": config["r"],
        "lora_alpha": config["lora_alpha"],
        "target_modules": "attention" if names and all(_of_attention(name) for name in names) else "all-linear",
        "layers": "all" if config.get("layers_to_transform") is None else "upper half",
    }


def _of_attention(module: str) -> bool:
    """By its own name or its path: adapters keep the names of the matrices, without their block."""
    return module.rpartition(".")[2] in ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "out_proj") or any(
        word in module for word in ATTENTION
    )
