"""Base models: any folder or cached Hugging Face model becomes the first version of its line."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from labeling.engines.faithful import made_with
from labeling.engines.model_folder import base_fingerprint, check_model_folder, served_context
from labeling.engines.template import read_template
from storage import model_versions
from storage.database import Database
from storage.errors import BadInput, ModelNotLoadable
from storage.records import ModelVersion


def add_base(
    database: Database, path_or_hub_id: str, *, version_id: str = "", served: bool = True, note: str = ""
) -> ModelVersion:
    """Stores a model as a version without a parent. Raises ModelNotLoadable, BadInput for one that is there already."""
    folder = check_model_folder(path_or_hub_id)
    if there := already_there(database, str(folder)):
        raise BadInput(f"{folder} is here already, as {there.id}.")
    taken = {one.id for one in model_versions.list_all(database)}
    template, _, _ = read_template(folder)
    version = ModelVersion(
        id=version_id or _free_name(_name_in(path_or_hub_id) or folder.name, taken),
        base_path=str(folder),
        adapter_path=None,
        parent_id=None,
        run_id=None,
        template=template,
        fingerprint=base_fingerprint(folder),
        context_length=served_context(folder),
        served=served,
        note=note,
    )
    return model_versions.add(database, version, made_with(folder, template))


def note_what_was_not_noted(database: Database) -> None:
    """Of versions that an older Plumbline stored: what they are made with now, for want of what they were made with."""
    noted = model_versions.made_with(database)
    for version in model_versions.list_all(database):
        if not (version.id in noted and noted[version.id].base):
            with suppress(ModelNotLoadable, OSError, ValueError):  # said where the version is to be served
                model_versions.note_made_with(database, version.id, made_with(version.base_path, version.template))


def already_there(database: Database, path_or_hub_id: str) -> ModelVersion | None:
    """The version that this model was stored as. Raises ModelNotLoadable."""
    folder = str(check_model_folder(path_or_hub_id))
    bases = (version for version in model_versions.list_all(database) if version.parent_id is None)
    return next((version for version in bases if version.base_path == folder), None)


def _name_in(path_or_hub_id: str) -> str:
    """The last part of what was given: the cache keeps a hub model in a folder named after a commit."""
    return Path(path_or_hub_id.strip()).name


def _free_name(name: str, taken: set[str]) -> str:
    name = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.") or "base"
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(one for one in numbered if one not in taken)
