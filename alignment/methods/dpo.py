"""Direct preference optimisation (arXiv:2305.18290), through TRL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from alignment.methods.base import ADVANCED, HeldOutMeasure, Inputs, Report, TunedMethod, gap_verdict, margin_verdict
from storage.records import DatasetType

# Of a pair, where an answer's r = log p(answer) - log p_parent(answer), and h = beta * (r of chosen - r of rejected):
#   sigmoid       -log sigmoid(h)                                                     Eq. 7 of arXiv:2305.18290
#   sigmoid_norm  the same, each r divided by the tokens of its answer                arXiv:2411.15124
#   ipo           (r of chosen - r of rejected - 1 / (2 beta))^2, each r divided so   Eq. 17 of arXiv:2310.12036
#   hinge         max(0, 1 - h)                                                       SLiC's, arXiv:2305.10425, of an r
#                                                                                     as in arXiv:2309.06657
#   robust        (-(1 - e) log sigmoid(h) + e log sigmoid(-h)) / (1 - 2 e)           arXiv:2403.00409, e = wrong_labels
#   apo_zero      1 - sigmoid(beta * r of chosen) + sigmoid(beta * r of rejected)     Eq. 7 of arXiv:2408.06266
#   simpo         -log sigmoid(h - gamma), r = log p(answer) divided by its tokens    Eq. 6 of arXiv:2405.14734
# To each is added likelihood_weight * -mean log p(token) over the tokens of the chosen answers, as in arXiv:2404.19733.
Loss = Literal["sigmoid", "sigmoid_norm", "ipo", "hinge", "robust", "apo_zero", "simpo"]


class DPO(TunedMethod):
    """Learn from comparisons: this answer is better than that one.

    Each pair makes the better answer more likely and the worse one less likely, measured against the version that
    training starts from. A hundred pairs are enough to change the style of a small model. It needs no reward model and
    no sampling, so it is the first method to try when people have ranked answers.
    """

    name: ClassVar[str] = "dpo"
    title: ClassVar[str] = "DPO"
    reads: ClassVar[DatasetType] = "preference"
    needs: ClassVar[int] = 16
    rows_are: ClassVar[str] = "pairs"
    # The loss and not the accuracy, which is 1 after a few steps, nor the margin, which still grows where answers fall
    # apart: the likelihood term within the loss rises then. On the starter model it fell to the end of good runs.
    held_out: ClassVar[HeldOutMeasure] = HeldOutMeasure("eval_loss", "loss on held-out pairs")
    # full, large: Zephyr's (arXiv:2310.16944); lora, large: that of its recipe for adapters; full, small: not measured
    learning_rates: ClassVar = {
        ("lora", "small"): 1.2e-3,
        ("lora", "large"): 5e-6,
        ("full", "small"): 5e-5,
        ("full", "large"): 5e-7,
    }

    learning_rate: float = Field(
        1.2e-3, gt=0, le=0.1, title="Learning rate",
        description="How far each step moves the model. Too low and nothing changes; too high and answers fall apart.",
    )  # fmt: skip
    batch_size: int = Field(
        4, ge=1, le=256, title="Pairs per batch",
        description="Pairs read together. Smaller batches take more steps and less memory.",
    )  # fmt: skip
    loss: Loss = Field(
        "sigmoid", title="Loss",
        description="sigmoid: the DPO of the paper. ipo: stops at a margin, where sigmoid never does. hinge: forgets "
        "pairs that are far enough apart. robust: some labels are wrong. apo_zero: better answers become likelier for "
        "certain. sigmoid_norm: per token, so that length does not count. simpo: per token and without a reference. "
        "Those that count per token (ipo, sigmoid_norm, simpo) want a beta of 1 or more.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    beta: float = Field(
        0.1, gt=0, le=100, title="Loyalty to the parent (beta)",
        description="How strongly the model is held to the version it starts from. Lower lets it move further.",
    )  # fmt: skip
    wrong_labels: float = Field(
        0.1, ge=0, lt=0.5, title="Share of wrong labels",
        description="How many of the comparisons are probably the wrong way round.",
        json_schema_extra={**ADVANCED, "only_for": {"loss": ["robust"]}},
    )  # fmt: skip
    simpo_margin: float = Field(
        0.5, ge=0, le=10, title="Margin wanted (gamma)",
        description="How much likelier a token of the better answer should be, times beta.",
        json_schema_extra={**ADVANCED, "only_for": {"loss": ["simpo"]}},
    )  # fmt: skip
    likelihood_weight: float = Field(
        3.0, ge=0, le=100, title="Weight of the better answer itself",
        description="DPO only widens the gap between two answers, and both may become unlikely. This much weight also "
        "goes to making the better answer likely, which keeps answers well formed. 0 is the DPO of the paper.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip  # 0.5 moves further, but once left only 84 % of 200 answers well formed; 3 left 98 % and more

    def train(self, inputs: Inputs, report: Report) -> Mapping[str, float]:
        from alignment.methods import trl_training

        trainer_class, config = self._simpo(inputs) if self.loss == "simpo" else self._dpo(inputs)
        return trl_training.fit(trainer_class, config, self, inputs, report)

    def _dpo(self, inputs: Inputs) -> tuple[Any, Any]:
        from trl import DPOConfig, DPOTrainer

        from alignment.methods import trl_training

        config = DPOConfig(
            **trl_training.arguments(self, inputs),
            beta=self.beta,
            loss_type=[self.loss, "sft"] if self.likelihood_weight else [self.loss],
            loss_weights=[1.0, self.likelihood_weight] if self.likelihood_weight else [1.0],
            label_smoothing=self.wrong_labels if self.loss == "robust" else 0.0,
        )
        return DPOTrainer, config

    def _simpo(self, inputs: Inputs) -> tuple[Any, Any]:
        """TRL has SimPO beside CPO, whose likelihood term (cpo_alpha) is the one that all losses here have.

        So this is SimPO as it was published (Eq. 6 of arXiv:2405.14734) only where likelihood_weight is 0.
        """
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        from alignment.methods import trl_training

        config = CPOConfig(
            **trl_training.arguments(self, inputs),
            loss_type="simpo",
            beta=self.beta,
            simpo_gamma=self.simpo_margin,
            cpo_alpha=self.likelihood_weight,
        )
        return trl_training.counting(CPOTrainer), config

    def verdict(self, final: Mapping[str, float]) -> str:
        if self.loss == "simpo":
            return gap_verdict(final, self.beta)
        return margin_verdict(final, self.beta)
