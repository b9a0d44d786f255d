"""python -m labeling.engines.embedded_server --model DIR: a small model server for machines without a GPU.

It answers the routes that Plumbline asks of vLLM, in vLLM's words (see the package's docstring), with transformers and
PEFT on the CPU in float32. For the models that fit a CPU it is the faster of the two.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# PEFT imports it wherever it is installed, which takes seconds; there are no 4-bit weights here.
sys.modules.setdefault("bitsandbytes", None)  # type: ignore[arg-type]  # as if it were not there

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from labeling.engines.adapter_check import AdapterRefused
from labeling.engines.embedded_answering import answer
from labeling.engines.embedded_model import EmbeddedModel
from labeling.engines.embedded_protocol import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    GenerationRequest,
    LoadAdapterRequest,
    Refusal,
    TokenizeRequest,
    UnloadAdapterRequest,
    error_body,
    room,
    unknown_model,
)
from labeling.engines.embedded_reward import RewardServer
from labeling.engines.embedded_scheduler import Scheduler, UnknownModel

VERSION = "0.1"  # a new one whenever the same seed gives another answer
DEFAULT_MAX_TOKENS = 16  # of /v1/completions, as OpenAI has it


class Server:
    """The routes over one scheduler."""

    def __init__(self, model: EmbeddedModel, names: Sequence[str], folder: Path) -> None:
        self._model = model
        self._tokenizer = copy.deepcopy(model.tokenizer)  # the weights' thread decodes with the other one
        self._scheduler = Scheduler(model)
        self._names = list(names)
        self._folder = folder
        self._adapters: dict[str, str] = {}  # name → folder, in order of loading
        self._loading: set[str] = set()
        self._started = int(time.time())
        self._scheduler.start()

    def add_routes(self, app: FastAPI) -> None:
        app.get("/health")(self.health)
        app.get("/metrics")(self.metrics)
        app.get("/v1/models")(self.models)
        app.post("/v1/completions")(self.complete)
        app.post("/v1/chat/completions")(self.chat)
        app.post("/v1/load_lora_adapter")(self.load_adapter)
        app.post("/v1/unload_lora_adapter")(self.unload_adapter)
        app.post("/tokenize")(self.tokenize)
        app.post("/detokenize")(self.detokenize)

    async def health(self) -> Response:
        return Response(status_code=200 if self._scheduler.alive() else 503)

    async def metrics(self) -> Response:
        label = f'{{model_name="{self._names[0]}"}}'
        counts = (
            ("vllm:num_requests_running", "gauge", self._scheduler.running),
            ("vllm:num_requests_waiting", "gauge", self._scheduler.waiting),
            ("vllm:generation_tokens_total", "counter", self._scheduler.tokens_generated),
        )
        lines = (f"# TYPE {name} {kind}\n{name}{label} {float(value)}\n" for name, kind, value in counts)
        return PlainTextResponse("".join(lines))

    async def models(self) -> dict[str, Any]:
        base = [self._card(name, str(self._folder), None, self._model.max_model_len) for name in self._names]
        adapters = [self._card(name, folder, self._names[0], None) for name, folder in self._adapters.items()]
        return {"object": "list", "data": base + adapters}

    async def complete(self, request: CompletionRequest, connection: Request) -> Response:
        self._check_name(request.model)
        request.check()
        if request.max_tokens is None:
            request.max_tokens = DEFAULT_MAX_TOKENS
        prompt = self._prompt_ids(request)
        return await self._answer(request, prompt, connection)

    async def chat(self, request: ChatRequest, connection: Request) -> Response:
        self._check_name(request.model)
        request.max_tokens = request.max_completion_tokens or request.max_tokens
        request.check()
        prompt = self._message_ids(request.messages, request.add_generation_prompt)
        return await self._answer(request, prompt, connection)

    async def load_adapter(self, request: LoadAdapterRequest) -> Response:
        name = request.lora_name
        if not name or not request.lora_path:
            raise Refusal(400, "Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput")
        if name in self._names:
            raise Refusal(
                400, f"The lora adapter name '{name}' conflicts with a served base model.", "InvalidUserInput"
            )
        if name in self._adapters or name in self._loading:
            raise Refusal(400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
        self._loading.add(name)
        try:
            await asyncio.wrap_future(self._scheduler.load(name, Path(request.lora_path)))
        except AdapterRefused as error:
            raise _adapter_refusal(name, error) from error
        finally:
            self._loading.discard(name)
        self._adapters[name] = request.lora_path
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload_adapter(self, request: UnloadAdapterRequest) -> Response:
        name = request.lora_name
        if self._adapters.pop(name, None) is None:
            raise Refusal(404, f"The lora adapter '{name}' cannot be found.")
        await asyncio.wrap_future(self._scheduler.unload(name))
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def tokenize(self, request: TokenizeRequest) -> dict[str, Any]:
        self._check_name(request.model or self._names[0])
        if request.messages is not None:
            tokens = self._message_ids(request.messages, request.add_generation_prompt)
        else:
            tokens = self._text_ids(request.prompt or "", request.add_special_tokens is not False)
        limit = self._model.max_model_len
        return {"count": len(tokens), "max_model_len": limit, "tokens": tokens, "token_strs": None}

    async def detokenize(self, request: DetokenizeRequest) -> dict[str, str]:
        return {"prompt": self._tokenizer.decode(request.tokens)}

    async def _answer(self, request: GenerationRequest, prompt: list[int], connection: Request) -> Response:
        if not prompt:
            raise Refusal(400, "The decoder prompt cannot be empty")
        max_tokens = room(len(prompt), request.max_tokens, self._model.max_model_len)
        is_base = request.model in self._names
        try:
            return await answer(
                self._scheduler, request, prompt, self._tokenizer.decode, max_tokens, is_base, connection
            )
        except UnknownModel as error:  # unloaded since its name was checked
            raise unknown_model(request.model, self._names) from error

    def _card(self, name: str, root: str, parent: str | None, max_model_len: int | None) -> dict[str, Any]:
        card = {"id": name, "object": "model", "created": self._started, "owned_by": "plumbline"}
        return {**card, "root": root, "parent": parent, "max_model_len": max_model_len}

    def _check_name(self, name: str) -> None:
        if name not in self._names and name not in self._adapters:
            raise unknown_model(name, self._names)

    def _prompt_ids(self, request: CompletionRequest) -> list[int]:
        if isinstance(request.prompt, str):
            return self._text_ids(request.prompt, request.add_special_tokens)
        for token in request.prompt:
            if not 0 <= token < self._model.vocabulary:
                raise Refusal(400, f"Token id {token} is out of vocabulary")
        return request.prompt

    def _text_ids(self, text: str, add_special_tokens: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return ids

    def _message_ids(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> list[int]:
        try:
            text = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=add_generation_prompt, tokenize=False
            )
        except Exception as error:  # no template, or one that refuses these messages: its own sentence says which
            raise Refusal(400, str(error)) from error
        return self._text_ids(text, add_special_tokens=False)


def _adapter_refusal(name: str, error: AdapterRefused) -> Refusal:
    prefix = {404: f"Loading lora {name} failed: ", 500: "Call to add_lora method failed: "}.get(error.status, "")
    return Refusal(error.status, f"{prefix}{error}")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.body, error.status)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "body")
    message = f"{field}: {first['msg']}" if field else first["msg"].removeprefix("Value error, ")
    return JSONResponse(error_body(400, message, param=field or None), 400)


async def _no_such_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(error_body(error.status_code, str(error.detail)), error.status_code)


def main() -> None:
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    listening = socket.create_server((options.host, options.port))
    port = listening.getsockname()[1]
    logging.info("loading %s", options.model)
    app = _app(_server(options))
    if options.port_file:
        _write_whole(options.port_file, str(port))
    logging.info("answering on http://%s:%d", options.host, port)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listening])


def _server(options: argparse.Namespace) -> Server | RewardServer:
    """Ends the process with a sentence where a reward model cannot be served: its last words are shown to a person."""
    names = options.served_model_name or [str(options.model)]
    if not options.reward:
        model = EmbeddedModel(options.model, options.max_lora_rank, options.max_model_len)
        return Server(model, names, options.model)
    try:
        return RewardServer(options.model, options.adapter, names, options.max_model_len)
    except (AdapterRefused, ValueError) as error:
        raise SystemExit(str(error)) from error


def _app(server: Server | RewardServer) -> FastAPI:
    app = FastAPI(title="Plumbline embedded model server", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_such_route)
    app.get("/version")(_version)
    server.add_routes(app)
    return app


async def _version() -> dict[str, str]:
    return {"name": "embedded", "version": VERSION}


def _write_whole(file: Path, text: str) -> None:
    """Nobody reads half a number."""
    part = file.with_name(f"{file.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve one base model and its LoRA adapters on the CPU.")
    parser.add_argument("--model", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--served-model-name", nargs="+", help="names of the base; the first one labels the metrics")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    parser.add_argument("--port-file", type=Path, help="where to write the port once the server answers")
    parser.add_argument("--max-model-len", type=int, help="tokens of prompt and answer together")
    parser.add_argument("--max-lora-rank", type=int, default=64)
    parser.add_argument("--reward", action="store_true", help="serve a reward model: it scores, and answers nothing")
    parser.add_argument("--adapter", type=Path, help="with --reward: the adapter that holds the head")
    return parser.parse_args()


if __name__ == "__main__":
    main()
