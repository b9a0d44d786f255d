"""Who is at the screen: a chosen name in a signed cookie, and the role that the settings give it.

This is trust within one machine, not a login: the app listens on loopback only. Real accounts would replace this file:
everything else asks `Identity.person_of` and nothing more.
"""

from __future__ import annotations

import hashlib
import html
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from itsdangerous import BadSignature, URLSafeSerializer

from storage import people
from storage.database import Database
from storage.errors import BadInput, NotSignedIn
from storage.records import Person
from storage.settings import Settings

PersonOf = Callable[[Request], Person]
"""Who is asking; raises NotSignedIn where nobody has said who they are."""

A_YEAR = 365 * 24 * 3600


class Identity:
    """Reads and writes the cookie."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        secret = _secret(settings.secret)
        self._signer = URLSafeSerializer(secret, salt="name")
        # Cookies ignore ports: a Plumbline beside this one has a key, and so a cookie, of its own.
        self.cookie = f"plumbline-{hashlib.sha256(secret.encode()).hexdigest()[:8]}"

    def person_of(self, request: Request) -> Person:
        """Raises NotSignedIn where nobody has said who they are."""
        try:
            name = str(self._signer.loads(request.cookies.get(self.cookie, "")))
        except BadSignature:
            raise NotSignedIn("Say who you are first: open /who and choose a name.") from None
        return Person(name, people.role_of(name, self._settings.roles, self._settings.default_role))

    def enter(self, name: str) -> tuple[Person, str]:
        """The person of that name and the cookie that proves it. Raises BadInput."""
        person = people.enter(self._database, name, self._settings.roles, self._settings.default_role)
        return person, str(self._signer.dumps(person.name))


def identity_router(identity: Identity) -> APIRouter:
    router = APIRouter()

    @router.get("/api/me")
    def me(request: Request) -> dict[str, str | None]:
        """Who is asking; nulls for a stranger, because the page that asks for a name asks this too."""
        try:
            person = identity.person_of(request)
        except NotSignedIn:
            return {"name": None, "role": None}
        return {"name": person.name, "role": person.role}

    @router.get("/who", response_class=HTMLResponse)
    def who(next: str = "/label/") -> str:
        return _page("", _own_path(next))

    @router.post("/who", response_model=None)
    def choose(name: str = Form(""), next: str = Form("/label/")) -> HTMLResponse | RedirectResponse:
        try:
            _, cookie = identity.enter(name)
        except BadInput as error:
            return HTMLResponse(_page(str(error), _own_path(next)), status_code=400)
        answer = RedirectResponse(_own_path(next), status_code=303)
        answer.set_cookie(identity.cookie, cookie, max_age=A_YEAR, httponly=True, samesite="strict")
        return answer

    return router


def _own_path(path: str) -> str:
    """A path of ours; anything that could lead elsewhere becomes the label page."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/label/"


def _secret(file: Path) -> str:
    """The signing key, made on first use. An empty file counts as none: an empty key signs for everybody."""
    kept = file.read_text().strip() if file.exists() else ""
    return kept or _new_secret(file)


def _new_secret(file: Path) -> str:
    """Readable by its owner alone, and in its place only once it is whole on the disk."""
    secret = secrets.token_hex(32)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.unlink(missing_ok=True)  # left by a crash
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
        written.write(secret)
        written.flush()
        os.fsync(written.fileno())
    part.replace(file)
    return secret


def _page(problem: str, then: str) -> str:
    said = f'<p class="say bad" role="alert">{html.escape(problem)}</p>' if problem else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Who are you? · Plumbline</title>
<link rel="stylesheet" href="/ui/plumbline.css"><link rel="stylesheet" href="/ui/who.css">
<script src="/ui/plumbline.js"></script></head>
<body><main class="pl who"><section class="card"><h1>Who is judging?</h1>
<p class="lede">Your name is stored with what you say, so that answers can be traced and agreement measured.
It stays on this machine.</p>{said}
<form method="post" action="/who"><input type="hidden" name="next" value="{html.escape(then)}">
<label for="name">Your name</label>
<input id="name" name="name" maxlength="40" autocomplete="name" required autofocus>
<button class="btn go">Start</button></form></section></main></body></html>"""
