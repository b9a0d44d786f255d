"""What was stored with a version against what lies on disk; servers are asked in test_supervisor.py."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from labeling.engines.faithful import Base, Trained, refuse_other, template_fingerprint
from labeling.engines.model_folder import write_base_mark
from storage.errors import ModelNotLoadable


def test_an_adapter_is_known_by_its_mark_or_else_by_the_shapes_of_its_layers(
    base_folder: Path, adapter_folders: dict[str, Path], tmp_path: Path
):
    # given a base whose files name its layers otherwise than the adapter does
    base = Base.read(base_folder)
    renamed = replace(base, layers={f"language_{name}": shape for name, shape in base.layers.items()})
    marked = Path(shutil.copytree(adapter_folders["fox"], tmp_path / "marked"))
    write_base_mark(marked, base_folder)
    # then without a mark it is taken for another base's, and with the mark of this base for what it is
    with pytest.raises(ModelNotLoadable, match=r"v1 cannot be served\. This adapter belongs to another base"):
        refuse_other("v1", Trained(), renamed, adapter_folders["fox"])
    refuse_other("v1", Trained(), renamed, marked)
    refuse_other("v1", Trained(), base, adapter_folders["fox"])


def test_a_template_that_was_changed_behind_the_versions_back_is_said(base_folder: Path):
    base, trained = Base.read(base_folder), Trained(template=template_fingerprint("{{ a }}"))
    refuse_other("v1", trained, base, None, template_fingerprint("{{ a }}"))
    with pytest.raises(ModelNotLoadable, match="the template stored with v1 is not the one that it was trained with"):
        refuse_other("v1", trained, base, None, template_fingerprint("{{ b }}"))


def test_templates_that_differ_in_a_space_have_other_fingerprints():
    assert template_fingerprint("{{ a }}") != template_fingerprint("{{ a }} ") == template_fingerprint("{{ a }} ")
