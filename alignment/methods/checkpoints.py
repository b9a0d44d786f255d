"""Checkpoints that a run can go on from, whatever moment it was killed at.

A checkpoint counts once its file `complete` is there, which is written last, and an older one is removed only after
that. So transformers' own rotation is off: it would remove the old one before anybody knows that the new one is whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerState

from alignment.methods.processes import everybody_is_here, first_process
from alignment.run_directory import COMPLETE
from storage.errors import RunFailed

REFERENCE = "ref"  # what TRL calls its copy of the parent's adapter


def complete(checkpoints: Path, step: int, best: int | None) -> None:
    """Mark the checkpoint of this step as whole, and only then remove the others but the best.

    The reference goes: it is the parent, which is loaded anyway, and transformers would load nothing but it when a run
    goes on from a checkpoint that holds two adapters.
    """
    shutil.rmtree(checkpoints / f"checkpoint-{step}" / REFERENCE, ignore_errors=True)
    (checkpoints / f"checkpoint-{step}" / COMPLETE).write_text(json.dumps({"step": step}) + "\n")
    kept = {f"checkpoint-{step}", f"checkpoint-{best}"}
    for folder in checkpoints.glob("checkpoint-*"):
        if folder.name not in kept:
            (folder / COMPLETE).unlink(missing_ok=True)  # first, so that half of it is never taken for a whole one
            shutil.rmtree(folder)


def train_from(checkpoint: Path | None, trainer: Any) -> None:
    """From the start, or from a checkpoint. One whose run was over already has only its best to be put back."""
    if checkpoint is None:
        trainer.train()
        return
    state = checked_checkpoint(checkpoint)
    _find_best(state, checkpoint)
    everybody_is_here()
    if _ran_out_of_patience(state, trainer.args.metric_for_best_model, trainer.callback_handler.callbacks):
        trainer.state = state
        trainer._load_from_checkpoint(str(checkpoint))
        if trainer.args.load_best_model_at_end:
            trainer._load_best_model()
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint))


def checked_checkpoint(folder: Path) -> TrainerState:
    """What the trainer had counted there. Raises RunFailed where a file of it cannot be read."""
    try:
        for weights in folder.glob("*.safetensors"):
            read_names(weights)
        torch.load(folder / "optimizer.pt", map_location="meta", weights_only=True)
        return TrainerState.load_from_json(str(folder / "trainer_state.json"))
    except Exception as error:  # each of the three readers has errors of its own
        raise RunFailed(
            f"The checkpoint {folder.name} cannot be read ({type(error).__name__}: {error}), so the run cannot go on "
            "from it. Run it again from the beginning."
        ) from error


def read_names(weights: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        return list(file.keys())


def _find_best(state: TrainerState, checkpoint: Path) -> None:
    """The run's directory may have been moved since; the state knows the best checkpoint by its path."""
    there = str(checkpoint.with_name(f"checkpoint-{state.best_global_step}"))
    if not state.best_global_step or state.best_model_checkpoint == there:
        return
    state.best_model_checkpoint = there
    if not first_process():
        return
    part = checkpoint / "trainer_state.part"
    state.save_to_json(str(part))
    part.replace(checkpoint / "trainer_state.json")  # all or nothing: this may be the only checkpoint there is


def _ran_out_of_patience(state: TrainerState, metric: str, callbacks: Sequence[Any]) -> bool:
    for callback in callbacks:
        if isinstance(callback, EarlyStoppingCallback):
            saved = state.stateful_callbacks.get("EarlyStoppingCallback", {})
            counted = saved.get("attributes", {}).get("early_stopping_patience_counter", 0)
            return bool(counted >= callback.early_stopping_patience)
    return False
