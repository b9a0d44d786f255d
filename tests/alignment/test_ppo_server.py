"""PPO whose answers come from a model server: our own small one, and a real vLLM."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment import setting_checks
from alignment.methods.base import Inputs, Parent, Stopped
from alignment.methods.ppo import PPO
from alignment.methods.ppo_backbone import POLICY
from alignment.methods.ppo_server import FOLDER, ServerSampler, refuse_other_weights, seed_of, whole_answer
from alignment.methods.ppo_training import PPOTraining
from alignment.run_directory import newest_checkpoint
from labeling.engines import client as client_module
from labeling.engines.client import EngineClient, SampledTokens
from labeling.engines.model_server import serving
from storage.errors import BadInput, RunFailed
from tests.alignment import tiny_model
from tests.alignment.conftest import Lab
from tests.alignment.in_process import Heard, same_bits, train
from tests.alignment.test_ppo import PROMPTS, SETTINGS, likes_e
from tests.vllm_process import skip_without_vllm, vllm

SAMPLED: dict[str, Any] = {**SETTINGS, "sampler": "model server"}


@pytest.fixture(scope="module")
def parent(tiny_base: Path) -> Parent:
    return Parent("v0", str(tiny_base), None, tiny_model.TEMPLATE)


@pytest.fixture(scope="module")
def server(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineClient]:
    with serving(str(tiny_base), tmp_path_factory.mktemp("server") / "log") as client:
        yield client


def given(parent: Parent, folder: Path, server: EngineClient) -> Inputs:
    return Inputs(PROMPTS, parent, folder, scored_by=likes_e, sampled_by=server.url)


# ---- it learns from what the server says


def check_learned(final: dict[str, float], heard: Heard, folder: Path, server: EngineClient) -> None:
    """The reward rises; the server computes as the update does; nothing is left of the adapters on the way."""
    assert final["eval_reward"] > final["first_eval_reward"] + 0.5
    assert max(heard.series("sampler_gap")) < 1e-3
    assert heard.series("sampler_weight") == pytest.approx([1.0] * 8, abs=1e-3)
    assert heard.series("ratio")[0] == pytest.approx(1, abs=0.2)
    assert not (folder / FOLDER).exists() and server.models() == ["base"]


def test_the_reward_rises_with_answers_of_the_server(parent: Parent, server: EngineClient, tmp_path: Path):
    heard, folder = Heard(), tmp_path / "run"
    final = dict(PPO(**SAMPLED).train(given(parent, folder, server), heard))
    check_learned(final, heard, folder, server)


def test_a_run_that_was_stopped_ends_in_the_same_adapter(parent: Parent, server: EngineClient, tmp_path: Path):
    method = PPO(**{**SAMPLED, "most_steps": 4})
    whole, parts = (given(parent, tmp_path / name, server) for name in ("whole", "parts"))
    method.train(whole, Heard())
    with pytest.raises(Stopped):
        method.train(parts, Heard(stop_at=2))
    method.train(replace(parts, checkpoint=newest_checkpoint(parts.folder)), Heard())
    assert same_bits(tmp_path / "whole" / "model", tmp_path / "parts" / "model")


def test_it_samples_from_the_adapter_as_it_is_now(parent: Parent, server: EngineClient, tmp_path: Path):
    """Of a parent with an adapter, in the upper layers only, and moved a little."""
    train("sft", parent, tmp_path / "sft", epochs=1, layers="upper half")
    adapted = replace(parent, id="v1", adapter_path=str(tmp_path / "sft" / "model"))
    settings = {**SAMPLED, "layers": "upper half"}
    training = PPOTraining(PPO(**settings), given(adapted, tmp_path / "run", server), Heard())
    gaps = []
    for _ in range(2):
        told = training.step(PROMPTS[:16] * 2)
        gaps.append(told["sampler_gap"])
        training.state.global_step += 1
    training.close()
    assert max(gaps) < 1e-3 and told["approx_kl"] > 0


def test_every_answer_has_a_seed_of_its_own_that_a_resumed_run_finds_again():
    seeds = {
        seed_of(run, noise, place) for run in (0, 1) for noise in ("iteration 0", "iteration 1") for place in (0, 1)
    }
    assert len(seeds) == 8 and all(0 <= seed < 2**31 for seed in seeds)
    assert seed_of(0, "iteration 0", 1) in seeds


def test_an_answer_ends_at_the_first_end_that_the_run_knows():
    sampled = SampledTokens((5, 2, 7, 3), (-1.0, -2.0, -3.0, -4.0))
    assert whole_answer(sampled, [2, 3], 4) == SampledTokens((5, 2), (-1.0, -2.0))
    assert whole_answer(sampled, [9], 4) == sampled


def test_an_answer_that_the_server_cut_short_ends_the_run():
    with pytest.raises(RunFailed, match=r"after 2 tokens, where the run takes 4 .*--max-model-len"):
        whole_answer(SampledTokens((5, 6), (-1.0, -2.0)), [2], 4)


# ---- what can go wrong


def test_what_a_killed_attempt_left_is_swept(parent: Parent, server: EngineClient, tmp_path: Path):
    # given an adapter that is still loaded, and one that no longer is
    folder = tmp_path / "run"
    training = PPOTraining(PPO(**SAMPLED), given(parent, folder, server), Heard())
    for name in ("loaded", "unloaded"):
        training.backbone.model.save_pretrained(str(folder / FOLDER / name), selected_adapters=[POLICY])
    server.load_adapter("loaded", str(folder / FOLDER / "loaded"))
    # when the run is resumed
    ServerSampler(given(parent, folder, server), 0).close()
    # then both are gone
    assert server.models() == ["base"] and not (folder / FOLDER).exists()


def test_a_server_of_another_base_ends_the_run(parent: Parent, tmp_path: Path):
    other = tiny_model.write(tmp_path / "other", seed=1)
    with serving(str(other), tmp_path / "log") as server:
        # where its base can be read here, before anything is loaded
        with pytest.raises(RunFailed, match=f"serves {other}, and this run trains {parent.base_path}"):
            PPOTraining(PPO(**SAMPLED), given(parent, tmp_path / "run", server), Heard())
        # where it cannot, at its first answers; or at its first adapter, where the server looks itself
        shutil.rmtree(other)
        training = PPOTraining(PPO(**SAMPLED), given(parent, tmp_path / "run", server), Heard())
        with pytest.raises(RunFailed, match="trained on another base than the one served here"):
            training.step(PROMPTS[:16] * 2)


def test_log_probabilities_of_other_weights_end_the_run():
    refuse_other_weights(0.02, 0.5)
    with pytest.raises(RunFailed, match=r"lie 1.3 apart on average\), so it does not answer with the weights"):
        refuse_other_weights(1.3, 0.5)


def test_a_server_that_is_gone_ends_the_run(
    parent: Parent, server: EngineClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client_module, "PAUSES", (0.0,))
    inputs = replace(given(parent, tmp_path / "run", server), sampled_by="http://127.0.0.1:9")
    with pytest.raises(RunFailed, match=r"http://127.0.0.1:9, which was to answer for this run, is gone .* resume"):
        PPOTraining(PPO(**SAMPLED), inputs, Heard())


def test_an_adapter_that_the_server_refuses_ends_the_run_and_leaves_nothing(
    parent: Parent, server: EngineClient, tmp_path: Path
):
    training = PPOTraining(PPO(**SAMPLED), given(parent, tmp_path / "run", server), Heard())
    training.backbone.model.peft_config[POLICY].use_dora = True
    with pytest.raises(RunFailed, match=r"does not yet support DoRA. .* --max-lora-rank"):
        training.step(PROMPTS[:16] * 2)
    training.close()
    assert not (tmp_path / "run" / FOLDER).exists()


# ---- the setting


def test_without_a_server_or_at_another_temperature_it_is_refused():
    with pytest.raises(BadInput, match=r"no model server is named for it\. Put its address into settings\.toml"):
        PPO(sampler="model server").refuse_sampler("")
    with pytest.raises(BadInput, match=r"Temperature while training is 0.7, .* Set it to 1"):
        PPO(sampler="model server", temperature=0.7).refuse_sampler("http://127.0.0.1:8000")
    PPO(temperature=0.7).refuse_sampler("")


def test_the_queue_refuses_it_and_else_notes_the_address(lab: Lab):
    prompts = lab.freeze("prompt_only", 20)
    asked = {"reward_model": "function:starter-preferred", "sampler": "model server"}
    with pytest.raises(BadInput, match="no model server is named"):
        lab.start("ppo", prompts, **asked)
    (lab.home / "settings.toml").write_text('sampling_server = "http://10.0.0.1:8000/v1/"\n')
    run = lab.start("ppo", prompts, **asked)
    assert json.loads((Path(run.directory) / "run.json").read_text())["sampled_by"] == "http://10.0.0.1:8000"


def test_the_check_before_the_start_says_where_answers_come_from():
    assert setting_checks.sampler(PPO(), "") is None
    good = setting_checks.sampler(PPO(sampler="model server"), "http://10.0.0.1:8000")
    assert good is not None and (good.kind, good.figure) == ("ok", "http://10.0.0.1:8000")
    bad = setting_checks.sampler(PPO(sampler="model server"), "")
    assert bad is not None and bad.kind == "bad" and bad.ways_out[0].settings == {"sampler": "this process"}


# ---- a real vLLM


@pytest.fixture(scope="module")
def of_vllm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vLLM computes no attention whose heads are narrower than 32 on a CPU."""
    return tiny_model.write(tmp_path_factory.mktemp("vllm") / "base", heads=1)


@pytest.fixture(scope="module")
def real(of_vllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineClient]:
    skip_without_vllm()
    with vllm(of_vllm, tmp_path_factory.mktemp("vllm") / "log") as client:
        yield client


def test_the_reward_rises_with_answers_of_a_real_vllm(of_vllm: Path, real: EngineClient, tmp_path: Path):
    heard, folder = Heard(), tmp_path / "run"
    parent = Parent("v0", str(of_vllm), None, tiny_model.TEMPLATE)
    settings = {**SAMPLED, "epochs": 4, "most_kl": 0, "seed": 1}  # one head learns more slowly than two
    final = dict(PPO(**settings).train(given(parent, folder, real), heard))
    check_learned(final, heard, folder, real)


def test_a_real_vllm_and_the_run_agree_how_likely_a_word_was(of_vllm: Path, real: EngineClient, tmp_path: Path):
    """Of an adapter in the upper layers, trained a little; and the same seed says the same again."""
    parent = Parent("v0", str(of_vllm), None, tiny_model.TEMPLATE)
    settings = {**SAMPLED, "layers": "upper half"}
    training = PPOTraining(PPO(**settings), given(parent, tmp_path / "run", real), Heard())
    told = [training.step(PROMPTS[:16] * 2) for training.state.global_step in range(2)]
    assert [one["sampler_weight"] for one in told] == pytest.approx([1.0, 1.0], abs=1e-3)
    first, again = (training.rollout(PROMPTS, "held out") for _ in range(2))
    training.close()
    assert all(torch.equal(one.tokens, two.tokens) for one, two in zip(first.rows, again.rows, strict=True))
