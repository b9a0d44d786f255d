"""What a child process gets of the environment: no keys but its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.endpoints import Endpoint, Judge, key_of
from storage.errors import EngineRefused
from storage.keys import ENGINE_KEY, SAMPLING_KEY, key_in, names_of_keys, without_any_key
from storage.settings import Settings

HOUSE = "https://house.example.org"


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "OPENAI_API_KEY", "OPENAI_KEY_EU", "AWS_ACCESS_KEY_ID", "SSH_KEYS", "OPENAI_APIKEY", "key"),
        *("HOUSE_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS", "SECRET_OF_THE_HOUSE", "PGPASSWORD", "DB_PASSWD"),
    ],
)
def test_what_is_called_a_key_anywhere_in_its_name_is_left_out(name: str):
    assert without_any_key({name: "very-secret", "HOME": "/home/eve"}) == {"HOME": "/home/eve"}


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "VLLM_MAX_TOKENS_PER_STEP", "KEYBOARD", "MONKEY", "PATH"])
def test_what_only_sounds_like_a_key_stays(name: str):
    assert without_any_key({name: "1"}) == {name: "1"}


def test_what_the_settings_name_as_a_key_is_left_out_whatever_it_is_called():
    settings = Settings(
        Path("home"),
        judges={"house": Judge("house", HOUSE, "big", key_env="JUDGE_PASS")},
        endpoints={"teacher": Endpoint("teacher", HOUSE, "big", key_env="TEACHER")},
    )
    named = names_of_keys(settings)
    assert {"JUDGE_PASS", "TEACHER", ENGINE_KEY, SAMPLING_KEY} <= named
    assert without_any_key({"JUDGE_PASS": "a", "TEACHER": "b", "LANG": "C"}, named) == {"LANG": "C"}


def test_a_key_is_read_without_the_space_around_it() -> None:
    assert key_in("HOUSE", {"HOUSE": " sk-1\n"}) == "sk-1"
    assert key_in("HOUSE", {}) == ""


@pytest.mark.parametrize("given", ["sk-1\nsk-2", "sk-\u00e9\u00e9", "sk-1 sk-2", "sk-\x07"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(given: str) -> None:
    with pytest.raises(EngineRefused, match="the variable HOUSE") as refused:
        key_in("HOUSE", {"HOUSE": given})

    assert "sk-" not in str(refused.value)


@pytest.mark.parametrize("key_file", ["~nobody-here/key", "/tmp/a\0b"])
def test_a_path_of_a_key_that_is_none_is_refused(key_file: str) -> None:
    with pytest.raises(EngineRefused, match="key of the endpoint house cannot be read"):
        key_of(Endpoint("house", HOUSE, "big", key_file=key_file))
