"""Endpoints as settings.toml names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import settings
from storage.endpoints import Endpoint, key_of
from storage.errors import BadInput, EngineRefused
from storage.model_versions import answerer_id


def write(home: Path, text: str) -> dict[str, str]:
    home.mkdir(exist_ok=True)
    (home / "settings.toml").write_text(text)
    return {"PLUMBLINE_HOME": str(home)}


def test_an_endpoint_is_named_with_its_address_its_model_and_where_its_key_is(tmp_path: Path) -> None:
    text = '[endpoints.house]\nurl = "https://models.example.org/v1/"\nmodel = "big"\nkey_file = "~/house.key"\n'
    text += '[endpoints.near]\nurl = "https://gpu.house"\nmodel = "small"\ninside = true\n'

    found = settings.read(write(tmp_path, text)).endpoints

    far = Endpoint("house", "https://models.example.org", "big", key_file="~/house.key")
    assert found == {"house": far, "near": Endpoint("near", "https://gpu.house", "small", inside=True)}
    assert [answerer_id(one, {}) for one in found.values()] == ["outside: house (big)", "inside: near (small)"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('endpoints = "https://a.org"', r"endpoints is a table, \[endpoints.house\]"),
        ('[endpoints."a b"]\nurl = "https://a.org"\nmodel = "big"', "'a b' cannot name an endpoint"),
        ('[endpoints.house]\nurl = "https://a.org"', "the endpoint house needs the name of its model"),
        ('[endpoints.house]\nmodel = "big"\nurl = "a.org"', "the endpoint house needs an url such as"),
        ('[endpoints.house]\nmodel = "big"\nurl = "https://me:sk@a.org"', "may hold no name, password or query"),
        ('[endpoints.house]\nmodel = "big"\nurl = "https://a.org"\nkey = "sk"', "key has no place in this file"),
        ('[endpoints.house]\nmodel = "big"\nurl = "https://a.org"\ncriteria = "x"', "unknown setting 'criteria'"),
        ('[endpoints.house]\nmodel = "big"\nurl = "https://a.org"\ninside = "yes"', "inside .* is true or false"),
        ('[endpoints.house]\nmodel = "big"\nurl = "https://a.org"\nkey_env = "sk-Abc"', "no name of a variable"),
        ('[judges.house]\nmodel = "big"\nurl = "https://a.org"\nkey_env = "sk_aB3dE6gH9jK2mN5pQ8"', "no name of a var"),
        ('[endpoints.house]\nmodel = "big"\nurl = "https://a.org"\nkey_file = "sk-aB3dE6gH9jK2mN5pQ8"', "like a key"),
    ],
)
def test_a_wrong_endpoint_is_named_and_no_key_is_shown(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadInput, match=named) as refused:
        settings.read(write(tmp_path, text))
    assert "sk" not in str(refused.value)


@pytest.mark.parametrize("name", ["HOUSE_KEY", "_key2", "AZURE_OPENAI_API_KEY_EU1"])
def test_names_that_people_give_to_variables_are_taken(tmp_path: Path, name: str) -> None:
    text = f'[endpoints.house]\nurl = "https://a.org"\nmodel = "big"\nkey_env = "{name}"\n'
    assert settings.read(write(tmp_path, text)).endpoints["house"].key_env == name


def test_a_key_file_that_is_not_there_is_said_without_its_path() -> None:
    with pytest.raises(EngineRefused, match="cannot be read: No such file or directory") as refused:
        key_of(Endpoint("house", "https://a.org", "big", key_file="./sk-pasted/by/mistake"))
    assert "pasted" not in str(refused.value)
