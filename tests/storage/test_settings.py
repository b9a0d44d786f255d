from __future__ import annotations

from pathlib import Path

import pytest

from storage import settings
from storage.engine_settings import EngineSettings
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
        ('sampling_server = "127.0.0.1:8000"', "sampling_server is the address of a model server"),
        ('sampling_server = "http://me:secret@host"', "Put its key into the variable PLUMBLINE_SAMPLING_KEY"),
        ('engine = "vlm"', "is one of vllm, embedded, or the address"),
        ('engine = "http://me:secret@host"', "variable PLUMBLINE_ENGINE_KEY"),
        ('engine_arguments = "--max-loras 2"', "list of texts"),
        ("engine = []", "or a list of addresses"),
        ('engine = ["http://a", "http://a/"]', "the same server twice"),
        ('engine = ["http://a", "vllm"]', "or a list of addresses, not 'vllm'"),
        ('[pinned]\nv3 = "http://a"', "v3 is pinned to http://a, which is none of the servers"),
        ('serving_and_training = "never"', '"in turns" or "side by side"'),
        ('engine = "http://a"\nserving_and_training = "in turns"', "are never put to sleep"),
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


def test_the_address_of_a_sampling_server_ends_before_the_path_that_all_have(tmp_path: Path):
    write(tmp_path, 'sampling_server = "http://10.0.0.1:8000/v1/"\n')
    assert settings.read_home(tmp_path).sampling_server == "http://10.0.0.1:8000"
    assert settings.read_home(tmp_path / "elsewhere").sampling_server == ""


def test_who_answers_is_chosen_in_the_file_or_the_environment(tmp_path: Path):
    environment = write(tmp_path, 'engine = "vllm"\nengine_arguments = ["--max-loras", "2"]\n')
    found = settings.read(environment).answering
    assert (found.engine, found.arguments, found.urls) == ("vllm", ("--max-loras", "2"), ())
    given = settings.read({**environment, "PLUMBLINE_ENGINE": "http://10.0.0.1:8000/v1, http://10.0.0.2:8000"})
    assert given.answering.urls == ("http://10.0.0.1:8000", "http://10.0.0.2:8000") and not given.answering.engine
    assert settings.read_home(tmp_path / "elsewhere", {}).answering == EngineSettings()


def test_several_servers_are_a_list_and_a_version_may_be_pinned_to_one(tmp_path: Path):
    urls = '["http://a:8000/v1", "http://b:8000/"]'
    found = settings.read(write(tmp_path, f'engine = {urls}\n[pinned]\nv3 = "http://b:8000"\n')).answering
    assert found.urls == ("http://a:8000", "http://b:8000") and found.pinned == {"v3": "http://b:8000"}


@pytest.mark.parametrize(("said", "turns"), [("in turns", True), ("side by side", False)])
def test_serving_and_training_may_take_turns(tmp_path: Path, said: str, turns: bool):
    assert settings.read(write(tmp_path, f'serving_and_training = "{said}"')).answering.in_turns is turns
    assert settings.read_home(tmp_path / "elsewhere", {}).answering.in_turns is None


# ---- what may score answers


def test_functions_and_judges_are_read(tmp_path: Path):
    # given a file with one of each, and a function in the environment
    environment = write(
        tmp_path,
        '[reward_functions]\nshort = "house.rewards:short"\n'
        '[judges.house]\nurl = "https://judge.example.org/v1/"\nmodel = "big"\nkey_env = "JUDGE_KEY"\n',
    )
    more = {"PLUMBLINE_REWARD_FUNCTIONS": "polite = house.rewards:polite, short=house.better:short"}
    # then the judge's address is without the path that all have, and the environment wins
    found = settings.read({**environment, **more})
    assert found.judges == {"house": settings.Judge("house", "https://judge.example.org", "big", key_env="JUDGE_KEY")}
    assert found.reward_functions == {"short": "house.better:short", "polite": "house.rewards:polite"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('reward_functions = "short"', "reward_functions is a table"),
        ('[reward_functions]\nshort = "rm -rf /"', "The reward function short .* not 'rm -rf /'"),
        ('[reward_functions]\n"a b" = "house.rewards:short"', "'a b' cannot name a reward function"),
        ('[judges]\nhouse = "https://judge.example.org"', "a judge is a table of texts"),
        ('[judges.house]\nurl = "https://judge.example.org"', "needs the name of its model"),
        ('[judges.house]\nmodel = "big"\nurl = "judge.example.org"', "needs an url such as"),
        ('[judges.house]\nmodel = "big"\nurl = "https://me:secret@judge.example.org"', "may hold no name, password"),
        ('[judges.house]\nmodel = "big"\nurl = "https://a.org"\napi_key = "sk"', "key has no place in this file"),
    ],
)
def test_a_wrong_scorer_is_named(tmp_path: Path, text: str, named: str):
    with pytest.raises(BadInput, match=named) as refused:
        settings.read(write(tmp_path, text))
    assert "secret" not in str(refused.value)
