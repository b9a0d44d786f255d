"""Is what would be served what was trained? Asked of every version before a server answers as it.

A version is immutable, and its weights, its base and its tokenizer are files that anybody can change. vLLM loads an
adapter of another base without a word, and keeps what it has computed by name and path: new weights at an old path
would be answered with old keys and values. So the fingerprints that were stored with the version are taken again.

A run notes them itself, of the files that it trained with; a base, when it is added. Of versions that an older
Plumbline stored they are noted at first sight: what was changed before that cannot be told any more.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labeling.engines.adapter_check import AdapterRefused, Shape, check_adapter, check_reward_adapter
from labeling.engines.base_layers import linear_layers
from labeling.engines.model_folder import (
    BASE_MARK,
    Look,
    base_fingerprint,
    check_model_folder,
    look_of,
    tokenizer_fingerprint,
)
from labeling.engines.whole_weights import Reader
from storage import snapshots
from storage.errors import ModelNotLoadable
from storage.model_versions import MadeWith
from storage.records import ModelVersion

_ANY_RANK = sys.maxsize  # the server says itself when it has been started for less
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Trained:
    """What was noted when a version was stored; empty where nothing was."""

    weights: str = ""  # to the last byte: of the adapter, or of the whole weights that a run trained
    tokenizer: str = ""
    template: str = ""
    base: str = ""  # of the base that it stands on, or is

    @classmethod
    def of(cls, version: ModelVersion, noted: MadeWith | None) -> Trained:
        noted = noted or MadeWith("", "")
        if version.adapter_path is None and version.run_id is None:  # of an imported base, only its ends are read
            return cls("", noted.tokenizer, noted.template, version.fingerprint)
        return cls(version.fingerprint, noted.tokenizer, noted.template, noted.base)


@dataclass(frozen=True)
class Base:
    """A base as it lies on disk now."""

    folder: Path
    fingerprint: str
    tokenizer: str
    layers: Mapping[str, Shape]
    look: Look  # by which it is seen that the rest is out of date

    @classmethod
    def read(cls, folder: Path) -> Base:
        look = look_of(folder)
        return cls(folder, base_fingerprint(folder), tokenizer_fingerprint(folder), linear_layers(folder), look)


def made_with(base: str | Path, template: str) -> MadeWith:
    """Of the files as they lie there now. Raises ModelNotLoadable."""
    folder = check_model_folder(base)
    return MadeWith(tokenizer_fingerprint(folder), template_fingerprint(template), base_fingerprint(folder))


def template_fingerprint(template: str) -> str:
    return f"sha256:{hashlib.sha256(template.encode()).hexdigest()}"


def refuse_other(
    name: str,
    trained: Trained,
    base: Base,
    adapter: Path | None,
    template: str = "",
    kind: str = "policy",
    reader: Reader | None = None,
) -> None:
    """Raises ModelNotLoadable with what differs and what to do; StillReading where whole weights are to be read first.

    template: the fingerprint of the one that prompts go through.
    reader: of the base's weights, where they are a version's own.
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
    if adapter is not None:
        _refuse_other_base(name, trained, base)
        _refuse_adapter(name, trained, base, adapter, kind)
        return
    _refuse_changed(name, trained.base, base.fingerprint, base.folder)  # at once where their ends tell
    if trained.weights:
        _refuse_changed(name, trained.weights, _whole(name, reader or Reader(base.folder), base), base.folder)


def _refuse_other_base(name: str, trained: Trained, base: Base) -> None:
    if trained.base and trained.base != base.fingerprint:
        raise ModelNotLoadable(
            f"{name} cannot be served: the weights in {base.folder} are not those of the base that {name} was trained "
            "on. Put the old files back."
        )


def _whole(name: str, reader: Reader, base: Base) -> str:
    try:
        return reader.fingerprint()
    except OSError as error:
        sentence = f"{name} cannot be served: the weights in {base.folder} cannot be read ({error})."
        raise ModelNotLoadable(sentence) from error


def _refuse_adapter(name: str, trained: Trained, base: Base, adapter: Path, kind: str) -> None:
    # the files of some bases have other names for their layers than the model in memory, and so than its adapters
    layers = None if (adapter / BASE_MARK).is_file() else base.layers
    try:
        if kind == "policy":
            check_adapter(adapter, layers, _ANY_RANK, base.fingerprint)
        else:
            check_reward_adapter(adapter, base.fingerprint)
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
