"""Scoring answers with a reward model that is served: what the models page's form does, and the text that it scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from labeling.engines.template import read_template, render
from storage.errors import BadInput
from storage.records import ModelVersion


class Scores(Protocol):
    """Who gives scores: labeling.engines.client.EngineClient is one."""

    def score(self, model: str, inputs: Sequence[str]) -> list[float]: ...


def score_answers(client: Scores, name: str, version: ModelVersion, prompt: str, answers: Sequence[str]) -> list[float]:
    """One raw score an answer. Raises BadInput where there is nothing to score, or the version gives no scores."""
    if version.kind != "reward_model":
        raise BadInput(f"{version.id} answers prompts and gives no scores. Choose a reward model.")
    if not prompt.strip():
        raise BadInput("Write the prompt that the answers belong to: a score is of an answer to a prompt.")
    if not all(answer.strip() for answer in answers):
        raise BadInput("An answer is empty. Write it, or take it away.")
    return client.score(name, [whole_text(version, prompt, answer) for answer in answers])


def whole_text(version: ModelVersion, prompt: str, answer: str) -> str:
    """As the reward model was trained to read it: it ends with the answer's end, where the score is read."""
    _, bos, eos = read_template(version.base_path)
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return ended_text(version.template, messages, bos, eos)


def ended_text(template: str, messages: Sequence[Mapping[str, str]], bos: str, eos: str) -> str:
    """Messages up to the end of the last answer, without what the template puts behind it."""
    text = render(template, messages, add_generation_prompt=False, bos_token=bos, eos_token=eos)
    end = text.rfind(eos) if eos else -1
    return text if end < 0 else text[: end + len(eos)]
