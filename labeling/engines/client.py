"""The one client of our model servers; endpoints that are not ours have endpoint_client.py.

Asking is synchronous and is done from worker threads; only `stream`, which feeds a page while it is being looked at, is
asynchronous. Both build the same request and read the same choices.

Nothing is asked twice unless it is safe: a lost connection or a 503 is tried again with growing pauses (an answer is
fixed by its seed, so asking again changes nothing); a refusal never is, nor is loading or unloading an adapter, nor a
stream that has begun.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx

from labeling.engines.protocol import (
    Completion,
    Counted,
    Delta,
    Load,
    SampledTokens,
    bearer,
    completion_body,
    completions,
    deltas,
    refusal,
)
from labeling.engines.streaming import Streaming
from labeling.engines.usage import Usage
from storage.endpoints import LOOPBACK, sendable
from storage.errors import EngineRefused, EngineUnavailable, ModelNotLoadable

__all__ = ["Completion", "Counted", "Delta", "EngineClient", "Load", "SampledTokens"]

PAUSES = (0.2, 0.6, 1.8)  # seconds before the second, third and fourth try
TIMEOUT = httpx.Timeout(600.0, connect=5.0)  # a long answer on a slow machine; a server that is there connects at once
SOON = httpx.Timeout(30.0, connect=5.0)  # for what needs no answer of the model: whoever keeps the servers waits for it
_WHOLE_DISTRIBUTION = {"top_k": -1, "min_p": 0, "repetition_penalty": 1}  # a model's own defaults may say otherwise


class EngineClient:
    """Asks the server at `url`. One client may be used by many threads.

    Every method raises EngineUnavailable when nobody answers, and EngineRefused with the server's sentence when it says
    no.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        """Raises EngineRefused for a key that cannot be sent."""
        self.url = url.rstrip("/")
        self._key = sendable(api_key or "", f"of the model server at {self.url}")
        self._settings: dict[str, Any] = {
            "base_url": self.url,
            "headers": bearer(self._key),
            "timeout": TIMEOUT,
            "verify": ssl.create_default_context() if urlsplit(url).scheme == "https" else False,
            "trust_env": urlsplit(url).hostname not in LOOPBACK,  # a proxy knows nothing of this machine's own ports
        }
        self._http = httpx.Client(**self._settings)
        self._streaming = Streaming(self.url, self._key, self._settings["trust_env"])
        self.usage = Usage()
        self._server_name = ""

    def close(self) -> None:
        self._http.close()

    def health(self) -> bool:
        """Whether the server can answer now. Asked once, raises nothing."""
        try:
            return self._http.get("/health", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def answers(self) -> bool:
        """Whether anybody is there who does not say that it cannot answer; not every server has a /health."""
        try:
            return self._http.get("/health", timeout=2.0).status_code != 503
        except httpx.HTTPError:
            return False

    def server_name(self) -> str:
        """Which engine answers, for the record: "embedded 0.1", "vllm 0.32.0". Asked once."""
        if not self._server_name:
            try:
                said = {"name": "vllm", **self._told("GET", "/version")}
            except EngineRefused:  # it speaks the OpenAI API and nothing of vLLM's own
                said = {"name": "openai-compatible", "version": self.url}
            self._server_name = f"{said['name']} {said.get('version', '')}".strip()  # vLLM says only its version
        return self._server_name

    @property
    def known_name(self) -> str:
        """Its name where it has been asked for it already; empty else."""
        return self._server_name

    @property
    def speaks_as_vllm(self) -> bool:
        return self.server_name().startswith("vllm")

    def models(self) -> list[str]:
        """The names that can be asked: the base under its names, then the adapters."""
        return [card["id"] for card in self._cards()]

    def complete(
        self,
        model: str,
        prompt: str | Sequence[int],
        *,
        n: int = 1,
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_tokens: int = 256,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> list[Completion]:
        """`n` samples of the answer to a rendered prompt, in order of index; sample i is seeded with seed + i.

        Where prompt and answer together fill the context, an answer ends there, as `length`, short of `max_tokens`.
        At temperature 0 there is only one answer, so one comes back whatever `n` is.
        """
        body = completion_body(model, prompt, n, temperature, top_p, max_tokens, seed, stop)
        return self._completions(model, body, seed)

    def sample_tokens(self, model: str, prompt: Sequence[int], *, max_tokens: int, seed: int) -> SampledTokens:
        """One sample of the model's own distribution: temperature 1, nothing cut off, whatever the server's defaults.

        Its log-probabilities are those it was drawn by, however the server reports them: before the temperature, as
        vLLM does unless told otherwise, or after. Raises EngineRefused where the reply lacks something or the server
        read another prompt.
        """
        body = completion_body(model, prompt, 1, 1.0, 1.0, max_tokens, seed, ()) | _WHOLE_DISTRIBUTION
        choice = self._ask("POST", "/v1/completions", body | {"logprobs": 0}).json()["choices"][0]
        ids, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        if not ids or not logprobs or len(ids) != len(logprobs):
            raise EngineRefused(
                f"The model server at {self.url} gives answers without their token ids and log-probabilities, as "
                "training needs them. Use vLLM (0.32 does give them), or the server that comes with Plumbline."
            )
        if choice.get("prompt_token_ids") != list(prompt):
            raise EngineRefused(f"The model server at {self.url} read another prompt than it was sent.")
        return SampledTokens(tuple(ids), tuple(logprobs))

    async def stream(
        self,
        model: str,
        prompt: str | Sequence[int],
        *,
        n: int = 1,
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_tokens: int = 256,
        seed: int | None = None,
        stop: Sequence[str] = (),
        counted: Counted | None = None,
        **extra: Any,
    ) -> AsyncGenerator[Delta, None]:
        """The same samples as `complete`, piece by piece. Leaving the loop early stops the server's work on them.

        Close it for that (`contextlib.aclosing`), or the work goes on until the generator is collected. `counted` is
        told the tokens. `extra` goes into the request as it is (`ignore_eos`, say).
        """
        counted = counted or Counted()
        body = completion_body(model, prompt, n, temperature, top_p, max_tokens, seed, stop)
        body |= {"stream": True, "return_token_ids": False, "stream_options": {"include_usage": True}, **extra}
        try:
            with self.usage.asking(model) as asking:
                async with aclosing(self._streaming.lines("/v1/completions", body, PAUSES)) as lines:
                    async for line in lines:
                        for delta in self._deltas(line, counted):
                            yield delta
                asking.tokens = counted.completion_tokens
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unavailable(error) from error

    def score(self, model: str, inputs: Sequence[str] | Sequence[Sequence[int]]) -> list[float]:
        """What a reward model gives each input: rendered prompt and answer, or their token ids. Raw, not squeezed."""
        body = {
            "model": model,
            "input": [one if isinstance(one, str) else list(one) for one in inputs],
            "use_activation": False,
            "add_special_tokens": False,  # the template has put them into the text already
        }
        with self.usage.under_way(model):
            data = self._ask("POST", "/classify", body).json()["data"]
        return [float(one["probs"][0]) for one in sorted(data, key=lambda one: one["index"])]

    def load_adapter(self, name: str, path: str) -> None:
        """Serve the adapter in `path` as `name`.

        Raises ModelNotLoadable with the reason when this adapter cannot be served by this server. After
        EngineUnavailable it may be there all the same: `models` says.
        """
        try:
            self._ask("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}, pauses=())
        except EngineRefused as refusal:
            raise ModelNotLoadable(f"The adapter in {path} cannot be served. {refusal}") from refusal

    def unload_adapter(self, name: str) -> None:
        """After EngineUnavailable it may be gone all the same: `models` says."""
        self._ask("POST", "/v1/unload_lora_adapter", {"lora_name": name}, pauses=(), timeout=SOON)

    def sleep(self) -> bool:
        """Free the GPU: the weights go to the machine's memory, keys and values are dropped. Whether it sleeps now.

        Only a vLLM on a GPU can, started with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1.
        """
        try:
            self._ask("POST", "/sleep?level=1", pauses=())
            return self._told("GET", "/is_sleeping").get("is_sleeping") is True
        except EngineRefused:  # no such route, or not on this machine
            return False

    def wake_up(self) -> None:
        """After `sleep`. Adapters are to be loaded again."""
        self._ask("POST", "/wake_up", pauses=())

    def tokenize(
        self, model: str, prompt: str | None = None, *, messages: Sequence[Mapping[str, str]] | None = None
    ) -> list[int]:
        """Token ids of a rendered prompt, or of messages through the template of the base."""
        body: dict[str, Any] = {"model": model}
        if messages is not None:
            body |= {"messages": [dict(message) for message in messages], "add_generation_prompt": True}
        else:
            body |= {"prompt": prompt, "add_special_tokens": False}
        with self.usage.under_way(model):
            ids: list[int] = self._told("POST", "/tokenize", body)["tokens"]
        return ids

    def adapters(self) -> list[str]:
        """The names of the adapters that are loaded."""
        return [card["id"] for card in self._cards() if card.get("parent")]

    def bases(self) -> list[str]:
        """The names of the base: what is no adapter."""
        return [card["id"] for card in self._cards() if not card.get("parent")]

    def base_root(self) -> str:
        """Where the server has its base from: the folder or the name that it was started with."""
        return next((str(card["root"]) for card in self._cards() if card.get("root") and not card.get("parent")), "")

    def context_length(self) -> int:
        """How many tokens prompt and answer may have together."""
        return next(int(card["max_model_len"]) for card in self._cards() if card.get("max_model_len"))

    def tokens_generated(self) -> int:
        """How many tokens the server has generated since it started."""
        return self.load().tokens_generated

    def load(self) -> Load:
        """What the server is doing, all of its models together."""
        lines = [
            line for line in self._ask("GET", "/metrics", timeout=SOON).text.splitlines() if line.startswith("vllm:")
        ]

        def total(name: str) -> int:
            return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0] == name))

        counts = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:generation_tokens_total")
        return Load(*map(total, counts))

    def _cards(self) -> list[dict[str, Any]]:
        """Of /v1/models: the base under its names, and the adapters."""
        cards = self._told("GET", "/v1/models").get("data")
        if not isinstance(cards, list) or not all(isinstance(card, dict) and "id" in card for card in cards):
            raise self._no_server_of_models()
        return cards

    def _told(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Raises EngineRefused where the reply is no JSON object: some other program answers there."""
        try:
            told = self._ask(method, path, body, timeout=TIMEOUT if body else SOON).json()
        except ValueError as error:
            raise self._no_server_of_models() from error
        if not isinstance(told, dict):
            raise self._no_server_of_models()
        return told

    def _no_server_of_models(self) -> EngineRefused:
        return EngineRefused(
            f"What answers at {self.url} is no OpenAI-compatible model server. Name the address of one."
        )

    def _deltas(self, line: str, counted: Counted) -> list[Delta]:
        try:
            return deltas(line, counted)
        except ValueError as error:
            raise EngineUnavailable(
                f"The model server at {self.url} broke off, or somebody between here and there changes what it says: "
                "a piece of the answer cannot be read. Ask again."
            ) from error

    def _completions(self, model: str, body: Mapping[str, Any], seed: int | None) -> list[Completion]:
        started = time.monotonic()
        with self.usage.asking(model) as asking:
            reply = self._told("POST", "/v1/completions", body)
            try:
                found = completions(reply, seed, time.monotonic() - started)
            except ValueError as error:
                raise self._no_server_of_models() from error
            asking.tokens = sum(completion.completion_tokens for completion in found)
        return found

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        pauses: Sequence[float] | None = None,
        timeout: httpx.Timeout = TIMEOUT,
    ) -> httpx.Response:
        for pause in (*(PAUSES if pauses is None else pauses), None):
            try:
                reply = self._http.request(method, path, json=body, timeout=timeout)
            except (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError) as error:
                if pause is None:
                    raise self._unavailable(error) from error
            except httpx.HTTPError as error:
                raise self._unavailable(error) from error
            except RuntimeError as error:  # closed meanwhile, because the server has ended
                if not self._http.is_closed:
                    raise
                raise self._unavailable(error) from error
            else:
                if reply.status_code == 200:
                    return reply
                if reply.status_code != 503 or pause is None:
                    raise refusal(reply, self._key)
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _unavailable(self, error: Exception) -> EngineUnavailable:
        what = str(error) or type(error).__name__
        return EngineUnavailable(
            f"The model server at {self.url} does not answer ({what}). It may be starting or restarting: "
            "wait a moment and try again; the models page shows its state."
        )
