"""Variables of the environment that hold keys, and an environment for children without those that are not theirs.

A child inherits what its parent has, and so would everything that runs in it: a library, a reward function. So a model
server gets nothing that looks like a key or that the settings name as one, since it needs none, and a run of all keys
that the settings name only its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping

from storage.endpoints import sendable
from storage.settings import Settings

ENGINE_KEY = "PLUMBLINE_ENGINE_KEY"  # of the model servers that settings.toml names by their addresses
SAMPLING_KEY = "PLUMBLINE_SAMPLING_KEY"  # of the server that may answer for PPO runs

_LOOKS_LIKE_A_KEY = re.compile(
    r"(^|_)(API)?(KEYS?|TOKEN)(_|$)|SECRET|PASSWORD|PASSWD|CREDENTIAL",  # and not MAX_TOKENS, nor TOKENIZERS_…
    re.IGNORECASE,
)


def key_in(variable: str, environment: Mapping[str, str] = os.environ) -> str:
    """Of one of our own variables; empty where it is not set. Raises EngineRefused where it cannot be sent."""
    return sendable(environment.get(variable, "").strip(), f"in the variable {variable}")


def without_any_key(environment: Mapping[str, str] = os.environ, named: Collection[str] = ()) -> dict[str, str]:
    """Without what is called a key, a token, a secret, a password or credentials, whoever it is for.

    named: further variables that hold keys, whatever they are called.
    """
    return {
        name: value for name, value in environment.items() if name not in named and not _LOOKS_LIKE_A_KEY.search(name)
    }


def names_of_keys(settings: Settings) -> frozenset[str]:
    """The variables that the settings name for keys, and our own."""
    named = (*settings.judges.values(), *settings.endpoints.values())
    return frozenset({ENGINE_KEY, SAMPLING_KEY, *(one.key_env for one in named)})


def without_keys_of(
    settings: Settings, environment: Mapping[str, str] = os.environ, but: Collection[str] = ()
) -> dict[str, str]:
    """Without the keys that the settings name, and our own, but for these."""
    keys = names_of_keys(settings) - set(but)
    return {name: value for name, value in environment.items() if name not in keys}
