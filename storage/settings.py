"""How this Plumbline is set up: `settings.toml` in its home folder, and the environment. All of it has defaults.

    port = 7860
    default_role = "engineer"     # of a name that is not listed: on a laptop one person does everything
    engine = "vllm"               # who answers: "vllm", "embedded" (our own small server), or addresses of servers
    engine_arguments = ["--max-loras", "16"]     # for vLLM, after Plumbline's own
    serving_and_training = "in turns"     # model server and runs take the device in turns (on a GPU), or "side by side"
    ray_address = "http://127.0.0.1:8265"     # of the dashboard of a Ray cluster that runs may be sent to
    sampling_server = "http://127.0.0.1:8000"     # a model server that may answer for PPO runs (vLLM with LoRA)

    [roles]
    ines = "lead"
    tom = "labeler"

    [pinned]                      # where engine is a list of addresses: the one that answers for a version
    v3 = "http://127.0.0.1:8001"

    [reward_functions]            # that runs may learn from: Python that this machine can import (PYTHONPATH, pip)
    short = "house.rewards:short"

    [judges.house]                # a model that scores answers: any OpenAI-compatible endpoint
    url = "https://judge.example.org"
    model = "big-judge"
    key_env = "JUDGE_KEY"         # the variable that holds its key; or key_file = "~/judge.key", of mode 600
    criteria = "how short and right it is"

    [endpoints.house]             # a model that answers as a version does: any OpenAI-compatible endpoint
    url = "https://models.example.org"
    model = "big-model"
    key_file = "~/house.key"      # of mode 600; or key_env
    inside = true                 # what it is asked does not leave the house; without it, only loopback is inside

Further functions can be given as PLUMBLINE_REWARD_FUNCTIONS="short=house.rewards:short, polite=house.rewards:polite".
What a run may execute and whom it may ask is named here only: a browser can choose a name, and bring none.
Without `engine`, vLLM answers where there is an NVIDIA GPU and vLLM is installed (`make vllm`), the small server
elsewhere; it can also be given as PLUMBLINE_ENGINE, several addresses with commas between. The key of servers that are
named by their addresses comes from PLUMBLINE_ENGINE_KEY. By itself `serving_and_training` is "in turns" where vLLM
answers on a GPU, since it takes nearly all of its memory, and "side by side" on a processor.
Home is the folder `plumbline-home` here, or PLUMBLINE_HOME. The port can also be given as PLUMBLINE_PORT.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.addresses import as_kept, has_secrets, http_parts, shown
from storage.endpoints import Endpoint, example_of, read_endpoints, read_judges, refuse_name
from storage.endpoints import Judge as Judge  # as its own name: whoever reads the settings takes it from here
from storage.engine_settings import NAMES, EngineSettings, read_engine
from storage.errors import BadInput
from storage.records import ROLES, Role

PORT = 7860
_KNOWN = {
    *("port", "default_role", "roles", "ray_address", "sampling_server", "reward_functions", "judges"),
    *NAMES,
    "endpoints",
}
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Settings:
    """Where things are kept and who may do what. Only this machine can reach the app: it listens on loopback."""

    home: Path
    port: int = PORT
    default_role: Role = "engineer"
    roles: Mapping[str, Role] = field(default_factory=dict)
    ray_address: str = ""
    reward_functions: Mapping[str, str] = field(default_factory=dict)  # name → package.module:function
    judges: Mapping[str, Judge] = field(default_factory=dict)
    sampling_server: str = ""
    answering: EngineSettings = field(default_factory=EngineSettings)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.home / "plumbline.duckdb"

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def snapshots(self) -> Path:
        return self.home / "snapshots"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def secret(self) -> Path:
        return self.home / "secret"


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this machine. Raises BadInput with the file and the field."""
    home = Path(environment.get("PLUMBLINE_HOME", "plumbline-home")).expanduser().resolve()
    return read_home(home, environment)


def read_home(home: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this home. Raises BadInput with the file and the field."""
    file = home / "settings.toml"
    given = _parsed(file)
    if unknown := sorted(set(given) - _KNOWN):
        raise BadInput(f"{file}: unknown setting {unknown[0]!r}. Known are {', '.join(sorted(_KNOWN))}.")
    port = _port(environment.get("PLUMBLINE_PORT") or given.get("port", PORT), file)
    roles = given.get("roles", {})
    if not isinstance(roles, dict):
        raise BadInput(f'{file}: roles is a table of names, [roles] and below it ines = "lead", not {shown(roles)}.')
    roles = {name: _role(role, file) for name, role in roles.items()}
    role = _role(given.get("default_role", "engineer"), file)
    address = _address(given.get("ray_address", ""), file)
    functions = _functions(given, environment, file)
    judges = read_judges(_table(given, "judges", example_of("judge"), file), file)
    endpoints = read_endpoints(_table(given, "endpoints", example_of("endpoint"), file), file)
    sampled_by, engine = _sampling_server(given, file), read_engine(given, environment, file)
    return Settings(home, port, role, roles, address, functions, judges, sampled_by, engine, endpoints)


def _parsed(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text())
    except (ValueError, OSError, RecursionError) as error:
        raise BadInput(f"{file} cannot be read: {error}. Mend it, or remove it to use the defaults.") from error


def _port(value: object, file: Path) -> int:
    if not str(value).isdecimal() or not 0 <= int(str(value)) <= 65535:
        raise BadInput(f"The port {shown(value)} (PLUMBLINE_PORT or {file}) is not a number from 0 to 65535.")
    return int(str(value))


def _address(value: object, file: Path) -> str:
    if value == "":
        return ""
    parts = http_parts(value)
    if parts is None or has_secrets(parts) or parts.path not in ("", "/"):
        raise BadInput(
            f'{file}: ray_address is the address of a Ray dashboard, "http://127.0.0.1:8265", not {shown(value)}.'
        )
    return as_kept(parts)


def _sampling_server(given: Mapping[str, Any], file: Path) -> str:
    """Without the path that all of them have. It holds no key: it is kept with runs."""
    value = given.get("sampling_server", "")
    if value == "":
        return ""
    parts = http_parts(value)
    if parts is None:
        raise BadInput(
            f'{file}: sampling_server is the address of a model server, "http://127.0.0.1:8000", not {shown(value)}.'
        )
    if has_secrets(parts):
        raise BadInput(
            f"{file}: sampling_server may hold no name, password or query, since it is kept with runs. Put its key "
            "into the variable PLUMBLINE_SAMPLING_KEY before Plumbline is started."
        )
    return as_kept(parts)


def _role(value: object, file: Path) -> Role:
    for role in ROLES:
        if value == role:
            return role
    raise BadInput(f"{file}: {shown(value)} is not a role. Roles are {', '.join(ROLES)}.")


# ---- what may score answers -----------------------------------------------------------------------------------------


def _functions(given: Mapping[str, Any], environment: Mapping[str, str], file: Path) -> dict[str, str]:
    """Those of the file, and those of the environment, which win."""
    table = _table(given, "reward_functions", 'short = "package.module:function"', file)
    for entry in filter(None, map(str.strip, environment.get("PLUMBLINE_REWARD_FUNCTIONS", "").split(","))):
        name, _, function = entry.partition("=")
        table[name.strip()] = function.strip()
    for name, function in table.items():
        refuse_name(name, "reward function", file)
        if not isinstance(function, str) or not _FUNCTION.fullmatch(function):
            raise BadInput(
                f"The reward function {name} (PLUMBLINE_REWARD_FUNCTIONS or {file}) is named by where it is imported "
                f'from, "package.module:function", not {shown(function)}.'
            )
    return table


def _table(given: Mapping[str, Any], name: str, example: str, file: Path) -> dict[str, Any]:
    table = given.get(name, {})
    if not isinstance(table, dict):
        raise BadInput(f"{file}: {name} is a table, {example}, not a single value.")
    return dict(table)
