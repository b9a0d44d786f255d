"""A model server that says what a test has written down. It answers nothing: what it has is told, put on, taken off.

It speaks as vLLM does, which says no name of its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Scripted:
    """What it says, to be changed while it runs."""

    root: Path  # of its base
    url: str = ""
    adapters: list[str] = field(default_factory=list)
    is_up: bool = True
    key: str = ""  # that it wants
    refuses_adapters: tuple[int, Any] | None = None  # with which status and words
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def reply(self, path: str, authorisation: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.asked.append((path, body))
        if path == "/health":
            return (200 if self.is_up else 503), {}
        if path.startswith("/v1/") and self.key and authorisation != f"Bearer {self.key}":
            return 401, {"error": "Unauthorized"}
        if path == "/v1/models":
            base = {"id": "base", "root": str(self.root)}
            return 200, {"data": [base, *({"id": name, "parent": "base"} for name in self.adapters)]}
        if path.endswith("_lora_adapter"):
            return self._change(path, body["lora_name"])
        return (200, {"version": "0.32.0"}) if path == "/version" else (404, {"detail": "Not Found"})

    def _change(self, path: str, name: str) -> tuple[int, Any]:
        if self.refuses_adapters:
            return self.refuses_adapters
        (self.adapters.append if "/load" in path else self.adapters.remove)(name)
        return 200, "Success"


@contextmanager
def scripted(root: Path, **says: Any) -> Iterator[Scripted]:
    script = Scripted(root, **says)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            status, said = script.reply(self.path, self.headers.get("Authorization", ""), body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    yield script
    server.shutdown()
    server.server_close()
