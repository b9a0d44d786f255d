"""What a model is shown of a row: its tokens, and which of them are learned from.

Two read this: a training run, which leaves out the rows that cannot be used, and the preflight, which shows them to a
person before anything is started. Only a tokenizer is needed, so no torch is imported. TRL renders a row again for
itself; a test holds the two together.

The prompt is rendered with the template of the version that is trained, once alone, as the engine will ask it, and
once with the answer behind it. Where the first is not the beginning of the second, the row would train another prompt
than the one that is asked later, so it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.records import DatasetType

ANSWERS: Mapping[DatasetType, tuple[str, ...]] = {
    "preference": ("chosen", "rejected"),
    "unpaired_preference": ("completion",),
    "prompt_completion": ("completion",),
}
CHANGED = "the prompt template changes the answer (strips white space, for instance)"
OTHER_PROMPT = "the prompt is not the same tokens once the answer follows, so it would train on another prompt"
EMPTY_DOCUMENT = "the document is empty"


@dataclass(frozen=True)
class Answer:
    """One of the texts of a row as tokens, its prompt included, before anything is cut.

    tokens: (tokens,); in_loss: (tokens,), True where the token is learned.
    """

    name: str
    tokens: tuple[int, ...]
    in_loss: tuple[bool, ...]


@dataclass(frozen=True)
class RowTokens:
    """A row as the model sees it. `fault` is why it cannot be used, as it continues "left out: ", or empty."""

    answers: tuple[Answer, ...]
    fault: str = ""

    @property
    def longest(self) -> int:
        return max((len(answer.tokens) for answer in self.answers), default=0)


def row_tokens(row: Mapping[str, Any], reads: DatasetType, tokenizer: Any, max_length: int, room: int = 1) -> RowTokens:
    """The texts of a row as tokens. `tokenizer` is one of transformers, with the template of the version trained.

    `room`: tokens that must be left behind the prompt, which are many where the model itself is to answer.
    """
    if reads == "language_modeling":
        return _document(row["text"], tokenizer)
    prompt = template_tokens(tokenizer, row["prompt"], add_generation_prompt=True)
    asked = Answer("prompt", tuple(prompt), (False,) * len(prompt))
    if len(prompt) + room > max_length:
        return RowTokens((asked,), prompt_fills(max_length, room))
    if reads == "prompt_only":
        return RowTokens((asked,))
    found = [_answer(name, row["prompt"], row[name], prompt, tokenizer) for name in ANSWERS[reads]]
    return RowTokens(tuple(answer for answer, _ in found), next((fault for _, fault in found if fault), ""))


def prompt_fills(max_length: int, room: int = 1) -> str:
    """The fault of a row whose prompt leaves no room for an answer."""
    if room > 1:
        return f"the prompt leaves no room for {room:,} tokens of answer within the {max_length:,} that a row may have"
    return f"the prompt fills all {max_length} tokens a row may have"


def document_tokens(text: str, tokenizer: Any) -> list[int]:
    """A document and the token that ends it, so that the model learns where documents end."""
    tokens = list(tokenizer(text)["input_ids"])
    return tokens if tokens[-1:] == [tokenizer.eos_token_id] else [*tokens, tokenizer.eos_token_id]


def template_tokens(tokenizer: Any, messages: Sequence[Mapping[str, str]], **options: Any) -> list[int]:
    """Messages through the tokenizer's template. Its text holds the special tokens already, so none are added."""
    rendered = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=True, **options)
    return list(rendered["input_ids"])


def _document(text: str, tokenizer: Any) -> RowTokens:
    tokens = tuple(document_tokens(text, tokenizer))
    return RowTokens((Answer("text", tokens, (True,) * len(tokens)),), "" if text.strip() else EMPTY_DOCUMENT)


def _answer(
    name: str, asked: Sequence[Any], answered: Sequence[Any], prompt: Sequence[int], tokenizer: Any
) -> tuple[Answer, str]:
    """Prompt and answer as tokens, and what is wrong with them. What follows the prompt is learned."""
    messages = [*asked, *answered]
    whole = template_tokens(tokenizer, messages)
    answer = Answer(name, tuple(whole), tuple(place >= len(prompt) for place in range(len(whole))))
    if answered[-1]["content"] not in str(tokenizer.apply_chat_template(messages, tokenize=False)):
        return answer, CHANGED
    if whole[: len(prompt)] != list(prompt):
        return answer, OTHER_PROMPT
    if tokenizer.eos_token_id not in whole[len(prompt) :]:
        return answer, f"the prompt template does not end an answer with {tokenizer.eos_token}, so it would never stop"
    return answer, ""
