"""What every TRL trainer here has in common: load the parent, add the adapter, train, measure, stop, go on, save.

Imported inside a run only. Decisions a reader would question:

* The tokenizer gets the template of the version that is trained, and `checked` leaves out rows that this template
  does not render as the engine will see them. What is served must be what was trained, to the token.
* A child of an adapter goes on training a copy of that adapter (there is no `peft_config` then), and TRL keeps the
  parent's under the name `ref`: the reference is the parent, not the base. `ref` is not saved. Where all weights are
  trained, the parent's adapter is first merged into a folder of its own, which TRL then loads as the reference.
* A checkpoint counts once its file `complete` is there, which is written last, and an older one is removed only after
  that. So TRL's own rotation is off: it would remove the old one before anybody knows that the new one is whole.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped, unused-ignore]
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from torch import distributed
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerState,
)
from transformers.trainer_utils import IntervalStrategy

from alignment.methods.base import ATTENTION, Inputs, Report, Stopped, TunedMethod
from alignment.methods.held_out import Split
from alignment.rows_as_tokens import row_tokens, template_tokens
from alignment.run_directory import CHECKPOINTS, COMPLETE, MODEL
from labeling.engines.model_folder import write_base_mark
from storage.errors import RunFailed
from storage.records import DatasetType

LOGGED_STEPS = 250  # a run logs every step up to this many, then fewer
SAMPLED_STEPS = 4  # the fixed prompts are answered at the start and this many times after
SAMPLE_TOKENS = 128
NEVER = 1 << 30  # steps: what is logged, measured and kept when is `Follow`'s to say
MERGED = "merged_parent"
REFERENCE = "ref"  # what TRL calls its copy of the parent's adapter
TRACKED = "tracker"
SOURCES = ("judgment_id", "document_id", "prompt_id")  # where a row came from; nothing to learn
CLOCKS = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_num_tokens")

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
    prepare: rows, tokenizer, longest → the rows as the trainer wants them, for those learned from and those held out
    options: what else the trainer is given
    finish:  trainer, tokenizer, held-out rows: after training, the best checkpoint put back, before the model is saved
    saved:   the folder of the model, after it was saved
    answers: whether the model answers the fixed prompts along the way
    """

    load: Callable[[TunedMethod, Inputs], tuple[Any, PreTrainedTokenizerBase]] = lambda method, inputs: load(
        method, inputs
    )
    adapter: Callable[[TunedMethod, Any], LoraConfig] = lambda method, model: lora(method, model)
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
    split = _split(method, inputs, tokenizer, longest, report)
    follow = Follow(method, report, tokenizer, samples=parts.answers and not sharded())
    _measure_on(split, config, method, inputs)
    if hasattr(config, "max_length"):
        config.max_length = longest
    trainer = watched(trainer_class, report)(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(_plain(parts.prepare(split.learned, tokenizer, longest))),
        eval_dataset=Dataset.from_list(_plain(parts.prepare(split.held_out, tokenizer, longest)))
        if split.held_out
        else None,
        processing_class=tokenizer,
        peft_config=parts.adapter(method, model) if method.tuning != "full" and not is_adapter(model) else None,
        callbacks=[follow, *_early_stopping(method, split)],
        **parts.options(model, tokenizer),
    )
    _train(trainer, inputs)
    if follow.stopped:
        raise Stopped
    parts.finish(trainer, tokenizer, split.held_out)
    save(trainer, tokenizer, inputs)
    parts.saved(inputs.folder / MODEL)
    return final_metrics(trainer.state, method, split)


def _split(method: TunedMethod, inputs: Inputs, tokenizer: Any, longest: int, report: Report) -> Split:
    kept = checked(inputs.rows, method.reads, tokenizer, longest, report)
    split = method.split(kept)
    if split.note:
        report.note(split.note)
    return split


def _measure_on(split: Split, config: Any, method: TunedMethod, inputs: Inputs) -> None:
    """Measure before training and along the way, and end with the best checkpoint, where rows are held out."""
    if split.held_out:
        config.do_eval, config.eval_strategy = True, IntervalStrategy.STEPS
        config.eval_on_start = inputs.checkpoint is None
        config.load_best_model_at_end = method.keep == "best"


def _early_stopping(method: TunedMethod, split: Split) -> list[TrainerCallback]:
    return [EarlyStoppingCallback(method.patience)] if method.patience and split.held_out else []


def _plain(rows: Rows) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in SOURCES} for row in rows]


# ---- the model and its adapter --------------------------------------------------------------------------------------


def load(method: TunedMethod, inputs: Inputs) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model to train, and the tokenizer with the version's own template."""
    tokenizer = load_tokenizer(inputs)
    model = AutoModelForCausalLM.from_pretrained(base_of(method, inputs), **loading(method))
    model = let_gradients_through(model)
    if inputs.parent.adapter_path and method.tuning != "full":
        model = PeftModel.from_pretrained(model, inputs.parent.adapter_path, is_trainable=True)
    return model, tokenizer


def load_tokenizer(inputs: Inputs) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(inputs.parent.base_path)
    tokenizer.chat_template = inputs.parent.template
    return tokenizer


def loading(method: TunedMethod) -> dict[str, Any]:
    """How the weights are held: halved where they are frozen on a GPU, squeezed to 4 bits for QLoRA, whole otherwise.

    All weights are trained in float32: the small steps of full fine-tuning are lost in half precision.
    """
    if method.tuning == "qlora":
        return _squeezed()
    halved = torch.cuda.is_available() and method.tuning != "full"
    return {"dtype": torch.bfloat16 if halved else torch.float32}


def _squeezed() -> dict[str, Any]:
    """Double quantisation to NormalFloat (arXiv:2305.14314)."""
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    place = int(os.environ.get("LOCAL_RANK", "0")) if on_gpu else "cpu"
    return {"dtype": dtype, "quantization_config": config, "device_map": {"": place}}


def let_gradients_through(model: Any) -> Any:
    """On a processor, bitsandbytes repacks squeezed weights at the first evaluation for a kernel without a gradient."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def base_of(method: TunedMethod, inputs: Inputs) -> str:
    """The folder whose weights are trained upon: the parent's base, or base and adapter merged for full fine-tuning."""
    if method.tuning != "full" or inputs.parent.adapter_path is None:
        return inputs.parent.base_path
    folder = inputs.folder / MERGED
    if first_process():
        base: Any = AutoModelForCausalLM.from_pretrained(inputs.parent.base_path, dtype=torch.float32)
        PeftModel.from_pretrained(base, inputs.parent.adapter_path).merge_and_unload().save_pretrained(folder)
    everybody_is_here()
    return str(folder)


def lora(method: TunedMethod, model: Any, **further: Any) -> LoraConfig:
    """Every linear layer but the head unless the settings say otherwise, no dropout: what vLLM serves as it is."""
    given = {"task_type": "CAUSAL_LM", "r": method.lora_rank, "lora_alpha": method.lora_alpha, "lora_dropout": 0.0}
    given |= further
    if method.target_modules == "all-linear" and method.layers == "all":
        return LoraConfig(**given, target_modules="all-linear")
    layers = model.config.get_text_config().num_hidden_layers
    upper = list(range(layers // 2, layers)) if method.layers == "upper half" else None
    return LoraConfig(**given, target_modules=adapted(method, model), layers_to_transform=upper)


def adapted(method: TunedMethod, model: Any) -> list[str]:
    """The names of the matrices that get an adapter, without the layer they are in: q_proj, for instance."""
    linear = [name.split(".") for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    in_layers = [path for path in linear if any(part.isdigit() for part in path)]
    if method.target_modules == "attention":
        in_layers = [path for path in in_layers if any(word in part for part in path[:-1] for word in ATTENTION)]
    return sorted({path[-1] for path in in_layers})


def is_adapter(model: Any) -> bool:
    return isinstance(model, PeftModel)


def context_of(model: Any) -> int:
    return int(model.config.get_text_config().max_position_embeddings)


def save(trainer: Any, tokenizer: PreTrainedTokenizerBase, inputs: Inputs) -> None:
    """The trained adapter without its reference, or the whole model. Raises RunFailed where it holds no numbers."""
    refuse_no_numbers(trainer.model)
    model, folder = trainer.accelerator.unwrap_model(trainer.model), inputs.folder / MODEL
    weights = {"state_dict": trainer.accelerator.get_state_dict(trainer.model_wrapped)} if sharded() else {}
    if not first_process():
        return
    shutil.rmtree(folder, ignore_errors=True)
    if is_adapter(model):
        model.save_pretrained(str(folder), selected_adapters=["default"], **weights)
        write_base_mark(folder, inputs.parent.base_path)
    else:
        kept_as = AutoConfig.from_pretrained(inputs.parent.base_path).dtype
        model.to(kept_as or model.dtype).save_pretrained(str(folder), **weights)
        tokenizer.save_pretrained(str(folder))
    shutil.rmtree(inputs.folder / MERGED, ignore_errors=True)


def refuse_no_numbers(model: Any) -> None:
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    if not all(torch.isfinite(parameter).all() for parameter in trained):
        raise RunFailed(
            "The trained weights hold values that are not numbers: the model fell apart. Lower the learning rate and "
            "run again."
        )


# ---- training and going on ------------------------------------------------------------------------------------------


def watched(trainer_class: Any, report: Report) -> Any:
    """The trainer, which ends at the first loss that is not a number, before the weights take it in."""

    class Watched(trainer_class):  # type: ignore[misc]
        def training_step(self, *given: Any, **named: Any) -> Any:
            loss = super().training_step(*given, **named)
            if anywhere(not bool(torch.isfinite(loss))):
                report.metrics(self.state.global_step + 1, self.state.max_steps, {"loss": math.nan})
                raise RunFailed("The loss was no longer a number. Lower the learning rate and run again.")
            return loss

    return Watched


def counting(trainer_class: Any) -> Any:
    """The trainer of pairs, which logs how many tokens it has read. TRL's experimental ones do not count."""

    class Counting(trainer_class):  # type: ignore[misc]
        tokens = 0

        def training_step(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
            self.tokens += sum(int(inputs[f"{name}_attention_mask"].sum()) for name in ("chosen", "rejected"))
            return super().training_step(model, inputs, *given, **named)

        def log(self, logs: dict[str, float], *given: Any, **named: Any) -> None:
            if "loss" in logs:
                logs["num_tokens"] = float(self.tokens * processes())
            super().log(logs, *given, **named)

    return Counting


def _train(trainer: Any, inputs: Inputs) -> None:
    """From the start, or from a checkpoint. One whose run was over already has only its best to be put back."""
    if inputs.checkpoint is None:
        trainer.train()
        return
    state = checked_checkpoint(inputs.checkpoint)
    _find_best(state, Path(trainer.args.output_dir))
    if first_process():
        state.save_to_json(str(inputs.checkpoint / "trainer_state.json"))
    everybody_is_here()
    if _ran_out_of_patience(state, trainer.args.metric_for_best_model, trainer.callback_handler.callbacks):
        trainer.state = state
        trainer._load_from_checkpoint(str(inputs.checkpoint))
        if trainer.args.load_best_model_at_end:
            trainer._load_best_model()
    else:
        trainer.train(resume_from_checkpoint=str(inputs.checkpoint))


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

    with safe_open(weights, framework="pt") as file:  # type: ignore[no-untyped-call, unused-ignore]
        return list(file.keys())


def _find_best(state: TrainerState, checkpoints: Path) -> None:
    """The run's directory may have been moved since; the state knows the best checkpoint by its path."""
    if state.best_global_step:
        state.best_model_checkpoint = str(checkpoints / f"checkpoint-{state.best_global_step}")


def _ran_out_of_patience(state: TrainerState, metric: str, callbacks: Sequence[Any]) -> bool:
    for callback in callbacks:
        if isinstance(callback, EarlyStoppingCallback):
            saved = state.stateful_callbacks.get("EarlyStoppingCallback", {})
            counted = saved.get("attributes", {}).get("early_stopping_patience_counter", 0)
            return bool(counted >= callback.early_stopping_patience)
    return False


def first_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def sharded() -> bool:
    """Whether no process holds the whole model: it cannot answer prompts along the way then."""
    return "true" in (os.environ.get("ACCELERATE_USE_FSDP"), os.environ.get("ACCELERATE_USE_DEEPSPEED"))


def anywhere(fact: bool) -> bool:
    """Whether it holds in any process of this run, so that all of them do the same."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return fact
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    count = torch.tensor(int(fact), device=device)
    distributed.all_reduce(count)
    return bool(count)


def everybody_is_here() -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


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


# ---- what the model will see ----------------------------------------------------------------------------------------


def checked(
    rows: Rows, reads: DatasetType, tokenizer: PreTrainedTokenizerBase, max_length: int, report: Report
) -> list[Mapping[str, Any]]:
    """The rows that can be learned from; says how many are left out or cut. Raises RunFailed where none can."""
    kept, faults, cut = [], Counter[str](), 0
    for row in rows:
        read = row_tokens(row, reads, tokenizer, max_length)
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


# ---- following ------------------------------------------------------------------------------------------------------


class Follow(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Carries what the trainer logs to the report, and says when to log, measure, keep, answer prompts and stop."""

    def __init__(
        self, method: TunedMethod, report: Report, tokenizer: PreTrainedTokenizerBase, samples: bool = True
    ) -> None:
        self.method = method
        self.report = report
        self.tokenizer = tokenizer
        self.samples = samples and first_process()
        self.stopped = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.global_step == 0:
            self._sample(0, given["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        step, steps = state.global_step, state.max_steps
        planned = step in spread_over(steps, self.method.evaluations, self.method.whole_steps)
        if step % self.method.whole_steps == 0 and step < steps and anywhere(self.report.stop_asked):
            self.stopped = control.should_training_stop = True
        if planned or self.stopped:
            control.should_save = True
        if planned and args.eval_strategy != IntervalStrategy.NO:
            control.should_evaluate = True
        if control.should_save or step % max(1, steps // LOGGED_STEPS) == 0:
            control.should_log = True
        if step in spread_over(steps, SAMPLED_STEPS):
            self._sample(step, given["model"])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **given: Any) -> None:
        values = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, (int, float))}
        if "loss" in values or any(name.startswith("eval_") for name in values):  # the summary at the end has neither
            measured = {name: value for name, value in values.items() if name not in CLOCKS}
            self.report.metrics(state.global_step, state.max_steps, measured)

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """The checkpoint is whole once all processes have written their part of it."""
        refuse_no_numbers(given["model"])
        everybody_is_here()
        if first_process():
            complete(Path(args.output_dir), state.global_step, state.best_global_step)

    def _sample(self, step: int, model: Any) -> None:
        if self.samples and self.report.sample_prompts:
            self.report.samples(step, answers(model, self.tokenizer, self.report.sample_prompts))


def spread_over(steps: int, number: int, whole: int = 1) -> set[int]:
    """This many steps evenly over a run, the last among them, each one at which the run can be gone on from."""
    wanted = (round(steps * part / number) for part in range(1, number + 1))
    return {min(steps, -(-step // whole) * whole) for step in wanted if step}


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


def final_metrics(state: TrainerState, method: TunedMethod, split: Split) -> dict[str, float]:
    """Each metric over the last fifth of the steps that have it, the loss and the margin over the first fifth too.

    And what was measured on the held-out rows: before training, and at the step that became the version.
    """
    learned = [entry for entry in state.log_history if "loss" in entry]
    names = sorted({name for entry in learned for name in entry} - {"step", "num_tokens"})
    series = {name: [entry[name] for entry in learned if name in entry] for name in names}
    final = {name: _mean(values[-_fifth(values) :]) for name, values in series.items()}
    for name in ("loss", "rewards/margins", "nll_loss"):
        if name in series:
            final[f"first_{name}"] = _mean(series[name][: _fifth(series[name])])
    rows = {"learned_rows": float(len(split.learned)), "held_out_rows": float(len(split.held_out))}
    return {**final, **rows, **_measured(state, method)}


def _measured(state: TrainerState, method: TunedMethod) -> dict[str, float]:
    entries = [entry for entry in state.log_history if method.held_out.metric in entry]
    chosen = state.best_global_step if method.keep == "best" and state.best_global_step else state.global_step
    at_the_end = [entry for entry in entries if entry["step"] == chosen]
    if not at_the_end:
        return {"chosen_step": float(state.global_step)}
    values = {name: value for name, value in at_the_end[-1].items() if name.startswith("eval_") and name not in CLOCKS}
    before = entries[0].get(method.held_out.metric) if entries[0]["step"] == 0 else None
    first = {} if before is None else {f"first_{method.held_out.metric}": before}
    return {**values, **first, "chosen_step": float(chosen)}


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
    ids = template_tokens(tokenizer, prompt, add_generation_prompt=True)
    room = min(SAMPLE_TOKENS, context_of(model) - len(ids))
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
