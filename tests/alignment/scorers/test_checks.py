"""What is said before a run about what scores its answers: its cost, whether it works, what leaves this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alignment import memory
from alignment.methods.base import Parent
from alignment.methods.ppo import PPO
from alignment.methods.rloo import RLOO
from alignment.scorers import checks
from alignment.scorers.functions import READY_MADE
from storage.settings import Judge
from tests.alignment import tiny_model
from tests.alignment.conftest import question


@pytest.fixture
def parent(tiny_base: Path) -> Parent:
    return Parent("v1", str(tiny_base), None, tiny_model.TEMPLATE)


def test_what_cannot_be_had_is_refused_with_two_ways_out() -> None:
    found = checks.refused("There is no version v9.")

    assert (found.kind, found.detail) == ("bad", "There is no version v9.")
    assert [way.as_json() for way in found.ways_out] == [
        {"label": "Train a reward model first", "settings": {}, "method": "reward_model"},
        {"label": "Use DPO instead", "settings": {}, "method": "dpo"},
    ]


def test_a_reward_model_of_another_template_is_refused_where_tokens_are_scored(parent: Parent) -> None:
    other = Parent("rm", parent.base_path, "adapter", "{{ messages }}")

    assert checks.of_reward_model(RLOO(), parent, parent, "cpu").kind == "ok"
    assert checks.of_reward_model(RLOO(), parent, other, "cpu").kind == "bad"


def test_where_text_is_scored_it_costs_a_process_which_is_said(parent: Parent) -> None:
    whole = Parent("rm", parent.base_path, None, parent.template)

    found = checks.of_reward_model(PPO(), parent, whole, "cpu")

    assert (found.kind, found.title) == ("ok", "The reward model runs in a process of its own")
    assert found.figure == "rm, 0.5 GB"  # of libraries: the model itself is tiny
    assert "all of its weights were trained" in found.detail and "each iteration waits" in found.detail
    on_its_weights = Parent("rm", parent.base_path, "adapter", parent.template)
    assert "stands on the parent's own weights" in checks.of_reward_model(PPO(), parent, on_its_weights, "cpu").title


def test_memory_counts_it_apart_or_as_an_adapter() -> None:
    model = memory.Shape(75_000_000, 512, 8, 8, 8, 64, 1024, 32_000, tied=True)
    plan = memory.Plan(PPO(), model, memory.Load(8, 128), reward=model)
    apart = memory.Plan(PPO(), model, memory.Load(8, 128), reward=model, reward_apart=True)
    none = memory.Plan(PPO(), model, memory.Load(8, 128))

    found = [next(part for part in memory.estimate(one) if part.kind == "reward") for one in (plan, apart, none)]

    assert [part.name for part in found] == [
        "Reward model: its adapter",
        "Reward model, in a process of its own",
        "Reward model",
    ]
    adapter = 4 * memory.trained_parameters(PPO(), model) / memory.MB
    assert [part.mb for part in found] == [round(adapter), 480 + 4 * 75_000_000 // memory.MB, 0]


def test_a_function_is_tried_on_the_prompts_that_there_are() -> None:
    asked = [[{"role": "user", "content": "What is Aldivane for?"}]] * 7
    fits = checks.of_function(READY_MADE[0], asked, "reward_model", os.environ)
    assert (fits.kind, fits.figure) == ("ok", "starter-preferred")

    other = checks.of_function(READY_MADE[1], [question(1)], "gold", os.environ)
    assert other.kind == "bad" and "No question about an invented vaccine" in other.detail
    assert [way.settings for way in other.ways_out] == [{"gold": ""}]


def test_what_is_sent_where_is_said() -> None:
    away = checks.of_judge(Judge("house", "http://judge.example.org", "big"), 1600)
    assert (away.kind, away.title) == ("warn", "Prompts and answers leave this machine")
    assert "1,600 answers, each with its whole prompt: big at http://judge.example.org." in away.detail
    assert "not encrypted" in away.detail

    here = checks.of_judge(Judge("house", "http://127.0.0.1:8000", "small"), 1600)
    assert (here.kind, here.title) == ("ok", "Answers are judged on this machine")
    assert "encrypted" not in checks.of_judge(Judge("house", "https://judge.example.org", "big"), 0).detail


def test_a_key_that_is_not_there_is_seen_before_the_start() -> None:
    found = checks.of_judge(Judge("house", "https://judge.example.org", "big", key_env="NO_SUCH_KEY"), 0)
    assert (found.kind, found.title) == ("bad", "The key of the judge cannot be had")
    assert "in the variable NO_SUCH_KEY" in found.detail


def test_without_any_usable_row_no_prompt_is_called_confidential() -> None:
    outside = Judge("house", "https://judge.example.org", "big")
    assert checks.of_judge(outside, 0, rows=0).title == "Prompts and answers leave this machine"
    assert checks.of_judge(outside, 0, kept_here=2, rows=2).title == "Every prompt is confidential"
