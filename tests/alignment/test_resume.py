"""A run that was stopped, or killed, and goes on ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from alignment import run_directory
from alignment.methods.base import Parent
from alignment.run_directory import CHECKPOINTS, COMPLETE, METRICS, MODEL, SAMPLES
from alignment.train import cut_back
from storage import runs
from storage.errors import RunFailed
from tests.alignment.conftest import Lab
from tests.alignment.in_process import parent_of, same_bits, train

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "pretrain": ("pretrain", {"batch_size": 1, "epochs": 1}),
    "sft": ("sft", {"epochs": 1}),
    "dpo, two epochs": ("dpo", {"epochs": 2}),
    "dpo, batches added up": ("dpo", {"batch_size": 2, "accumulate": 2, "epochs": 1}),
    "dpo, all weights": ("dpo", {"tuning": "full", "learning_rate": 1e-4, "epochs": 1}),
    "kto, at the end of an epoch": ("kto", {"epochs": 2}),
    "orpo": ("orpo", {"epochs": 1}),
}


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first_round")
    train("sft", parent_of(tiny_base), folder, epochs=1)
    return folder / MODEL


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_goes_on_ends_with_the_same_bits(case: str, tiny_base: Path, tmp_path: Path):
    name, settings = CASES[case]
    check(name, parent_of(tiny_base), tmp_path, {**settings, "evaluations": 2})


@pytest.mark.parametrize("name", ["dpo", "kto", "sft"])
def test_from_a_parent_with_an_adapter_too(name: str, tiny_base: Path, adapter: Path, tmp_path: Path):
    """transformers would load the reference alone from a checkpoint that holds it beside the trained adapter."""
    check(name, parent_of(tiny_base, adapter), tmp_path, {"epochs": 1, "batch_size": 4})


def check(name: str, parent: Parent, folder: Path, settings: dict[str, Any]) -> None:
    """Uninterrupted, against stopped in the middle of an epoch and gone on with."""
    heard, final = train(name, parent, folder / "whole", **settings)
    before, nothing = train(name, parent, folder / "parts", stop_at=5, **settings)
    after, final_after = train(name, parent, folder / "parts", **settings)
    assert before.step == 5 and not nothing
    assert same_bits(folder / "whole" / MODEL, folder / "parts" / MODEL)
    assert before.series("loss") + after.series("loss") == heard.series("loss")
    assert before.series("eval_loss") + after.series("eval_loss") == heard.series("eval_loss")
    assert final_after == final


def test_the_best_checkpoint_and_patience_outlive_an_interruption(tiny_base: Path, tmp_path: Path):
    """Nothing gets better at this rate after the first measurements, so the run ends early and takes an old one."""
    settings: dict[str, Any] = {"learning_rate": 0.05, "evaluations": 8, "patience": 1, "epochs": 3}
    heard, final = train("dpo", parent_of(tiny_base), tmp_path / "whole", **settings)
    train("dpo", parent_of(tiny_base), tmp_path / "parts", stop_at=heard.step - 1, **settings)
    _, again = train("dpo", parent_of(tiny_base), tmp_path / "parts", **settings)
    assert heard.step < 27 and final["chosen_step"] < heard.step
    assert again == final and same_bits(tmp_path / "whole" / MODEL, tmp_path / "parts" / MODEL)
    shutil.rmtree(tmp_path / "parts" / MODEL)  # killed after its last checkpoint, while it wrote the result
    _, once_more = train("dpo", parent_of(tiny_base), tmp_path / "parts", **settings)
    assert once_more == final and same_bits(tmp_path / "whole" / MODEL, tmp_path / "parts" / MODEL)


def test_a_checkpoint_that_cannot_be_read_ends_the_run_with_a_sentence(tiny_base: Path, tmp_path: Path):
    train("sft", parent_of(tiny_base), tmp_path, stop_at=3)
    weights = tmp_path / CHECKPOINTS / "checkpoint-3" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(RunFailed, match=r"checkpoint-3 cannot be read .* from the beginning"):
        train("sft", parent_of(tiny_base), tmp_path)


def test_curves_are_cut_back_to_the_checkpoint(tmp_path: Path):
    path = tmp_path / METRICS
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    assert cut_back(path, 2) == [{"step": 1}, {"step": 2}]
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    assert cut_back(path, -1) == [] and path.read_text() == ""
    assert cut_back(tmp_path / "none.jsonl", 2) == []


def test_a_run_killed_in_the_middle_goes_on_from_its_last_whole_checkpoint(training_lab: Lab):
    """And leaves the same adapter, the same points and the same samples as one that was left alone."""
    settings = {"epochs": 6, "evaluations": 6}
    snapshot = training_lab.freeze("preference", 40)
    whole = training_lab.start("dpo", snapshot, **settings)
    training_lab.follow_until(whole)
    killed = training_lab.start("dpo", snapshot, **settings)
    directory = Path(killed.directory)
    training_lab.follow_until(killed, "training")
    kill_after(directory, directory / CHECKPOINTS / "checkpoint-18" / COMPLETE)
    ended = training_lab.follow_until(killed)
    assert ended.state == "killed"
    run_directory.reopen(directory)
    (directory / CHECKPOINTS / "checkpoint-999").mkdir()  # half written: it is no checkpoint
    runs.set_state(training_lab.database, killed.id, "waiting", message="")
    again = training_lab.follow_until(killed)
    assert again.state == "succeeded", again.message
    assert not (directory / CHECKPOINTS / "checkpoint-999").exists()
    assert same_bits(Path(whole.directory) / MODEL, directory / MODEL)
    for name in (METRICS, SAMPLES):
        assert timeless(directory / name) == timeless(Path(whole.directory) / name)


def kill_after(directory: Path, sign: Path, patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while not sign.exists():
        assert time.monotonic() < deadline, f"{sign} never came"
        time.sleep(0.005)
    os.kill(run_directory.read_pid(directory) or 0, signal.SIGKILL)


def timeless(path: Path) -> list[dict[str, Any]]:
    """Without what differs from run to run: the clock and the memory."""
    changing = ("time", "seconds", "memory_mb", "tokens_per_second")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in changing} for line in lines]
