"""Many LoRA adapters on one base, each row of a batch with its own.

PEFT reads the adapters and says how they are scaled. Its own way to mix them in a batch (`adapter_names`) cuts every
layer's input into one part a version; that takes more time than the base itself when the model is small. Here a layer
holds the matrices of all versions side by side, and a row sees only its own:

    base(x) + [x Aᵀ where the rank belongs to the row's version, else 0] Bᵀ

Two multiplications a layer, however many versions there are; the result is PEFT's, to the rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from labeling.engines.adapter_check import AdapterRefused, Shape, check_adapter

BASE = "__base__"
"""The version of a row without an adapter."""

_EMPTY = "empty"


class Adapters:
    """The adapters on `base`, whose layers it changes for good."""

    def __init__(self, base: nn.Module, max_rank: int, base_fingerprint: str) -> None:
        self._shapes = linear_shapes(base)
        self._max_rank = max_rank
        self._fingerprint = base_fingerprint
        # PEFT wants one adapter to begin with and always. It gets an empty one that no row uses; so a real one that
        # fails halfway, or is deleted, is never the first or the last.
        empty = LoraConfig(r=1, target_modules=[next(iter(self._shapes))])
        self._peft: Any = get_peft_model(base, empty, adapter_name=_EMPTY).eval()
        self._numbers: dict[str, int] = {}
        self._new_numbers = count(1)  # never used twice; 0 is the base
        self._batch = _BatchVersions()

    def names(self) -> set[str]:
        return set(self._numbers)

    def load(self, folder: Path) -> str:
        """Reads the adapter and returns the name that rows use.

        Raises AdapterRefused; nothing of a refused adapter stays.
        """
        check_adapter(folder, self._shapes, self._max_rank, self._fingerprint)
        number = next(self._new_numbers)
        name = f"adapter{number}"
        try:
            self._peft.load_adapter(str(folder), name)
            self._check_numbers(name)
        except Exception as error:  # whatever PEFT trips over: the file is at fault, and the others must go on
            self.delete(name)
            if isinstance(error, AdapterRefused):
                raise
            raise AdapterRefused(500, f"{type(error).__name__}: {error}") from error
        self._numbers[name] = number
        self._arrange()
        return name

    def delete(self, name: str) -> None:
        self._numbers.pop(name, None)
        if name in self._peft.peft_config:
            self._peft.delete_adapter(name)
        self._arrange()

    def choose(self, versions: Sequence[str]) -> None:
        """The next forward pass has these versions, one a row."""
        self._batch.choose([self._numbers.get(version, 0) for version in versions])

    def _check_numbers(self, name: str) -> None:
        """A row's own zeros do not hold back another's NaN: 0 times NaN is NaN."""
        for layer in self._layers():
            weights = [part[name].weight for part in (layer.lora_A, layer.lora_B) if name in part]
            if not all(torch.isfinite(weight).all() for weight in weights):
                raise AdapterRefused(400, "The adapter holds numbers that are not finite: its training has failed.")

    def _arrange(self) -> None:
        for layer in self._layers():
            # PEFT's own forward is put aside: nn.Module calls what the instance says
            layer.forward = _MixedForward(layer, self._numbers, self._batch)

    def _layers(self) -> list[Any]:
        return [module for module in self._peft.modules() if isinstance(module, LoraLayer)]


class _BatchVersions:
    """Which version each row of the running forward pass is."""

    def __init__(self) -> None:
        self.numbers: Tensor | None = None  # (rows, 1, 1); None when all are the base

    def choose(self, numbers: Sequence[int]) -> None:
        self.numbers = torch.tensor(numbers).reshape(-1, 1, 1) if any(numbers) else None


class _MixedForward:
    """One layer with the adapters of all versions."""

    def __init__(self, layer: Any, numbers: dict[str, int], batch: _BatchVersions) -> None:
        here = [name for name in numbers if name in layer.lora_A]
        self._base = layer.base_layer
        self._batch = batch
        self._empty = not here
        if here:
            ranks = [layer.lora_A[name].weight.shape[0] for name in here]
            self._a = torch.cat([layer.lora_A[name].weight for name in here]).detach().T  # (in, ranks)
            self._b = torch.cat([layer.lora_B[name].weight * layer.scaling[name] for name in here], 1).detach().T
            self._owner = torch.tensor(
                [numbers[name] for name, rank in zip(here, ranks, strict=True) for _ in range(rank)]
            )

    def __call__(self, x: Tensor) -> Tensor:
        """x: (rows, tokens, in) → (rows, tokens, out)"""
        result: Tensor = self._base(x)
        if self._empty or self._batch.numbers is None:
            return result
        mine = self._batch.numbers == self._owner  # (rows, 1, ranks)
        return result + torch.where(mine, x @ self._a, 0.0) @ self._b


def linear_shapes(base: nn.Module) -> dict[str, Shape]:
    """The layers that an adapter may change, name → (in, out): all linear ones but the output head."""
    shapes: dict[str, Shape] = {}
    for name, module in base.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            shapes[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            shapes[name] = (module.weight.shape[0], module.weight.shape[1])
    return shapes
