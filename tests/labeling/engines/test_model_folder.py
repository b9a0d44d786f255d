"""What is not a model is told from what is, in a sentence that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from labeling.engines.model_folder import base_fingerprint, check_model_folder, context_length, served_context
from storage.errors import ModelNotLoadable

from .tiny_models import write_model


@pytest.fixture
def folder(base_folder: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(base_folder, tmp_path / "model"))


def test_a_whole_model_is_its_folder(base_folder: Path):
    assert check_model_folder(str(base_folder)) == base_folder.resolve()


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 8192}, 8192),
        ({"n_positions": 1024}, 1024),  # GPT-2
        ({"text_config": {"max_position_embeddings": 512}}, 512),  # reads images too
        ({"max_position_embeddings": None}, 2048),
        ({}, 2048),
    ],
)
def test_the_context_is_found_under_whatever_name_it_has(tmp_path: Path, config: dict[str, object], tokens: int):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert context_length(tmp_path) == tokens
    assert served_context(tmp_path) == min(tokens, 4096)


def test_a_path_that_is_not_there(tmp_path: Path):
    _refused(tmp_path / "nowhere", "There is no folder", "nowhere", "full path")


def test_a_hub_id_that_is_not_in_the_cache(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _refused("nobody/no-such-model", "cache", "HF_HUB_OFFLINE=0", "local folder")


def test_a_single_file(tmp_path: Path):
    (tmp_path / "model.gguf").touch()
    _refused(tmp_path / "model.gguf", "is a file", "GGUF")


def test_an_adapter_instead_of_its_base(adapter_folders: dict[str, Path]):
    _refused(adapter_folders["fox"], "no config.json", "It holds an adapter")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no model.safetensors"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_a_missing_file_is_named(folder: Path, missing: str, said: str):
    (folder / missing).unlink()
    _refused(folder, said)


def test_a_broken_config(folder: Path):
    (folder / "config.json").write_text("{")
    _refused(folder, "cannot be read as JSON")


def test_weights_in_another_format(folder: Path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    _refused(folder, "pytorch_model.bin", "safetensors")


def test_a_shard_that_is_missing(folder: Path):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-1.safetensors").touch()
    _refused(folder, "no model-2.safetensors", "1 of 2 weight files")


def test_a_copy_is_the_same_base_and_other_weights_are_not(base_folder: Path, folder: Path, tmp_path: Path):
    assert base_fingerprint(folder) == base_fingerprint(base_folder)
    assert base_fingerprint(write_model(tmp_path / "other", seed=1)) != base_fingerprint(base_folder)


def _refused(path: str | Path, *said: str) -> None:
    with pytest.raises(ModelNotLoadable) as refusal:
        check_model_folder(path)
    for part in said:
        assert part in str(refusal.value)
