"""Base models: any folder or cached Hugging Face model becomes the first version of its line."""

from __future__ import annotations

import json
import re
from pathlib import Path

from labeling.engines.model_folder import base_fingerprint, check_model_folder
from labeling.engines.template import read_template
from storage import model_versions
from storage.database import Database
from storage.errors import BadInput
from storage.records import ModelVersion

CONTEXT_UNKNOWN = 2048
LONGEST_CONTEXT = 4096  # what a server is started with at most: memory for keys and values grows with it


def add_base(
    database: Database, path_or_hub_id: str, *, version_id: str = "", served: bool = True, note: str = ""
) -> ModelVersion:
    """Stores a model as a version without a parent. Raises ModelNotLoadable, BadInput for one that is there already."""
    folder = check_model_folder(path_or_hub_id)
    there = model_versions.list_all(database)
    for version in there:
        if version.base_path == str(folder) and version.parent_id is None:
            raise BadInput(f"{folder} is here already, as {version.id}.")
    template, _, _ = read_template(folder)
    version = ModelVersion(
        id=version_id or _free_name(folder.name, {one.id for one in there}),
        base_path=str(folder),
        adapter_path=None,
        parent_id=None,
        run_id=None,
        template=template,
        fingerprint=base_fingerprint(folder),
        context_length=_context_length(folder),
        served=served,
        note=note,
    )
    return model_versions.add(database, version)


def _context_length(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_text())
    return min(int(config.get("max_position_embeddings", CONTEXT_UNKNOWN)), LONGEST_CONTEXT)


def _free_name(name: str, taken: set[str]) -> str:
    name = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-") or "base"
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(one for one in numbered if one not in taken)
