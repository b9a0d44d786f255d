"""A reward model: a scalar head on the parent's body, learned from comparisons, through TRL."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from alignment.methods.base import ADVANCED, HeldOutMeasure, Inputs, Report, TunedMethod
from storage.records import DatasetType

if TYPE_CHECKING:
    from labeling.engines.reward_scorer import Scale, Scorer

BINS = 5  # of predicted chance, from 50 % to 100 %
FEW = 30  # held-out pairs, below which an accuracy says little
Pair = Mapping[str, Sequence[int]]
"""chosen_ids and rejected_ids, as RewardTrainer takes them."""


class RewardModel(TunedMethod):
    """Learn to score answers as people would: the better answer of each pair gets the higher number.

    The result does not answer. It scores, and the difference of two scores says how likely people are to prefer the
    one to the other. RLOO and PPO improve a model against it; the models page scores any answer with it. It is only
    as good as its accuracy on pairs that it has not seen, which the run reports.
    """

    name: ClassVar[str] = "reward_model"
    title: ClassVar[str] = "Reward model"
    reads: ClassVar[DatasetType] = "preference"
    needs: ClassVar[int] = 16
    rows_are: ClassVar[str] = "pairs"
    makes: ClassVar[Literal["policy", "reward_model"]] = "reward_model"
    held_out: ClassVar[HeldOutMeasure] = HeldOutMeasure("eval_loss", "loss on held-out pairs")
    learning_rates: ClassVar[Mapping[tuple[Literal["lora", "full"], Literal["small", "large"]], float]] = {
        ("lora", "small"): 1e-3,
        ("lora", "large"): 1e-4,
        ("full", "small"): 1e-4,
        ("full", "large"): 9e-6,  # arXiv:2203.02155, C.2
    }

    learning_rate: float = Field(
        1e-3, gt=0, le=0.1, title="Learning rate",
        description="How far each step moves the model. Too low and it cannot tell answers apart; too high and it "
        "learns the pairs by heart.",
    )  # fmt: skip
    batch_size: int = Field(
        8, ge=1, le=256, title="Pairs per batch",
        description="Pairs read together. Smaller batches take more steps and less memory.",
    )  # fmt: skip
    centring: float = Field(
        0.01, ge=0, le=10, title="Centring",
        description="Pulls the two scores of each pair towards opposite sides of zero, so that zero is an answer of "
        "middling quality. A difference stays as it is. 0 switches it off.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip  # Eq. 2 of arXiv:2312.09244, with its coefficient

    def train(self, inputs: Inputs, report: Report) -> Mapping[str, float]:
        from trl import RewardConfig, RewardTrainer

        from alignment.methods import trl_training
        from alignment.methods.reward_training import RewardTraining

        config = RewardConfig(**trl_training.arguments(self, inputs), center_rewards_coefficient=self.centring or None)
        training = RewardTraining(report)
        final = trl_training.fit(RewardTrainer, config, self, inputs, report, training.parts())
        return {**final, **training.found}

    def verdict(self, final: Mapping[str, float]) -> str:
        if "held_out_pairs" not in final:
            return "no pair was held out, so nobody knows how often it is right. Hold some out before you rely on it."
        number, accuracy = int(final["held_out_pairs"]), final["held_out_accuracy"]
        low, _ = accuracy_interval(round(accuracy * number), number)
        found = f"it put the better answer first in {100 * accuracy:.0f} % of {number} held-out pairs"
        if low <= 0.5:
            way_out = "Label more pairs, or look whether people agree at all."
            return f"{found}, which a coin could have done too. {way_out}"
        return f"{found}." + (
            f" So few pairs leave much to chance (at least {100 * low:.0f} %, surely)." if number < FEW else ""
        )


# ---- what is measured on held-out pairs -----------------------------------------------------------------------------


def evaluation(margins: Sequence[float], scale: Scale) -> dict[str, Any]:
    """What the run page draws. `margins`: score of the chosen minus that of the rejected answer, for each pair."""
    right = sum(margin > 0 for margin in margins)
    table = calibration(margins)
    return {
        "kind": "reward_model",
        "pairs": len(margins),
        "accuracy": right / len(margins),
        "interval": list(accuracy_interval(right, len(margins))),
        "calibration": table,
        "ece": expected_calibration_error(table),
        "mean": scale.mean,
        "std": scale.std,
    }


def calibration(margins: Sequence[float]) -> list[dict[str, float]]:
    """Bins of the predicted chance that the answer with the higher score is the preferred one, and how often it was.

    predicted = sigmoid(|margin|), Eq. 1 of arXiv:2305.18290; from 0.5 (no idea) to 1 (certain). No bin is empty.
    """
    width = 0.5 / BINS
    bins: dict[int, list[tuple[float, bool]]] = {}
    for margin in margins:
        chance = 1 / (1 + math.exp(-min(abs(margin), 500.0)))
        bins.setdefault(min(BINS - 1, int((chance - 0.5) / width)), []).append((chance, margin > 0))
    return [
        {
            "low": round(0.5 + number * width, 6),
            "high": round(0.5 + (number + 1) * width, 6),
            "n": len(found),
            "predicted": sum(chance for chance, _ in found) / len(found),
            "observed": sum(right for _, right in found) / len(found),
        }
        for number, found in sorted(bins.items())
    ]


def expected_calibration_error(table: Sequence[Mapping[str, float]]) -> float:
    """The gap between predicted and observed, averaged over the pairs (arXiv:1706.04599, Eq. 3)."""
    pairs = sum(row["n"] for row in table)
    return sum(row["n"] * abs(row["predicted"] - row["observed"]) for row in table) / pairs


def accuracy_interval(right: int, number: int) -> tuple[float, float]:
    """Wilson's 95 % interval of right / number (1927)."""
    z, share = 1.959964, right / number
    middle = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * math.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    return max(0.0, round(middle - half, 6)), min(1.0, round(middle + half, 6))


def margins_of(scorer: Scorer, pairs: Sequence[Pair]) -> list[float]:
    chosen = scorer.score([pair["chosen_ids"] for pair in pairs])
    rejected = scorer.score([pair["rejected_ids"] for pair in pairs])
    return [better - worse for better, worse in zip(chosen, rejected, strict=True)]
