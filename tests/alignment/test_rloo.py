"""RLOO moves towards what its reward model likes, and scores exactly the tokens that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from alignment.methods.base import Inputs, Parent
from alignment.methods.online import refuse_reward_model
from alignment.methods.rloo import RLOO
from storage import model_versions
from storage.errors import BadInput, RunFailed
from tests.alignment import tiny_model
from tests.alignment.conftest import Lab, question, said
from tests.alignment.test_reward_model import Notes, Trained, stopped_and_resumed

PROMPTS = [{"prompt": question(number), "prompt_id": f"p{number}"} for number in range(20)]
SETTINGS: dict[str, Any] = {
    "reward_model": "v1",
    "most_steps": 8,
    "batch_size": 16,
    "answers_per_prompt": 4,
    "longest_answer": 12,
    "held_out_share": 0.2,
    "evaluations": 2,
    "learning_rate": 1e-2,
    "beta": 0.0,
}


class Listening(Notes):
    """Keeps the answers along the way too: a policy speaks."""

    sample_prompts = (question(1),)

    def samples(self, step: int, texts: list[str]) -> None:
        self.lines.append({"step": step, "samples": float(len(texts))})


@pytest.fixture(scope="module")
def parent(tiny_base: Path) -> Parent:
    return Parent("v0", str(tiny_base), None, tiny_model.TEMPLATE)


@pytest.fixture(scope="module")
def reward(parent: Parent, tmp_path_factory: pytest.TempPathFactory) -> Parent:
    run = Trained(tmp_path_factory.mktemp("reward") / "run", parent)
    return Parent("v1", parent.base_path, str(run.model), parent.template)


# ---- training


@pytest.fixture(scope="module")
def trained(parent: Parent, reward: Parent, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Listening]:
    folder, report = tmp_path_factory.mktemp("rloo") / "run", Listening()
    final = RLOO(**SETTINGS).train(Inputs(PROMPTS, parent, folder, reward=reward), report)
    return folder / "model", final, report


def test_the_reward_rises(trained: tuple[Path, Any, Listening]):
    _, final, _ = trained
    assert final["eval_reward"] > final["first_eval_reward"]
    assert RLOO(**SETTINGS).verdict(final).startswith("the reward rose, counted in spreads")


def test_the_verdict_without_held_out_prompts_goes_by_the_rewards_of_training():
    assert "rose from -0.50 to 0.90" in RLOO().verdict({"first_reward": -0.5, "reward": 0.9})
    assert "did not rise from 0.10 to 0.00" in RLOO().verdict({"first_reward": 0.1, "reward": 0.0})


def test_the_curves_have_trls_names(trained: tuple[Path, Any, Listening]):
    """Signs of reward hacking are read from them: reward up with length, drift from the parent."""
    named = {name for line in trained[2].lines for name in line}
    assert {"reward", "completions/mean_length", "completions/clipped_ratio", "rewards/reward_model/mean"} <= named
    assert {"rewards/no_end/mean", "eval_reward", "eval_completions/mean_length", "samples"} <= named


def test_only_the_policy_is_saved(trained: tuple[Path, Any, Listening]):
    folder, _, _ = trained
    assert {"adapter_model.safetensors", "adapter_config.json", "base.json"} <= {file.name for file in folder.iterdir()}
    assert not (folder / "ref").exists() and not (folder / "reward.json").exists()


def test_stopped_and_resumed_it_is_the_same_to_the_bit(parent: Parent, reward: Parent, trained: Any, tmp_path: Path):
    """Stopped after an odd step it takes the even one too, because the answers to learn from are not kept."""
    resumed = stopped_and_resumed(RLOO(**SETTINGS), Inputs(PROMPTS, parent, tmp_path / "run", reward=reward))
    assert resumed.read_bytes() == (trained[0] / "adapter_model.safetensors").read_bytes()


def test_the_reference_is_the_parent(parent: Parent, reward: Parent, trained: Any, tmp_path: Path):
    """A child of an adapter begins with no drift, also where the adapter is far from its base."""
    report = Listening()
    child = Parent("v2", parent.base_path, str(trained[0]), parent.template)
    settings = {**SETTINGS, "beta": 0.05, "most_steps": 2, "iterations": 1, "held_out_share": 0.0}
    RLOO(**settings).train(Inputs(PROMPTS, child, tmp_path / "run", reward=reward), report)
    drifts = [line["kl"] for line in report.lines if "kl" in line]
    assert drifts[0] == pytest.approx(0, abs=1e-5) and len(drifts) == 2


def test_from_the_queue_pairs_become_a_scoring_version_and_prompts_a_better_policy(training_lab: Lab):
    lab = training_lab
    scoring = lab.follow_until(lab.start("reward_model", lab.freeze("preference", 32), learning_rate=3e-3))
    assert scoring.state == "succeeded", scoring.message
    reward = model_versions.get(lab.database, scoring.version_id or "")
    assert reward.kind == "reward_model" and "nobody knows how often it is right" in scoring.message  # none held out
    settings = {**SETTINGS, "reward_model": reward.id}
    learning = lab.follow_until(lab.start("rloo", lab.freeze("prompt_only", 20), **settings))
    assert learning.state == "succeeded", learning.message
    assert model_versions.get(lab.database, learning.version_id or "").kind == "policy"
    assert "The reward on held-out prompts went from" in learning.message


# ---- what is scored


def test_prompt_and_answer_are_scored_as_the_tokens_that_they_are(parent: Parent):
    from transformers import AutoTokenizer

    from alignment.methods.rloo_training import scores_of
    from labeling.engines.reward_scorer import Scale

    class Counting:
        """Scores a sequence by its length, and keeps it."""

        scale = Scale(mean=10.0, std=2.0)

        def score(self, sequences: list[list[int]]) -> list[float]:
            self.seen = sequences
            return [float(len(sequence)) for sequence in sequences]

    tokenizer: Any = AutoTokenizer.from_pretrained(parent.base_path)
    tokenizer.chat_template = parent.template
    scorer: Any = Counting()
    eos = tokenizer.eos_token_id
    written = [[40, 41, eos], [42, 43, 44, 45]]
    rewards = scores_of(scorer, tokenizer)(prompts=[question(1), question(2)], completion_ids=written, other=[1, 2])
    asked = [
        tokenizer.apply_chat_template(question(n), add_generation_prompt=True, return_dict=True)["input_ids"]
        for n in (1, 2)
    ]
    assert scorer.seen == [asked[0] + written[0], asked[1] + written[1]]
    assert rewards == [(len(sequence) - 10) / 2 for sequence in scorer.seen]


def test_an_answer_that_does_not_end_costs_the_penalty():
    from alignment.methods.rloo_training import penalty_of

    assert penalty_of(frozenset({2, 7}), 1.5)(completion_ids=[[5, 2], [5, 7], [5, 6]]) == [0.0, 0.0, -1.5]


def test_the_trained_reward_of_a_pair_is_what_rloo_gives_its_answers(parent: Parent, reward: Parent):
    """One way from messages to tokens in the reward model's training, another here: the scores agree."""
    from transformers import AutoTokenizer

    from alignment.methods.reward_training import answer_ids
    from alignment.methods.rloo_training import scores_of
    from labeling.engines.reward_scorer import load

    tokenizer: Any = AutoTokenizer.from_pretrained(parent.base_path)
    tokenizer.chat_template = parent.template
    scorer = load(reward.base_path, reward.adapter_path)
    answer = "take five mg"
    whole = scorer.score([answer_ids([*question(3), *said("assistant", answer)], tokenizer)])
    written = tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    given = scores_of(scorer, tokenizer)(prompts=[question(3)], completion_ids=[written])
    assert given == pytest.approx([scorer.scale.normalised(whole[0])], abs=1e-5)


# ---- what is refused


def test_without_a_reward_model_it_is_refused(parent: Parent, tmp_path: Path):
    with pytest.raises(BadInput, match="none was chosen"):
        RLOO().train(Inputs(PROMPTS, parent, tmp_path), Notes())  # type: ignore[arg-type]


def test_a_reward_model_that_reads_other_tokens_is_refused(parent: Parent, tmp_path: Path):
    from tests.labeling.engines.tiny_models import write_model

    other = Parent("v9", str(write_model(tmp_path / "other")), None, parent.template)
    with pytest.raises(BadInput, match=r"another tokenizer than the parent v0.*Train a reward model from v0"):
        refuse_reward_model(parent, other)


def test_a_reward_model_that_read_another_template_is_refused(parent: Parent, reward: Parent):
    other = Parent("v9", reward.base_path, reward.adapter_path, "{{ messages }}")
    with pytest.raises(BadInput, match="another prompt template"):
        refuse_reward_model(parent, other)
    refuse_reward_model(parent, reward)


def test_answers_that_do_not_fill_a_prompts_group_are_refused_with_a_number_that_does():
    with pytest.raises(ValidationError, match=r"must be a multiple of answers per prompt \(8\): 16, say"):
        RLOO(batch_size=12)


# ---- how long it is


def test_steps_are_those_that_the_trainer_takes():
    assert RLOO().steps(200) == 30
    assert RLOO(epochs=1).steps(12) == 6  # 3 batches of 4 prompts, 2 steps on each
    assert RLOO(epochs=1, accumulate=2).steps(19) == 4  # 2 batches of 8 prompts


def test_fewer_prompts_than_a_step_answers_are_refused(parent: Parent, reward: Parent, tmp_path: Path):
    settings = {**SETTINGS, "batch_size": 96}
    with pytest.raises(RunFailed, match="A step answers 24 prompts, and only 16 are learned from"):
        RLOO(**settings).train(Inputs(PROMPTS, parent, tmp_path / "run", reward=reward), Notes())  # type: ignore[arg-type]


def test_it_can_be_gone_on_from_only_where_new_answers_are_sampled():
    assert RLOO(iterations=2).whole_steps == 2


def test_presets_differ_in_steps():
    assert [RLOO.proposed(preset)["most_steps"] for preset in ("quick", "balanced", "thorough")] == [16, 30, 60]


def test_a_function_scores_in_place_of_a_reward_model(parent: Parent, tmp_path: Path):
    def likes_e(prompts: list[Any], texts: list[str]) -> list[float]:
        assert prompts[0][-1]["content"].startswith("what is the dose")
        return [float(text.count("e")) for text in texts]

    report = Notes()
    report.samples = lambda step, texts: None  # type: ignore[method-assign]
    inputs = Inputs(PROMPTS, parent, tmp_path / "run", scored_by=likes_e)
    final = RLOO(**{**SETTINGS, "no_end_penalty": 0.0}).train(inputs, report)  # type: ignore[arg-type]
    assert final["eval_reward"] > final["first_eval_reward"]
