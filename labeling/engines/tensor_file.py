"""Names and shapes of the tensors in a safetensors file, from its header and with the standard library."""

from __future__ import annotations

import json
from pathlib import Path

_LONGEST_HEADER = 100_000_000


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Raises ValueError for a file that is cut short or is none, in the words that safetensors has for it."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header_bytes = stream.read(size) if size < _LONGEST_HEADER else b""
    try:
        header = json.loads(header_bytes)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max(entry["data_offsets"][1] for entry in tensors.values())
        shapes = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"Error while deserializing header: {error}") from error
    if 8 + size + end != file.stat().st_size:
        raise ValueError("Error while deserializing header: incomplete metadata, file not fully covered")
    return shapes
