"""Continued pre-training: the loss of language modelling on whole documents, through TRL's SFTTrainer.

Documents are put end to end, each closed by the end-of-text token, and cut into windows of the model's context, as
models are trained in the first place: no token is padding, and a long document goes on in the next window. TRL can pack
too, but its own packing is only right with a special attention kernel, and a window that is ours can be counted before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from alignment.methods.base import HeldOutMeasure, Inputs, Report, TunedMethod
from alignment.methods.sft import fall_verdict
from alignment.rows_as_tokens import document_tokens
from storage.records import DatasetType


def windows(documents: Iterable[Sequence[int]], length: int) -> list[list[int]]:
    """The documents' tokens end to end, cut every `length`; the last window is shorter, and dropped if of one token."""
    stream = [token for document in documents for token in document]
    cut = [stream[start : start + length] for start in range(0, len(stream), length)]
    return [window for window in cut if len(window) > 1]


class Pretrain(TunedMethod):
    """Learn a subject: go on reading, where the model's first training left off.

    The model learns to continue the documents of your field, every word of them, and so its terms and facts. It does
    not learn to answer: put SFT or a preference method on top. It needs far more text than the others need rows, and
    too many passes over little text cost it what it knew before.
    """

    name: ClassVar[str] = "pretrain"
    title: ClassVar[str] = "Pretrain"
    reads: ClassVar[DatasetType] = "language_modeling"
    needs: ClassVar[int] = 8
    rows_are: ClassVar[str] = "documents"
    held_out: ClassVar[HeldOutMeasure] = HeldOutMeasure("eval_loss", "loss on held-out documents")
    # full, large: Code Llama's for training on at long contexts (arXiv:2308.12950); lora, large: QLoRA's for 7B models
    # (arXiv:2305.14314); full, small: a tenth of what the starter model was pre-trained with, not measured
    learning_rates: ClassVar = {
        ("lora", "small"): 1e-3,
        ("lora", "large"): 2e-4,
        ("full", "small"): 2e-4,
        ("full", "large"): 2e-5,
    }

    epochs: int = Field(
        1, ge=1, le=20, title="Passes over the data",
        description="How often each document is read. One is usual; more help where there is little text.",
    )  # fmt: skip
    batch_size: int = Field(
        4, ge=1, le=256, title="Windows per batch",
        description="Windows of text read together. Smaller batches take more steps and less memory.",
    )  # fmt: skip

    def planned_steps(self, rows: int) -> int:
        """Nobody knows how many windows so many documents fill before they are tokens."""
        return 0

    def train(self, inputs: Inputs, report: Report) -> Mapping[str, float]:
        from trl import SFTConfig, SFTTrainer

        from alignment.methods import trl_training

        def packed(rows: Sequence[Mapping[str, Any]], tokenizer: Any, longest: int) -> list[dict[str, Any]]:
            cut = windows((document_tokens(row["text"], tokenizer) for row in rows), longest)
            tokens = sum(map(len, cut))
            report.note(f"{len(rows)} documents are {tokens:,} tokens, in {len(cut)} windows of {longest}.")
            return [{"input_ids": window, "labels": window} for window in cut]

        config = SFTConfig(**trl_training.arguments(self, inputs), completion_only_loss=False)
        parts = trl_training.Parts(prepare=packed)
        return trl_training.fit(SFTTrainer, config, self, inputs, report, parts)

    def verdict(self, final: Mapping[str, float]) -> str:
        return fall_verdict(final, "the documents")
