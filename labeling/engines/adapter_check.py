"""May this adapter be put on this base?

vLLM loads an adapter of another base with 200 and answers with nonsense from then on, and PEFT lets one with
`modules_to_save` break all the others. So an adapter is read before it is loaded: its config, and the header of its
weights. Standard library only. Where vLLM has a status and a sentence for a refusal, it is repeated here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from labeling.engines.model_folder import BASE_MARK
from labeling.engines.tensor_file import tensor_shapes

Shape = tuple[int, int]
HEAD = "score"
HEADS = frozenset({HEAD, "classifier"})  # PEFT notes both names for a sequence classifier, whichever it has


class AdapterRefused(Exception):
    """Why an adapter cannot be served, with the status a route answers with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_adapter(
    folder: Path, linear_shapes: Mapping[str, Shape] | None, max_rank: int, base_fingerprint: str
) -> None:
    """Raises AdapterRefused unless the LoRA in `folder` fits the base.

    linear_shapes: the linear layers of the base that an adapter may change, name → (in, out); None where the adapter
    is known by its mark.
    """
    config = _read_config(folder)
    _check_kind(config, max_rank)
    _check_fingerprint(folder, base_fingerprint)
    tensors = _read_shapes(folder / "adapter_model.safetensors")
    if linear_shapes is not None:
        _check_shapes(config, tensors, linear_shapes)


def check_reward_adapter(folder: Path, base_fingerprint: str) -> None:
    """Raises AdapterRefused unless `folder` holds a reward model's adapter for this base: a LoRA, and the head.

    Its shapes are left to PEFT: it has a server of its own, and can break no other.
    """
    config = _read_config(folder)
    saved = set(config.get("modules_to_save") or ())
    if HEAD not in saved or not saved <= HEADS:
        raise AdapterRefused(
            400,
            f"The adapter in {folder} is no reward model: a reward model keeps its head ({HEAD}) in modules_to_save, "
            f"and this one has {sorted(saved) or 'nothing'} there.",
        )
    if f"base_model.model.{HEAD}.weight" not in _read_shapes(folder / "adapter_model.safetensors"):
        raise AdapterRefused(400, f"The adapter in {folder} names a head, and holds no weights of one.")
    _check_fingerprint(folder, base_fingerprint)


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "adapter_config.json"
    if not file.is_file():
        raise AdapterRefused(404, f"No adapter found for {folder}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AdapterRefused(500, f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise AdapterRefused(400, f"{file} does not describe a LoRA adapter; only those can be served.")
    return config


def _check_kind(config: Mapping[str, Any], max_rank: int) -> None:
    """What this LoRA is made of, as vLLM refuses it."""
    rank = max([config.get("r") or 0, *(config.get("rank_pattern") or {}).values()])
    if HEAD in (config.get("modules_to_save") or ()):
        raise AdapterRefused(400, "This adapter is a reward model: it scores answers and gives none.")
    if config.get("modules_to_save"):
        raise AdapterRefused(500, 'vLLM only supports modules_to_save being either None or ["classifier", "score"]')
    if config.get("use_dora"):
        raise AdapterRefused(500, "vLLM does not yet support DoRA.")
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        raise AdapterRefused(500, "Adapter bias is not supported.")
    if config.get("trainable_token_indices"):
        raise AdapterRefused(500, "Trainable tokens are not supported.")
    if rank > max_rank:
        raise AdapterRefused(500, f"LoRA rank {rank} is greater than max_lora_rank {max_rank}.")


def _check_fingerprint(folder: Path, base_fingerprint: str) -> None:
    """A run may leave a mark of the base it trained on. Shapes alone cannot tell two bases of one family apart."""
    mark = folder / BASE_MARK
    if not mark.is_file():
        return
    try:
        trained_on = json.loads(mark.read_text(encoding="utf-8"))["fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterRefused(500, f"{mark} cannot be read: {error}") from error
    if trained_on != base_fingerprint:
        raise AdapterRefused(
            400,
            f"The adapter in {folder} was trained on another base than the one served here; "
            "its weights would mean nothing on it.",
        )


def _read_shapes(file: Path) -> dict[str, Shape]:
    """Tensor name → shape."""
    if not file.is_file():
        raise AdapterRefused(404, f"No adapter found for {file.parent}: it holds no {file.name}")
    try:
        return {name: cast("Shape", shape) for name, shape in tensor_shapes(file).items()}
    except ValueError as error:
        raise AdapterRefused(500, str(error)) from error


def _check_shapes(config: Mapping[str, Any], tensors: Mapping[str, Shape], linear_shapes: Mapping[str, Shape]) -> None:
    """Every pair A (rank, in), B (out, rank) has its layer in the base, and every layer that is meant has its pair."""
    changed = {_layer_of(name) for name in tensors}
    for layer in sorted(changed):
        inputs, outputs = _in_and_out(layer, tensors)
        base = linear_shapes.get(layer)
        if base is None and layer.rsplit(".", 1)[-1] in ("lm_head", "embed_tokens", "wte"):
            kinds = sorted({name.rsplit(".", 1)[-1] for name in linear_shapes})
            raise AdapterRefused(500, f"expected target modules in {kinds} but received [{layer!r}]")
        if base != (inputs, outputs):
            raise AdapterRefused(
                400,
                f"This adapter belongs to another base model: its layer {layer} is {inputs} to {outputs}, "
                + (f"here it is {base[0]} to {base[1]}." if base else "here there is no such layer."),
            )
    missing = _meant(config, linear_shapes) - changed
    if missing:
        raise AdapterRefused(
            400,
            f"This adapter belongs to another base model, or is incomplete: it changes {len(changed)} layers "
            f"and has nothing for {len(missing)} more of this base, {min(missing)} among them.",
        )


def _layer_of(tensor: str) -> str:
    layer, found, _ = tensor.removeprefix("base_model.model.").partition(".lora_")
    if not found:
        raise AdapterRefused(500, f"expected only LoRA weights in the adapter, but received {tensor!r}")
    return layer


def _in_and_out(layer: str, tensors: Mapping[str, Shape]) -> Shape:
    name = f"base_model.model.{layer}.lora_%s.weight"
    a, b = tensors.get(name % "A"), tensors.get(name % "B")
    if a is None or b is None or len(a) != 2 or len(b) != 2 or a[0] != b[1]:
        raise AdapterRefused(500, f"The weights of the adapter for {layer} are no pair of matrices that fit.")
    return a[1], b[0]


def _meant(config: Mapping[str, Any], linear_shapes: Mapping[str, Shape]) -> set[str]:
    """The layers of this base that the config names, where it names them plainly."""
    targets = config.get("target_modules")
    narrowed = config.get("layers_to_transform") is not None or config.get("exclude_modules")
    if not isinstance(targets, list) or narrowed:
        return set()
    return {layer for layer in linear_shapes for target in targets if f".{layer}".endswith(f".{target}")}
