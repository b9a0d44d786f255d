"""Is what would be served what was trained? Asked of every version before a server answers as it.

A version is immutable, and its weights, its base and its tokenizer are files that anybody can change. vLLM loads an
adapter of another base without a word, and keeps what it has computed by name and path: new weights at an old path
would be answered with old keys and values. So the fingerprints that were stored with the version are taken again.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labeling.engines.adapter_check import AdapterRefused, Shape, check_adapter
from labeling.engines.base_layers import linear_layers
from labeling.engines.model_folder import BASE_MARK, base_fingerprint, tokenizer_fingerprint
from storage import snapshots
from storage.errors import ModelNotLoadable

_ANY_RANK = sys.maxsize  # the server says itself when it has been started for less
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Trained:
    """What was noted when a version was stored; empty where nothing was."""

    weights: str = ""  # of the adapter; of the base where there is none
    tokenizer: str = ""
    template: str = ""


@dataclass(frozen=True)
class Base:
    """A base as it lies on disk now."""

    folder: Path
    fingerprint: str
    tokenizer: str
    layers: Mapping[str, Shape]

    @classmethod
    def read(cls, folder: Path) -> Base:
        return cls(folder, base_fingerprint(folder), tokenizer_fingerprint(folder), linear_layers(folder))


def template_fingerprint(template: str) -> str:
    return f"sha256:{hashlib.sha256(template.encode()).hexdigest()}"


def refuse_other(name: str, trained: Trained, base: Base, adapter: Path | None, template: str = "") -> None:
    """Raises ModelNotLoadable with what differs and what to do.

    template: the fingerprint of the one that prompts go through.
    """
    if trained.template and template and trained.template != template:
        raise ModelNotLoadable(
            f"{name} cannot be served: the template stored with {name} is not the one that it was trained with. Take "
            "the database from a backup, or add the model as a version of its own."
        )
    if trained.tokenizer and trained.tokenizer != base.tokenizer:
        raise ModelNotLoadable(
            f"{name} cannot be served: the tokenizer in {base.folder} is not the one that {name} was trained with, so "
            "it would read other words. Put the old tokenizer files back."
        )
    if adapter is None:
        _refuse_changed(name, trained.weights, base.fingerprint, base.folder)
        return
    # the files of some bases have other names for their layers than the model in memory, and so than its adapters
    layers = None if (adapter / BASE_MARK).is_file() else base.layers
    try:
        check_adapter(adapter, layers, _ANY_RANK, base.fingerprint)
    except AdapterRefused as refused:
        raise ModelNotLoadable(f"{name} cannot be served. {refused}") from refused
    if trained.weights:
        _refuse_changed(name, trained.weights, snapshots.fingerprint(adapter / WEIGHTS), adapter)


def _refuse_changed(name: str, trained: str, found: str, where: Path) -> None:
    if trained and trained != found:
        raise ModelNotLoadable(
            f"{name} cannot be served: the weights in {where} have changed since they were stored as {name}. Put the "
            "old files back, or add the changed model as a version of its own."
        )
