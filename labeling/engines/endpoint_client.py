"""Endpoints and judges that the settings name, asked through /v1/chat/completions: the gate by which prompts leave.

What serves our own versions is asked elsewhere (client.py, and PPO's `sampling_server`) and counts as of the house at
whatever address the settings give: it holds our weights, so whoever names one there vouches for it.

Before every request the gate asks whether the prompt that it is about is confidential, and refuses where it is and the
endpoint is outside. So neither a sampler nor a judge nor a person at the compare page can send one, whatever they think
they know about it.

An endpoint that is busy or away is asked again with growing pauses, or after the pause that it asks for; what asking
again cannot mend is refused at once, and `close` ends the waiting of `chat`. The key goes into the header and nowhere
else: what an endpoint says is shown only after its key was taken out, since some repeat it.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from labeling.engines.protocol import (
    WITHHELD,
    Completion,
    Counted,
    Delta,
    bearer,
    choices_of,
    completions,
    deltas,
    lines_of,
    sampling_fields,
    text_of,
    withheld,
    without,
)
from labeling.engines.usage import Asking, Usage, Used
from storage.endpoints import Endpoint, key_of, named
from storage.errors import EngineRefused, EngineUnavailable, NotAllowed

Messages = Sequence[Mapping[str, str]]
IsConfidential = Callable[[Messages], bool]

PAUSES = (1.0, 2.0, 4.0)  # seconds before the second try, the third, …
LONGEST_PAUSE = 60.0  # seconds that an endpoint may ask for itself
LONGEST_WATCHED = 10.0  # the same while somebody looks on
TIMEOUT = httpx.Timeout(120.0, connect=10.0)
WORTH_ANOTHER_TRY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Passing:
    """A fault that may pass, and how many seconds the endpoint asks to be left alone."""

    why: str
    seconds: float = 0.0


class EndpointClient:
    """One endpoint. May be used by many threads.

    Every method raises NotAllowed for what may not leave, EngineRefused where asking again would not help.
    """

    def __init__(
        self, endpoint: Endpoint, is_confidential: IsConfidential, pauses: Sequence[float] | None = None
    ) -> None:
        """Raises EngineRefused where its key cannot be had."""
        self.endpoint = endpoint
        self.problem = ""  # why the last answer did not come; empty where it did
        self._usage = Usage()
        self._closed = threading.Event()
        self._is_confidential = is_confidential
        self._pauses = PAUSES if pauses is None else pauses
        self._key = key_of(endpoint)
        self._settings: dict[str, Any] = {
            "base_url": endpoint.url,
            "headers": bearer(self._key),
            "timeout": TIMEOUT,
            "verify": ssl.create_default_context() if urlsplit(endpoint.url).scheme == "https" else False,
            "trust_env": not endpoint.is_here,  # a proxy knows nothing of this machine's own ports
        }
        self._http = httpx.Client(**self._settings)

    def close(self) -> None:
        self._closed.set()
        self._http.close()

    @property
    def used(self) -> Used:
        """What it was asked for answers, and how fast they came, the waiting for another try included."""
        return self._usage.of(self.endpoint.model)

    def chat(
        self,
        messages: Messages,
        *,
        about: Messages,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int | None = None,
    ) -> Completion:
        """One answer; `about` are the prompt's own messages. Raises EngineUnavailable where it stays away."""
        body = self._body(messages) | sampling_fields(1, temperature, top_p, max_tokens, seed)
        started = time.monotonic()
        with self._asking() as asking:
            reply = self._ask(body, about)
            answer = self._completion(reply, seed, time.monotonic() - started)
            asking.tokens = answer.completion_tokens
        return replace(answer, engine=self.engine_name(str(reply.get("model") or "")))

    async def stream(
        self,
        messages: Messages,
        *,
        about: Messages,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int | None = None,
        counted: Counted | None = None,
    ) -> AsyncGenerator[Delta, None]:
        """The same, piece by piece; once begun, it is not asked again. Closing it (`contextlib.aclosing`) ends it."""
        body = self._body(messages) | sampling_fields(1, temperature, top_p, max_tokens, seed)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        counted, written, ended = counted or Counted(), False, ""
        with self._asking() as asking:
            async with aclosing(self._lines(body, about)) as lines:
                async for line in lines:
                    for delta in self._deltas(line, counted):
                        written, ended = written or bool(delta.text), ended or delta.finish_reason or ""
                        yield delta
            if not ended:  # whoever passed it on closed the connection, or it was no stream
                raise EngineUnavailable(f"{self.title} broke off before the end of its answer.")
            if ended == WITHHELD and not written:
                raise self._in_its_words(withheld(WITHHELD))
            asking.tokens = counted.completion_tokens

    def ask_once(self, body: Mapping[str, Any], about: Messages) -> Mapping[str, Any] | Passing:
        """The reply to one request, or the fault that kept it away."""
        self._refuse_confidential(about)
        try:
            reply = self._http.post(PATH, json=body)
        except httpx.HTTPError as error:
            return Passing(self._away(error))
        except RuntimeError as error:  # closed meanwhile, because the app ends
            if not self._http.is_closed:
                raise
            raise EngineUnavailable(f"{self.title} is not asked any more: Plumbline ends.") from error
        return self._json(reply) if reply.status_code == 200 else self._passing(reply)

    def engine_name(self, model: str = "") -> str:
        """For the record: where it is, and which model it says it is."""
        return f"openai-compatible {self.endpoint.url} {model or self.endpoint.model}"

    def excerpt(self, text: str) -> str:
        """Of what it said, without its key."""
        return without(self._key, text).strip()[:200].rstrip(".")

    @contextmanager
    def _asking(self) -> Iterator[Asking]:
        try:
            with self._usage.asking(self.endpoint.model) as asking:
                yield asking
        except (EngineRefused, EngineUnavailable) as error:
            self.problem = str(error)
            raise
        self.problem = ""

    def _ask(self, body: Mapping[str, Any], about: Messages) -> Mapping[str, Any]:
        reply = self.ask_once(body, about)
        for pause in self._pauses:
            if not isinstance(reply, Passing):
                return reply
            if self._closed.wait(_longer(pause, reply, LONGEST_PAUSE)):
                break
            reply = self.ask_once(body, about)
        if isinstance(reply, Passing):
            raise self._stays_away(reply)
        return reply

    async def _lines(self, body: Mapping[str, Any], about: Messages) -> AsyncGenerator[str, None]:
        async with httpx.AsyncClient(**self._settings) as http:
            reply = await self._begun(http, body, about)
            try:
                async for line in lines_of(reply.aiter_bytes()):
                    yield line
            except httpx.HTTPError as error:
                raise self._gave_none(error) from error
            finally:
                await reply.aclose()

    async def _begun(self, http: httpx.AsyncClient, body: Mapping[str, Any], about: Messages) -> httpx.Response:
        """A stream whose pieces are still to come; a fault that may pass is waited out."""
        reply = await self._begin_once(http, body, about)
        for pause in self._pauses:
            if not isinstance(reply, Passing):
                return reply
            await asyncio.sleep(_longer(pause, reply, LONGEST_WATCHED))
            reply = await self._begin_once(http, body, about)
        if isinstance(reply, Passing):
            raise self._stays_away(reply)
        return reply

    async def _begin_once(
        self, http: httpx.AsyncClient, body: Mapping[str, Any], about: Messages
    ) -> httpx.Response | Passing:
        self._refuse_confidential(about)
        try:
            reply = await http.send(http.build_request("POST", PATH, json=body), stream=True)
            if reply.status_code == 200:
                return reply
            await reply.aread()
        except httpx.ReadTimeout as error:  # somebody has looked on for two minutes
            raise self._gave_none(error) from error
        except httpx.HTTPError as error:
            return Passing(self._away(error))
        return self._passing(reply)

    def _deltas(self, line: str, counted: Counted) -> list[Delta]:
        try:
            return deltas(line, counted)
        except (EngineRefused, EngineUnavailable) as error:
            raise EngineRefused(f"{self.title} broke off: {self.excerpt(str(error))}.") from None
        except ValueError as error:
            raise self._other_language(line) from error

    def _refuse_confidential(self, about: Messages) -> None:
        if self.endpoint.is_outside and self._is_confidential(about):
            raise NotAllowed(
                f"This prompt is confidential, so it is not sent to {named(self.endpoint)}, which is outside. Ask a "
                "version of your own, or take the mark from the prompt on the data page."
            )

    def _body(self, messages: Messages) -> dict[str, Any]:
        return {"model": self.endpoint.model, "messages": [dict(message) for message in messages]}

    def _json(self, reply: httpx.Response) -> Mapping[str, Any]:
        """A reply with one answer in it: some give more than they were asked for."""
        try:
            read = reply.json()
            first = choices_of(read)[0]
            text_of(first)
        except ValueError as error:
            raise self._other_language(reply.text) from error
        return {**read, "choices": [first]}

    def _completion(self, reply: Mapping[str, Any], seed: int | None, latency: float) -> Completion:
        try:
            (answer,) = completions(reply, seed, latency)
        except EngineRefused as error:
            raise self._in_its_words(error) from None
        return answer

    @property
    def title(self) -> str:
        """It, at the beginning of a sentence."""
        name = named(self.endpoint)
        return f"{name[0].upper()}{name[1:]} ({self.endpoint.model} at {self.endpoint.url})"

    def _away(self, error: httpx.HTTPError) -> str:
        return f"it does not answer ({self.excerpt(str(error)) or type(error).__name__})"

    def _passing(self, reply: httpx.Response) -> Passing:
        """Of a reply that is none. Raises EngineRefused where asking again would not help."""
        if reply.status_code not in WORTH_ANOTHER_TRY:
            raise self._refused(reply)
        return Passing(f"it answers {reply.status_code} ({self.excerpt(reply.text)})", _asked_to_wait(reply))

    def _gave_none(self, error: httpx.HTTPError) -> EngineUnavailable:
        return EngineUnavailable(f"{self.title} gave no answer: {self._away(error)}.")

    def _stays_away(self, fault: Passing) -> EngineUnavailable:
        return EngineUnavailable(f"{self.title} gave no answer in {len(self._pauses) + 1} tries: {fault.why}.")

    def _refused(self, reply: httpx.Response) -> EngineRefused:
        return EngineRefused(
            f"{self.title} refused ({reply.status_code}): {self.excerpt(reply.text)}. Look at its url, model and key "
            "in the server's settings."
        )

    def _in_its_words(self, error: EngineRefused) -> EngineRefused:
        return EngineRefused(f"{self.title}: {self.excerpt(str(error))}.")

    def _other_language(self, text: str) -> EngineRefused:
        return EngineRefused(f"{self.title} does not speak as OpenAI's chat endpoint: {self.excerpt(text)}.")


def _longer(pause: float, fault: Passing, at_most: float) -> float:
    """Seconds to the next try."""
    return min(at_most, max(pause, fault.seconds))


def _asked_to_wait(reply: httpx.Response) -> float:
    given = reply.headers.get("retry-after", "")
    return float(given) if given.isdigit() else 0.0
