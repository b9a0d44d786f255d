"""A model becomes a version under the name it was given by."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from alignment import base_models
from alignment.base_models import add_base, already_there, note_what_was_not_noted
from labeling.engines import model_folder
from labeling.engines.faithful import made_with
from storage import model_versions
from storage.errors import BadInput
from storage.model_versions import MadeWith
from tests import makers
from tests.alignment import tiny_model
from tests.alignment.conftest import Lab


@pytest.fixture
def hub(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds every model, in a folder named after a commit, as the hub's does."""
    commit = tmp_path / "snapshots" / "7ae557604adf67be50417f59c2c2f167def9a775"
    commit.parent.mkdir()
    commit.symlink_to(tiny_base)
    monkeypatch.setattr(model_folder, "snapshot_download", lambda *_, **__: str(commit))
    return commit


@pytest.mark.usefixtures("hub")
def test_a_hub_model_is_named_after_its_id(lab: Lab):
    assert add_base(lab.database, "Qwen/Qwen2.5-0.5B").id == "qwen2.5-0.5b"


def test_a_folder_is_named_after_its_last_part(lab: Lab, tiny_base: Path):
    assert add_base(lab.database, f" {tiny_base}/ ").id == base_models._free_name(tiny_base.name, set())


def test_a_folder_given_as_a_dot_is_named_after_itself(lab: Lab, tiny_base: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tiny_base)
    assert add_base(lab.database, ".").id == base_models._free_name(tiny_base.name, set())


def test_a_model_that_is_there_is_found_however_it_is_written_and_refused_a_second_time(lab: Lab, tiny_base: Path):
    assert already_there(lab.database, str(tiny_base)) is None
    added = add_base(lab.database, str(tiny_base))
    assert already_there(lab.database, f"{tiny_base}/") == added
    with pytest.raises(BadInput, match=f"is here already, as {added.id}"):
        add_base(lab.database, str(tiny_base))
    assert [one.id for one in model_versions.list_all(lab.database)] == ["v0", added.id]


def test_a_version_trained_from_a_model_is_not_that_model(lab: Lab, tiny_base: Path):
    trained = makers.version("v1", parent_id="v0", base_path=str(tiny_base.resolve()), adapter_path="/adapter")
    model_versions.add(lab.database, trained)
    assert already_there(lab.database, str(tiny_base)) is None


def test_a_model_is_stored_with_the_context_it_is_served_with(lab: Lab, tiny_base: Path):
    assert add_base(lab.database, str(tiny_base)).context_length == 128


def test_a_model_is_stored_with_what_it_is_made_of(lab: Lab, tiny_base: Path):
    added = add_base(lab.database, str(tiny_base))
    assert model_versions.made_with(lab.database)[added.id] == made_with(tiny_base, added.template)
    assert model_versions.made_with(lab.database)[added.id].base == added.fingerprint


def test_what_an_older_plumbline_did_not_note_is_noted_at_first_sight_and_then_stays(
    lab: Lab, tiny_base: Path, tmp_path: Path
):
    # given a version without a note, one without its base in it, and one whose base is gone
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    old = made_with(base, "{{ a }}")
    for name, path in (("v1", base), ("v2", base), ("v3", tmp_path / "gone")):
        model_versions.add(lab.database, makers.version(name, base_path=str(path), template="{{ a }}"))
    model_versions.note_made_with(lab.database, "v2", MadeWith("sha256:words", old.template))
    # when they are seen, the base changes, and they are seen again
    note_what_was_not_noted(lab.database)
    tiny_model.write(base, seed=1)
    note_what_was_not_noted(lab.database)
    # then the first sight counts
    noted = model_versions.made_with(lab.database)
    assert noted["v1"] == old and noted["v2"] == replace(old, tokenizer="sha256:words") and "v3" not in noted
