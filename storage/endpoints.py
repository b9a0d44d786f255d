"""Models behind OpenAI-compatible endpoints, as `settings.toml` names them, and their keys.

`[endpoints.NAME]` answers in projects and comparisons, `[judges.NAME]` scores the answers of a run. Both say where the
key is and never what it is: whoever sends it reads it once, before the first request, and it is written nowhere.

What they are asked leaves this machine, unless they are on it. `inside` says otherwise: true for a server of the house,
false for an address here that passes everything on (a proxy, a tunnel).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from storage.addresses import as_kept, has_secrets, http_parts, shown
from storage.errors import BadInput, EngineRefused

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,59}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_WORD = 15  # in the name of a variable or a file; what is drawn by chance is longer


@dataclass(frozen=True)
class Endpoint:
    """Who is asked through /v1/chat/completions. `inside` is None where its address decides."""

    name: str
    url: str
    model: str
    key_env: str = ""
    key_file: str = ""
    inside: bool | None = None

    @property
    def is_outside(self) -> bool:
        """Whether what it is asked leaves this machine, or this house."""
        return not self.is_here if self.inside is None else not self.inside

    @property
    def is_here(self) -> bool:
        """Whether its address is one of this machine's own."""
        return urlsplit(self.url).hostname in LOOPBACK


@dataclass(frozen=True)
class Judge(Endpoint):
    """It scores answers, by these criteria."""

    criteria: str = ""


Told = TypeVar("Told", bound=Endpoint)


def read_endpoints(table: Mapping[str, Any], file: Path) -> dict[str, Endpoint]:
    """Of settings.toml, [endpoints]. Raises BadInput with the file and the field."""
    return {name: _read(Endpoint, "endpoint", name, told, file) for name, told in table.items()}


def read_judges(table: Mapping[str, Any], file: Path) -> dict[str, Judge]:
    """Of settings.toml, [judges]. Raises BadInput with the file and the field."""
    return {name: _read(Judge, "judge", name, told, file) for name, told in table.items()}


def example_of(what: str) -> str:
    return f'[{what}s.house] and below it url = "https://{what}.example.org" and model = "big-{what}"'


def refuse_name(name: str, what: str, file: Path) -> None:
    """Raises BadInput."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{file}: {name!r} cannot name {_a(what)}. Use letters, digits, dots, dashes and underscores, 60 at most."
        )


def key_of(endpoint: Endpoint) -> str:
    """From the variable or the file that the settings name; empty where they name none. Raises EngineRefused."""
    if endpoint.key_env:
        if key := os.environ.get(endpoint.key_env, "").strip():
            return sendable(key, f"of {named(endpoint)}")
        raise EngineRefused(
            f"The key of {named(endpoint)} is to be in the variable {endpoint.key_env}, and there is none here. Set it "
            "before Plumbline is started, or name a key_file in settings.toml."
        )
    if not endpoint.key_file:
        return ""
    return sendable(_key_in_file(endpoint), f"of {named(endpoint)}")


def sendable(key: str, of: str) -> str:
    """The key. Where it cannot be sent, the error of whoever tries would show it. Raises EngineRefused."""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise EngineRefused(
            f"What is to be the key {of} holds more than one word of plain letters, digits and signs. "
            "Put the key alone there."
        )
    return key


def named(endpoint: Endpoint) -> str:
    return f"the {_what(type(endpoint))} {endpoint.name}"


def _key_in_file(endpoint: Endpoint) -> str:
    try:
        file = Path(endpoint.key_file).expanduser()
        mode = stat.S_IMODE(file.stat().st_mode)
        key = file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise EngineRefused(f"The key_file of {named(endpoint)} holds no text. Put the key alone there.") from None
    except (OSError, RuntimeError, ValueError) as error:  # its words would show the path, which may be a pasted key
        why = (error.strerror if isinstance(error, OSError) else "") or "there is no such path"
        raise EngineRefused(
            f"The key of {named(endpoint)} cannot be read: {why}. Look at its key_file in settings.toml."
        ) from None
    if mode & 0o077:
        raise EngineRefused(
            f"{file}, which holds the key of {named(endpoint)}, can be read by others (mode {mode:o}). Close it with: "
            f"chmod 600 {file}"
        )
    if not key:
        raise EngineRefused(f"{file} is to hold the key of {named(endpoint)}, and is empty.")
    return key


def _read(made: type[Told], what: str, name: str, told: object, file: Path) -> Told:
    refuse_name(name, what, file)
    if not isinstance(told, dict) or not all(isinstance(value, str) for key, value in told.items() if key != "inside"):
        raise BadInput(f"{file}: {_a(what)} is a table of texts, {example_of(what)}, not {_fields_of(told)}.")
    known = [field for field in made.__dataclass_fields__ if field != "name"]
    if unknown := sorted(set(told) - set(known)):
        further = " Its key has no place in this file: name the variable or the file that holds it."
        raise BadInput(
            f"{file}: the {what} {name} has an unknown setting {unknown[0]!r}. Known are {', '.join(known)}."
            + (further if "key" in unknown[0] else "")
        )
    if not isinstance(told.get("inside", True), bool):
        raise BadInput(f"{file}: inside of the {what} {name} is true or false, not {shown(told['inside'])}.")
    if not told.get("model"):
        raise BadInput(f"{file}: the {what} {name} needs the name of its model, as its endpoint knows it.")
    _refuse_pasted_key(told, f"{file}: the {what} {name}")
    return made(name=name, **{**told, "url": _url(name, told.get("url", ""), what, file)})


def _refuse_pasted_key(told: Mapping[str, str], of: str) -> None:
    """Both settings are shown on pages and kept with runs. Raises BadInput, which does not repeat what it refuses."""
    variable, path = told.get("key_env", ""), told.get("key_file", "")
    if variable and (not _VARIABLE.fullmatch(variable) or _looks_drawn(variable)):
        raise BadInput(
            f"{of} has a key_env that is no name of a variable. Put the key into a variable such as HOUSE_KEY, and the "
            "name of that variable here."
        )
    if path and "/" not in path and _looks_drawn(path):
        raise BadInput(
            f"{of} has a key_file that looks like a key. Put the key into a file of mode 600, and its path here "
            "(./NAME for one beside the app)."
        )


def _looks_drawn(text: str) -> bool:
    """Whether part of it is long and mixes digits or cases as people do not."""
    return any(
        len(word) > _LONGEST_WORD and not (word.isalpha() and (word.isupper() or word[1:].islower()))
        for word in re.split(r"[^A-Za-z0-9]", text)
    )


def _url(name: str, url: str, what: str, file: Path) -> str:
    """Without the path that all of them have. It holds no key: it is shown on pages and kept with runs."""
    parts = http_parts(url)
    if parts is None:
        example = f"https://{what}.example.org"
        raise BadInput(f'{file}: the {what} {name} needs an url such as "{example}", not {shown(url)}.')
    if has_secrets(parts):
        raise BadInput(
            f"{file}: the url of the {what} {name} may hold no name, password or query, since it is shown on pages and "
            "kept with runs. Name its key by key_env or key_file."
        )
    return as_kept(parts)


def _fields_of(told: object) -> str:
    """What was found, by its names: one of the values may be a key that is there by mistake."""
    return f"a table of {', '.join(told) or 'nothing'}" if isinstance(told, dict) else "a single value"


def _what(made: type[Endpoint]) -> str:
    return "judge" if issubclass(made, Judge) else "endpoint"


def _a(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"
