"""What a request may say, and how replies and refusals look: vLLM's shapes, statuses and sentences.

A setting that would change the answer and is not built here is refused, never ignored.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from labeling.engines.embedded_model import Sampling
from labeling.engines.embedded_scheduler import Piece

_GREEDY = 1e-5  # below this vLLM takes a temperature for 0
_NEUTRAL: dict[str, tuple[Any, ...]] = {  # settings that are not built here, and the values that ask for nothing
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "min_p": (0,),
    "min_tokens": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True, False),
    "top_k": (-1, 0),
    "use_beam_search": (False,),
}
_WITHOUT_EFFECT = {"user", "request_id", "priority"}


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, kind: str = "", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(status, message, kind, param)


def error_body(status: int, message: str, kind: str = "", param: str | None = None) -> dict[str, Any]:
    kinds = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError", 503: "ServiceUnavailableError"}
    kind = kind or kinds.get(status, "BadRequestError")
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


class StreamOptions(BaseModel):
    include_usage: bool = False


class GenerationRequest(BaseModel):
    """What completions and chat completions share."""

    model_config = ConfigDict(extra="allow")

    model: str
    n: int = 1
    seed: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    add_special_tokens: bool = True
    ignore_eos: bool = False
    return_token_ids: bool | None = None

    @model_validator(mode="after")
    def _refuse_what_is_not_built(self) -> GenerationRequest:
        for name, value in (self.model_extra or {}).items():
            if value is not None and name not in _WITHOUT_EFFECT and value not in _NEUTRAL.get(name, ()):
                raise ValueError(f"The embedded server does not support {name}={value!r}; leave it out.")
        return self

    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    def samplings(self, max_tokens: int) -> list[Sampling]:
        """One a choice; choice i is seeded with seed + i."""
        seed = random.getrandbits(63) if self.seed is None else self.seed
        temperature = 0.0 if self.temperature < _GREEDY else self.temperature
        return [
            Sampling(temperature, self.top_p, max_tokens, seed + index, self.asks_logprobs) for index in range(self.n)
        ]

    @property
    def asks_logprobs(self) -> bool:
        return False

    def check(self) -> None:
        """Raises Refusal where a number is out of its range."""
        for wrong, message in (
            (self.n < 1, f"n must be at least 1, got {self.n}."),
            (self.temperature < 0, f"temperature must be non-negative, got {self.temperature}."),
            (not 0 < self.top_p <= 1, f"top_p must be in (0, 1], got {self.top_p}."),
            (
                self.max_tokens is not None and self.max_tokens < 1,
                f"max_tokens must be at least 1, got {self.max_tokens}.",
            ),
            ("" in self.stops(), "stop cannot contain an empty string."),
            (self.temperature < _GREEDY and self.n > 1, f"n must be 1 when using greedy sampling, got {self.n}."),
            (
                self.stream_options is not None and not self.stream,
                "Stream options can only be defined when `stream=True`.",
            ),
        ):
            if wrong:
                raise Refusal(400, message)


class CompletionRequest(GenerationRequest):
    prompt: str | list[int]
    logprobs: Literal[0] | None = None  # 0: of the tokens that were sampled, and of no others

    @property
    def asks_logprobs(self) -> bool:
        return self.logprobs is not None


class ChatRequest(GenerationRequest):
    messages: list[dict[str, Any]]
    add_generation_prompt: bool = True
    max_completion_tokens: int | None = None
    add_special_tokens: bool = False


class TokenizeRequest(BaseModel):
    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_generation_prompt: bool = True
    add_special_tokens: bool | None = None


class DetokenizeRequest(BaseModel):
    model: str | None = None
    tokens: list[int]


class LoadAdapterRequest(BaseModel):
    lora_name: str
    lora_path: str


class UnloadAdapterRequest(BaseModel):
    lora_name: str


def room(prompt_tokens: int, max_tokens: int | None, max_model_len: int) -> int:
    """How many tokens the answer may have: no more than the prompt leaves, as vLLM has it, and without a word.

    Raises Refusal when the prompt leaves none.
    """
    left = max_model_len - prompt_tokens
    if left < 1:
        raise too_long(prompt_tokens, max_model_len)
    return min(max_tokens or left, left)


def too_long(prompt_tokens: int, max_model_len: int) -> Refusal:
    return Refusal(
        400,
        f"This model's maximum context length is {max_model_len} tokens. However, your prompt contains at least "
        f"{prompt_tokens} input tokens. Please reduce the length of the input prompt. "
        f"(parameter=input_tokens, value={prompt_tokens})",
        param="input_tokens",
    )


def unknown_model(name: str, bases: Sequence[str]) -> Refusal:
    return Refusal(404, f"The model `{name}` does not exist. Valid aliases: {', '.join(bases)}.", param="model")


class Reply:
    """The shapes of one answer: text completion or chat, whole or in chunks."""

    def __init__(
        self, request: GenerationRequest, prompt: Sequence[int], decode: Callable[[Sequence[int]], str]
    ) -> None:
        self._request = request
        self._decode = decode
        self._written: dict[int, int] = {}  # choice → characters of its tokens, one by one, that have gone out
        self._prompt = list(prompt)
        self._chat = isinstance(request, ChatRequest)
        self._head = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": request.model,
        }

    def whole(self, last: Sequence[Piece]) -> dict[str, Any]:
        """All choices at once; each piece is a whole answer."""
        kind = "chat.completion" if self._chat else "text_completion"
        choices = [self._choice(piece, whole=True) for piece in sorted(last, key=lambda piece: piece.index)]
        generated = sum(len(piece.token_ids) for piece in last)
        return {**self._head, "object": kind, "choices": choices, "usage": self.usage(generated)}

    def chunk(self, piece: Piece) -> dict[str, Any]:
        return {**self._head, "object": self._chunk_kind(), "choices": [self._choice(piece, whole=False)]}

    def usage_chunk(self, generated: int) -> dict[str, Any]:
        return {**self._head, "object": self._chunk_kind(), "choices": [], "usage": self.usage(generated)}

    def usage(self, generated: int) -> dict[str, int]:
        read = len(self._prompt)
        return {"prompt_tokens": read, "completion_tokens": generated, "total_tokens": read + generated}

    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self._chat else "text_completion"

    def _choice(self, piece: Piece, whole: bool) -> dict[str, Any]:
        logprobs = self._logprobs(piece) if self._request.asks_logprobs else None
        choice: dict[str, Any] = {"index": piece.index, "logprobs": logprobs, "finish_reason": piece.finish_reason}
        if self._chat:
            choice["message" if whole else "delta"] = {"role": "assistant", "content": piece.text}
        else:
            choice["text"] = piece.text
        if self._request.return_token_ids:
            choice["token_ids"] = piece.token_ids
            if whole:
                choice["prompt_token_ids"] = self._prompt
        return choice

    def _logprobs(self, piece: Piece) -> dict[str, Any]:
        """In four lists, an entry for each token. The likeliest tokens are only the sampled one, as 0 asks for."""
        tokens = [self._decode([token]).replace("\ufffd", "") for token in piece.token_ids]  # half characters: no text
        ends = list(accumulate(map(len, tokens), initial=self._written.get(piece.index, 0)))
        self._written[piece.index] = ends[-1]
        return {
            "text_offset": ends[:-1],
            "token_logprobs": piece.logprobs,
            "tokens": tokens,
            "top_logprobs": [{token: logprob} for token, logprob in zip(tokens, piece.logprobs, strict=True)],
        }
