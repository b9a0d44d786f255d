"""What every TRL trainer here has in common: load the parent, add the adapter, train, follow, stop, save.

Imported inside a run only. Two decisions a reader would question:

* The tokenizer gets the template of the version that is trained, and `checked` leaves out rows that this template
  does not render as the engine will see them. What is served must be what was trained, to the token.
* A child of an adapter goes on training a copy of that adapter (there is no `peft_config` then), and TRL keeps the
  parent's under the name `ref`: the reference is the parent, not the base. `ref` is not saved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped, unused-ignore]
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, TrainerCallback

from alignment.methods.base import Inputs, Parent, Report, TunedMethod
from alignment.run_directory import CHECKPOINTS, MODEL
from labeling.engines.model_folder import write_base_mark
from storage.errors import RunFailed

LOGGED_STEPS = 250  # a run logs every step up to this many, then fewer
SAMPLED_STEPS = 4  # the fixed prompts are answered at the start and this many times after
SAMPLE_TOKENS = 128
CHECKPOINTS_A_RUN = 4

Rows = Sequence[Mapping[str, Any]]


def arguments(method: TunedMethod, inputs: Inputs) -> dict[str, Any]:
    """The settings that all TRL configs share."""
    on_gpu = torch.cuda.is_available()
    steps = method.steps(len(inputs.rows))
    return {
        "output_dir": str(inputs.folder / CHECKPOINTS),
        "seed": method.seed,
        "data_seed": method.seed,
        "learning_rate": method.learning_rate,
        "num_train_epochs": method.epochs,
        "per_device_train_batch_size": method.batch_size,
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
        "logging_steps": max(1, steps // LOGGED_STEPS),
        "logging_nan_inf_filter": False,  # on, it would show the last good loss in place of one that is not a number
        "save_strategy": "steps",
        "save_steps": max(1, steps // CHECKPOINTS_A_RUN),
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
    }


def fit(
    trainer_class: Any, config: Any, method: TunedMethod, inputs: Inputs, report: Report, rows: Rows = ()
) -> dict[str, float]:
    """Train and leave the adapter in folder/model; the metrics at the end. `rows` are those of the inputs, in order."""
    parent, folder = inputs.parent, inputs.folder
    datasets.disable_progress_bars()
    model, tokenizer = load(parent)
    config.max_length = min(config.max_length, model.config.max_position_embeddings)
    kept = checked(rows or inputs.rows, tokenizer, config.max_length, report)
    follow = Follow(report, tokenizer)
    trainer = trainer_class(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(kept),
        processing_class=tokenizer,
        peft_config=None if parent.adapter_path else lora(method),
        callbacks=[follow],
    )
    trainer.train()
    if not report.stop_asked:
        save(trainer.model, folder / MODEL)
        write_base_mark(folder / MODEL, parent.base_path)
    return follow.final()


def load(parent: Parent) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model to train, and the tokenizer with the version's own template."""
    tokenizer = AutoTokenizer.from_pretrained(parent.base_path)
    tokenizer.chat_template = parent.template
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(parent.base_path, dtype=dtype)
    if parent.adapter_path:
        model = PeftModel.from_pretrained(model, parent.adapter_path, is_trainable=True)
    return model, tokenizer


def lora(method: TunedMethod) -> LoraConfig:
    """Every linear layer but the head, no dropout: what vLLM serves as it is."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=method.lora_rank,
        lora_alpha=method.lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
    )


def save(model: PeftModel, folder: Path) -> None:
    """The trained adapter without its reference. Raises RunFailed where it holds a number that is none."""
    trained = [p for name, p in model.named_parameters() if ".default." in name]
    if not all(torch.isfinite(parameter).all() for parameter in trained):
        raise RunFailed("The trained weights hold values that are not numbers. Lower the learning rate and run again.")
    model.save_pretrained(str(folder), selected_adapters=["default"])


# ---- what the model will see ----------------------------------------------------------------------------------------


def checked(rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int, report: Report) -> list[dict[str, Any]]:
    """The rows that can be learned from; says how many are left out or cut. Raises RunFailed where none can."""
    kept, faults, cut = [], Counter[str](), 0
    for row in rows:
        lengths, fault = _rendered(tokenizer, row, max_length)
        if fault:
            faults[fault] += 1
        else:
            kept.append({name: value for name, value in row.items() if name != "judgment_id"})
            cut += max(lengths) > max_length
    if not kept:
        raise RunFailed(f"No row can be trained on: {', and '.join(faults)}.")
    for fault, number in faults.items():
        report.note(f"{number} of {len(rows)} rows were left out: {fault}.")
    if cut:
        report.note(f"{cut} rows were cut at {max_length} tokens, so their answers do not teach where to end.")
    return kept


def _rendered(tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], max_length: int) -> tuple[list[int], str]:
    """How many tokens prompt and answer have, for each answer of the row, and why the row cannot be used, if so."""
    prompt = _tokens(tokenizer, row["prompt"], add_generation_prompt=True)
    if len(prompt) >= max_length:
        return [], f"the prompt fills all {max_length} tokens a row may have"
    lengths = []
    for answer in (row[name] for name in ("chosen", "rejected", "completion") if name in row):
        messages = [*row["prompt"], *answer]
        if answer[-1]["content"] not in str(tokenizer.apply_chat_template(messages, tokenize=False)):
            return [], "the prompt template changes the answer (strips white space, for instance)"
        whole = _tokens(tokenizer, messages)
        if whole[: len(prompt)] != prompt:
            return [], "the prompt is not the same tokens once the answer follows, so it would train on another prompt"
        if tokenizer.eos_token_id not in whole[len(prompt) :]:
            return [], f"the prompt template does not end an answer with {tokenizer.eos_token}, so it would never stop"
        lengths.append(len(whole))
    return lengths, ""


def _tokens(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Any], **options: Any) -> list[int]:
    rendered: Any = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=True, **options)
    return list(rendered["input_ids"])


# ---- following ------------------------------------------------------------------------------------------------------


class Follow(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Carries what the trainer logs to the report, answers the fixed prompts now and then, and stops when asked."""

    def __init__(self, report: Report, tokenizer: PreTrainedTokenizerBase) -> None:
        self.report = report
        self.tokenizer = tokenizer
        self.logged: list[dict[str, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._sample(0, given["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self.report.stop_asked:
            control.should_training_stop = control.should_save = True
        elif state.global_step in sampled_steps(state.max_steps):
            self._sample(state.global_step, given["model"])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **given: Any) -> None:
        values = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, (int, float))}
        if "loss" in values:  # the summary after the last step has none
            self.logged.append(values)
            self.report.metrics(state.global_step, state.max_steps, values)

    def final(self) -> dict[str, float]:
        """Each metric over the last fifth of the steps that have it, and the loss over the first fifth."""
        names = sorted({name for values in self.logged for name in values})
        series = {name: [values[name] for values in self.logged if name in values] for name in names}
        final = {name: _mean(values[-_fifth(values) :]) for name, values in series.items()}
        losses = series.get("loss", [])
        return {**final, "first_loss": _mean(losses[: _fifth(losses)])}

    def _sample(self, step: int, model: Any) -> None:
        if self.report.sample_prompts:
            self.report.samples(step, answers(model, self.tokenizer, self.report.sample_prompts))


def sampled_steps(steps: int) -> set[int]:
    return {round(steps * part / SAMPLED_STEPS) for part in range(1, SAMPLED_STEPS + 1)}


def answers(model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Any]) -> list[str]:
    """A sample for each prompt at T = 1, drawn with the same noise every time.

    So a change is the model's and not chance, and the answers are those that people get to see, which the likeliest
    answer is not: it may be in the preferred style before any training. The noise of training is left as it was.
    """
    was_training = model.training
    model.eval()
    with torch.random.fork_rng():
        texts = [_answer(model, tokenizer, prompt, seed) for seed, prompt in enumerate(prompts)]
    model.train(was_training)
    return texts


def _answer(model: Any, tokenizer: PreTrainedTokenizerBase, prompt: Any, seed: int) -> str:
    ids = _tokens(tokenizer, prompt, add_generation_prompt=True)
    room = min(SAMPLE_TOKENS, model.config.max_position_embeddings - len(ids))
    if room <= 0:
        return "(this prompt is longer than the model's context)"
    asked = torch.tensor([ids], device=model.device)
    torch.manual_seed(seed)
    with torch.no_grad():
        answered = model.generate(
            input_ids=asked,
            attention_mask=torch.ones_like(asked),
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            max_new_tokens=room,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    return str(tokenizer.decode(answered[0, len(ids) :], skip_special_tokens=True))


def _fifth(values: Sequence[float]) -> int:
    return max(1, len(values) // 5)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
