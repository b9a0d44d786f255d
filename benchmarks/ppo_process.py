"""One process of benchmarks.ppo: one of our methods, PPO or the reward model that it learns from.

    python -m benchmarks.ppo_process JOB.json

Prints what was measured as the last line.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # as in a run; its import takes memory

from alignment.methods import (  # noqa: E402 — bitsandbytes has to be out of the way first, here and below
    method_named,
    ppo_training,  # noqa: F401 — imported here, so that memory is measured above it
)
from alignment.methods.base import Inputs, Messages, Parent  # noqa: E402
from assets.starter_model.checker import judge  # noqa: E402
from benchmarks.ppo_jobs import Job, Told, rule_reward  # noqa: E402

AT_ONCE = 50  # held-out questions


def main() -> None:
    torch.set_num_threads(1)
    job, told = Job.of_this_process(), Told.after_imports()
    method_named(job.method).model_validate(job.settings).train(inputs_of(job), Telling(told))
    told.end()
    if job.held_out:
        measure(job, told)
    told.tell()


def inputs_of(job: Job) -> Inputs:
    return Inputs(
        job.rows,
        Parent("base", job.base, None, job.template),
        Path(job.folder),
        reward=Parent("reward", job.base, job.reward, job.template) if job.reward else None,
        scored_by=None if job.reward else by_rule,
        gold=well_formed if job.reward and job.held_out else None,
    )


def by_rule(prompts: Sequence[Messages], texts: Sequence[str]) -> list[float]:
    return [rule_reward(prompt[-1]["content"], text) for prompt, text in zip(prompts, texts, strict=True)]


def well_formed(prompts: Sequence[Messages], texts: Sequence[str]) -> list[float]:
    """What the reward model does not know."""
    found = zip(prompts, texts, strict=True)
    return [float(judge(prompt[-1]["content"], text).well_formed) for prompt, text in found]


class Telling:
    """A run's report that keeps the curve."""

    sample_prompts: Sequence[Any] = ()
    stop_asked = False

    def __init__(self, told: Told) -> None:
        self.told = told

    def metrics(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        if "reward" in values:
            self.told.iteration(values)

    def samples(self, step: int, texts: Sequence[str]) -> None: ...

    def note(self, sentence: str) -> None: ...

    def evaluation(self, values: Mapping[str, Any]) -> None: ...


def measure(job: Job, told: Told) -> None:
    """One answer to each held-out prompt at T = 1, sampled by transformers from the adapter as it was saved."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.base, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(Path(job.folder) / "model")).eval()
    torch.manual_seed(job.settings.get("seed", 0))
    verdicts = []
    for start in range(0, len(job.held_out), AT_ONCE):
        asked = job.held_out[start : start + AT_ONCE]
        messages = [[{"role": "user", "content": words}] for words in asked]
        given = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
        )
        ids = model.generate(**given, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=160)
        new = ids[:, given["input_ids"].shape[1] :]
        ended = (new == tokenizer.eos_token_id).any(1).tolist()
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        verdicts += [judge(*one) for one in zip(asked, texts, ended, strict=True)]
    told.well_formed = sum(one.well_formed for one in verdicts) / len(verdicts)
    told.preferred = sum(one.well_formed and one.style == "concise" for one in verdicts) / len(verdicts)


if __name__ == "__main__":
    main()
