"""How this Plumbline is set up: `settings.toml` in its home folder, and the environment. All of it has defaults.

    port = 7860
    default_role = "engineer"     # of a name that is not listed: on a laptop one person does everything
    ray_address = "http://127.0.0.1:8265"     # of the dashboard of a Ray cluster that runs may be sent to

    [roles]
    ines = "lead"
    tom = "labeler"

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

from storage.errors import BadInput
from storage.records import ROLES, Role

PORT = 7860
_KNOWN = {"port", "default_role", "roles", "ray_address"}


@dataclass(frozen=True)
class Settings:
    """Where things are kept and who may do what. Only this machine can reach the app: it listens on loopback."""

    home: Path
    port: int = PORT
    default_role: Role = "engineer"
    roles: Mapping[str, Role] = field(default_factory=dict)
    ray_address: str = ""

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
    return Settings(home, port, role, roles, _address(given.get("ray_address", ""), file))


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


def _role(value: object, file: Path) -> Role:
    for role in ROLES:
        if value == role:
            return role
    raise BadInput(f"{file}: {value!r} is not a role. Roles are {', '.join(ROLES)}.")
