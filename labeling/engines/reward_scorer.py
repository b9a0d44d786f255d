"""How good is this answer, as a reward model sees it: one number, read at the last token.

The number is that of the trained head, unscaled, so the sigmoid of the difference of two scores is the chance that
people prefer the one to the other (Bradley-Terry, Eq. 1 of arXiv:2305.18290). Mean and spread of the scores lie beside
the weights in reward.json, for methods that need rewards of a known size.

The last token is found by counting and not by looking for padding, as transformers does: a tokenizer whose padding is
its end-of-text token would have the score read one token early. Padding is on the right, where a causal model does not
see it, so a batch scores as one by one (float32).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

REWARD = "reward.json"
AT_ONCE = 16  # sequences in a forward pass


@dataclass(frozen=True)
class Scale:
    """Mean and spread of a reward model's scores on answers that people compared, and how many there were."""

    mean: float = 0.0
    std: float = 1.0
    n: int = 0

    def normalised(self, score: float) -> float:
        return (score - self.mean) / self.std


class Scorer:
    """A sequence classifier with one label, with its adapter where it has one."""

    def __init__(self, model: Any, scale: Scale | None = None) -> None:
        whole = model.get_base_model() if isinstance(model, PeftModel) else model
        self._model = model
        self._backbone = getattr(whole, whole.base_model_prefix)
        self._head = whole.score
        self.scale = scale or Scale()

    def head_weight(self) -> Tensor:
        """(1, width): of the trained copy, where an adapter keeps one."""
        head = self._head
        weight: Tensor = head.modules_to_save[head.active_adapter].weight if _is_wrapped(head) else head.weight
        return weight.detach()

    def score(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """The raw score of each sequence of token ids: a prompt and its answer, the answer's end included."""
        was_training = self._model.training
        self._model.eval()
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))  # alike in length: less padding
        scores = [0.0] * len(sequences)
        for start in range(0, len(order), AT_ONCE):
            batch = order[start : start + AT_ONCE]
            for index, value in zip(batch, self._forward([sequences[index] for index in batch]), strict=True):
                scores[index] = value
        self._model.train(was_training)
        return scores

    def _forward(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        device = self._model.device
        ids, mask, last = (part.to(device) for part in _right_padded(sequences))
        with torch.no_grad():
            hidden = self._backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            at_end = hidden[torch.arange(len(sequences), device=device), last]
            values: list[float] = self._head(at_end).squeeze(-1).float().tolist()
        return values


def load(base_path: str | Path, adapter_path: str | Path | None = None) -> Scorer:
    """The reward model of a version: an adapter with its head on a base, or whole weights.

    Raises ValueError where the head is not among what was saved: transformers would make up a random one.
    """
    folder = Path(adapter_path or base_path)
    saved = saved_head(folder)
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    with quiet():  # it warns of a head newly made; the saved one is put in its place, and compared below
        model: Any = AutoModelForSequenceClassification.from_pretrained(base_path, num_labels=1, dtype=dtype)
    if adapter_path is not None:
        model = PeftModel.from_pretrained(model, str(adapter_path))
    scorer = Scorer(model.to("cuda") if on_gpu else model, read_scale(folder))
    if not torch.equal(scorer.head_weight().cpu(), saved.to(dtype)):
        raise ValueError(f"The head of the reward model in {folder} was not loaded as it was saved.")
    return scorer


def read_scale(folder: str | Path) -> Scale:
    """Of the reward model in `folder`; scores as they are where it says nothing (it was trained elsewhere)."""
    file = Path(folder) / REWARD
    if not file.is_file():
        return Scale()
    read = json.loads(file.read_text(encoding="utf-8"))
    return Scale(float(read["mean"]), float(read["std"]), int(read["n"]))


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt and its answer, and the raw score they got when the reward model was trained."""

    tokens: tuple[int, ...]
    score: float


def read_examples(folder: str | Path) -> list[Example]:
    """Whoever loads the reward model in another way sees by these whether it scores as it did. An old one has none."""
    file = Path(folder) / REWARD
    read = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return [Example(tuple(one["tokens"]), float(one["score"])) for one in read.get("examples", [])]


def write_scale(folder: str | Path, scale: Scale, examples: Sequence[Example] = ()) -> None:
    told = {**asdict(scale), "examples": [asdict(example) for example in examples]}
    (Path(folder) / REWARD).write_text(json.dumps(told) + "\n", encoding="utf-8")


@contextmanager
def quiet() -> Iterator[None]:
    """transformers warns of a head that it made up; whoever uses this puts another one in its place, or wants that."""
    said = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(said)


def saved_head(folder: str | Path) -> Tensor:
    """The head as it lies on disk, (1, width). Raises ValueError where there is none."""
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 — no mapping
                if name.endswith("score.weight"):
                    weight: Tensor = tensors.get_tensor(name)
                    return weight
    raise ValueError(f"{folder} holds no score.weight: it is no reward model, or its head was not saved.")


def _is_wrapped(head: Any) -> bool:
    return hasattr(head, "modules_to_save")


def _right_padded(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """ids and mask: (sequences, longest); the place of each last token: (sequences,)."""
    longest = max(map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, sequence in enumerate(sequences):
        ids[index, : len(sequence)] = torch.tensor(sequence)
        mask[index, : len(sequence)] = 1
    return ids, mask, mask.sum(-1) - 1
