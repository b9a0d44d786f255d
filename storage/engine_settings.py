"""Who answers, as `settings.toml` says it: `engine`, `engine_arguments`, `[pinned]` and `serving_and_training`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.addresses import as_kept, has_secrets, http_parts, shown
from storage.errors import BadInput

ENGINES = ("vllm", "embedded")
NAMES = ("engine", "engine_arguments", "pinned", "serving_and_training")
OURS = (  # of vLLM's arguments
    *("--model", "--served-model-name", "--host", "--port", "--api-key", "--enable-lora", "--enable-sleep-mode"),
)
_TURNS = {"in turns": True, "side by side": False}


@dataclass(frozen=True)
class EngineSettings:
    """Servers at `urls` are somebody else's; where there are none, Plumbline starts its own."""

    engine: str = ""  # of ENGINES; empty: what fits this machine
    arguments: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    pinned: Mapping[str, str] = field(default_factory=dict)  # version id → the one of `urls` that answers for it
    in_turns: bool | None = None  # whether servers and runs take the device in turns; None: on a GPU


def read_engine(given: Mapping[str, Any], environment: Mapping[str, str], file: Path) -> EngineSettings:
    """Raises BadInput with the file and the field."""
    value = environment.get("PLUMBLINE_ENGINE") or given.get("engine", "")
    named = value if isinstance(value, str) and value in ("", *ENGINES) else None
    urls = _urls(value, file) if named is None else ()
    turns = _turns(given.get("serving_and_training"), urls, file)
    return EngineSettings(named or "", _arguments(given, file), urls, _pinned(given, urls, file), turns)


def _urls(value: object, file: Path) -> tuple[str, ...]:
    """One address, or a list of them; in the environment with commas between."""
    listed = ([value] if "@" in value else value.split(",")) if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed:
        raise _not_an_engine(value, file)
    urls = tuple(_url(one, file) for one in listed)
    if len(set(urls)) < len(urls):
        raise BadInput(f"The engine (PLUMBLINE_ENGINE or {file}) names the same server twice. Leave one out.")
    return urls


def _url(value: object, file: Path) -> str:
    """Without the path that all of them have."""
    parts = http_parts(value)
    if parts is None:
        raise _not_an_engine(value, file)
    if has_secrets(parts):
        raise BadInput(
            f"The address of the engine (PLUMBLINE_ENGINE or {file}) may hold no name, password or query, since pages "
            "show it. Put its key into the variable PLUMBLINE_ENGINE_KEY before Plumbline is started."
        )
    return as_kept(parts)


def _not_an_engine(value: object, file: Path) -> BadInput:
    return BadInput(
        f"The engine (PLUMBLINE_ENGINE or {file}) is one of {', '.join(ENGINES)}, or the address of a model server, "
        f'"http://127.0.0.1:8000", or a list of addresses, not {shown(value)}.'
    )


def _arguments(given: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    value = given.get("engine_arguments", [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        example = '["--tensor-parallel-size", "2"]'
        raise BadInput(f"{file}: engine_arguments is a list of texts, {example}.")
    ours = [one for one in value if one.split("=")[0] in OURS]
    if ours:
        raise BadInput(f"{file}: {ours[0].split('=')[0]} in engine_arguments is chosen by Plumbline. Leave it out.")
    return tuple(value)


def _pinned(given: Mapping[str, Any], urls: tuple[str, ...], file: Path) -> dict[str, str]:
    value = given.get("pinned", {})
    if not isinstance(value, dict):
        example = '[pinned] and below it v3 = "http://127.0.0.1:8000"'
        raise BadInput(f"{file}: pinned is a table, {example}, not {shown(value)}.")
    pinned = {version: _url(one, file) for version, one in value.items()}
    for version, url in pinned.items():
        if url not in urls:
            raise BadInput(
                f"{file}: {version} is pinned to {url}, which is none of the servers that engine names. Name it there, "
                "or pin the version to one of them."
            )
    return pinned


def _turns(value: object, urls: tuple[str, ...], file: Path) -> bool | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in _TURNS:
        raise BadInput(f'{file}: serving_and_training is "in turns" or "side by side", not {shown(value)}.')
    if _TURNS[value] and urls:
        raise BadInput(
            f'{file}: serving_and_training = "in turns" is for servers that Plumbline starts itself: those that engine '
            "names by address are somebody else's, and are never put to sleep. Leave one of the two out."
        )
    return _TURNS[value]
