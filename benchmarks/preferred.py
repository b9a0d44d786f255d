"""How often a version answers as the scripted rater prefers: in the concise, cited style, and well formed.

Also the rater itself, and intervals. The rater reads only the text that a page shows; the checker, which knows the
grammar of the invented world, is used to measure and never to rate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from assets.starter_model.checker import judge
from labeling.answering import Answering, rendered, seed_of
from labeling.engines.client import Completion
from labeling.win_rate import wilson
from storage.records import ModelVersion, Prompt

_CITED = re.compile(r"\[[^\[\]]+, \d{4}\]\.?$")
_NAME = re.compile(r"\b[A-Z][a-z]{4,}\b")
_MOST_WORDS = 25
_AT_ONCE = 32


def rater_likes(prompt: str, text: str) -> bool:
    """Short, about what was asked, with a source at the end, and no white space that a careful reader would mind."""
    short = len(text.split()) <= _MOST_WORDS and "!" not in text and text == text.strip()
    about = set(_NAME.findall(prompt)) & set(_NAME.findall(text))
    return short and bool(about) and bool(_CITED.search(text))


@dataclass(frozen=True)
class Measured:
    """Of n answers: how many are preferred and well formed, and how many are well formed."""

    n: int
    preferred: int
    well_formed: int

    @property
    def preferred_share(self) -> float:
        return self.preferred / self.n

    @property
    def well_formed_share(self) -> float:
        return self.well_formed / self.n


def measure(
    engines: Answering,
    version: ModelVersion,
    prompts: Sequence[Prompt],
    *,
    temperature: float,
    samples: int = 1,
    seed: int = 0,
    max_tokens: int = 160,
) -> Measured:
    """Samples each prompt and judges the answers by the rules of the invented world."""
    client, name = engines.client(version.id)

    def ask(prompt: Prompt) -> list[Completion]:
        drawn = seed_of("measure", seed, prompt.text, version.id)
        text = rendered(version, prompt)
        return client.complete(name, text, n=samples, temperature=temperature, max_tokens=max_tokens, seed=drawn)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(ask, prompts))
    verdicts = [
        judge(prompt.text, one.text, one.finish_reason == "stop")
        for prompt, drawn in zip(prompts, answers, strict=True)
        for one in drawn
    ]
    return Measured(
        n=len(verdicts),
        preferred=sum(one.style == "concise" and one.well_formed for one in verdicts),
        well_formed=sum(one.well_formed for one in verdicts),
    )


def difference(before: int, n_before: int, after: int, n_after: int) -> tuple[float, float, float]:
    """after - before as shares, with Newcombe's 95 % interval (1998, method 10: from two Wilson intervals)."""
    p, q = before / n_before, after / n_after
    (p_low, p_high), (q_low, q_high) = wilson(p, n_before), wilson(q, n_after)
    low = q - p - math.hypot(q - q_low, p_high - p)
    high = q - p + math.hypot(q_high - q, p - p_low)
    return q - p, low, high


def points(low_value_high: tuple[float, float, float]) -> str:
    """+68 points [61, 74]"""
    value, low, high = (100 * one for one in low_value_high)
    return f"{value:+.0f} points [{low:.0f}, {high:.0f}]"
