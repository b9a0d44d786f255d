"""Is this a model we can load, and which one is it? Standard library and huggingface_hub's cache only.

Asked before a server is started, so that a wrong path is answered in a sentence at once and not by a process that dies
after ten seconds. A Hugging Face id is looked up in the cache; it is downloaded only where the hub is switched on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from labeling.engines import whole_weights
from labeling.engines.tensor_file import tensor_shapes
from storage.errors import ModelNotLoadable

BASE_MARK = "base.json"
"""Beside an adapter: `{"fingerprint": …}` of the base it was trained on."""

CONTEXT_UNKNOWN = 2048
LONGEST_CONTEXT = 4096  # what a server is started with at most: memory for keys and values grows with it

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
_PIECE = 1 << 20
_READ_FROM = (".safetensors", ".json", ".jinja", ".model", ".txt")
_NOT_READ = (whole_weights.NOTE,)


def check_model_folder(path_or_hub_id: str | Path) -> Path:
    """The folder of a model given as a local path or as a Hugging Face id that is in the cache.

    Raises ModelNotLoadable that says what was looked for, where, and what to do.
    """
    given = str(path_or_hub_id).strip()
    folder = Path(given).expanduser()
    if folder.is_file():
        raise ModelNotLoadable(
            f"{folder} is a file. Give the folder that holds config.json and *.safetensors; "
            "single-file formats (GGUF, ONNX) cannot be trained and are not read."
        )
    if not folder.is_dir():
        folder = _cached(given)
    _check_config(folder)
    _check_weights(folder)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelNotLoadable(
            f"{folder} has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}). "
            "Copy the tokenizer of the model into it: tokenizer.save_pretrained(folder)."
        )
    return folder.resolve()


def context_length(folder: str | Path) -> int:
    """How many tokens the model in `folder` was made for, under the names that families of models have for it."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config") or {}  # of a model that reads more than text
    named = (config.get("max_position_embeddings"), config.get("n_positions"), text.get("max_position_embeddings"))
    return next((int(length) for length in named if length), CONTEXT_UNKNOWN)


def served_context(folder: str | Path) -> int:
    """How many tokens prompt and answer may have together when we serve the model in `folder`."""
    return min(context_length(folder), LONGEST_CONTEXT)


def base_fingerprint(folder: str | Path) -> str:
    """Tells one base from another by its weights.

    Of each weight file the size, and the first and last megabyte are read: the first begins with the names and shapes
    of all tensors, and a fine-tuned twin differs in its last ones. config.json is left out: it notes the version that
    saved it.
    """
    digest = hashlib.sha256()
    for file in sorted(Path(folder).glob("*.safetensors")):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_PIECE))
            stream.seek(max(stream.tell(), file.stat().st_size - _PIECE))
            digest.update(stream.read(_PIECE))
    return f"sha256:{digest.hexdigest()}"


Look = tuple[tuple[str, int, int], ...]


def look_of(folder: str | Path) -> Look:
    """Name, size and time of the last change of each file that a model or an adapter is read from.

    It tells without reading them whether they were changed since somebody looked; nothing where the folder is gone.
    """
    found = []
    for file in sorted(Path(folder).glob("*")):
        if file.suffix in _READ_FROM and file.name not in _NOT_READ:
            with suppress(FileNotFoundError):  # gone since it was listed
                found.append((file.name, file.stat().st_size, file.stat().st_mtime_ns))
    return tuple(found)


def tokenizer_fingerprint(folder: str | Path) -> str:
    """Equal for two models that read a text as the same tokens: what tokens there are, and how a text is split.

    Settings that a library writes along (padding, truncation, its version) are left out.
    """
    digest = hashlib.sha256()
    for name in _TOKENIZER_FILES:
        file = Path(folder) / name
        if not file.is_file():
            continue
        if name == "tokenizer.json":
            read = json.loads(file.read_text(encoding="utf-8"))
            parts = {part: read.get(part) for part in ("added_tokens", "normalizer", "pre_tokenizer", "model")}
            parts["model"] = {name: value for name, value in parts["model"].items() if value}  # null is "", saved again
            digest.update(json.dumps(parts, sort_keys=True).encode())
            break  # the others hold the same in an older form, where they are there at all
        digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def write_base_mark(adapter_folder: str | Path, base_folder: str | Path) -> None:
    """Note beside an adapter which base it was trained on, so that no server puts it on another."""
    mark = {"fingerprint": base_fingerprint(base_folder)}
    (Path(adapter_folder) / BASE_MARK).write_text(json.dumps(mark) + "\n", encoding="utf-8")


def _cached(given: str) -> Path:
    if not _HUB_ID.fullmatch(given):
        raise ModelNotLoadable(
            f"There is no folder {Path(given).expanduser().absolute()}, and {given!r} is not a Hugging Face id "
            "(owner/name). Check the spelling, or give the full path of the model's folder."
        )
    try:
        return Path(snapshot_download(given, local_files_only=_hub_is_off(), allow_patterns=_WANTED))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        way = "Start with HF_HUB_OFFLINE=0 to download it" if _hub_is_off() else f"The hub could not give it ({error})"
        raise ModelNotLoadable(
            f"There is no folder {given}, and the Hugging Face cache {constants.HF_HUB_CACHE} does not hold {given}. "
            f"{way}, or give the path of a local folder."
        ) from error


def _hub_is_off() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _check_config(folder: Path) -> None:
    file = folder / "config.json"
    if not file.is_file():
        hint = ""
        if (folder / "adapter_config.json").is_file():
            hint = " It holds an adapter: give the folder of its base model here."
        raise ModelNotLoadable(f"{folder} has no config.json, so it is not a model.{hint}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelNotLoadable(f"{file} cannot be read as JSON ({error}). Copy or download it again.") from error
    if not isinstance(config, dict) or not config.get("model_type"):
        raise ModelNotLoadable(f"{file} names no model_type, so transformers cannot tell what to build from it.")


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    wanted = {"model.safetensors"}
    if index.is_file():
        try:
            wanted = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelNotLoadable(f"{index} cannot be read ({error}). Copy or download it again.") from error
    missing = sorted(name for name in wanted if not (folder / name).is_file())
    if not missing:
        return _check_whole(folder, wanted)
    found = sorted(file.name for kind in ("*.bin", "*.gguf", "*.pt", "*.pth", "*.onnx") for file in folder.glob(kind))
    if found:
        raise ModelNotLoadable(
            f"{folder} has its weights as {found[0]}, a format that is not read here. "
            "Convert them: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder) writes safetensors."
        )
    raise ModelNotLoadable(
        f"{folder} has no {missing[0]}"
        + (f" ({len(missing)} of {len(wanted)} weight files are missing)" if len(wanted) > 1 else "")
        + ": the download is incomplete, or this is not a model's folder."
    )


def _check_whole(folder: Path, weight_files: Iterable[str]) -> None:
    """A copy that was cut short looks like a model until a server has spent half a minute on it."""
    for name in sorted(weight_files):
        try:
            tensor_shapes(folder / name)
        except ValueError as error:
            raise ModelNotLoadable(
                f"{folder / name} is damaged or cut short ({error}). Copy or download it again."
            ) from error
