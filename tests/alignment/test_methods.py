"""What is listed explains itself, refuses early, and can be drawn as a form without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from alignment.methods import METHODS, method_named
from alignment.methods.base import Method, TunedMethod, gap_verdict, margin_verdict
from alignment.methods.dpo import DPO
from alignment.methods.kto import DESIRABLE_TO_UNDESIRABLE, KTO, spread
from alignment.methods.ppo import PPO
from storage.errors import NotEnoughFeedback, NotFound


@pytest.mark.parametrize("method", METHODS)
def test_each_method_explains_itself(method: type[Method]):
    assert method.__doc__ and len(method.__doc__) > 100
    assert method.title and method.rows_are and method.needs > 0
    for name, field in method.model_fields.items():
        assert field.title, name
        assert field.description and len(field.description) > 20, name


@pytest.mark.parametrize("method", METHODS)
def test_defaults_validate_and_survive_json(method: type[Method]):
    settings = method()
    assert method.model_validate_json(settings.model_dump_json()) == settings


def test_an_unknown_method_names_those_there_are():
    with pytest.raises(NotFound, match="pretrain, sft, reward_model, ppo, dpo, kto, orpo, rloo"):
        method_named("magic")


def test_listing_the_methods_imports_no_torch():
    code = "import sys, alignment.methods, alignment.run_queue, alignment.progress; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_steps_are_batches_times_passes():
    # 10 rows in batches of 4 are 3 batches; 2 batches a step are 2 steps; 3 passes are 6
    assert DPO(batch_size=4, accumulate=2, epochs=3).steps(10) == 6


def test_too_few_rows_are_refused_with_the_way_out():
    with pytest.raises(NotEnoughFeedback, match=r"needs at least 16 pairs.*; there are 12"):
        DPO.refuse_too_little(12, {})


def test_kto_wants_both_thumbs():
    with pytest.raises(NotEnoughFeedback, match=r"thumbs-up.*; there are 0"):
        KTO.refuse_too_little(100, {"desirable": 0, "undesirable": 100})


def test_kto_weights_follow_the_counts_unless_they_are_given():
    up, down = KTO().weights(desirable=50, undesirable=150)
    assert up * 50 == pytest.approx(DESIRABLE_TO_UNDESIRABLE * down * 150)
    assert KTO(desirable_weight=3, undesirable_weight=2).weights(50, 150) == (3, 2)


def test_the_verdict_tells_nothing_learned_from_health_and_from_collapse():
    assert "next to nothing" in margin_verdict({"rewards/margins": 0.01}, beta=0.1)
    gained = "gained a margin of 0.41 (the average of the last fifth of the steps)."
    assert gained in margin_verdict({"rewards/margins": 0.41, "rewards/chosen": 0.2}, beta=0.1)
    assert "fallen apart" in margin_verdict({"rewards/margins": 7.0, "rewards/chosen": -1.0}, beta=0.1)
    assert "fallen apart" not in margin_verdict({"rewards/margins": 7.0, "rewards/chosen": 4.5}, beta=0.1)


def test_a_method_without_a_reference_is_judged_by_how_far_the_gap_grew():
    before = {"first_rewards/margins": -2.0, "first_nll_loss": 2.0}  # beta is 20: a gap of -0.1 a token
    assert "next to nothing" in gap_verdict({**before, "rewards/margins": -1.8, "nll_loss": 2.0}, beta=20)
    assert "went from -0.10 to 0.50 a token" in gap_verdict({**before, "rewards/margins": 10, "nll_loss": 1.9}, beta=20)
    assert "became unlikely" in gap_verdict({**before, "rewards/margins": 10, "nll_loss": 3.5}, beta=20)


@pytest.mark.parametrize("method", [method for method in METHODS if issubclass(method, TunedMethod)])
def test_what_is_proposed_depends_on_tuning_and_size_and_validates(method: type[TunedMethod]):
    small, large = method.proposed("balanced", "lora", 3_000_000), method.proposed("balanced", "lora", 7_000_000_000)
    full = method.proposed("thorough", "full", 7_000_000_000)
    assert small["learning_rate"] == method().learning_rate  # the measured one is the default
    assert small["learning_rate"] > large["learning_rate"] >= full["learning_rate"]
    assert method.model_validate(full).tuning == ("lora" if method is PPO else "full")  # one frozen backbone, for PPO


def test_kto_reads_both_labels_in_every_batch():
    rows = [{"number": number, "label": number < 10} for number in range(40)]
    read = spread(rows, seed=0)
    assert sorted(row["number"] for row in read) == list(range(40))
    for start in range(0, 40, 8):
        assert sum(row["label"] for row in read[start : start + 8]) == 2
    assert read != spread(rows, seed=1) and read == spread(rows, seed=0)
