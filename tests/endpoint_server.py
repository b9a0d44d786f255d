"""A real HTTP server that stands as somebody's endpoint: it answers as it is told, and keeps what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, str]
PATH = "/v1/chat/completions"


class EndpointServer:
    """Answers each request by `replies`, a function of its last message; `headers` go with every reply."""

    def __init__(self) -> None:
        self.replies: Callable[[str], Reply] = lambda words: said("5")
        self.headers: dict[str, str] = {}
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.go_on = threading.Event()  # cleared, it stays in the middle of its answers
        self.go_on.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append(body)
                outer.keys.append(self.headers["Authorization"])
                status, text = outer.replies(body["messages"][-1]["content"]) if self.path == PATH else (404, "lost")
                self.send_response(status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                half = len(text) // 2
                self.wfile.write(text[:half].encode())
                outer.go_on.wait(300)
                self.wfile.write(text[half:].encode())

            def log_message(self, *arguments: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def asked(self) -> list[str]:
        """The words of every message that was sent here."""
        return [message["content"] for body in self.bodies for message in body["messages"]]


def said(text: str, **more: Any) -> Reply:
    """An answer as OpenAI's chat endpoint gives it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return 200, json.dumps({"model": "big-2031-01", "choices": [choice], **more})


def streamed(*pieces: str) -> Reply:
    """The same, piece by piece."""
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": one}, "finish_reason": None}]} for one in pieces
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(pieces)}})
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return 200, "".join([*lines, "data: [DONE]\n\n"])


@contextmanager
def endpoint_server() -> Iterator[EndpointServer]:
    made = EndpointServer()
    try:
        yield made
    finally:
        made.stop()
