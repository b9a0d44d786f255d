"""How many parameters a model has, read from the headers of its weight files: no torch, and a few kilobytes a file."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

from labeling.engines.model_folder import check_model_folder
from storage.errors import ModelNotLoadable


def parameters(path_or_hub_id: str | Path) -> int:
    """Of a model's folder or cached hub id; 0 where the files cannot be read, which nobody is refused for."""
    try:
        folder = check_model_folder(path_or_hub_id)
        return sum(_parameters_in(file) for file in folder.glob("*.safetensors"))
    except (ModelNotLoadable, OSError, ValueError, KeyError):
        return 0


def _parameters_in(file: Path) -> int:
    """A safetensors file begins with the length of its header (8 bytes), then the header: every tensor's shape."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
