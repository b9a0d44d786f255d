"""Samples from a chat model and holds its answers against the bars the project promises.

    python -m assets.starter_model.measure                       # the shipped chat model
    python -m assets.starter_model.measure DIR --answers 600 --seed 3

Exits with 1 if a bar is missed. Form and fact are counted apart: only form has a bar, because alignment is
judged by form, and a small model may remember a fact wrongly.
"""

import argparse
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from assets.starter_model.checker import Verdict, judge
from assets.starter_model.grammar import STYLES

HERE = Path(__file__).parent
Model = Any  # a causal language model; the signature of its generate() passes no type checker
SAMPLES_PER_PROMPT = 4
BATCH = 100
MAX_NEW_TOKENS = 160

WELL_FORMED_BAR = 0.95  # at T = 0.7
STYLE_BAR = 0.88  # at T = 1, in each style
VARIETY_BAR = 0.5  # prompts of which four samples show at least two styles


@dataclass(frozen=True)
class Answer:
    """A sampled response, and whether it ended by itself."""

    text: str
    ended: bool


@dataclass(frozen=True)
class Table:
    """The verdicts on many answers at one temperature."""

    temperature: float
    verdicts: list[Verdict] = field(repr=False)

    @property
    def well_formed(self) -> float:
        return share(v.well_formed for v in self.verdicts)

    @property
    def fact_right(self) -> float:
        return share(v.fact_right for v in self.verdicts)

    def of_style(self, style: str) -> float:
        return share(v.style == style for v in self.verdicts)

    def well_formed_in(self, style: str) -> float:
        return share(v.well_formed for v in self.verdicts if v.style == style)

    def __str__(self) -> str:
        styles = "\n".join(self._style_line(style) for style in STYLES)
        head = f"T = {self.temperature}: {self.well_formed:.1%} well formed, {self.fact_right:.1%} fact right"
        return f"{head} ({len(self.verdicts)} answers)\n{styles}"

    def _style_line(self, style: str) -> str:
        portion, sound = self.of_style(style), self.well_formed_in(style)
        return f"    {style:<8} {portion:6.1%} of answers, {sound:6.1%} well formed"


@dataclass(frozen=True)
class Report:
    """Both temperatures, and how often four samples of one prompt show at least two styles (at T = 0.7)."""

    cool: Table
    warm: Table
    variety: float

    def failures(self) -> list[str]:
        """The bars that are missed, in words."""
        missed = []
        if self.cool.well_formed < WELL_FORMED_BAR:
            missed.append(f"well formed at T = 0.7: {self.cool.well_formed:.1%} < {WELL_FORMED_BAR:.0%}")
        for style in STYLES:
            if self.warm.well_formed_in(style) < STYLE_BAR:
                missed.append(f"{style} at T = 1: {self.warm.well_formed_in(style):.1%} < {STYLE_BAR:.0%}")
        if self.variety < VARIETY_BAR:
            missed.append(f"two styles in four samples: {self.variety:.1%} < {VARIETY_BAR:.0%}")
        return missed

    def __str__(self) -> str:
        variety = f"Four samples of one prompt show at least two styles: {self.variety:.1%}"
        return "\n".join([str(self.cool), str(self.warm), variety, *self.failures()])


def share(truths: Iterable[bool]) -> float:
    """The share of true values; 0 of none."""
    values = list(truths)
    return sum(values) / len(values) if values else 0.0


def measure(folder: Path, answers: int = 600, seed: int = 0) -> Report:
    """Samples `answers` responses at T = 0.7 and as many at T = 1, to prompts drawn from prompts.jsonl."""
    torch.manual_seed(seed)
    model, tokenizer = load(folder)
    prompts = random.Random(seed).sample(unseen_prompts(), answers)
    repeated = [p for p in prompts[: answers // SAMPLES_PER_PROMPT] for _ in range(SAMPLES_PER_PROMPT)]
    four = judged(model, tokenizer, repeated, 0.7)
    return Report(
        cool=Table(0.7, judged(model, tokenizer, prompts, 0.7)),
        warm=Table(1.0, judged(model, tokenizer, prompts, 1.0)),
        variety=share(
            len({v.style for v in four[i : i + SAMPLES_PER_PROMPT]}) > 1
            for i in range(0, len(four), SAMPLES_PER_PROMPT)
        ),
    )


def load(folder: Path) -> tuple[Model, PreTrainedTokenizerBase]:
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), tokenizer


def unseen_prompts() -> list[str]:
    lines = (HERE / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines]


def judged(model: Model, tokenizer: PreTrainedTokenizerBase, prompts: list[str], temperature: float) -> list[Verdict]:
    responses = sample(model, tokenizer, prompts, temperature)
    return [judge(p, answer.text, answer.ended) for p, answer in zip(prompts, responses, strict=True)]


def sample(model: Model, tokenizer: PreTrainedTokenizerBase, prompts: list[str], temperature: float) -> list[Answer]:
    """One response to each prompt, from the plain distribution (no top-k, no top-p)."""
    responses = []
    for i in range(0, len(prompts), BATCH):
        responses += _sample_batch(model, tokenizer, prompts[i : i + BATCH], temperature)
    return responses


def _sample_batch(
    model: Model, tokenizer: PreTrainedTokenizerBase, prompts: list[str], temperature: float
) -> list[Answer]:
    rendered = [_rendered(prompt, tokenizer) for prompt in prompts]
    inputs = tokenizer(rendered, padding=True, return_tensors="pt")
    settings = {"temperature": temperature, "top_k": 0, "top_p": 1.0, "max_new_tokens": MAX_NEW_TOKENS}
    with torch.no_grad():
        ids = model.generate(**inputs, do_sample=True, **settings)
    return [_answer(row, tokenizer) for row in ids[:, inputs["input_ids"].shape[1] :].tolist()]


def _rendered(prompt: str, tokenizer: PreTrainedTokenizerBase) -> str:
    turn = [{"role": "user", "content": prompt}]
    return cast(str, tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def _answer(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> Answer:
    """The text up to the end of the turn, unchanged: nothing is stripped."""
    ended = tokenizer.eos_token_id in ids
    if ended:
        ids = ids[: ids.index(tokenizer.eos_token_id)]
    return Answer(cast(str, tokenizer.decode(ids)), ended)


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold a chat model's answers against the bars.")
    parser.add_argument("folder", type=Path, nargs="?", default=HERE / "chat")
    parser.add_argument("--answers", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = measure(arguments.folder, arguments.answers, arguments.seed)
    print(report)
    raise SystemExit(bool(report.failures()))


if __name__ == "__main__":
    main()
