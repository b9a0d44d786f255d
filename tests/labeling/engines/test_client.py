"""The client against servers that fail. What it says to one that works is in test_contract.py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from labeling.engines import client as client_module
from labeling.engines.client import Completion, EngineClient, distinct
from storage.errors import EngineRefused, EngineUnavailable

MODELS = b'{"data": [{"id": "base", "max_model_len": 8}]}'


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def server() -> Iterator[Callable[[list[tuple[int, bytes]]], tuple[str, list[str]]]]:
    """A server that gives these replies one after the other; returns its URL and the paths it was asked for."""
    running: list[ThreadingHTTPServer] = []

    def start(replies: list[tuple[int, bytes]]) -> tuple[str, list[str]]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                status, body = replies.pop(0)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        running.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{running[-1].server_address[1]}", asked

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def _said(text: str, index: int) -> Completion:
    return Completion(index, text, None, "stop", 1, 1, 0.0)


def test_equal_answers_are_shown_once_in_the_order_they_came():
    answers = [_said(text, index) for index, text in enumerate(("blue", "azure", "blue", "sky", "azure"))]
    assert [answer.index for answer in distinct(answers)] == [0, 1, 3]


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


def test_nobody_there_is_said_with_what_to_do():
    nobody = EngineClient("http://127.0.0.1:9")
    assert not nobody.health()
    with pytest.raises(EngineUnavailable, match="wait a moment and try again"):
        nobody.models()


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch, server):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    url, _ = server([(200, MODELS)])
    assert EngineClient(url).models() == ["base"]
