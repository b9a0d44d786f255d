"""A reward model on disk scores as it did in memory, alone as in a batch, and over HTTP."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from labeling.engines.adapter_check import AdapterRefused, check_adapter, check_reward_adapter
from labeling.engines.client import EngineClient
from labeling.engines.model_folder import base_fingerprint, tokenizer_fingerprint, write_base_mark
from labeling.engines.model_server import embedded_command, reward_command, serving
from labeling.engines.reward_scorer import Scale, Scorer, load, read_scale, write_scale
from labeling.engines.supervisor import Engines, ServedVersion
from storage.errors import EngineRefused, EngineUnavailable
from tests.labeling.engines.tiny_models import write_adapter, write_model

SEQUENCES = [[7, 8, 9, 10, 2], [11, 2], [12, 13, 14, 15, 16, 17, 18, 2], [0, 0, 2]]


def reward_of(base: Path) -> Any:
    """A random head and a LoRA strong enough to change every score."""
    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    adapted = get_peft_model(
        model, LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["q_proj", "down_proj"], modules_to_save=["score"])
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.15)
    return adapted.eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("reward") / "base")


@pytest.fixture(scope="module")
def model(base: Path) -> Any:
    return reward_of(base)


@pytest.fixture(scope="module")
def adapter(base: Path, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward") / "adapter"
    model.save_pretrained(folder)
    write_base_mark(folder, base)
    write_scale(folder, Scale(mean=0.5, std=2.0, n=8))
    return folder


def one_by_one(model: Any) -> list[float]:
    """As transformers scores a sequence that is alone, so without padding."""
    with torch.no_grad():
        return [float(model(input_ids=torch.tensor([ids])).logits[0, 0]) for ids in SEQUENCES]


# ---- scores


def test_a_batch_of_different_lengths_scores_as_one_by_one(model: Any):
    assert Scorer(model).score(SEQUENCES) == pytest.approx(one_by_one(model), abs=1e-5)


def test_saved_and_loaded_it_scores_the_same(base: Path, model: Any, adapter: Path):
    assert load(base, adapter).score(SEQUENCES) == Scorer(model).score(SEQUENCES)


def test_whole_weights_score_as_base_and_adapter_did(base: Path, model: Any, tmp_path: Path):
    merged = reward_of(base)
    merged.load_state_dict(model.state_dict())
    merged.merge_and_unload().save_pretrained(tmp_path)
    assert load(tmp_path).score(SEQUENCES) == pytest.approx(one_by_one(model), abs=1e-4)


def test_the_score_is_read_at_the_last_token_even_where_padding_is_the_end_of_text(base: Path, adapter: Path):
    """transformers looks for the last token that is not padding, and would read the last of these one too early."""
    scorer = load(base, adapter)
    expected = scorer.score(SEQUENCES)
    scorer._model.config.pad_token_id = 2
    assert scorer.score(SEQUENCES) == expected


def test_scoring_leaves_a_model_in_training_as_it_was(model: Any):
    model.train()
    Scorer(model).score(SEQUENCES)
    assert model.training
    model.eval()


def test_a_model_without_a_head_is_refused_rather_than_given_a_random_one(base: Path, adapter: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"holds no score\.weight"):
        load(base)
    beheaded = tmp_path / "beheaded"
    beheaded.mkdir()
    for name in ("adapter_config.json", "base.json"):
        (beheaded / name).write_bytes((adapter / name).read_bytes())
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({name: t for name, t in tensors.items() if "score" not in name}, beheaded / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"holds no score\.weight"):
        load(base, beheaded)
    with pytest.raises(AdapterRefused, match="holds no weights of one"):
        check_reward_adapter(beheaded, base_fingerprint(base))


def test_the_scale_is_kept_beside_the_weights(adapter: Path, tmp_path: Path):
    assert read_scale(adapter) == Scale(0.5, 2.0, 8)
    assert read_scale(adapter).normalised(4.5) == 2.0
    assert read_scale(tmp_path).normalised(4.5) == 4.5  # trained elsewhere: as it is


# ---- what may be served


def test_a_reward_adapter_is_refused_among_policies_and_a_policy_among_rewards(
    base: Path, adapter: Path, tmp_path: Path
):
    with pytest.raises(AdapterRefused, match="it scores answers and gives none"):
        check_adapter(adapter, {}, 16, base_fingerprint(base))
    policy = write_adapter(tmp_path / "policy", base, seed=1)
    with pytest.raises(AdapterRefused, match="is no reward model"):
        check_reward_adapter(policy, base_fingerprint(base))


def test_a_reward_adapter_of_another_base_is_refused(base: Path, adapter: Path, tmp_path: Path):
    twin = write_model(tmp_path / "twin", seed=5)
    with pytest.raises(AdapterRefused, match="trained on another base"):
        check_reward_adapter(adapter, base_fingerprint(twin))


def test_tokenizers_are_told_apart_by_what_they_split_a_text_into(base: Path, tmp_path: Path):
    from tests.alignment import tiny_model

    twin = write_model(tmp_path / "twin", width=32, seed=5)
    assert tokenizer_fingerprint(base) == tokenizer_fingerprint(twin)
    assert tokenizer_fingerprint(base) != tokenizer_fingerprint(tiny_model.write(tmp_path / "other"))


# ---- over HTTP, in vLLM's words


@pytest.fixture(scope="module")
def client(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineClient]:
    log = tmp_path_factory.mktemp("logs") / "reward.log"
    with serving(str(base), log, reward_command(str(adapter))) as client:
        yield client


def test_the_served_score_is_the_trained_one(client: EngineClient, base: Path, adapter: Path):
    assert client.score("base", SEQUENCES) == pytest.approx(load(base, adapter).score(SEQUENCES), abs=1e-6)


def test_a_text_scores_as_its_tokens(client: EngineClient):
    text = "<|im_start|>user\nTell me about the red fox.<|im_end|>\n<|im_start|>assistant\nIt sleeps.<|im_end|>"
    assert client.score("base", [text]) == client.score("base", [client.tokenize("base", text)])


def test_classify_answers_as_vllm_does(client: EngineClient):
    body = {"model": "base", "input": SEQUENCES[:2]}
    raw = httpx.post(f"{client.url}/classify", json={**body, "use_activation": False}).json()
    squeezed = httpx.post(f"{client.url}/classify", json=body).json()
    assert [one["index"] for one in raw["data"]] == [0, 1] and raw["object"] == "list"
    assert raw["data"][0]["num_classes"] == 1 and raw["usage"]["total_tokens"] == 7
    sigmoid = [float(torch.sigmoid(torch.tensor(one["probs"][0]))) for one in raw["data"]]
    assert [one["probs"][0] for one in squeezed["data"]] == pytest.approx(sigmoid, abs=1e-6)


def test_a_reward_server_is_healthy_names_itself_and_answers_nothing(client: EngineClient):
    assert client.health() and client.models() == ["base"] and client.context_length() == 256
    assert client.server_name().startswith("embedded") and client.tokens_generated() == 0
    with pytest.raises(EngineRefused, match="404"):
        client.complete("base", "Hello")


@pytest.mark.parametrize(
    ("asked", "given", "says"),
    [
        ("nope", [[1]], "The model `nope` does not exist"),
        ("base", [[]], "cannot be empty"),
        ("base", [[9_999_999]], "out of vocabulary"),
        ("base", [[5] * 300], "maximum context length is 256 tokens"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_a_sentence(client: EngineClient, asked: str, given: Any, says: str):
    with pytest.raises((EngineRefused, EngineUnavailable), match=says):
        client.score(asked, given)


def test_a_reward_version_is_served_beside_policies_of_its_base(base: Path, adapter: Path, tmp_path: Path):
    policy = write_adapter(tmp_path / "policy", base, seed=1)
    versions = [
        ServedVersion("base", str(base), None),
        ServedVersion("v1", str(base), str(policy)),
        ServedVersion("v2", str(base), str(adapter), "reward_model"),
    ]
    with Engines(tmp_path / "logs") as engines:
        engines.serve(versions)
        engines.wait_ready("base", "v1", "v2")
        scoring, name = engines.client("v2")
        answering, _ = engines.client("v1")
        assert scoring.url != answering.url and sorted(answering.models()) == ["base", "v1"]
        assert scoring.score(name, SEQUENCES) == pytest.approx(load(base, adapter).score(SEQUENCES), abs=1e-6)
        assert [state.versions for state in engines.state()] == [("base", "v1"), ("v2",)]


def test_a_reward_server_that_cannot_start_says_why(base: Path, tmp_path: Path):
    policy = write_adapter(tmp_path / "policy", base, seed=1)
    command = [*embedded_command(base, "base", tmp_path / "port"), "--reward", "--adapter", str(policy)]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode != 0 and "is no reward model" in ended.stderr.splitlines()[-1]
