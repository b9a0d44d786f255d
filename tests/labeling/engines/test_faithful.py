"""What was stored with a version against what lies on disk; servers are asked in test_supervisor.py."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from labeling.engines import whole_weights
from labeling.engines.faithful import WEIGHTS, Base, Trained, refuse_other, template_fingerprint
from labeling.engines.model_folder import base_fingerprint, write_base_mark
from labeling.engines.whole_weights import Reader, StillReading, fingerprint, noted, read_and_note
from storage import snapshots
from storage.errors import ModelNotLoadable
from storage.model_versions import MadeWith
from tests.app_process import wait_until
from tests.makers import version

from .tiny_models import write_adapter, write_model, write_reward_adapter


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


# ---- the base under an adapter, and a reward model's


def test_an_adapter_without_a_mark_is_refused_on_a_base_of_the_same_shapes(
    base_folder: Path, adapter_folders: dict[str, Path], tmp_path: Path
):
    twin = write_model(tmp_path / "twin", seed=5)
    trained = Trained(base=base_fingerprint(base_folder))
    refuse_other("v1", trained, Base.read(base_folder), adapter_folders["fox"])
    with pytest.raises(ModelNotLoadable, match=f"the weights in {twin} are not those of the base that v1 was trained"):
        refuse_other("v1", trained, Base.read(twin), adapter_folders["fox"])


def test_a_reward_model_is_held_to_the_same(base_folder: Path, tmp_path: Path):
    # given a reward model, and what was noted when it was made
    adapter = write_reward_adapter(tmp_path / "reward", base_folder)
    base = Base.read(base_folder)
    trained = Trained(snapshots.fingerprint(adapter / WEIGHTS), base.tokenizer, "", base.fingerprint)
    refuse_other("v1", trained, base, adapter, kind="reward_model")
    # then another tokenizer, another base, other weights and an adapter that scores nothing are each refused
    for wrong, said in (
        (replace(trained, tokenizer="sha256:another"), "the tokenizer in"),
        (replace(trained, base="sha256:another"), "are not those of the base"),
        (replace(trained, weights="another"), "have changed since they were stored as v1"),
    ):
        with pytest.raises(ModelNotLoadable, match=said):
            refuse_other("v1", wrong, base, adapter, kind="reward_model")
    with pytest.raises(ModelNotLoadable, match="is no reward model"):
        refuse_other("v1", trained, base, write_adapter(tmp_path / "fox", base_folder, seed=1), kind="reward_model")


# ---- whole weights


def test_whole_weights_are_read_again_only_where_their_files_look_otherwise(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # given weights that were noted when they were made
    folder = Path(shutil.copytree(base_folder, tmp_path / "whole"))
    stored = read_and_note(folder)
    read: list[Path] = []
    monkeypatch.setattr(whole_weights, "fingerprint", lambda folder: read.append(folder) or fingerprint(folder))
    # when they are looked at as they are, and again with other times
    assert Reader(folder).fingerprint() == stored and not read
    os.utime(folder / "model.safetensors")
    assert Reader(folder).fingerprint() == Reader(folder).fingerprint() == stored
    # then they were read once, and noted anew
    assert read == [folder]


def test_a_byte_changed_in_the_middle_of_whole_weights_is_seen_however_old_the_file_looks(
    base_folder: Path, tmp_path: Path
):
    folder = Path(shutil.copytree(base_folder, tmp_path / "whole"))
    trained = Trained(read_and_note(folder))
    refuse_other("v1", trained, Base.read(folder), None)
    change_a_byte(folder / "model.safetensors")
    with pytest.raises(ModelNotLoadable, match="have changed since they were stored as v1"):
        refuse_other("v1", trained, Base.read(folder), None)


def test_nobody_waits_while_large_weights_are_read(base_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    folder, may_go_on = Path(shutil.copytree(base_folder, tmp_path / "whole")), threading.Event()
    monkeypatch.setattr(whole_weights, "fingerprint", lambda folder: may_go_on.wait(60) and fingerprint(folder))
    reader, trained = Reader(folder), Trained(fingerprint(folder))
    with pytest.raises(StillReading):
        refuse_other("v1", trained, Base.read(folder), None, reader=reader)
    may_go_on.set()
    wait_until("they are read", 30, lambda: noted(folder) is not None)
    refuse_other("v1", trained, Base.read(folder), None, reader=reader)


def test_a_base_that_was_imported_is_known_by_its_ends_and_a_trained_one_to_the_last_byte():
    noted = MadeWith("words", "form", "ends")
    assert Trained.of(version(fingerprint="ends"), noted) == Trained("", "words", "form", "ends")
    assert Trained.of(version(run_id="dpo-01", fingerprint="all"), noted) == Trained("all", "words", "form", "ends")
    assert Trained.of(version(run_id="dpo-01", fingerprint="all"), None) == Trained("all")


def change_a_byte(file: Path) -> None:
    """In the middle, and the time of the last change put back; the clock of the file system has gone on by then."""
    stat = file.stat()
    with file.open("r+b") as stream:
        stream.seek(stat.st_size // 2)
        byte = stream.read(1)
        stream.seek(stat.st_size // 2)
        stream.write(bytes([byte[0] ^ 1]))
    while file.stat().st_ctime_ns == stat.st_ctime_ns:  # before Linux 6.13 it stands still for milliseconds
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
