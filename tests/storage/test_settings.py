from __future__ import annotations

from pathlib import Path

import pytest

from storage import settings
from storage.errors import BadInput


def write(home: Path, text: str) -> dict[str, str]:
    (home / "settings.toml").write_text(text)
    return {"PLUMBLINE_HOME": str(home)}


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    found = settings.read({"PLUMBLINE_HOME": str(tmp_path)})

    assert (found.port, found.default_role, dict(found.roles)) == (settings.PORT, "engineer", {})


def test_file_and_environment_are_read(tmp_path: Path) -> None:
    environment = write(tmp_path, 'port = 8000\ndefault_role = "labeler"\n[roles]\nines = "lead"\n')

    assert settings.read(environment).port == 8000
    assert settings.read({**environment, "PLUMBLINE_PORT": "9000"}).port == 9000
    assert settings.read(environment).roles == {"ines": "lead"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("port = [", "cannot be read"),
        ('ray_address = "127.0.0.1:8265"', "ray_address is the address of a Ray dashboard"),
        ('colour = "red"', "'colour'"),
        ('port = "many"', "'many'"),
        ('default_role = "queen"', "'queen'"),
        ('[roles]\nines = "king"', "'king'"),
        ('roles = ["ines"]', "table of names"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        settings.read(write(tmp_path, text))


def test_the_address_of_a_cluster_ends_without_a_slash(tmp_path: Path):
    write(tmp_path, 'ray_address = "http://10.0.0.1:8265/"\n')
    assert settings.read_home(tmp_path).ray_address == "http://10.0.0.1:8265"
    assert settings.read_home(tmp_path / "elsewhere").ray_address == ""
