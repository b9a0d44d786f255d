"""A reward model that a run cannot carry on its own weights is scored by text, in a real process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import copy, copytree

import pytest
from transformers import AutoTokenizer

from alignment.methods.base import Inputs, Parent
from alignment.methods.online import why_apart
from alignment.methods.ppo import PPO
from alignment.rows_as_tokens import template_tokens
from alignment.scorers.process import REPOSITORY, RewardProcess, TextScorer
from labeling.engines import reward_scorer
from labeling.engines.reward_scorer import read_scale
from storage.errors import RunFailed
from tests.alignment import tiny_model
from tests.alignment.conftest import BAD, GOOD, question, said
from tests.alignment.in_process import Heard
from tests.alignment.test_ppo import PROMPTS, SETTINGS
from tests.alignment.test_reward_model import Trained
from tests.app_process import wait_until

OTHER_WORDS = "maybe never always what how the daily doctor ask you should be given some of it at once if not"
ASKED, ANSWERED = [question(1), question(2)], [GOOD, f"{BAD}, of five"]


@pytest.fixture(scope="module")
def parent(tiny_base: Path) -> Parent:
    return Parent("v0", str(tiny_base), None, tiny_model.TEMPLATE)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Parent:
    """A reward model of another family: other tokens, another template."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_model, "WORDS", OTHER_WORDS)
        base = tiny_model.write(tmp_path_factory.mktemp("stranger_base"))
    template = tiny_model.TEMPLATE.replace("m['role']", "m['role'] + ' says'").replace("assistant", "assistant says")
    template += "{%- if not add_generation_prompt %}{{ '\n' }}{% endif -%}"
    other = Parent("other", str(base), None, template)
    run = Trained(tmp_path_factory.mktemp("stranger") / "run", other)
    return replace(other, id="v9", adapter_path=str(run.model))


@pytest.fixture(scope="module")
def of_its_line(parent: Parent, tmp_path_factory: pytest.TempPathFactory) -> Parent:
    run = Trained(tmp_path_factory.mktemp("of_its_line") / "run", parent)
    return replace(parent, id="v2", adapter_path=str(run.model))


def test_only_an_adapter_on_the_same_base_that_reads_the_same_is_scored_there(
    parent: Parent, of_its_line: Parent, stranger: Parent, tmp_path: Path
) -> None:
    assert why_apart(parent, of_its_line) == ""
    assert why_apart(parent, stranger) == "it reads text as other tokens than v0"
    assert why_apart(parent, replace(of_its_line, adapter_path=None)) == "all of its weights were trained"
    assert "another prompt template" in why_apart(parent, replace(of_its_line, template="{{ messages }}"))


def test_the_same_family_on_other_weights_is_another_base(parent: Parent, of_its_line: Parent, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    moved = tmp_path / "moved"
    model = AutoModelForCausalLM.from_pretrained(parent.base_path)
    model.model.embed_tokens.weight.data[:, -1] += 1
    model.save_pretrained(moved)
    for file in Path(parent.base_path).glob("tokenizer*"):
        copy(file, moved)
    assert why_apart(replace(parent, base_path=str(moved)), of_its_line) == "it stands on another base than v0"


def test_a_text_is_read_as_the_tokens_it_was_trained_on(stranger: Parent) -> None:
    """Up to the end of the answer, where the score is read: this template puts a line break behind it."""
    tokenizer = AutoTokenizer.from_pretrained(stranger.base_path)
    tokenizer.chat_template = stranger.template
    whole = template_tokens(tokenizer, [*question(1), *said("assistant", GOOD)])
    read = TextScorer(stranger).tokens(question(1), GOOD)
    assert read == whole[: len(read)] and read[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in whole[len(read) :] and "says" in tokenizer.decode(read)


def test_its_process_scores_as_it_does_in_spreads_of_its_own_scores(stranger: Parent) -> None:
    # given what the reward model says of two answers by itself
    reader, scale = TextScorer(stranger), read_scale(str(stranger.adapter_path))
    sequences = [reader.tokens(*pair) for pair in zip(ASKED, ANSWERED, strict=True)]
    raw = reward_scorer.load(stranger.base_path, stranger.adapter_path).score(sequences)
    # when its process is asked
    process = RewardProcess(stranger)
    scores = process(ASKED, ANSWERED)
    # then it says the same, normalised; GOOD is above BAD
    assert scores == pytest.approx([(one - scale.mean) / scale.std for one in raw], abs=1e-5)
    assert scores[0] > scores[1]
    # and when it is killed, the run ends with a sentence
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(RunFailed, match=r"scores with the reward model v9 ended .code -9., most likely because memory"):
        process(ASKED, ANSWERED)
    process.close()


def test_a_run_of_ppo_learns_from_it_and_leaves_no_process_behind(
    parent: Parent, stranger: Parent, tmp_path: Path
) -> None:
    before = children()
    heard = Heard()
    method = PPO(**{**SETTINGS, "most_steps": 2, "evaluations": 1})
    final = method.train(Inputs(PROMPTS, parent, tmp_path / "run", reward=stranger), heard)
    assert heard.series("reward_std")[0] > 0 and "eval_reward" in final
    assert children() <= before  # one of an earlier test may have ended meanwhile


def test_it_dies_with_a_run_that_is_killed(stranger: Parent) -> None:
    # given a run with a reward model beside it, which would go on for longer than anybody waits here
    script = (
        "import json, sys, time; from alignment.methods.base import Parent;"
        "from alignment.scorers.process import RewardProcess;"
        "process = RewardProcess(Parent(**json.loads(sys.argv[1]))); print(process.pid, flush=True); time.sleep(600)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script, json.dumps(vars(stranger))], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    pid = int(run.stdout.readline())
    assert alive(pid)
    # when the run is killed
    run.kill()
    run.wait()
    # then the other process goes too
    wait_until("it is gone", 60, lambda: not alive(pid), pause=0.05)


def test_what_is_no_reward_model_is_refused_with_its_name(parent: Parent, stranger: Parent, tmp_path: Path) -> None:
    policy = copytree(str(stranger.adapter_path), tmp_path / "policy")
    told = json.loads((policy / "adapter_config.json").read_text())
    (policy / "adapter_config.json").write_text(json.dumps({**told, "modules_to_save": None}))
    with pytest.raises(RunFailed, match=r"The reward model v9 cannot be loaded: .* is no reward model"):
        RewardProcess(replace(stranger, adapter_path=str(policy)))
    with pytest.raises(RunFailed, match=r"The reward model v0 cannot be loaded: .* holds no score.weight"):
        TextScorer(parent)


def test_one_that_was_changed_since_is_refused(stranger: Parent, tmp_path: Path) -> None:
    changed = copytree(str(stranger.adapter_path), tmp_path / "changed")
    told = json.loads((changed / "reward.json").read_text())
    told["examples"][0]["score"] += 1
    (changed / "reward.json").write_text(json.dumps(told))
    with pytest.raises(RunFailed, match="scores answers otherwise here than when it was trained"):
        TextScorer(replace(stranger, adapter_path=str(changed)))


def test_what_is_too_long_for_it_is_told(stranger: Parent) -> None:
    with pytest.raises(RunFailed, match="tokens to the reward model v9, which reads 128 at most"):
        TextScorer(stranger).tokens(question(1), "never " * 200)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def children() -> set[str]:
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())
