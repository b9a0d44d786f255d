"""How this Plumbline is set up: `settings.toml` in its home folder, and the environment. All of it has defaults.

    port = 7860
    default_role = "engineer"     # of a name that is not listed: on a laptop one person does everything
    engine = "vllm"               # who answers: "vllm", "embedded" (our own small server), or the address of a server
    engine_arguments = ["--max-loras", "16"]     # for vLLM, after Plumbline's own
    ray_address = "http://127.0.0.1:8265"     # of the dashboard of a Ray cluster that runs may be sent to
    sampling_server = "http://127.0.0.1:8000"     # a model server that may answer for PPO runs (vLLM with LoRA)

    [roles]
    ines = "lead"
    tom = "labeler"

    [reward_functions]            # that runs may learn from: Python that this machine can import (PYTHONPATH, pip)
    short = "house.rewards:short"

    [judges.house]                # a model that scores answers: any OpenAI-compatible endpoint
    url = "https://judge.example.org"
    model = "big-judge"
    key_env = "JUDGE_KEY"         # the variable that holds its key; or key_file = "~/judge.key", of mode 600
    criteria = "how short and right it is"

Further functions can be given as PLUMBLINE_REWARD_FUNCTIONS="short=house.rewards:short, polite=house.rewards:polite".
What a run may execute and whom it may ask is named here only: a browser can choose a name, and bring none.
Without `engine`, vLLM answers where there is an NVIDIA GPU and vLLM is installed (`make vllm`), the small server
elsewhere; it can also be given as PLUMBLINE_ENGINE. The key of a server that is named by its address comes from
PLUMBLINE_ENGINE_KEY.
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
from urllib.parse import urlsplit

from storage.errors import BadInput
from storage.records import ROLES, Role

PORT = 7860
ENGINES = ("vllm", "embedded")
OURS = ("--model", "--served-model-name", "--host", "--port", "--api-key", "--enable-lora")  # of vLLM's arguments
_KNOWN = {
    *("port", "default_role", "roles", "ray_address", "sampling_server", "reward_functions", "judges"),
    *("engine", "engine_arguments"),
}
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,59}")
_OF_A_JUDGE = ("url", "model", "key_env", "key_file", "criteria")


@dataclass(frozen=True)
class Judge:
    """A model behind an OpenAI-compatible endpoint. It says where its key is, and never what it is."""

    name: str
    url: str
    model: str
    key_env: str = ""
    key_file: str = ""
    criteria: str = ""


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
    engine: str = ""  # of ENGINES, or an address; empty: what fits this machine
    engine_arguments: tuple[str, ...] = ()

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
        raise BadInput(f'{file}: roles is a table of names, [roles] and below it ines = "lead", not {roles!r}.')
    roles = {name: _role(role, file) for name, role in roles.items()}
    role = _role(given.get("default_role", "engineer"), file)
    address = _address(given.get("ray_address", ""), file)
    functions, judges = _functions(given, environment, file), _judges(given, file)
    sampled_by, engine = _sampling_server(given, file), _engine(given, environment, file)
    arguments = _arguments(given, file)
    return Settings(home, port, role, roles, address, functions, judges, sampled_by, engine, arguments)


def _parsed(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}. Mend it, or remove it to use the defaults.") from error


def _port(value: object, file: Path) -> int:
    if not str(value).isdigit() or not 0 <= int(str(value)) <= 65535:
        raise BadInput(f"The port {value!r} (PLUMBLINE_PORT or {file}) is not a number from 0 to 65535.")
    return int(str(value))


def _address(value: object, file: Path) -> str:
    if not isinstance(value, str) or (value and not re.fullmatch(r"https?://[^\s/]+/?", value)):
        raise BadInput(
            f'{file}: ray_address is the address of a Ray dashboard, "http://127.0.0.1:8265", not {value!r}.'
        )
    return value.rstrip("/")


def _sampling_server(given: Mapping[str, Any], file: Path) -> str:
    """Without the path that all of them have. It holds no key: it is kept with runs."""
    value = given.get("sampling_server", "")
    parts = urlsplit(value) if isinstance(value, str) else None
    if value and (parts is None or parts.scheme not in ("http", "https") or not parts.hostname):
        raise BadInput(
            f'{file}: sampling_server is the address of a model server, "http://127.0.0.1:8000", not {value!r}.'
        )
    if parts and (parts.username or parts.password or parts.query):
        raise BadInput(
            f"{file}: sampling_server may hold no name, password or query, since it is kept with runs. Put its key "
            "into the variable PLUMBLINE_SAMPLING_KEY before Plumbline is started."
        )
    return str(value).rstrip("/").removesuffix("/v1")


def _engine(given: Mapping[str, Any], environment: Mapping[str, str], file: Path) -> str:
    """One of ENGINES, or an address without the path that all of them have."""
    value = environment.get("PLUMBLINE_ENGINE") or given.get("engine", "")
    if value in ("", *ENGINES):
        return str(value)
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(
            f"The engine (PLUMBLINE_ENGINE or {file}) is one of {', '.join(ENGINES)}, or the address of a model "
            f'server, "http://127.0.0.1:8000", not {value!r}.'
        )
    if parts.username or parts.password or parts.query:
        raise BadInput(
            f"The address of the engine (PLUMBLINE_ENGINE or {file}) may hold no name, password or query, since pages "
            "show it. Put its key into the variable PLUMBLINE_ENGINE_KEY before Plumbline is started."
        )
    return str(value).rstrip("/").removesuffix("/v1")


def _arguments(given: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    value = given.get("engine_arguments", [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadInput(f'{file}: engine_arguments is a list of texts, ["--tensor-parallel-size", "2"], not {value!r}.')
    ours = [one for one in value if one.split("=")[0] in OURS]
    if ours:
        raise BadInput(f"{file}: {ours[0]} in engine_arguments is chosen by Plumbline. Leave it out.")
    return tuple(value)


def _role(value: object, file: Path) -> Role:
    for role in ROLES:
        if value == role:
            return role
    raise BadInput(f"{file}: {value!r} is not a role. Roles are {', '.join(ROLES)}.")


# ---- what may score answers -----------------------------------------------------------------------------------------


def _functions(given: Mapping[str, Any], environment: Mapping[str, str], file: Path) -> dict[str, str]:
    """Those of the file, and those of the environment, which win."""
    table = _table(given, "reward_functions", 'short = "package.module:function"', file)
    for entry in filter(None, map(str.strip, environment.get("PLUMBLINE_REWARD_FUNCTIONS", "").split(","))):
        name, _, function = entry.partition("=")
        table[name.strip()] = function.strip()
    for name, function in table.items():
        _refuse_name(name, "reward function", file)
        if not isinstance(function, str) or not _FUNCTION.fullmatch(function):
            raise BadInput(
                f"The reward function {name} (PLUMBLINE_REWARD_FUNCTIONS or {file}) is named by where it is imported "
                f'from, "package.module:function", not {function!r}.'
            )
    return table


def _judges(given: Mapping[str, Any], file: Path) -> dict[str, Judge]:
    example = '[judges.house] and below it url = "https://judge.example.org" and model = "big-judge"'
    return {name: _judge(name, told, example, file) for name, told in _table(given, "judges", example, file).items()}


def _judge(name: str, told: object, example: str, file: Path) -> Judge:
    _refuse_name(name, "judge", file)
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        raise BadInput(f"{file}: a judge is a table of texts, {example}, not {told!r}.")
    if unknown := sorted(set(told) - set(_OF_A_JUDGE)):
        further = " Its key has no place in this file: name the variable or the file that holds it."
        raise BadInput(
            f"{file}: the judge {name} has an unknown setting {unknown[0]!r}. Known are {', '.join(_OF_A_JUDGE)}."
            + (further if "key" in unknown[0] else "")
        )
    if not told.get("model"):
        raise BadInput(f"{file}: the judge {name} needs the name of its model, as its endpoint knows it.")
    return Judge(name, _endpoint(name, told.get("url", ""), file), *(told.get(one, "") for one in _OF_A_JUDGE[1:]))


def _endpoint(name: str, url: str, file: Path) -> str:
    """Without the path that all of them have. It holds no key: it is shown on pages and kept with runs."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f'{file}: the judge {name} needs an url such as "https://judge.example.org", not {url!r}.')
    if parts.username or parts.password or parts.query:
        raise BadInput(
            f"{file}: the url of the judge {name} may hold no name, password or query, since it is shown on pages and "
            "kept with runs. Name its key by key_env or key_file."
        )
    return url.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")


def _table(given: Mapping[str, Any], name: str, example: str, file: Path) -> dict[str, Any]:
    table = given.get(name, {})
    if not isinstance(table, dict):
        raise BadInput(f"{file}: {name} is a table, {example}, not {table!r}.")
    return dict(table)


def _refuse_name(name: str, what: str, file: Path) -> None:
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{file}: {name!r} cannot name a {what}. Use letters, digits, dots, dashes and underscores, 60 at most."
        )
