"""Endpoints as settings.toml names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import settings
from storage.endpoints import Endpoint
from storage.errors import BadInput
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
    assert [answerer_id(one) for one in found.values()] == ["outside: house (big)", "inside: near (small)"]


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
    ],
)
def test_a_wrong_endpoint_is_named_and_no_key_is_shown(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadInput, match=named) as refused:
        settings.read(write(tmp_path, text))
    assert "sk" not in str(refused.value)
