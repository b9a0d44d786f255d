"""Addresses of servers, as the settings name them: read, and shown without what is secret in them."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

LONGEST = 200  # characters of what is shown


def http_parts(value: object) -> SplitResult | None:
    """None where it is no address of a server: another scheme, no host, a port that is none."""
    if not isinstance(value, str) or re.search(r"\s", value.strip()):
        return None
    try:
        parts = urlsplit(value.strip())
        if "@" in parts._replace(netloc="", query="").geturl():  # of a password with a slash in it
            return None
        found = parts.scheme in ("http", "https") and parts.hostname and parts.hostname.encode("idna")
        return parts if found and parts.port != 0 else None  # reading the port refuses what is none
    except ValueError:
        return None


def has_secrets(parts: SplitResult) -> bool:
    """Whether it holds what a page must not show: a name, a password, a query."""
    return "@" in parts.netloc or bool(parts.query)


def as_kept(parts: SplitResult) -> str:
    """Without the path that all model servers have; the scheme in small letters."""
    path = parts.path.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
    return urlunsplit(parts._replace(path=path, query="", fragment=""))


def shown(value: object) -> str:
    """What a field holds that should hold an address or a word, to be said: no password, no query, no list or table."""
    if isinstance(value, str):
        return "one with a name or a password" if "@" in value else repr(value.split("?")[0][:LONGEST])
    return "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else repr(value)
