"""Have somebody answer a prompt: one of our versions through its own template, or an endpoint through chat.

Whoever samples for labelers, and whoever asks on the compare page, asks here; so both get the same answer by the same
seed, shortened to the same context, and an endpoint outside is asked by one way only.

A seed is derived from the text of the prompt and the names of project and version, never from an id made at random, so
another home with the same prompts and versions draws the same answers, and no two versions share their noise.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypedDict

from labeling.engines.client import Completion, Counted, Delta, EngineClient
from labeling.engines.endpoint_client import Messages
from labeling.engines.endpoints import Endpoints
from labeling.engines.template import read_template, render
from storage import model_versions, prompts
from storage.database import Database
from storage.endpoints import Endpoint
from storage.records import ModelVersion, Project, Prompt, Sampling

ROOM_FOR_AN_ANSWER = 64  # tokens; a prompt that leaves less of the context is too long
MARGIN_BYTES = 64  # beginning-of-text and the like

Turns = list[dict[str, str]]


class Answering(Protocol):
    """What is needed of the engines: a client and the model's name there for a version."""

    def client(self, version_id: str, /) -> tuple[EngineClient, str]: ...


@dataclass(frozen=True)
class Answerers:
    """Everybody who can answer.

    Asking raises NotFound for whom nobody keeps, EngineUnavailable and EngineRefused, BadInput where a chat template
    refuses the prompt, and NotAllowed where it is confidential and would leave.
    """

    engines: Answering
    endpoints: Endpoints = field(default_factory=Endpoints)

    def answers(
        self, version: ModelVersion, prompt: Prompt, sampling: Sampling, count: int, seed: int
    ) -> tuple[Sampling, list[Completion]]:
        """`count` answers and how they were drawn: shorter where the context leaves less than was asked for."""
        if version.is_endpoint:
            return sampling, [self._chat(version, prompt, sampling, seed + place) for place in range(count)]
        client, name = self.engines.client(version.id)
        text = rendered(version, prompt, sampling.system)
        fitting = _within_context(self.engines, version, text, sampling)
        completions = client.complete(name, text, n=count, seed=seed, **_settings(fitting))
        return fitting, [replace(one, engine=one.engine or client.server_name()) for one in completions]

    async def stream(
        self, version: ModelVersion, prompt: Prompt, sampling: Sampling, seed: int, counted: Counted
    ) -> AsyncGenerator[Delta, None]:
        """One answer as it comes; `counted` is told first who gives it, since a server may be gone when it is whole.

        Closing it (`contextlib.aclosing`) ends the server's work on it.
        """
        if version.is_endpoint:
            endpoint = self.endpoints.client(version.id)
            counted.engine = endpoint.engine_name()
            asked = endpoint.stream(
                turns(prompt, sampling.system), about=turns(prompt), seed=seed, counted=counted, **_settings(sampling)
            )
        else:
            client, name = self.engines.client(version.id)
            counted.engine = await asyncio.to_thread(client.server_name)
            text = rendered(version, prompt, sampling.system)
            asked = client.stream(name, text, seed=seed, counted=counted, **_settings(sampling))
        async with aclosing(asked):
            async for delta in asked:
                yield delta

    async def fitting(self, version: ModelVersion, prompt: Prompt, sampling: Sampling) -> Sampling:
        """As `answers` would draw; counting tokens may take a moment, so another thread does it."""
        if version.is_endpoint:
            return sampling
        text = rendered(version, prompt, sampling.system)
        return await asyncio.to_thread(_within_context, self.engines, version, text, sampling)

    def engine_of(self, version: ModelVersion) -> str:
        """Which engine answers as this version, and its own version."""
        if version.is_endpoint:
            return self.endpoints.client(version.id).engine_name()
        return self.engines.client(version.id)[0].server_name()

    def _chat(self, version: ModelVersion, prompt: Prompt, sampling: Sampling, seed: int) -> Completion:
        """One at a time: not every endpoint gives several."""
        client = self.endpoints.client(version.id)
        return client.chat(turns(prompt, sampling.system), about=turns(prompt), seed=seed, **_settings(sampling))


def endpoints_of(database: Database, named: Iterable[Endpoint]) -> Endpoints:
    """The endpoints of the settings, which from now on can answer, and no others.

    Whether a prompt is confidential is looked up at each request, so a mark that is set now holds for the next one.
    """

    def is_confidential(messages: Messages) -> bool:
        return prompts.is_confidential(database, prompts.messages_of(messages))

    return Endpoints(model_versions.keep_endpoints(database, named), is_confidential)


def turns(prompt: Prompt, system: str = "") -> Turns:
    """The prompt's messages; what is said before them joins a system message of its own."""
    own = [message.as_dict() for message in prompt.messages]
    if not system:
        return own
    if own[0]["role"] == "system":
        return [{"role": "system", "content": f"{system}\n\n{own[0]['content']}"}, *own[1:]]
    return [{"role": "system", "content": system}, *own]


def rendered(version: ModelVersion, prompt: Prompt, system: str = "") -> str:
    """The prompt as this version was trained to read it."""
    bos, eos = _special_tokens(version.base_path)
    return render(version.template, turns(prompt, system), add_generation_prompt=True, bos_token=bos, eos_token=eos)


def room_left(engines: Answering, version: ModelVersion, text: str, wanted: int) -> int:
    """How many tokens of the context a rendered prompt leaves; a lower bound where that is known to be enough.

    A byte-level tokenizer never makes more tokens than there are bytes, so for most prompts nobody has to be asked;
    the model server counts the tokens of the others. Raises EngineUnavailable.
    """
    room = version.context_length - len(text.encode()) - MARGIN_BYTES
    if room >= wanted:
        return room
    client, name = engines.client(version.id)
    return version.context_length - len(client.tokenize(name, text))


def seed_for(project: Project, version: ModelVersion, prompt: Prompt, attempt: int = 0) -> int:
    """Of the first answer; the others count on from it."""
    chosen = project.sampling_of(version.id).seed
    named = (project.name, prompts.text_hash(prompt.messages), version.id, attempt)
    return seed_of(*named, chosen) if chosen else seed_of(*named)


def seed_of(*parts: object) -> int:
    """A 31-bit seed from whatever names the sample."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1


@lru_cache
def _special_tokens(base_path: str) -> tuple[str, str]:
    _, bos, eos = read_template(Path(base_path))
    return bos, eos


def _within_context(engines: Answering, version: ModelVersion, text: str, sampling: Sampling) -> Sampling:
    """The sampling with no more tokens than fit; below ROOM_FOR_AN_ANSWER the engine may refuse."""
    room = max(ROOM_FOR_AN_ANSWER, room_left(engines, version, text, sampling.max_tokens))
    return replace(sampling, max_tokens=min(sampling.max_tokens, room))


class _Settings(TypedDict):
    temperature: float
    top_p: float
    max_tokens: int


def _settings(sampling: Sampling) -> _Settings:
    return {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens}
