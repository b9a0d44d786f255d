"""The client against servers that fail. What it says to one that works is in test_contract.py."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import pytest

from labeling.engines import client as client_module
from labeling.engines.client import EngineClient
from labeling.engines.streaming import Streaming
from storage.errors import EngineRefused, EngineUnavailable, ModelNotLoadable

LOST, CUT = 0, 1
MODELS = b'{"data": [{"id": "base", "max_model_len": 8}]}'


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def server() -> Iterator[Callable[[list[tuple[int, bytes]]], tuple[str, list[str]]]]:
    """A server that gives these replies one after the other; returns its URL and the paths it was asked for.

    LOST closes the connection without a reply, CUT before the last byte.
    """
    running: list[ThreadingHTTPServer] = []

    def start(replies: list[tuple[int, bytes]]) -> tuple[str, list[str]]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                status, body = replies.pop(0)
                if status == LOST:
                    return
                self.send_response(200 if status == CUT else status)
                self.send_header("Content-Length", str(len(body) + (status == CUT)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        running.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{running[-1].server_address[1]}", asked

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def test_a_server_that_is_not_ready_is_asked_again(server):
    url, asked = server([(503, b"starting"), (503, b"starting"), (200, MODELS)])
    assert EngineClient(url).models() == ["base"] and len(asked) == 3


def test_a_server_that_stays_not_ready_is_unavailable(server):
    url, _ = server([(503, b"starting")] * 4)
    with pytest.raises(EngineUnavailable, match="not ready: starting"):
        EngineClient(url).models()


def test_a_refusal_is_final_and_brings_the_servers_own_sentence(server):
    url, asked = server([(400, b'{"error": {"message": "No such thing.", "code": 400}}')])
    with pytest.raises(EngineRefused, match=r"refused \(400\): No such thing\."):
        EngineClient(url).models()
    assert len(asked) == 1


PIECE = b'data: {"choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]}\n\n'


def streamed(url: str) -> list[str]:
    async def collect() -> list[str]:
        return [delta.text async for delta in EngineClient(url).stream("base", "x")]

    return asyncio.run(collect())


def test_a_stream_that_does_not_begin_is_asked_for_again(server):
    url, asked = server([(503, b"starting"), (LOST, b""), (200, PIECE)])
    assert streamed(url) == ["Hi"] and len(asked) == 3
    url, asked = server([(LOST, b"")] * 4)
    with pytest.raises(EngineUnavailable, match="does not answer"):
        streamed(url)
    assert len(asked) == 4


def test_a_stream_that_is_refused_is_asked_for_once(server):
    url, asked = server([(400, b'{"error": {"message": "too long"}}'), (200, PIECE)])
    with pytest.raises(EngineRefused, match="too long"):
        streamed(url)
    assert len(asked) == 1


def test_a_stream_that_has_begun_is_not_asked_for_again(server):
    url, asked = server([(200, PIECE.replace(b'"choices"', b'"error": {"message": "out of memory"}, "choices"'))])
    with pytest.raises(EngineRefused, match="out of memory"):
        streamed(url)
    assert len(asked) == 1
    url, asked = server([(CUT, PIECE), (200, PIECE)])
    with pytest.raises(EngineUnavailable, match="does not answer"):
        streamed(url)
    assert len(asked) == 1


def test_nothing_stays_open_when_the_last_stream_ends_however_it_ends(server):
    url, _ = server([(200, PIECE), (CUT, PIECE), (503, b"starting")])
    streaming = Streaming(url, "", trust_env=False)

    async def read(pauses: tuple[float, ...]) -> None:
        async with aclosing(streaming.lines("/v1/completions", {}, pauses)) as lines:
            async for _ in lines:
                pass

    async def all_ends() -> None:
        await read(())
        with suppress(aiohttp.ClientError):
            await read(())
        waiting = asyncio.create_task(read((60.0,)))  # for its second try
        while not streaming._sessions:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled() and streaming._sessions == {}

    asyncio.run(all_ends())


def test_loading_and_unloading_are_never_asked_twice(server):
    url, asked = server([(503, b"starting")] * 2)
    with pytest.raises(EngineUnavailable):
        EngineClient(url).load_adapter("fox", "/adapters/fox")
    with pytest.raises(EngineUnavailable):
        EngineClient(url).unload_adapter("fox")
    assert asked == ["/v1/load_lora_adapter", "/v1/unload_lora_adapter"]


def test_an_adapter_that_is_refused_brings_the_servers_own_sentence(server):
    url, _ = server([(404, b'{"error": {"message": "No adapter found."}}')])
    with pytest.raises(ModelNotLoadable, match=r"in /adapters/fox cannot be served\. .*No adapter found\."):
        EngineClient(url).load_adapter("fox", "/adapters/fox")


@pytest.mark.parametrize(
    ("said", "name"),
    [(b'{"version": "0.32.0"}', "vllm 0.32.0"), (b'{"name": "embedded", "version": "0.1"}', "embedded 0.1")],
)
def test_a_server_is_asked_for_its_name_once(server, said: bytes, name: str):
    url, asked = server([(200, said)])
    client = EngineClient(url)
    assert (client.server_name(), client.server_name()) == (name, name) and asked == ["/version"]


@pytest.mark.parametrize("said", [b"<html>A wiki</html>", b"[]", b'{"status": "ok"}'])
def test_what_is_no_server_of_models_is_said(server, said: bytes):
    url, _ = server([(200, said)])
    with pytest.raises(EngineRefused, match="is no OpenAI-compatible model server"):
        EngineClient(url).models()


def test_a_client_that_was_closed_meanwhile_says_that_nobody_answers(server):
    url, _ = server([])
    client = EngineClient(url)
    client.close()
    with pytest.raises(EngineUnavailable, match="does not answer"):
        client.models()


def test_nobody_there_is_said_with_what_to_do():
    nobody = EngineClient("http://127.0.0.1:9")
    assert not nobody.health()
    with pytest.raises(EngineUnavailable, match="wait a moment and try again"):
        nobody.models()


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch, server):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    url, _ = server([(200, MODELS)])
    assert EngineClient(url).models() == ["base"]


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ('"token_ids": [5], "prompt_token_ids": [1, 2]', "without their token ids and log-probabilities"),
        ('"logprobs": {"token_logprobs": [-1.0]}, "prompt_token_ids": [1, 2]', "without their token ids"),
        ('"token_ids": [5, 6], "logprobs": {"token_logprobs": [-1.0]}', "without their token ids"),
        ('"token_ids": [5], "logprobs": {"token_logprobs": [-1.0]}, "prompt_token_ids": [0, 1, 2]', "another prompt"),
    ],
)
def test_a_sample_that_training_cannot_weigh_is_refused(server, choice: str, sentence: str):
    url, _ = server([(200, f'{{"choices": [{{{choice}}}]}}'.encode())])
    with pytest.raises(EngineRefused, match=sentence):
        EngineClient(url).sample_tokens("fox", [1, 2], max_tokens=8, seed=1)


def test_a_key_that_cannot_be_sent_is_refused_before_anybody_is_asked_and_not_shown() -> None:
    with pytest.raises(EngineRefused, match="the key of the model server at http://127") as refused:
        EngineClient("http://127.0.0.1:1", "sk-1\n")

    assert "sk-1" not in str(refused.value)


def test_an_address_in_capitals_has_its_certificate_looked_at() -> None:
    assert EngineClient("HTTPS://a.org")._settings["verify"]
