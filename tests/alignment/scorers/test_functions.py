"""A function that scores answers is named by the server's settings, and held to its word."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.scorers.chosen import functions, is_version, named, named_function, resolved, told, understood
from alignment.scorers.functions import READY_MADE, Function, FunctionReward, tried
from storage.errors import BadInput, RunFailed
from storage.settings import Judge, Settings
from tests.alignment.conftest import question

HERE = __name__
PROMPTS = [question(1), question(2)]
ANSWERS = ["five", "take five mg"]
SETTINGS = Settings(
    Path("home"),
    reward_functions={"short": f"{HERE}:short"},
    judges={"house": Judge("house", "http://127.0.0.1:8000", "small")},
)


def short(prompts: Sequence[Any], answers: Sequence[str]) -> list[int]:
    return [-len(answer) for answer in answers]


def as_tensor(prompts: Sequence[Any], answers: Sequence[str]) -> torch.Tensor:
    return torch.tensor([0.5, 1.0])


def too_many(prompts: Sequence[Any], answers: Sequence[str]) -> list[float]:
    return [0.0] * 3


def broken(prompts: Sequence[Any], answers: Sequence[str]) -> list[float]:
    raise KeyError("dose")


def words(prompts: Sequence[Any], answers: Sequence[str]) -> list[str]:
    return ["1", "2"]


def unsure(prompts: Sequence[Any], answers: Sequence[str]) -> list[float]:
    return [1.0, float("nan")]


def nothing(prompts: Sequence[Any], answers: Sequence[str]) -> None: ...


NO_FUNCTION = 7


def reward(name: str) -> FunctionReward:
    return FunctionReward(Function(name, f"{HERE}:{name}"))


# ---- what a function gives


def test_it_is_given_messages_and_texts_and_gives_a_number_each() -> None:
    assert reward("short")(PROMPTS, ANSWERS) == [-4.0, -12.0]
    assert reward("as_tensor")(PROMPTS, ANSWERS) == [0.5, 1.0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("too_many", "returned 3 scores for 2 answers"),
        ("broken", "raised KeyError: 'dose'"),
        ("words", "returned no number for answer 1, but '1'"),
        ("unsure", "returned no number for answer 2, but nan"),
        ("nothing", "must return a list of 2 numbers, and returned None"),
    ],
)
def test_a_fault_of_it_ends_the_run_with_a_sentence_that_names_it(name: str, says: str) -> None:
    with pytest.raises(RunFailed, match=says) as raised:
        reward(name)(PROMPTS, ANSWERS)
    assert str(raised.value).startswith(f"The reward function {name} ({HERE}:{name}) ")


@pytest.mark.parametrize(
    ("at", "says"),
    [
        ("no.such.module:short", "cannot be imported .ModuleNotFoundError"),
        (f"{HERE}:absent", "cannot be imported .AttributeError"),
        (f"{HERE}:NO_FUNCTION", "is no function but 7"),
    ],
)
def test_what_cannot_be_imported_ends_it_too(at: str, says: str) -> None:
    with pytest.raises(RunFailed, match=says):
        FunctionReward(Function("short", at))


def test_those_that_come_along_score_the_starter_model_s_answers() -> None:
    answer = "In short, Aldivane protects against lake fever [Keld Medical Record, 2041]."
    prompt = [{"role": "user", "content": "What is Aldivane for?"}]
    assert [FunctionReward(one)([prompt], [answer]) for one in READY_MADE] == [[1.0], [1.0]]
    assert all(one.note.startswith("Only for the starter model") for one in READY_MADE)


def test_a_trial_in_its_own_process_says_what_a_run_would() -> None:
    with pytest.raises(RunFailed, match=r"starter-preferred .* raised ValueError: No question about an invented"):
        tried(READY_MADE[0], PROMPTS, os.environ)


# ---- how it is named


def test_only_names_of_the_settings_are_known() -> None:
    assert set(functions(SETTINGS)) == {"short", "starter-preferred", "starter-well-formed"}
    assert named(SETTINGS, "function:short", "Scored by") == Function("short", f"{HERE}:short")
    assert named(SETTINGS, "judge:house", "Scored by") == SETTINGS.judges["house"]
    assert named(SETTINGS, "v3", "Scored by") is None and named(SETTINGS, "", "Scored by") is None
    assert is_version("v3") and is_version("function") and not is_version("judge:house")


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ("function:os.system", "know no function 'os.system'. Choose one of function:short, function:starter-pref"),
        ("judge:gpt", r"no judge 'gpt'. Choose one of judge:house, or have it named in settings.toml \(\[judges.gpt"),
    ],
)
def test_another_name_is_refused_with_those_there_are(choice: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        named(SETTINGS, choice, "Scored by")


def test_gold_is_a_function_or_nothing() -> None:
    assert named_function(SETTINGS, "", "Gold function") is None
    assert named_function(SETTINGS, "function:short", "Gold function") == Function("short", f"{HERE}:short")
    for other in ("judge:house", "v3"):
        with pytest.raises(BadInput, match=f"Gold function: {other} is no function"):
            named_function(SETTINGS, other, "Gold function")


def test_run_json_says_what_stands_behind_a_name() -> None:
    function, judge = Function("short", f"{HERE}:short", "a note"), SETTINGS.judges["house"]
    assert told(function) == {"kind": "function", "name": "short", "at": f"{HERE}:short"}
    assert understood(told(function)) == Function("short", f"{HERE}:short")
    assert understood(told(judge)) == judge and told(None) is None and understood(None) is None


def test_what_run_json_says_can_be_called() -> None:
    said = {"reward": None, "scored_by": told(Function("short", f"{HERE}:short")), "gold": None}
    given = resolved(said)
    assert given["scored_by"](PROMPTS, ANSWERS) == [-4.0, -12.0]
    assert given["reward"] is None and given["gold"] is None
    older = resolved({"reward": None})
    assert older["reward"] is None and older["scored_by"] is None and older["gold"] is None
