"""What a reward model's training does otherwise than that of a model that answers.

Imported inside a run only. Three decisions a reader would question:

* A pair is given to the trainer as token ids that end with the answer's EOS. A template may write a line break after
  it; the answers that RLOO has scored end with EOS, and a score is read at the last token.
* A parent's adapter is where the reward adapter starts: same rank, strength and matrices, its weights copied.
* The head is left as it was trained. Scaled to unit spread, the sigmoid of a difference would no longer be the chance
  that people prefer the better answer; mean and spread go into reward.json instead.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, load_peft_weights, set_peft_model_state_dict
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase, set_seed

from alignment.methods.base import Inputs, Report, TunedMethod
from alignment.methods.processes import first_process
from alignment.methods.reward_model import Pair, evaluation, margins_of
from alignment.methods.trl_training import Parts, Rows
from alignment.methods.weights import base_of, let_gradients_through, load_tokenizer, loading, lora
from alignment.rows_as_tokens import template_tokens
from labeling.engines.adapter_check import HEAD
from labeling.engines.reward_scorer import Example, Scale, Scorer, quiet, saved_head, write_scale
from storage.errors import RunFailed

FEWEST_SCALED = 8  # held-out pairs; with fewer, mean and spread come from pairs that were learned from
MOST_SCALED = 128
EXAMPLES = 4  # answers kept with their scores


def pair_ids(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """Prompt and answer as token ids, up to and with the answer's EOS."""
    return {f"{name}_ids": answer_ids([*row["prompt"], *row[name]], tokenizer) for name in ("chosen", "rejected")}


def pairs_of(rows: Rows, tokenizer: PreTrainedTokenizerBase) -> list[Pair]:
    return [pair_ids(row, tokenizer) for row in rows]


def answer_ids(messages: Sequence[Any], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids = template_tokens(tokenizer, messages)
    end = len(ids) - 1 - ids[::-1].index(tokenizer.eos_token_id)
    return ids[: end + 1]


def padding_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """A token that is not EOS: the score is read at the last token that is not padding, and that is EOS."""
    if tokenizer.pad_token_id not in (None, tokenizer.eos_token_id):
        return str(tokenizer.pad_token)
    other = next(token for token in range(len(tokenizer)) if token != tokenizer.eos_token_id)
    return str(tokenizer.convert_ids_to_tokens(other))


def load(method: TunedMethod, inputs: Inputs) -> tuple[Any, PreTrainedTokenizerBase]:
    """The parent's body with a new head of one number; the same seed makes the same head."""
    tokenizer = load_tokenizer(inputs)
    tokenizer.pad_token = padding_token(tokenizer)
    set_seed(method.seed)
    with quiet():  # it warns of the new head, and of the old one that is not used
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            base_of(method, inputs), num_labels=1, **loading(method)
        )
    let_gradients_through(model)
    return (model if method.tuning == "full" else adapted(method, model, inputs.parent.adapter_path)), tokenizer


def adapted(method: TunedMethod, model: Any, parent_adapter: str | None) -> PeftModel:
    """A LoRA and the head beside the frozen body; the LoRA starts as the parent's where there is one."""
    config = lora(method, model, task_type="SEQ_CLS", modules_to_save=[HEAD])
    if parent_adapter:
        theirs = LoraConfig.from_pretrained(parent_adapter)
        for name in ("r", "lora_alpha", "target_modules", "layers_to_transform", "rank_pattern", "alpha_pattern"):
            setattr(config, name, getattr(theirs, name))
    model = get_peft_model(model, config)
    if parent_adapter:
        _start_from(model, parent_adapter)
    return model


def _start_from(model: PeftModel, parent_adapter: str) -> None:
    """Every matrix of the parent's adapter has its place, and every place its matrix. Raises RunFailed."""
    weights = load_peft_weights(parent_adapter, device="cpu")
    weights[f"base_model.model.{HEAD}.weight"] = Scorer(model).head_weight()  # PEFT wants it among them: left as it is
    outcome = set_peft_model_state_dict(model, weights)
    untouched = [name for name in outcome.missing_keys if ".lora_" in name]
    if outcome.unexpected_keys or untouched:
        raise RunFailed(
            f"The parent's adapter does not fit this model ({len(outcome.unexpected_keys)} of its matrices have no "
            f"place, {len(untouched)} places stay empty). Start from another parent."
        )


class RewardTraining:
    """One training of a reward model: what `fit` is to do otherwise, and what was found at the end."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.found: dict[str, float] = {}
        self._learned: Rows = ()
        self._scale = Scale()
        self._examples: list[Example] = []
        self._head: torch.Tensor | None = None

    def parts(self) -> Parts:
        return Parts(
            load=load,
            learned=self._learns_from,
            prepare=lambda rows, tokenizer, longest: pairs_of(rows, tokenizer),
            finish=self._finish,
            saved=self._saved,
            answers=False,
        )

    def _learns_from(self, rows: Rows) -> None:
        self._learned = rows

    def _finish(self, trainer: Any, tokenizer: PreTrainedTokenizerBase, held_out: Rows) -> None:
        """Measures what was trained, on pairs that were not."""
        model = trainer.accelerator.unwrap_model(trainer.model)
        scorer, pairs = Scorer(model), pairs_of(held_out, tokenizer)
        self._head = scorer.head_weight().cpu()
        scaled = pairs if len(pairs) >= FEWEST_SCALED else pairs_of(self._learned[:MOST_SCALED], tokenizer)
        self._scale = scale_of(scorer, scaled)
        self._examples = examples_of(scorer, scaled)
        if pairs:
            measured = evaluation(margins_of(scorer, pairs), self._scale)
            self.found = {"held_out_pairs": float(len(pairs)), "held_out_accuracy": measured["accuracy"]}
            self.report.evaluation(measured)

    def _saved(self, folder: Path) -> None:
        """Beside the weights go mean and spread. Raises RunFailed where the head was not saved as it was trained."""
        if not first_process():
            return
        write_scale(folder, self._scale, self._examples)
        saved = saved_head(folder)
        if self._head is None or not torch.equal(saved, self._head.to(saved.dtype)):
            raise RunFailed("The head of the reward model was not saved as it was trained, so its scores are lost.")


def examples_of(scorer: Scorer, pairs: Sequence[Pair]) -> list[Example]:
    """A few answers with their scores: PPO puts the adapter on another model, and sees by them that it scores alike."""
    texts = [ids for pair in pairs[: EXAMPLES // 2] for ids in (pair["chosen_ids"], pair["rejected_ids"])]
    return [Example(tuple(ids), score) for ids, score in zip(texts, scorer.score(texts), strict=True)]


def scale_of(scorer: Scorer, pairs: Sequence[Pair]) -> Scale:
    """Of the scores of both answers of each pair."""
    scores = scorer.score([ids for pair in pairs for ids in (pair["chosen_ids"], pair["rejected_ids"])])
    return Scale(statistics.fmean(scores), statistics.pstdev(scores) or 1.0, len(scores))
