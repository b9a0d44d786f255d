"""What stands before every page and route: same origin only, roles by path, and headers that keep scripts out.

Pure ASGI, so that it sees Gradio's own routes too: several of them are open without a login, whatever Gradio is told.
"""

from __future__ import annotations

import html
import json
import re
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar
from urllib.parse import SplitResult, quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from labeling.identity import PersonOf
from storage.errors import AppError, NotAllowed, NotSignedIn
from storage.records import ROLES, Person, Role

T = TypeVar("T")
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}
SCRIPTS_ONLY_OURS = (
    "default-src 'self'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)


class Guard:
    """Wraps an ASGI app. `roles` says which role a path and all below it needs; paths that are not named are open.

    `heads` says what goes into the <head> of the pages below a path: their style and scripts, there from the first
    paint, where Gradio would add them in the browser after its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        person_of: PersonOf,
        roles: Mapping[str, Role],
        heads: Mapping[str, str],
    ) -> None:
        self._app = app
        self._person_of = person_of
        self._roles = roles
        self._heads = heads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:  # a websocket: nothing here speaks it
            await WebSocketClose(code=1008)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        head = _below(scope["path"], self._heads) or ""
        nowhere = partial(_nowhere, scope["path"]) if _wants_page(request) else None
        await self._app(_uncompressed_if_page(scope, request), receive, _Hardened(send, head, nowhere).send)

    def _refusal(self, request: Request) -> Response | None:
        if _split(f"//{request.headers.get('host', '')}").hostname not in LOOPBACK:
            return _refused(NotAllowed("Plumbline answers on this machine only: open it as http://127.0.0.1."), request)
        if request.method not in ("GET", "HEAD") and _from_elsewhere(request):
            return _refused(NotAllowed("This request came from another site, so nothing was done."), request)
        needed = _below(request.scope["path"], self._roles)
        if needed is None:
            return None
        try:
            require(self._person_of(request), needed)
        except AppError as error:
            return _refused(error, request)
        return None


def _below(path: str, named: Mapping[str, T]) -> T | None:
    """What is said of the named path that this one is, or lies below."""
    return next((said for root, said in named.items() if path == root or path.startswith(f"{root}/")), None)


def require(person: Person, role: Role) -> Person:
    """The person, if their role reaches so far (labeler < lead < engineer). Raises NotAllowed."""
    if ROLES.index(person.role) < ROLES.index(role):
        raise NotAllowed(f"This needs the role {role}; {person.name} is a {person.role}. Ask whoever runs Plumbline.")
    return person


def _from_elsewhere(request: Request) -> bool:
    """A browser names the site that sends a form or a fetch; a program that is no browser names none."""
    origin = request.headers.get("origin")
    crosses = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return crosses or (origin is not None and _split(origin).netloc != request.headers.get("host"))


def _split(url: str) -> SplitResult:
    """What is no address, like "//[", names no host."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _refused(error: AppError, request: Request) -> Response:
    wants_page = _wants_page(request)
    if wants_page and isinstance(error, NotSignedIn):
        return RedirectResponse(f"/who?next={quote(_asked_for(request))}", status_code=303)
    if wants_page:
        page = _page("This page is not yours", str(error), ' <a class="btn" href="/who">Change who you are</a>')
        return HTMLResponse(page, status_code=error.status, headers=HEADERS)
    return JSONResponse({"error": str(error)}, status_code=error.status, headers=HEADERS)


def _wants_page(request: Request) -> bool:
    """A browser that goes somewhere asks for a page; a script or a program does not."""
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")


def _page(title: str, problem: str, further: str = "") -> str:
    """A sentence and the way back; `further` is HTML beside it."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{html.escape(title)} · Plumbline</title>
<link rel="stylesheet" href="/ui/plumbline.css"><link rel="stylesheet" href="/ui/who.css"></head>
<body><main class="pl who"><section class="card"><h1>{html.escape(title)}</h1>
<p class="say bad" role="alert">{html.escape(problem)}</p>
<p><a class="btn" href="/label/">To the label page</a>{further}</p>
</section></main></body></html>"""


def _nowhere(path: str, answer: bytes) -> str:
    """In place of an answer that nothing is there: in its own words, where it has a sentence for a person."""
    try:
        problem = json.loads(answer)["error"]
    except (ValueError, KeyError, TypeError):
        problem = f"Nothing is at {path}. The address may be mistyped, or what was there is gone."
    return _page("There is no such page", problem)


def _asked_for(request: Request) -> str:
    """Path and query, as an address writes them."""
    path, query = quote(request.scope["path"]), request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _uncompressed_if_page(scope: Scope, request: Request) -> Scope:
    """Pages must arrive here as text, so that their scripts can be given the nonce."""
    if "text/html" not in request.headers.get("accept", ""):
        return scope
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]}


class _Hardened:
    """Passes a response on with our headers; holds a page back until it is whole, to mark its scripts.

    `nowhere` makes a page of an answer that is none (404), where a browser asked for one.
    """

    def __init__(self, send: Send, head: str, nowhere: Callable[[bytes], str] | None) -> None:
        self._send = send
        self._head = head.encode()
        self._nowhere = nowhere
        self._start: Message | None = None  # of a page that is being collected
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *_encoded(HEADERS)]}
            is_page = dict(message["headers"]).get(b"content-type", b"").startswith(b"text/html")
            if is_page or message["status"] != 404:
                self._nowhere = None
            if is_page or self._nowhere:
                self._start = message
                return
        elif self._start is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_page()
            return
        await self._send(message)

    async def _send_page(self) -> None:
        assert self._start is not None
        nonce = secrets.token_urlsafe(16)
        if self._nowhere:
            page = self._nowhere(self._body).encode()
        else:
            page = self._body.replace(b"</head>", self._head + b"</head>", 1)
        page = re.sub(rb"<script(?=[\s>])", b'<script nonce="' + nonce.encode() + b'"', page)
        policy = {"content-security-policy": SCRIPTS_ONLY_OURS.format(nonce=nonce), "content-length": str(len(page))}
        ours = [*_encoded(policy), (b"content-type", b"text/html; charset=utf-8")]
        kept = [pair for pair in self._start["headers"] if pair[0] not in dict(ours)]
        await self._send({**self._start, "headers": [*kept, *ours]})
        await self._send({"type": "http.response.body", "body": page})


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
