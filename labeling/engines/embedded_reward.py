"""The routes of a reward model: it scores sequences, and answers nothing.

A server of its own, because a head changes what the body is for. The words are those of vLLM serving a classifier:

    POST /classify   {"model", "input": text, texts, ids or lists of ids, "use_activation"} → data[i].probs[0]

The raw score is given where `use_activation` is false, and its sigmoid otherwise, as vLLM has it.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict
from transformers import AutoTokenizer

from labeling.engines.adapter_check import check_reward_adapter
from labeling.engines.embedded_protocol import Refusal, TokenizeRequest, too_long, unknown_model
from labeling.engines.model_folder import base_fingerprint, context_length
from labeling.engines.reward_scorer import load

MOST_AT_ONCE = 1024  # sequences in a request


class ClassifyRequest(BaseModel):
    """vLLM's request, without what would change the score and is not built here."""

    model_config = ConfigDict(extra="forbid")

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    use_activation: bool = True
    add_special_tokens: bool = True
    user: str | None = None


class RewardServer:
    """The routes over one scorer; one thread at a time uses it."""

    def __init__(self, base: Path, adapter: Path | None, names: Sequence[str], max_model_len: int | None) -> None:
        if adapter is not None:
            check_reward_adapter(adapter, base_fingerprint(base))
        self._scorer = load(base, adapter)
        self._tokenizer = AutoTokenizer.from_pretrained(base)
        self._names = list(names)
        self._root = str(base)
        self._max_model_len = min(max_model_len or context_length(base), context_length(base))
        self._started = int(time.time())
        self._running = 0
        self._lock = threading.Lock()

    def add_routes(self, app: FastAPI) -> None:
        app.get("/health")(self.health)
        app.get("/metrics")(self.metrics)
        app.get("/v1/models")(self.models)
        app.post("/tokenize")(self.tokenize)
        app.post("/classify")(self.classify)

    async def health(self) -> Response:
        return Response(status_code=200)

    async def metrics(self) -> Response:
        label = f'{{model_name="{self._names[0]}"}}'
        counts = (("vllm:num_requests_running", "gauge", self._running), ("vllm:generation_tokens_total", "counter", 0))
        lines = (f"# TYPE {name} {kind}\n{name}{label} {float(value)}\n" for name, kind, value in counts)
        return PlainTextResponse("".join(lines))

    async def models(self) -> dict[str, Any]:
        shared = {"object": "model", "created": self._started, "owned_by": "plumbline", "parent": None}
        cards = [
            {"id": name, "root": self._root, "max_model_len": self._max_model_len, **shared} for name in self._names
        ]
        return {"object": "list", "data": cards}

    async def tokenize(self, request: TokenizeRequest) -> dict[str, Any]:
        tokens = self._ids(request.prompt or "", request.add_special_tokens is not False)
        return {"count": len(tokens), "max_model_len": self._max_model_len, "tokens": tokens, "token_strs": None}

    async def classify(self, request: ClassifyRequest) -> dict[str, Any]:
        if request.model not in self._names:
            raise unknown_model(request.model, self._names)
        sequences = self._sequences(request)
        self._running += 1
        try:
            scores = await asyncio.to_thread(self._score, sequences)
        finally:
            self._running -= 1
        read = sum(map(len, sequences))
        return {
            "id": f"classify-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": request.model,
            "data": [_label(index, score, request.use_activation) for index, score in enumerate(scores)],
            "usage": {"prompt_tokens": read, "completion_tokens": 0, "total_tokens": read},
        }

    def _score(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        with self._lock:
            return self._scorer.score(sequences)

    def _sequences(self, request: ClassifyRequest) -> list[list[int]]:
        given: Any = request.input
        if isinstance(given, str) or (given and isinstance(given[0], int)):
            given = [given]
        if len(given) > MOST_AT_ONCE:
            raise Refusal(400, f"At most {MOST_AT_ONCE} inputs can be scored at once, got {len(given)}.")
        sequences = [self._ids(one, request.add_special_tokens) if isinstance(one, str) else one for one in given]
        for sequence in sequences:
            self._check(sequence)
        return sequences

    def _ids(self, text: str, add_special_tokens: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return ids

    def _check(self, sequence: Sequence[int]) -> None:
        if not sequence:
            raise Refusal(400, "The decoder prompt cannot be empty")
        if len(sequence) > self._max_model_len:
            raise too_long(len(sequence), self._max_model_len)
        for token in sequence:
            if not 0 <= token < len(self._tokenizer):
                raise Refusal(400, f"Token id {token} is out of vocabulary")


def _label(index: int, score: float, use_activation: bool) -> dict[str, Any]:
    value = 1 / (1 + math.exp(-max(-500.0, score))) if use_activation else score
    return {"index": index, "label": "LABEL_0", "probs": [value], "num_classes": 1}
