"""What is said to a model server and what it says, in the words of OpenAI's HTTP API as vLLM speaks it.

Values and the functions that read and write them; nothing here asks anybody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from storage.errors import EngineRefused, EngineUnavailable

_ENGINE_IS_GONE = "EngineCore encountered an issue"  # of a vLLM whose engine process has died; it ends a second later


@dataclass(frozen=True)
class Completion:
    """One sample: the answer, and what it took."""

    index: int
    text: str
    seed: int | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    latency_seconds: float
    engine: str = ""  # which one gave it, where it says so with each answer


@dataclass(frozen=True)
class SampledTokens:
    """One sample as training needs it: token ids, its end included, and how likely each was when it was drawn."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True)
class Delta:
    """A piece of sample `index` as it comes; the last one of a sample says why it ended."""

    index: int
    text: str
    finish_reason: str | None


@dataclass
class Counted:
    """What a stream has taken, as its end says; and who was asked, where somebody notes it."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    engine: str = ""


@dataclass(frozen=True)
class Load:
    """What a server is doing, and what it has done since it started."""

    running: int = 0
    waiting: int = 0
    tokens_generated: int = 0


def completion_body(
    model: str,
    prompt: str | Sequence[int],
    n: int,
    temperature: float,
    top_p: float,
    max_tokens: int,
    seed: int | None,
    stop: Sequence[str],
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "add_special_tokens": False,  # the template has put them into the prompt already
        "return_token_ids": True,  # tokens counted per sample: usage is the sum of all
    }
    if stop:
        body["stop"] = list(stop)
    return body | sampling_fields(n, temperature, top_p, max_tokens, seed)


def sampling_fields(n: int, temperature: float, top_p: float, max_tokens: int, seed: int | None) -> dict[str, Any]:
    sampling: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
    sampling["n"] = n if temperature > 0 else 1  # vLLM refuses several greedy samples: they would be equal
    if seed is not None:
        sampling["seed"] = seed
    return sampling


def completions(reply: Mapping[str, Any], seed: int | None, latency: float) -> list[Completion]:
    usage = reply.get("usage") or {}
    choices = sorted(reply["choices"], key=lambda choice: choice["index"])
    share = (usage.get("completion_tokens") or 0) // max(1, len(choices))  # where the server does not count per sample
    return [
        Completion(
            index=choice["index"],
            text=choice["text"] if "text" in choice else choice["message"]["content"] or "",
            seed=None if seed is None else seed + choice["index"],
            finish_reason=choice.get("finish_reason") or "stop",
            prompt_tokens=usage.get("prompt_tokens") or 0,
            completion_tokens=len(choice["token_ids"]) if choice.get("token_ids") else share,
            latency_seconds=latency,
        )
        for choice in choices
    ]


def deltas(line: str, counted: Counted) -> list[Delta]:
    """The pieces in one line of a stream of server-sent events; the end mark holds none. `counted` is told the usage.

    Raises EngineRefused when the server broke off in the middle, EngineUnavailable when that was its end.
    """
    if (said := _said(line)) in ("", "[DONE]"):
        return []
    chunk = json.loads(said)
    if "error" in chunk:
        gone = _ENGINE_IS_GONE in chunk["error"]["message"]
        raise (EngineUnavailable if gone else EngineRefused)(f"The model server broke off: {chunk['error']['message']}")
    if usage := chunk.get("usage"):
        counted.prompt_tokens = usage.get("prompt_tokens") or counted.prompt_tokens
        counted.completion_tokens = usage.get("completion_tokens") or counted.completion_tokens
    return [Delta(choice["index"], _piece(choice), choice.get("finish_reason")) for choice in chunk.get("choices", [])]


def _said(line: str) -> str:
    """What a server-sent event carries; the space after the colon may be missing."""
    return line.removeprefix("data:").strip() if line.startswith("data:") else ""


def _piece(choice: Mapping[str, Any]) -> str:
    """Of a completion, or of a chat."""
    return str(choice["text"]) if "text" in choice else str((choice.get("delta") or {}).get("content") or "")


def refusal(reply: httpx.Response) -> EngineRefused | EngineUnavailable:
    try:
        read = reply.json()
        message = read["error"]["message"] if "error" in read else read["message"]
    except (ValueError, KeyError, TypeError):
        message = reply.text[:300] or reply.reason_phrase
    if reply.status_code == 503:
        return EngineUnavailable(f"The model server is not ready: {message}")
    if _ENGINE_IS_GONE in message:
        return EngineUnavailable(f"The model server has lost its engine and is being started again: {message}")
    return EngineRefused(f"The model server refused ({reply.status_code}): {message}")
