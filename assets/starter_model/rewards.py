"""Rewards by the rules of the invented world, for runs on the starter model. They know what no reward model is told.

    preferred      1 for a well-formed answer in the concise, cited style, 0.3 for another well-formed one, else 0
    well_formed    1 for one whole answer, in one style, about the vaccine that was asked about, else 0

A prompt that asks about nothing in that world is an error: no rule says what an answer to it is worth.
"""

from collections.abc import Mapping, Sequence

from assets.starter_model.checker import Verdict, judge

Messages = Sequence[Mapping[str, str]]


def preferred(prompts: Sequence[Messages], answers: Sequence[str]) -> list[float]:
    return [_rule(verdict) for verdict in _verdicts(prompts, answers)]


def well_formed(prompts: Sequence[Messages], answers: Sequence[str]) -> list[float]:
    return [float(verdict.well_formed) for verdict in _verdicts(prompts, answers)]


def _rule(verdict: Verdict) -> float:
    if not verdict.well_formed:
        return 0.0
    return 1.0 if verdict.style == "concise" else 0.3


def _verdicts(prompts: Sequence[Messages], answers: Sequence[str]) -> list[Verdict]:
    """The last message asks."""
    return [judge(prompt[-1]["content"], answer) for prompt, answer in zip(prompts, answers, strict=True)]
