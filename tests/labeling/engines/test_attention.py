"""The attention that does not copy shared keys and values says what transformers' own says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from labeling.engines.attention import NAME, read_in_place

STARTER = Path(__file__).parents[3] / "assets" / "starter_model" / "chat"


def test_a_padded_batch_reads_as_with_the_attention_of_transformers():
    theirs, ours = (AutoModelForCausalLM.from_pretrained(STARTER).eval() for _ in range(2))
    read_in_place(ours)
    ids = torch.randint(5, 1000, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :7] = mask[1, :2] = 0  # padded on the left

    with torch.inference_mode():
        expected, read = (model(input_ids=ids, attention_mask=mask).logits for model in (theirs, ours))

    assert ours.config._attn_implementation == NAME
    assert theirs.config.num_key_value_heads < theirs.config.num_attention_heads  # else nothing would be shared
    assert torch.allclose(read[mask.bool()], expected[mask.bool()], atol=1e-5)


def test_its_gradients_are_those_of_transformers():
    models = [AutoModelForCausalLM.from_pretrained(STARTER) for _ in range(2)]
    read_in_place(models[1])
    ids, mask = torch.arange(5, 21).reshape(2, 8), torch.ones(2, 8, dtype=torch.long)
    mask[0, :3] = 0

    for model in models:
        model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()

    expected, found = (model.model.layers[0].self_attn.k_proj.weight.grad for model in models)
    assert expected.abs().max() > 0
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "flex_attention"])
def test_a_model_that_attends_in_another_way_is_left_as_it_is(attention):
    config = Qwen2Config(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=32
    )
    config._attn_implementation = attention
    model = Qwen2ForCausalLM(config)

    read_in_place(model)

    assert model.config._attn_implementation == attention
