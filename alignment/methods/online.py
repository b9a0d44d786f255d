"""What methods have in common that learn from the model's own answers: prompts in, rewards on what it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from alignment.methods.base import ADVANCED, HeldOutMeasure, Parent, TunedMethod
from alignment.methods.held_out import Split, split_by_prompt
from labeling.engines.model_folder import base_fingerprint, check_model_folder, tokenizer_fingerprint
from storage.errors import BadInput, RunFailed
from storage.records import DatasetType

HELD_OUT_ANSWERS = 4  # to each held-out prompt, at every measurement
MOST_HELD_OUT = 24  # prompts: each is answered four times at every measurement, which soon costs more than the training


class OnlineMethod(TunedMethod):
    """Learn by trying: the model answers prompts, its answers are scored, and better ones become likelier."""

    reads: ClassVar[DatasetType] = "prompt_only"
    needs: ClassVar[int] = 8
    rows_are: ClassVar[str] = "prompts"
    asks_reward_model: ClassVar[bool] = True
    scores_text: ClassVar[bool] = False  # then its reward model may read other tokens: it is given text
    held_out: ClassVar[HeldOutMeasure] = HeldOutMeasure("eval_reward", "reward on held-out prompts", True)

    reward_model: str = Field(
        "", title="Scored by",
        description="What says how good an answer is. Usually a reward model, trained from comparisons first; or a "
        "function or a judge that the server's settings name.",
        json_schema_extra={"choices": "reward_models"},
    )  # fmt: skip
    beta: float = Field(
        0.05, ge=0, le=10, title="Loyalty to the parent (beta)",
        description="What straying from the parent costs. Higher keeps answers like the parent's; at 0 nothing holds "
        "the model back from pleasing the reward model with nonsense.",
    )  # fmt: skip
    no_end_penalty: float = Field(
        2.0, ge=0, le=100, title="Penalty for an answer that does not end",
        description="Taken off the reward of an answer that was cut off at the longest length, in spreads of the "
        "reward model's scores.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    longest_answer: int = Field(
        128, ge=1, le=8192, title="Longest answer, in tokens",
        description="Answers are cut off here while training, and prompts that leave no room for so many are left out. "
        "Time and memory grow with it.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    temperature: float = Field(
        1.0, gt=0, le=2, title="Temperature while training",
        description="1 samples as the model is. Lower tries less that is new.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip

    @property
    def answer_room(self) -> int:
        return self.longest_answer

    def split(self, rows: Sequence[Mapping[str, Any]]) -> Split:
        return split_by_prompt(rows, min(self.held_out_share, MOST_HELD_OUT / max(1, len(rows))), self.seed)


def refuse_reward_model(parent: Parent, reward: Parent) -> None:
    """Raises BadInput unless the reward model reads what the parent writes: the same tokens, in the same template."""
    theirs, ours = (_tokens_of(version) for version in (reward, parent))
    way_out = f"Train a reward model from {parent.id} or a version of the same family, or choose another parent."
    if theirs != ours:
        raise BadInput(
            f"The reward model {reward.id} has another tokenizer than the parent {parent.id}, so the same tokens are "
            f"another text to it and its scores would mean nothing. {way_out}"
        )
    if reward.template != parent.template:
        raise BadInput(
            f"The reward model {reward.id} was trained on another prompt template than that of the parent {parent.id}, "
            f"so it would score texts of a form it has never seen. {way_out}"
        )


def why_apart(parent: Parent, reward: Parent) -> str:
    """Why a reward model cannot be scored on the weights of a run from this parent; empty where it can.

    It can where it is an adapter and a head on the same base, and reads the same tokens in the same template.
    """
    if reward.adapter_path is None:
        return "all of its weights were trained"
    if _tokens_of(reward) != _tokens_of(parent):
        return f"it reads text as other tokens than {parent.id}"
    if reward.template != parent.template:
        return f"it was trained on another prompt template than that of {parent.id}"
    if _base_of(reward) != _base_of(parent):
        return f"it stands on another base than {parent.id}"
    return ""


def refuse_changed(apart: float, equal: float) -> None:
    """Raises RunFailed where a reward model scores its own examples otherwise than when it was trained."""
    if apart > equal:
        raise RunFailed(
            f"The reward model scores answers otherwise here than when it was trained (by up to {apart:.3g}), so its "
            "adapter or its base has changed since. Train it again."
        )


def _base_of(version: Parent) -> str:
    return base_fingerprint(check_model_folder(version.base_path))


def _tokens_of(version: Parent) -> str:
    return tokenizer_fingerprint(check_model_folder(version.base_path))
