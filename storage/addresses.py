"""Addresses of servers, as the settings name them: read, and shown without what is secret in them."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

import httpx

LONGEST = 200  # characters of what is shown


def http_parts(value: object) -> SplitResult | None:
    """None where it is no address of a server: another scheme, a host or a port that is none."""
    if not isinstance(value, str) or re.search(r"[\s\\]", value.strip()):
        return None
    try:
        parts = urlsplit(value.strip())
        if "@" in parts._replace(netloc="", query="").geturl():  # of a password with a slash in it
            return None
        httpx.URL(parts.geturl())  # this and the next raise what whoever asks there would raise, later
        (parts.hostname or "").encode("idna")
        return parts if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 else None
    except (ValueError, httpx.InvalidURL):
        return None


def has_secrets(parts: SplitResult) -> bool:
    """Whether it holds what a page must not show: a name, a password, a query."""
    return "@" in parts.netloc or bool(parts.query)


def as_kept(parts: SplitResult) -> str:
    """Without the path that all model servers have; scheme and host in small letters."""
    path = parts.path.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
    return urlunsplit(parts._replace(netloc=parts.netloc.lower(), path=path, query="", fragment=""))


def shown(value: object) -> str:
    """What a field holds that should hold an address or a word, to be said: no password, no query, no list or table."""
    if isinstance(value, str):
        return "one with a name or a password" if "@" in value else repr(value.split("?")[0][:LONGEST])
    return "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else repr(value)
