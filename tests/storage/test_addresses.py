from __future__ import annotations

from pathlib import Path

import pytest

from storage.addresses import as_kept, has_secrets, http_parts, shown
from storage.errors import BadInput
from storage.settings import read_home


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        (" HTTPS://a.org/v1/ ", "https://a.org"),
        ("https://a.org/v1/chat/completions", "https://a.org"),
        ("https://a.org/gateway/v1", "https://a.org/gateway"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("http://House.example.ORG/Models", "http://house.example.org/Models"),
    ],
)
def test_an_address_is_kept_as_all_are(given: str, kept: str) -> None:
    parts = http_parts(given)

    assert parts is not None and not has_secrets(parts)
    assert as_kept(parts) == kept


@pytest.mark.parametrize(
    "given",
    [
        *("", "a.org", "ftp://a.org", "http://", "http://[::1", "http://a.org:abc", "http://a.org:80000"),
        *("http://a.org:0", "http://a b.org", "http://a..org", 7, None, ["http://a.org"]),
        *("http://1.2.3.999", "http://\u00fc_x.org", "http://a\\b.org", "http://me:pa/ss@a.org"),
    ],
)
def test_what_is_no_address_is_told_apart(given: object) -> None:
    assert http_parts(given) is None


@pytest.mark.parametrize(
    "given", ["http://me:sk-1@a.org", "http://me:sk-1@[::1", "me:sk-1@a.org", "ftp://a.org?key=sk-1"]
)
def test_what_is_secret_in_an_address_is_not_said(given: str) -> None:
    assert "sk-1" not in shown(given)


@pytest.mark.parametrize("port", ["abc", "80000"])
@pytest.mark.parametrize(
    "told",
    [
        'engine = "http://127.0.0.1:{port}"',
        'engine = ["http://127.0.0.1:{port}"]',
        'sampling_server = "http://127.0.0.1:{port}"',
        'ray_address = "http://127.0.0.1:{port}"',
        '[endpoints.house]\nmodel = "big"\nurl = "http://127.0.0.1:{port}"',
        '[judges.house]\nmodel = "big"\nurl = "http://127.0.0.1:{port}"',
    ],
)
def test_a_port_that_is_none_is_refused_by_the_name_of_its_field(told: str, port: str, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(told.format(port=port))
    field = "house" if "house" in told else told.split(" ")[0]

    with pytest.raises(BadInput, match=f"{field}.*127.0.0.1:{port}"):
        read_home(tmp_path, {})


@pytest.mark.parametrize(
    "told",
    [
        'serving_and_training = ["in turns"]',
        "serving_and_training = 7",
        'engine = "http://me:sk-1@[::1"',
        'engine = { api_key = "sk-1" }',
        'engine = "http://me:12/sk-1@a.org"',
        'engine = "http://me:x,sk-1@a.org"',
        'engine_arguments = ["--api-key=sk-1"]',
        'engine_arguments = "--api-key sk-1"',
        'judges = "sk-1"',
        'port = { key = "sk-1" }',
        'default_role = { key = "sk-1" }',
        'reward_functions = { short = ["sk-1"] }',
        '[endpoints.house]\nmodel = "big"\nurl = "https://a.org"\ninside = ["sk-1"]',
        "port = " + "9" * 5000,
        "engine = " + "[" * 20000,
        '[judges]\nhouse = "sk-1"',
        '[endpoints.house]\napi_key = ["sk-1"]',
        '[endpoints.house]\nmodel = "big"\nurl = "me:sk-1@a.org"',
    ],
)
def test_a_wrong_setting_is_refused_and_no_secret_is_repeated(told: str, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(told)

    with pytest.raises(BadInput) as refused:
        read_home(tmp_path, {})

    assert "sk-1" not in str(refused.value)


def test_settings_that_are_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").mkdir()

    with pytest.raises(BadInput, match=r"settings\.toml cannot be read"):
        read_home(tmp_path, {})
