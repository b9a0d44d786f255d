"""Follow a trainer: what it logs, when it measures, keeps and stops, how the fixed prompts are answered on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerState
from transformers.trainer_utils import IntervalStrategy

from alignment.methods.base import LOGGED_STEPS, Report, TunedMethod
from alignment.methods.checkpoints import complete
from alignment.methods.held_out import Split
from alignment.methods.processes import anywhere, everybody_is_here, first_process
from alignment.methods.weights import context_of, refuse_no_numbers
from alignment.rows_as_tokens import template_tokens

SAMPLED_STEPS = 4  # the fixed prompts are answered at the start and this many times after
SAMPLE_TOKENS = 128
CLOCKS = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_num_tokens")


class Follow(TrainerCallback):  # type: ignore[misc]  # mypy does not look into transformers
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
