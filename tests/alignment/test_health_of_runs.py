"""Each verdict on a run, provoked by a run of the tiny model that goes wrong in just that way.

The points are those that the run wrote into its own directory. What is compared lies far beyond its threshold, so that
another machine's rounding cannot turn a verdict. (tests/alignment/test_health.py has the thresholds, worked by hand.)
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from alignment.health import RULES, Health, health
from alignment.measured_points import Seen
from alignment.methods import method_named
from alignment.methods.base import Inputs, Messages, Parent, TextReward
from alignment.progress import all_points
from alignment.train import DirectoryReport
from storage.errors import RunFailed
from tests.alignment import tiny_model
from tests.alignment.conftest import BAD, GOOD, question, said
from tests.alignment.in_process import parent_of

SHORT, LONG = "take five mg", "take five mg daily of the dose ask your doctor always take it daily"
QUESTIONS = [{"prompt": question(number), "prompt_id": f"p{number}"} for number in range(16)]
RLOO: dict[str, Any] = {
    "reward_model": "scorer",
    "tuning": "full",
    "batch_size": 32,
    "answers_per_prompt": 8,
    "longest_answer": 24,
    "iterations": 1,
}


@dataclass(frozen=True)
class Trained:
    """A run that is over, read from its directory."""

    folder: Path
    seen: Seen

    @property
    def verdict(self) -> Health:
        return self.verdict_at(self.seen.steps)

    def verdict_at(self, step: int) -> Health:
        """What the page said when the run was at this step."""
        seen, ended = self.seen, step == self.seen.steps
        points = [point for point in seen.points if point["step"] <= step]
        found = health(seen.method, points, seen.settings, seen.steps, ended)
        assert found is not None
        return found

    @property
    def verdicts(self) -> dict[str, str]:
        """Every rule's, by title."""
        return {title: sentence for _, title, rule in RULES if (sentence := rule(self.seen))}

    def recent(self, metric: str) -> float:
        value = self.seen.recent(metric)
        assert value is not None
        return value


def train(
    folder: Path,
    method: str,
    rows: Sequence[Mapping[str, Any]],
    parent: Parent,
    scorer: Parent | None = None,
    **settings: Any,
) -> Trained:
    folder.mkdir(exist_ok=True)
    chosen = method_named(method).model_validate({"held_out_share": 0, **settings})
    report = DirectoryReport(folder)
    with suppress(RunFailed):  # the verdict says why
        chosen.train(Inputs(rows, parent, folder, reward=scorer), report)
    return Trained(folder, Seen(method, all_points(folder), chosen.model_dump(), report.steps, ended=True))


def answered(answers: Sequence[str]) -> list[dict[str, Any]]:
    return [{"prompt": question(n), "completion": said("assistant", answer)} for n, answer in enumerate(answers)]


def preferred(chosen: str, rejected: str) -> list[dict[str, Any]]:
    pair = {"chosen": said("assistant", chosen), "rejected": said("assistant", rejected)}
    return [{"prompt": question(number), **pair} for number in range(32)]


def scorer_of(folder: Path, parent: Parent, chosen: str, rejected: str) -> Parent:
    train(folder, "reward_model", preferred(chosen, rejected), parent, learning_rate=3e-3, epochs=2)
    return Parent("scorer", parent.base_path, str(folder / "model"), parent.template)


@pytest.fixture(scope="module")
def untaught(tiny_base: Path) -> Parent:
    """Random weights: it says anything, and hardly ever ends."""
    return parent_of(tiny_base)


@pytest.fixture(scope="module")
def taught(untaught: Parent, tmp_path_factory: pytest.TempPathFactory) -> Parent:
    """It answers in three words, and one time in eight in fourteen."""
    folder = tmp_path_factory.mktemp("taught")
    answers = [LONG, *[SHORT] * 7] * 4
    train(folder, "sft", answered(answers), untaught, tuning="full", learning_rate=1e-2, epochs=6)
    return Parent("taught", str(folder / "model"), None, tiny_model.TEMPLATE)


@pytest.fixture(scope="module")
def likes_long(taught: Parent, tmp_path_factory: pytest.TempPathFactory) -> Parent:
    return scorer_of(tmp_path_factory.mktemp("likes_long"), taught, LONG, SHORT)


@pytest.fixture(scope="module")
def likes_short(untaught: Parent, tmp_path_factory: pytest.TempPathFactory) -> Parent:
    return scorer_of(tmp_path_factory.mktemp("likes_short"), untaught, SHORT, LONG)


# ---- methods that sample --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hacked(taught: Parent, likes_long: Parent, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Held by next to nothing, after a reward model that likes long answers."""
    settings = {**RLOO, "learning_rate": 3e-3, "beta": 1e-3, "most_steps": 16}
    return train(tmp_path_factory.mktemp("hacked"), "rloo", QUESTIONS, taught, likes_long, **settings)


def test_a_reward_that_is_had_by_length_is_named(hacked: Trained):
    assert hacked.verdict.title == "Reward rises with length"
    assert "tokens. The reward model may only like long answers" in hacked.verdict.sentence


def test_drift_beyond_its_target_is_named(hacked: Trained):
    nats = hacked.recent("kl") * hacked.recent("completions/mean_length")
    assert (
        f"drifted {nats:.1f} nats from the parent; the target is 10." in hacked.verdicts["Drift is beyond its target"]
    )
    assert hacked.verdict.sentence.endswith("Also: drift is beyond its target.")


@pytest.fixture(scope="module")
def collapsed(untaught: Parent, likes_short: Parent, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A penalty of ten for what does not end, and steps twenty times too large: in the end it says nothing at all."""
    settings = {**RLOO, "learning_rate": 3e-2, "no_end_penalty": 10, "longest_answer": 8, "most_steps": 20}
    return train(tmp_path_factory.mktemp("collapsed"), "rloo", QUESTIONS, untaught, likes_short, **settings)


def test_entropy_that_collapses_is_named(collapsed: Trained):
    assert collapsed.verdict.title == "Entropy has collapsed"
    assert "the model gives nearly the same answer each time" in collapsed.verdict.sentence


def test_while_answers_do_not_end_that_is_named(collapsed: Trained):
    """The same run at its beginning, when the model still was its parent."""
    found = collapsed.verdict_at(5)
    assert (found.kind, found.title) == ("bad", "Answers do not end")
    assert "were cut off at the length limit" in found.sentence


def test_equal_rewards_are_named_where_each_answer_is_the_same(taught: Parent, likes_long: Parent, tmp_path: Path):
    """Sampled so cold that each is the likeliest. TRL's own count misses some: a mean of equals is rounded."""
    settings = {**RLOO, "learning_rate": 1e-6, "temperature": 0.05, "most_steps": 10, "longest_answer": 8}
    cold = train(tmp_path, "rloo", QUESTIONS, taught, likes_long, **settings)
    assert cold.recent("grad_norm") < 1e-5
    assert cold.verdict.title == "Rewards are all equal"
    assert "got the same reward, which teaches nothing" in cold.verdict.sentence


# ---- PPO ------------------------------------------------------------------------------------------------------------


def words(prompts: Sequence[Messages], answers: Sequence[str]) -> list[float]:
    return [len(answer.split()) / 4 for answer in answers]


def brevity(prompts: Sequence[Messages], answers: Sequence[str]) -> list[float]:
    """What the reward should have rewarded, as it were."""
    return [1.0 if len(answer.split()) <= 5 else 0.0 for answer in answers]


def practise(folder: Path, parent: Parent, reward: TextReward, gold: TextReward | None = None, **given: Any) -> Trained:
    settings = {"batch_size": 8, "accumulate": 2, "longest_answer": 24, "held_out_share": 0, "beta": 0.0, **given}
    chosen = method_named("ppo").model_validate(settings)
    report = DirectoryReport(folder)
    chosen.train(Inputs(QUESTIONS, parent, folder, scored_by=reward, gold=gold), report)
    return Trained(folder, Seen("ppo", all_points(folder), chosen.model_dump(), report.steps, ended=True))


def test_a_reward_that_is_followed_past_its_gold_is_named(taught: Parent, tmp_path: Path):
    """The reward counts words, and gold wants few of them."""
    run = practise(tmp_path, taught, words, brevity, learning_rate=5e-3, most_steps=15)
    first, last = run.seen.early("gold"), run.recent("gold")
    assert first is not None and first > last + 0.3
    assert run.verdict.title == "The reward is followed too far"
    assert "while the reward went on rising" in run.verdict.sentence


def test_steps_that_are_too_large_are_named_by_what_is_clipped(taught: Parent, tmp_path: Path):
    run = practise(tmp_path, taught, words, learning_rate=0.02, most_steps=5, epochs=4, most_kl=0, clip=0.02)
    assert "tokens move further than the clip of 0.02 in one iteration" in run.verdicts["Steps are too large"]


def test_iterations_that_end_early_are_named(taught: Parent, tmp_path: Path):
    run = practise(tmp_path, taught, words, learning_rate=2e-2, most_steps=5, epochs=4, most_kl=0.002)
    made = run.seen.throughout("epochs")
    assert made is not None and made < 2
    assert f"Only {made:.1f} of 4 passes" in run.verdicts["Iterations end early"]


def test_a_value_that_does_not_learn_is_named(taught: Parent, tmp_path: Path):
    """Its weight is nought, so it goes on expecting the mean of the first rewards of every answer."""
    run = practise(tmp_path, taught, words, most_steps=5, value_weight=0)
    assert "It never explained more than 0 %" in run.verdicts["The value knows nothing"]


def test_a_reward_that_is_the_same_for_all_is_named(taught: Parent, tmp_path: Path):
    run = practise(tmp_path, taught, lambda prompts, answers: [0.5] * len(answers), most_steps=5)
    assert "All answers of an iteration get the same reward (0.50)" in run.verdicts["Rewards are all equal"]


# ---- methods that learn from rows -----------------------------------------------------------------------------------


def test_rows_learned_by_heart_are_named(untaught: Parent, tmp_path: Path):
    """Answers of words drawn by lot: nothing in them holds for another prompt."""
    chance = Random(0)
    rows = answered([" ".join(chance.choices(tiny_model.WORDS.split(), k=5)) for _ in range(24)])
    settings = {"tuning": "full", "learning_rate": 1e-2, "epochs": 16, "held_out_share": 0.25, "evaluations": 8}
    run = train(tmp_path, "sft", rows, untaught, **settings)
    assert run.verdict.title == "Held-out loss has turned"
    assert "the rows are being learned by heart. The checkpoint that did best is kept" in run.verdict.sentence


def test_saturated_margins_are_named(taught: Parent, tmp_path: Path):
    """The better answer is what the parent says already, so all of the margin is what the other lost."""
    run = train(tmp_path, "dpo", preferred(SHORT, LONG), taught, learning_rate=5e-3, epochs=4, batch_size=8)
    nats = run.recent("rewards/margins") / 0.1
    assert run.verdict.title == "Margins are saturated"
    assert f"which is {nats:.0f} nats; 2 to 6 were healthy" in run.verdict.sentence


def test_chosen_answers_that_fall_with_the_rejected_are_named(taught: Parent, tmp_path: Path):
    """The paper's loss alone, in steps twenty times too large."""
    settings = {"learning_rate": 3e-2, "likelihood_weight": 0, "epochs": 2, "batch_size": 8}
    run = train(tmp_path, "dpo", preferred(SHORT, LONG), taught, **settings)
    assert run.verdict.title == "Chosen answers are losing probability"
    assert f"They are {-10 * run.recent('rewards/chosen'):.1f} nats less likely" in run.verdict.sentence
    assert run.verdict.sentence.endswith("Also: margins are saturated.")


def test_answers_with_a_thumb_up_that_fall_are_named(taught: Parent, tmp_path: Path):
    """Thumbs down weigh ten times as much as thumbs up."""
    rows = [{**row, "label": row["completion"][0]["content"] == SHORT} for row in answered([SHORT, LONG] * 16)]
    settings = {"learning_rate": 5e-2, "desirable_weight": 0.1, "epochs": 2}
    run = train(tmp_path, "kto", rows, taught, **settings)
    assert run.verdict.title == "Chosen answers are losing probability"
    assert "Raise the weight of a thumb up" in run.verdict.sentence


def test_a_run_that_learned_nothing_is_named(taught: Parent, tmp_path: Path):
    run = train(tmp_path, "dpo", preferred(SHORT, LONG), taught, learning_rate=1e-7, epochs=2, batch_size=8)
    assert run.verdict.title == "Nothing learned"
    assert run.verdict.sentence.startswith("The margin is only 0.00, which is 0.00 nats.")


def test_a_loss_that_is_not_a_number_is_named(tiny_base: Path, tmp_path: Path):
    broken = with_a_weight_that_is_no_number(tiny_base, tmp_path / "broken")
    run = train(tmp_path / "run", "sft", answered([SHORT] * 16), parent_of(broken))
    assert (run.verdict.kind, run.verdict.title) == ("bad", "The loss is not a number")
    assert run.verdict.sentence.startswith("It was lost at step 1 of ")


def with_a_weight_that_is_no_number(base: Path, folder: Path) -> Path:
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = math.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def exploded(taught: Parent, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Taught again what it knows, at a hundred times the learning rate."""
    settings = {"learning_rate": 0.1, "batch_size": 8, "epochs": 3}
    return train(tmp_path_factory.mktemp("exploded"), "sft", answered([SHORT] * 32), taught, **settings)


def test_gradients_that_explode_are_named_while_they_do(exploded: Trained):
    found = exploded.verdict_at(6)
    assert (found.kind, found.title) == ("bad", "The loss has risen")
    assert "gradients are exploding" in found.sentence


def test_a_loss_that_rose_within_a_few_steps_is_named(exploded: Trained):
    """By the fifth step it is far above what the parent had, so first steps must not be told by five."""
    first, last = exploded.seen.values("loss")[1], exploded.recent("loss")
    assert exploded.verdict.title == "The loss has risen"
    assert exploded.verdict.sentence.startswith(f"From {first:.2f} at first to {last:.2f}")


def test_accuracy_at_chance_is_named_where_people_contradict_each_other(untaught: Parent, tmp_path: Path):
    """To each prompt one pair says this and another the contrary, so one of two is right whatever is learned."""
    rows = [row for both in zip(preferred(GOOD, BAD), preferred(BAD, GOOD), strict=True) for row in both]
    run = train(tmp_path, "reward_model", rows, untaught, epochs=1, held_out_share=0.25)
    assert run.verdict.title == "Accuracy is at chance"
    assert "in 50 % of the held-out pairs, as a coin would" in run.verdict.sentence


# ---- and none where all is well -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "rows"),
    [("sft", answered([GOOD] * 32)), ("reward_model", preferred(GOOD, BAD)), ("orpo", preferred(GOOD, BAD))],
)
def test_a_run_that_learns_is_healthy(untaught: Parent, tmp_path: Path, method: str, rows: Any):
    run = train(tmp_path, method, rows, untaught, learning_rate=2e-3, epochs=2, held_out_share=0.25)
    assert run.verdict.title == "Healthy", run.verdicts
