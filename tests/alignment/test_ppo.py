"""PPO on one set of weights: four roles that do not disturb each other, and a policy that learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.methods.base import Inputs, Messages, Parent, Stopped
from alignment.methods.ppo import PPO
from alignment.methods.ppo_backbone import POLICY, REFERENCE, Backbone, Row, drawn_from, in_passes
from alignment.methods.ppo_training import PPOTraining
from alignment.run_directory import newest_checkpoint
from labeling.engines import reward_scorer
from storage.errors import BadInput, RunFailed
from tests.alignment import tiny_model
from tests.alignment.conftest import question
from tests.alignment.in_process import Heard, same_bits, train
from tests.alignment.test_reward_model import Trained

PROMPTS = [{"prompt": question(number), "prompt_id": f"p{number}"} for number in range(20)]
SETTINGS: dict[str, Any] = {
    "most_steps": 8,
    "batch_size": 8,
    "longest_answer": 12,
    "held_out_share": 0.2,
    "evaluations": 2,
    "learning_rate": 1e-2,
    "clip": 0.2,  # eight steps are few
    "layers": "all",
    "no_end_penalty": 0.0,
    "beta": 0.01,
}


def likes_e(prompts: list[Messages], texts: list[str]) -> list[float]:
    return [float(text.count("e")) for text in texts]


class Listening(Heard):
    """Keeps the answers along the way too."""

    sample_prompts = (question(1),)


@pytest.fixture(scope="module")
def parent(tiny_base: Path) -> Parent:
    return Parent("v0", str(tiny_base), None, tiny_model.TEMPLATE)


@pytest.fixture(scope="module")
def adapted(parent: Parent, tmp_path_factory: pytest.TempPathFactory) -> Parent:
    """A version with an adapter, as SFT leaves one."""
    folder = tmp_path_factory.mktemp("sft") / "run"
    train("sft", parent, folder, epochs=1)
    return replace(parent, id="v1", adapter_path=str(folder / "model"))


@pytest.fixture(scope="module")
def reward(parent: Parent, tmp_path_factory: pytest.TempPathFactory) -> Parent:
    run = Trained(tmp_path_factory.mktemp("reward") / "run", parent)
    return Parent("v2", parent.base_path, str(run.model), parent.template)


def prepared(parent: Parent, folder: Path, reward: Parent | None = None, **settings: Any) -> PPOTraining:
    given = Inputs(PROMPTS, parent, folder, reward=reward, scored_by=None if reward else likes_e)
    return PPOTraining(PPO(**{**SETTINGS, **settings}), given, Heard())


def some_rows(backbone: Backbone, number: int = 6) -> list[Row]:
    torch.manual_seed(1)
    return backbone.sample([[1, 70 + place, *range(60, 60 + place)] for place in range(number)], 10, 1.0)


# ---- it learns


@pytest.fixture(scope="module")
def learned(parent: Parent, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float], Listening]:
    folder, report = tmp_path_factory.mktemp("ppo") / "run", Listening()
    inputs = Inputs(PROMPTS, parent, folder, scored_by=likes_e, gold=lambda prompts, texts: [1.0] * len(texts))
    return folder, dict(PPO(**SETTINGS).train(inputs, report)), report


def test_the_reward_rises_by_a_function(learned: tuple[Path, dict[str, float], Listening]):
    _, final, _ = learned
    assert final["eval_reward"] > final["first_eval_reward"] + 0.5
    assert final["learned_rows"] == 16 and final["held_out_rows"] == 4
    assert PPO(**SETTINGS).verdict(final).startswith("the reward rose from ")


def test_it_is_followed_as_any_run_with_the_curves_of_its_own(learned: tuple[Path, dict[str, float], Listening]):
    _, _, report = learned
    named = {name for _, values in report.points for name in values}
    assert {"reward", "kl", "entropy", "clip_fraction", "value_loss", "approx_kl", "gold", "eval_reward"} <= named
    assert {"completions/mean_length", "completions/clipped_ratio", "grad_norm", "learning_rate"} <= named
    assert [step for step, values in report.points if "loss" in values] == list(range(1, 9))
    assert [step for step, _ in report.sampled] == [0, 2, 4, 6, 8]


def test_the_first_minibatch_has_ratio_one_and_no_drift(parent: Parent, tmp_path: Path):
    training = prepared(parent, tmp_path / "run", batch_size=32, accumulate=1, epochs=1)
    told = training.step(PROMPTS[:16] * 2)
    assert told["ratio"] == pytest.approx(1, abs=1e-4) and told["approx_kl"] == pytest.approx(0, abs=1e-6)
    assert told["kl"] == pytest.approx(0, abs=1e-4) and told["clip_fraction"] == 0


def test_only_the_policy_and_the_value_move(adapted: Parent, reward: Parent, tmp_path: Path):
    # given a parent that is an adapter, and a reward model: three adapters on one backbone
    training = prepared(adapted, tmp_path / "run", reward)
    before = {name: weight.clone() for name, weight in training.backbone.model.named_parameters()}
    # when it learns
    training.step(PROMPTS[:16] * 2)
    # then nothing else has moved
    after = dict(training.backbone.model.named_parameters())
    moved = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert moved and all(f".{POLICY}." in name for name in moved)
    assert training.backbone.value_head.weight.abs().sum() > 0


# ---- four roles on one backbone


def test_the_reward_adapter_scores_as_the_reward_model_does(parent: Parent, reward: Parent, tmp_path: Path):
    training = prepared(parent, tmp_path / "run", reward)
    rows = some_rows(training.backbone)
    theirs = reward_scorer.load(reward.base_path, reward.adapter_path).score([row.tokens.tolist() for row in rows])
    assert training.backbone.scores(rows).tolist() == pytest.approx(theirs, abs=1e-4)


def test_a_reward_adapter_that_was_changed_since_is_refused(parent: Parent, reward: Parent, tmp_path: Path):
    training = prepared(parent, tmp_path / "run", reward)
    head = training.backbone.reward_head
    assert head is not None
    head += 0.5
    with pytest.raises(RunFailed, match="scores answers otherwise here than when it was trained"):
        training.step(PROMPTS[:16] * 2)


def test_the_reference_of_an_adapter_is_that_adapter(adapted: Parent, tmp_path: Path):
    training = prepared(adapted, tmp_path / "run")
    rows, backbone = some_rows(training.backbone), training.backbone
    at_first = backbone.read_all(rows, 1.0, REFERENCE)[0]
    assert torch.allclose(at_first, backbone.read_all(rows, 1.0, POLICY)[0], atol=1e-5)
    with backbone.model.disable_adapter():
        of_the_base = backbone.read(rows, 1.0)[0]
    assert not torch.allclose(at_first, of_the_base, atol=1e-2)


def test_sampling_says_the_log_probabilities_that_reading_says(adapted: Parent, tmp_path: Path):
    """Of prompts of different lengths and answers that end at different places."""
    backbone = prepared(adapted, tmp_path / "run").backbone
    rows = some_rows(backbone)
    read, _, values = backbone.read(rows, 1.0)
    for place, row in enumerate(rows):
        own = slice(len(row.answer))
        assert torch.allclose(read[place, own], row.sampled, atol=1e-4)
        assert torch.allclose(values[place, own], row.value, atol=1e-4)


def test_log_probabilities_are_those_of_the_model_itself(adapted: Parent, tmp_path: Path):
    backbone = prepared(adapted, tmp_path / "run").backbone
    row = some_rows(backbone)[3]
    logits = backbone.model(input_ids=row.tokens[None]).logits[0, row.asked - 1 : -1] / 0.7
    theirs = logits.log_softmax(-1).gather(1, row.answer[:, None]).squeeze(1)
    assert torch.allclose(backbone.read([row], 0.7)[0][0], theirs, atol=1e-4)


def test_words_are_drawn_by_their_chance_and_never_one_without():
    # given three words that have a chance, between, before and behind words that have none
    torch.manual_seed(0)
    chances = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0]).expand(20_000, -1)
    # when very many are drawn
    counted = torch.bincount(drawn_from(chances).squeeze(1), minlength=6) / 20_000
    # then their shares are the chances, within four standard errors of the widest
    assert counted[[0, 2, 5]].sum() == 0
    assert torch.allclose(counted, chances[0], atol=4 * (0.25 / 20_000) ** 0.5)


def test_an_answer_ends_at_its_first_end(parent: Parent, tmp_path: Path):
    backbone = prepared(parent, tmp_path / "run").backbone
    backbone.ends = torch.arange(0, 320, 3)
    rows = some_rows(backbone, 40)
    ended = [row for row in rows if int(row.answer[-1]) % 3 == 0]
    assert len(ended) > 20
    assert all(int(token) % 3 for row in rows for token in row.answer[:-1])
    assert all(len(row.answer) == 10 for row in rows if int(row.answer[-1]) % 3)


def test_with_upper_layers_only_passes_start_in_the_middle_and_give_the_same(parent: Parent, tmp_path: Path):
    # given adapters in the upper half, trained a little
    training = prepared(parent, tmp_path / "run", layers="upper half")
    training.step(PROMPTS[:16] * 2)
    backbone = training.backbone
    assert backbone.shared == 1
    # when rows are read from the hidden states that sampling left, and from the beginning
    rows = some_rows(backbone)
    assert all(row.lower is not None and len(row.lower) == len(row.tokens) for row in rows)
    shared = backbone.read_all(rows, 1.0, POLICY)[0]
    whole = backbone.read_all([replace(row, lower=None) for row in rows], 1.0, POLICY)[0]
    # then both say the same, and something was learned at all
    assert torch.allclose(shared, whole, atol=1e-5)
    assert not torch.allclose(shared, backbone.read_all(rows, 1.0, REFERENCE)[0], atol=1e-4)


def test_a_reward_model_of_all_layers_is_read_from_the_beginning(parent: Parent, reward: Parent, tmp_path: Path):
    backbone = prepared(parent, tmp_path / "run", reward, layers="upper half").backbone
    rows = some_rows(backbone)
    theirs = reward_scorer.load(reward.base_path, reward.adapter_path).score([row.tokens.tolist() for row in rows])
    assert backbone.scores(rows).tolist() == pytest.approx(theirs, abs=1e-4)


def test_passes_hold_rows_of_like_length_and_every_row_once():
    lengths = [900, 10, 250, 12, 240, 11]
    rows = [Row.of([1] * length, torch.device("cpu")) for length in lengths]
    assert in_passes(rows) == [[1, 5, 3], [4, 2], [0]]


# ---- stop, resume, refuse


def test_a_run_that_was_stopped_ends_in_the_same_adapter(parent: Parent, reward: Parent, tmp_path: Path):
    # given a run whose penalty adapts, and one that was not stopped
    method = PPO(**{**SETTINGS, "kl_target": 1.0})
    whole, parts = (Inputs(PROMPTS, parent, tmp_path / name, reward=reward) for name in ("whole", "parts"))
    method.train(whole, Heard())
    # when it is stopped after three iterations, and goes on
    with pytest.raises(Stopped):
        method.train(parts, Heard(stop_at=3))
    method.train(replace(parts, checkpoint=newest_checkpoint(parts.folder)), Heard())
    # then not a bit differs
    assert same_bits(tmp_path / "whole" / "model", tmp_path / "parts" / "model")


def test_without_a_reward_it_does_not_start(parent: Parent, tmp_path: Path):
    with pytest.raises(BadInput, match="none was chosen"):
        PPO(**SETTINGS).train(Inputs(PROMPTS, parent, tmp_path), Heard())


def test_several_processes_are_refused():
    with pytest.raises(BadInput, match="PPO runs in one"):
        PPO().refuse_processes(2)
