"""Attention in which several heads read the same keys and values where they lie.

Where a batch is padded, transformers first copies the keys and values for each head that shares them, at every token:
on a processor that takes several times as long as the attention itself. PyTorch's kernel reads shared ones as they are,
to the same numbers. On a GPU it would take a slower path instead, so there nothing is changed.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_without_copies"


def read_in_place(model: Any) -> None:
    """Changes how a model attends where it is on the processor and its attention is PyTorch's."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **given: Any,
) -> tuple[Tensor, None]:
    """query: (rows, heads, new, width); key, value: (rows, shared heads, old + new, width). Rare cases stay theirs."""
    is_rare = any(given.get(name) is not None for name in ("position_bias", "cache"))
    if attention_mask is None or query.shape[1] == key.shape[1] or is_rare:
        theirs: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **given
        )
        return theirs
    read = scaled_dot_product_attention(query, key, value, attention_mask, dropout, scale=scaling, enable_gqa=True)
    return read.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
