"""The layers of a base as its files have them, and the adapter that changes none."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from labeling.engines.adapter_check import check_adapter
from labeling.engines.base_layers import linear_layers, write_untrained_adapter
from labeling.engines.embedded_adapters import linear_shapes


def test_the_files_name_the_layers_that_the_model_has(base_folder: Path):
    assert linear_layers(base_folder) == linear_shapes(AutoModelForCausalLM.from_pretrained(base_folder))


def test_layers_whose_weights_lie_the_other_way_round_are_turned(tmp_path: Path):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=24, n_layer=1, n_head=2))
    model.save_pretrained(tmp_path)
    assert linear_layers(tmp_path) == linear_shapes(model)
    assert linear_layers(tmp_path)["transformer.h.0.attn.c_attn"] == (24, 72)


def test_the_untrained_adapter_fits_and_changes_no_bit(base_folder: Path, tmp_path: Path):
    folder = write_untrained_adapter(tmp_path / "untrained", base_folder)
    check_adapter(folder, linear_layers(base_folder), 1, "")
    base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32).eval()
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        alone = base(ids).logits
        assert torch.equal(PeftModel.from_pretrained(base, folder).eval()(ids).logits, alone)
