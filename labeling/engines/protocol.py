"""What is said to a model server and what it says, in the words of OpenAI's HTTP API as vLLM speaks it.

Values and the functions that read and write them; nothing here asks anybody.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from storage.errors import EngineRefused, EngineUnavailable, WrongKey
from storage.storable import storable

_ENGINE_IS_GONE = "EngineCore encountered an issue"  # of a vLLM whose engine process has died; it ends a second later
_PASSING = frozenset({408, 429, 502, 504})
WITHHELD = "content_filter"  # the reason of an answer that was kept back
LONGEST_COMPLAINT = 300  # characters


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


def bearer(key: str) -> dict[str, str]:
    """The headers that show the key; none where there is none."""
    return {"Authorization": f"Bearer {key}"} if key else {}


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
    """In order of index. Raises ValueError where this is no reply of the API, EngineRefused for an answer withheld."""
    choices = choices_of(reply)
    prompt_tokens, tokens = _usage(reply)
    share = tokens // len(choices)  # where the server does not count per sample
    found = [
        Completion(
            index=(index := _count(choice.get("index"), place)),
            text=_given_text(choice),
            seed=None if seed is None else seed + index,
            finish_reason=_reason(choice) or "stop",
            prompt_tokens=prompt_tokens,
            completion_tokens=len(choice["token_ids"]) if choice.get("token_ids") else share,
            latency_seconds=latency,
        )
        for place, choice in enumerate(choices)
    ]
    return sorted(found, key=lambda one: one.index)


def choices_of(reply: Any) -> list[Mapping[str, Any]]:
    """One or more. Raises ValueError where this is no reply of the API."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("a reply without choices")
    return choices


def text_of(choice: Mapping[str, Any]) -> str | None:
    """Of a completion or of a chat; None where it is withheld. Raises ValueError where it is no text."""
    return _as_text(choice["text"] if "text" in choice else _part(choice, "message").get("content"))


def deltas(line: str, counted: Counted) -> list[Delta]:
    """The pieces in one line of a stream of server-sent events; the end mark holds none. `counted` is told the usage.

    Raises EngineRefused when the server broke off in the middle, EngineUnavailable when that was its end, ValueError
    where the line is none of the API's.
    """
    if (said := _said(line)) in ("", "[DONE]"):
        return []
    chunk = json.loads(said)
    if complaint := _complaint(chunk):
        gone = _ENGINE_IS_GONE in complaint
        raise (EngineUnavailable if gone else EngineRefused)(f"The model server broke off: {complaint}")
    prompt_tokens, tokens = _usage(chunk)
    counted.prompt_tokens = prompt_tokens or counted.prompt_tokens
    counted.completion_tokens = tokens or counted.completion_tokens
    choices = choices_of(chunk) if chunk.get("choices") else []  # the last chunk has the usage alone
    return [Delta(_count(choice.get("index")), _piece(choice), _reason(choice)) for choice in choices]


def refusal(reply: httpx.Response, key: str = "") -> EngineRefused | EngineUnavailable:
    """What a reply other than 200 means; `key` is not repeated, though the server may.

    A passing fault is of whoever stands before the server, or of a server that is busy or just loads what it is asked
    for: it is no word about what was asked.
    """
    status, complaint = reply.status_code, _complaint_of(reply)
    message = without(key, complaint or reply.text)[:LONGEST_COMPLAINT] or reply.reason_phrase
    if status == 503:
        return EngineUnavailable(f"The model server is not ready: {message}")
    if _ENGINE_IS_GONE in message:
        return EngineUnavailable(f"The model server has lost its engine and is being started again: {message}")
    said = f"({status}): {message}"
    if status in (401, 403):
        return WrongKey(f"The model server refused the key {said}")
    if status in _PASSING or (status == 404 and "does not exist" in message) or (status == 500 and not complaint):
        return EngineUnavailable(f"The model server cannot answer now {said}")
    return EngineRefused(f"The model server refused {said}")


def withheld(reason: str) -> EngineRefused:
    """For an answer that was kept back."""
    return EngineRefused(f"The model server gave no answer, and says why in one word: {reason}.")


async def lines_of(chunks: AsyncIterable[bytes]) -> AsyncGenerator[str, None]:
    """Server-sent events end at a line feed and nowhere else: other separators are part of what is said."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    yield rest.decode(errors="replace")


def without(key: str, text: str) -> str:
    """What a server said, without the key that it may repeat."""
    return text.replace(key, "(key)") if key else text


def _said(line: str) -> str:
    """What a server-sent event carries; the space after the colon may be missing."""
    return line.removeprefix("data:").strip() if line.startswith("data:") else ""


def _piece(choice: Mapping[str, Any]) -> str:
    """Of a completion, or of a chat."""
    return _as_text(choice["text"] if "text" in choice else _part(choice, "delta").get("content")) or ""


def _given_text(choice: Mapping[str, Any]) -> str:
    text, reason = text_of(choice), _reason(choice)
    if text is None or (not text and reason == WITHHELD):
        raise withheld(reason or "nothing")
    return text


def _as_text(said: Any) -> str | None:
    if said is not None and not isinstance(said, str):
        raise ValueError("an answer that is no text")
    text: str | None = storable(said)
    return text


def _part(choice: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = choice.get(name) or {}
    if not isinstance(part, dict) or (name == "message" and not part):
        raise ValueError(f"a choice without its {name}")
    return part


def _reason(choice: Mapping[str, Any]) -> str | None:
    """Why the answer ended, once it has."""
    return str(choice["finish_reason"]) if choice.get("finish_reason") else None


def _usage(reply: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens of prompt and answers, 0 where the server does not say."""
    usage = reply.get("usage")
    if not isinstance(usage, dict):
        return 0, 0
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))


def _count(said: Any, otherwise: int = 0) -> int:
    return said if isinstance(said, int) and said >= 0 else otherwise


def _complaint_of(reply: httpx.Response) -> str:
    try:
        return _complaint(reply.json())
    except ValueError:
        return ""


def _complaint(said: Any) -> str:
    """What a server gives as its error, in one of the usual shapes; empty where it gives none.

    Raises ValueError for what is no JSON object.
    """
    if not isinstance(said, dict):
        raise ValueError("no JSON object")
    error = said.get("error") or (said.get("message") if "choices" not in said else "") or ""
    return str(error.get("message") or error) if isinstance(error, dict) else str(error)
