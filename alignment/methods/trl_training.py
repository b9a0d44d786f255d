"""What every TRL trainer here has in common: its arguments, its rows, and the way from them to a saved model.

Imported inside a run only. One decision a reader would question: the tokenizer gets the template of the version that
is trained, and `checked` leaves out rows that this template does not render as the engine will see them. What is served
must be what was trained, to the token.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import EarlyStoppingCallback, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import IntervalStrategy

from alignment.methods.base import Inputs, Report, Stopped, TunedMethod
from alignment.methods.checkpoints import train_from
from alignment.methods.following import Follow, final_metrics
from alignment.methods.held_out import Split
from alignment.methods.processes import anywhere, processes, sharded
from alignment.methods.weights import context_of, is_adapter, load, lora, save
from alignment.rows_as_tokens import row_tokens
from alignment.run_directory import CHECKPOINTS, MODEL, TRACKED
from storage.errors import RunFailed
from storage.records import DatasetType

NEVER = 1 << 30  # steps: what is logged, measured and kept when is `Follow`'s to say
SOURCES = ("judgment_id", "document_id", "prompt_id")  # where a row came from; nothing to learn

Rows = Sequence[Mapping[str, Any]]


def arguments(method: TunedMethod, inputs: Inputs) -> dict[str, Any]:
    """The settings that all TRL configs share. A batch is that of the form, shared by the processes of the run."""
    on_gpu = torch.cuda.is_available()
    method.refuse_processes(processes())
    each = method.batch_size // processes()
    return {
        "output_dir": str(inputs.folder / CHECKPOINTS),
        "seed": method.seed,
        "data_seed": method.seed,
        "learning_rate": method.learning_rate,
        "num_train_epochs": method.epochs,
        "per_device_train_batch_size": each,
        "per_device_eval_batch_size": each,
        "gradient_accumulation_steps": method.accumulate,
        "max_length": method.max_length,
        "lr_scheduler_type": "linear",
        "warmup_steps": 2,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": on_gpu,
        "use_cpu": not on_gpu,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": on_gpu,
        "logging_steps": NEVER,
        "logging_nan_inf_filter": False,  # on, it would show the last good loss in place of one that is not a number
        "save_strategy": "steps",
        "save_steps": NEVER,
        "eval_steps": NEVER,
        "metric_for_best_model": method.held_out.metric,
        "greater_is_better": method.held_out.higher_is_better,
        "restore_callback_states_from_checkpoint": True,  # how many measurements in a row were no better
        "report_to": method.tracker,
        "disable_tqdm": True,
    }


@dataclass(frozen=True)
class Parts:
    """What a method does in its own way. Each default is that of a causal language model on rows of messages.

    load:    the model to train and its tokenizer; a PeftModel gets no further adapter
    adapter: the LoRA of a model that has none yet
    learned: told once which rows are learned from, before any are prepared: what follows from them is set here
    prepare: rows, tokenizer, longest → the rows as the trainer wants them; of those held out too, so it keeps nothing
    options: what else the trainer is given
    finish:  trainer, tokenizer, held-out rows: after training, the best checkpoint put back, before the model is saved
    saved:   the folder of the model, after it was saved
    answers: whether the model answers the fixed prompts along the way
    """

    load: Callable[[TunedMethod, Inputs], tuple[Any, PreTrainedTokenizerBase]] = load
    adapter: Callable[[TunedMethod, Any], LoraConfig] = lora
    learned: Callable[[Rows], None] = lambda rows: None
    prepare: Callable[[Rows, PreTrainedTokenizerBase, int], Rows] = lambda rows, tokenizer, longest: rows
    options: Callable[[Any, PreTrainedTokenizerBase], dict[str, Any]] = lambda model, tokenizer: {}
    finish: Callable[[Any, PreTrainedTokenizerBase, Rows], None] = lambda trainer, tokenizer, held_out: None
    saved: Callable[[Path], None] = lambda folder: None
    answers: bool = True


def fit(
    trainer_class: Any, config: Any, method: TunedMethod, inputs: Inputs, report: Report, parts: Parts | None = None
) -> dict[str, float]:
    """Train, and leave the chosen checkpoint in folder/model; the metrics at the end. Raises Stopped or RunFailed."""
    parts = parts or Parts()
    datasets.disable_progress_bars()
    method.refuse_what_is_missing()
    prepare_tracker(method, inputs.folder)
    model, tokenizer = parts.load(method, inputs)
    longest = min(method.max_length, context_of(model))
    split = split_of(method, inputs, tokenizer, longest, report)
    parts.learned(split.learned)
    settle(config, longest, split, method, inputs)
    follow = Follow(method, report, tokenizer, samples=parts.answers and not sharded())
    trainer = watched(trainer_class, report)(
        model=model,
        args=config,
        train_dataset=_dataset(parts, split.learned, tokenizer, longest),
        eval_dataset=_dataset(parts, split.held_out, tokenizer, longest),
        processing_class=tokenizer,
        peft_config=parts.adapter(method, model) if method.tuning != "full" and not is_adapter(model) else None,
        callbacks=[follow, *early_stopping(method, split)],
        **parts.options(model, tokenizer),
    )
    train_from(inputs.checkpoint, trainer)
    if follow.stopped:
        raise Stopped
    parts.finish(trainer, tokenizer, split.held_out)
    save(trainer, tokenizer, inputs)
    parts.saved(inputs.folder / MODEL)
    return final_metrics(trainer.state, method, split)


def split_of(method: TunedMethod, inputs: Inputs, tokenizer: Any, longest: int, report: Report) -> Split:
    """The rows that can be learned from, those held out apart; what is left out or not held out is said."""
    kept = checked(inputs.rows, method.reads, tokenizer, longest, report, method.answer_room)
    split = method.split(kept)
    if split.note:
        report.note(split.note)
    return split


def settle(config: Any, longest: int, split: Split, method: TunedMethod, inputs: Inputs) -> None:
    """What only model and rows decide: how long a row may be, and, where rows are held out, when they are measured.

    That is before training and along the way, and the best checkpoint is put back at the end.
    """
    if hasattr(config, "max_length"):
        config.max_length = longest
    if split.held_out:
        config.do_eval, config.eval_strategy = True, IntervalStrategy.STEPS
        config.eval_on_start = inputs.checkpoint is None
        config.load_best_model_at_end = method.keep == "best"


def early_stopping(method: TunedMethod, split: Split) -> list[TrainerCallback]:
    return [EarlyStoppingCallback(method.patience)] if method.patience and split.held_out else []


def _dataset(parts: Parts, rows: Rows, tokenizer: PreTrainedTokenizerBase, longest: int) -> Dataset | None:
    """As the trainer wants it, without where each row came from; None where there are no rows."""
    if not rows:
        return None
    prepared = parts.prepare(rows, tokenizer, longest)
    return Dataset.from_list([{name: row[name] for name in row if name not in SOURCES} for row in prepared])


def watched(trainer_class: Any, report: Report) -> Any:
    """The trainer, which ends at the first loss that is not a number, before the weights take it in."""

    class Watched(trainer_class):  # type: ignore[misc]  # which class is known when it runs
        def training_step(self, *given: Any, **named: Any) -> Any:
            loss = super().training_step(*given, **named)
            if anywhere(not bool(torch.isfinite(loss))):
                report.metrics(self.state.global_step + 1, self.state.max_steps, {"loss": math.nan})
                raise RunFailed("The loss was no longer a number. Lower the learning rate and run again.")
            return loss

    return Watched


def counting(trainer_class: Any) -> Any:
    """The trainer of pairs, which logs how many tokens it has read. TRL's experimental ones do not count."""

    class Counting(trainer_class):  # type: ignore[misc]  # which class is known when it runs
        tokens = 0

        def training_step(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
            self.tokens += sum(int(inputs[f"{name}_attention_mask"].sum()) for name in ("chosen", "rejected"))
            return super().training_step(model, inputs, *given, **named)

        def log(self, logs: dict[str, float], *given: Any, **named: Any) -> None:
            if "loss" in logs:
                logs["num_tokens"] = float(self.tokens * processes())
            super().log(logs, *given, **named)

    return Counting


def prepare_tracker(method: TunedMethod, folder: Path) -> None:
    """Another tracker writes into the run's directory, unless the person's own environment sends it elsewhere."""
    place = folder / TRACKED
    wandb_mode = "online" if os.environ.get("WANDB_API_KEY") else "offline"
    for name, value in {
        "TENSORBOARD_LOGGING_DIR": str(place),
        "TRACKIO_DIR": str(place),
        "MLFLOW_TRACKING_URI": (place / "mlflow").as_uri(),
        "WANDB_DIR": str(place),
        "WANDB_MODE": wandb_mode,
    }.items():
        os.environ.setdefault(name, value)
    if method.tracker != "none":
        place.mkdir(parents=True, exist_ok=True)


def checked(
    rows: Rows,
    reads: DatasetType,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    report: Report,
    room: int = 1,
) -> list[Mapping[str, Any]]:
    """The rows that can be learned from; says how many are left out or cut. Raises RunFailed where none can."""
    kept, faults, cut = [], Counter[str](), 0
    for row in rows:
        read = row_tokens(row, reads, tokenizer, max_length, room)
        if read.fault:
            faults[read.fault] += 1
        else:
            kept.append(row)
            cut += read.longest > max_length and reads != "language_modeling"  # a document goes on in the next window
    if not kept:
        raise RunFailed(f"No row can be trained on: {', and '.join(faults)}.")
    for fault, number in faults.items():
        report.note(f"{number} of {len(rows)} rows were left out: {fault}.")
    if cut:
        report.note(f"{cut} rows were cut at {max_length} tokens, so their answers do not teach where to end.")
    return kept
