"""The layers of a base that an adapter may change, and the adapter that changes none of them. Standard library only.

vLLM 0.32 on a CPU answers the base with the weights of an adapter as soon as both are in one batch and every slot is
taken (https://github.com/vllm-project/vllm/pull/48421). So wherever vLLM serves adapters, the base is asked for as one
more of them, with B = 0: x W + x A 0 is x W, bit for bit. Where it cannot be, the base is refused: whether a server
computes on a processor, and what else it has in its batches, cannot be seen from outside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

from labeling.engines.adapter_check import Shape
from labeling.engines.tensor_file import tensor_shapes
from storage.errors import ModelNotLoadable

_NOT_ADAPTED = ("lm_head", "embed_tokens", "wte", "wpe")
_INPUTS_FIRST = {"gpt2"}  # families whose weights are (in, out), where the others have (out, in)
_FLOAT_BYTES = 4
_NO_ADAPTERS = re.compile(r'"detail":\s*"Not Found"|LoRA is not enabled')


def linear_layers(base: Path) -> dict[str, Shape]:
    """Name → (in, out), read from the headers of the weights."""
    turned = json.loads((base / "config.json").read_text(encoding="utf-8")).get("model_type") in _INPUTS_FIRST
    return {
        name: (shape[0], shape[1]) if turned else (shape[1], shape[0])
        for name, shape in _weights(base)
        if len(shape) == 2 and name.rsplit(".", 1)[-1] not in _NOT_ADAPTED
    }


def write_untrained_adapter(folder: Path, base: Path) -> Path:
    """An adapter on the first kind of layer that the base has in every block, rank 1, all zeros."""
    layers = linear_layers(base)
    kind = next((name for name in layers if name.endswith("q_proj")), min(layers)).rsplit(".", 1)[-1]
    chosen = {name: shape for name, shape in layers.items() if name.rsplit(".", 1)[-1] == kind}
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1, "target_modules": [kind]}
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "adapter_config.json", json.dumps(config | {"bias": "none"}).encode())
    _write(folder / "adapter_model.safetensors", _zeros(dict(_pairs(chosen))))
    return folder


def takes_no_adapters(refusal: str) -> bool:
    """Whether a vLLM that refused an adapter takes none at all: its route is not there, or LoRA is not switched on."""
    return bool(_NO_ADAPTERS.search(refusal))


def no_base_beside_adapters(version_id: str, url: str, untrained: Path, refused: ModelNotLoadable) -> ModelNotLoadable:
    return ModelNotLoadable(
        f"{version_id} is the base itself, and the vLLM at {url} did not take the adapter that stands for it. "
        f"{refused} Under its own name a base may be answered with the weights of an adapter in the same batch (vLLM "
        f"does that on a processor), so it is not asked. Let the server read {untrained} under this path, or start it "
        "without --enable-lora."
    )


def _write(file: Path, content: bytes) -> None:
    """Whole, and only where it is not there already: a server that has put it aside may be reading it."""
    if not file.is_file() or file.read_bytes() != content:
        part = file.with_suffix(".part")
        part.write_bytes(content)
        part.replace(file)


def _weights(base: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    for file in sorted(base.glob("*.safetensors")):
        for name, shape in tensor_shapes(file).items():
            if name.endswith(".weight"):
                yield name.removesuffix(".weight"), shape


def _pairs(layers: Mapping[str, Shape]) -> Iterator[tuple[str, Shape]]:
    for name, (inputs, outputs) in layers.items():
        yield f"base_model.model.{name}.lora_A.weight", (1, inputs)
        yield f"base_model.model.{name}.lora_B.weight", (outputs, 1)


def _zeros(shapes: Mapping[str, Shape]) -> bytes:
    """A safetensors file of float32 tensors that are all zero."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + _FLOAT_BYTES * prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(end)
