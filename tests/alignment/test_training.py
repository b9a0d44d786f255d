"""Real runs on a tiny model, each in a process of its own: the failures that a loss curve does not show."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from alignment import progress, run_directory, run_queue
from alignment.train import fingerprint_of
from labeling.engines.faithful import template_fingerprint
from labeling.engines.model_folder import base_fingerprint, tokenizer_fingerprint
from labeling.engines.whole_weights import noted
from storage import model_versions
from storage.model_versions import MadeWith
from storage.records import ModelVersion, Run
from tests.alignment.conftest import BAD, GOOD, Lab, question

LEARNING_RATE = 2e-3


@pytest.fixture(scope="module")
def first_round(training_lab: Lab) -> Run:
    snapshot = training_lab.freeze("preference")
    return training_lab.follow_until(training_lab.start("dpo", snapshot, learning_rate=LEARNING_RATE))


@pytest.fixture(scope="module")
def second_round(training_lab: Lab, first_round: Run) -> Run:
    assert first_round.version_id
    snapshot = training_lab.freeze("preference")
    started = training_lab.start("dpo", snapshot, parent=first_round.version_id, learning_rate=LEARNING_RATE)
    return training_lab.follow_until(started)


def version_of(lab: Lab, run: Run) -> ModelVersion:
    assert run.state == "succeeded", run.message
    assert run.version_id
    return model_versions.get(lab.database, run.version_id)


def points_of(run: Run) -> list[dict[str, float]]:
    return [dict(point) for point in progress.read_progress(Path(run.directory)).points]


def log_probability(base: str, adapter: str | None, answer: str) -> float:
    """Of the whole answer, its end included, worked out without TRL."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter) if adapter else model
    prompt = tokenizer.apply_chat_template(question(1), add_generation_prompt=True, return_dict=True)["input_ids"]
    completion = tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    ids = torch.tensor([prompt + completion])
    with torch.no_grad():
        scores = model.eval()(input_ids=ids).logits.log_softmax(-1)
    chosen = scores[0, :-1].gather(1, ids[0, 1:, None])[len(prompt) - 1 :]
    return float(chosen.sum())


def margin(base: str, adapter: str | None, reference: str | None, beta: float = 0.1) -> float:
    """beta * ((log pi(good) - log ref(good)) - (log pi(bad) - log ref(bad))), Eq. 7 of arXiv:2305.18290."""
    good = log_probability(base, adapter, GOOD) - log_probability(base, reference, GOOD)
    bad = log_probability(base, adapter, BAD) - log_probability(base, reference, BAD)
    return beta * (good - bad)


def test_a_run_becomes_a_version_with_parent_and_template(training_lab: Lab, first_round: Run):
    version = version_of(training_lab, first_round)
    parent = model_versions.get(training_lab.database, "v0")
    assert (version.id, version.parent_id, version.run_id) == ("v1", "v0", first_round.id)
    assert (version.template, version.base_path, version.served) == (parent.template, parent.base_path, True)
    assert "Trained on 24 pairs" in first_round.message and "gained a margin" in first_round.message


def test_what_is_served_is_the_adapter_alone(training_lab: Lab, first_round: Run, second_round: Run):
    for run in (first_round, second_round):
        folder = Path(version_of(training_lab, run).adapter_path or "")
        assert {"adapter_model.safetensors", "adapter_config.json"} <= {path.name for path in folder.iterdir()}
        assert not (folder / "ref").exists()


def test_the_progress_shows_every_step_and_the_answers_as_they_change(first_round: Run):
    seen = progress.read_progress(Path(first_round.directory))
    assert [point["step"] for point in seen.points] == list(range(1, 13))  # 24 pairs / 4 * 2
    assert {"loss", "grad_norm", "learning_rate", "rewards/margins", "tokens_per_second"} <= set(seen.points[0])
    assert sorted({sample.step for sample in seen.samples}) == [0, 3, 6, 9, 12]
    assert {sample.prompt_index for sample in seen.samples} == {0, 1, 2}
    assert (seen.state, seen.fraction, seen.seconds_left) == ("succeeded", 1.0, None)


def test_chosen_and_rejected_are_not_swapped_and_the_reference_stayed(training_lab: Lab, first_round: Run):
    """The margin worked out from the files alone, base as reference, is the one the trainer reported."""
    version = version_of(training_lab, first_round)
    measured = margin(version.base_path, version.adapter_path, None)
    reported = points_of(first_round)[-1]["rewards/margins"]
    assert measured > 0.1
    assert measured == pytest.approx(reported, rel=0.2)  # the last step comes after the last report


def test_a_second_round_has_its_parent_as_reference(training_lab: Lab, first_round: Run, second_round: Run):
    parent, child = version_of(training_lab, first_round), version_of(training_lab, second_round)
    assert child.parent_id == parent.id and child.fingerprint != parent.fingerprint
    assert points_of(second_round)[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)  # against the base: not 0
    reported = points_of(second_round)[-1]["rewards/margins"]
    assert margin(child.base_path, child.adapter_path, parent.adapter_path) == pytest.approx(reported, rel=0.2)


def test_the_same_seed_gives_the_same_bits(training_lab: Lab, first_round: Run):
    again = training_lab.start("dpo", training_lab.freeze("preference"), learning_rate=LEARNING_RATE)
    version = version_of(training_lab, training_lab.follow_until(again))
    assert version.fingerprint == version_of(training_lab, first_round).fingerprint


def test_kto_makes_good_answers_likelier_and_bad_ones_less(training_lab: Lab):
    run = training_lab.follow_until(
        training_lab.start("kto", training_lab.freeze("unpaired_preference", 48), learning_rate=LEARNING_RATE)
    )
    version = version_of(training_lab, run)
    assert margin(version.base_path, version.adapter_path, None) > 0.1
    assert {"kl", "rewards/chosen", "rewards/rejected"} <= {name for point in points_of(run) for name in point}


def test_sft_makes_the_demonstration_and_its_end_likelier(training_lab: Lab):
    run = training_lab.follow_until(training_lab.start("sft", training_lab.freeze("prompt_completion"), epochs=4))
    version = version_of(training_lab, run)
    before = log_probability(version.base_path, None, GOOD)
    assert log_probability(version.base_path, version.adapter_path, GOOD) > before + 3
    assert "fell from" in run.message


def test_a_version_is_stored_with_the_fingerprints_of_what_its_run_trained_with(training_lab: Lab, first_round: Run):
    version, outcome = version_of(training_lab, first_round), run_directory.read_outcome(Path(first_round.directory))
    noted = model_versions.made_with(training_lab.database)[version.id]
    assert outcome and outcome.made_with == asdict(noted)
    assert noted == MadeWith(
        tokenizer_fingerprint(version.base_path),
        template_fingerprint(version.template),
        base_fingerprint(version.base_path),
    )


def test_qlora_trains_on_squeezed_weights_and_is_served_on_the_whole_ones(training_lab: Lab):
    pytest.importorskip("bitsandbytes")
    snapshot = training_lab.freeze("preference")
    run = training_lab.follow_until(training_lab.start("dpo", snapshot, tuning="qlora", batch_size=8, epochs=3))
    version = version_of(training_lab, run)
    assert version.base_path == model_versions.get(training_lab.database, "v0").base_path
    assert margin(version.base_path, version.adapter_path, None) > 0.1


def test_full_fine_tuning_makes_a_model_of_its_own(training_lab: Lab):
    snapshot = training_lab.freeze("preference")
    run = training_lab.follow_until(training_lab.start("dpo", snapshot, tuning="full", learning_rate=1e-4))
    version = version_of(training_lab, run)
    assert version.adapter_path is None and version.base_path == str(Path(run.directory) / run_directory.MODEL)
    assert version.fingerprint == fingerprint_of(Path(version.base_path)) == noted(Path(version.base_path))
    made_with = model_versions.made_with(training_lab.database)[version.id]
    assert made_with.base == base_fingerprint(version.base_path)  # its own: it is a base now
    assert made_with.tokenizer == tokenizer_fingerprint(version.base_path)
    assert log_probability(version.base_path, None, GOOD) > log_probability(
        model_versions.get(training_lab.database, "v0").base_path, None, GOOD
    )


def test_a_run_outlives_its_app_and_stopping_it_keeps_a_checkpoint(training_lab: Lab):
    run = training_lab.start("dpo", training_lab.freeze("preference"), epochs=20)
    training_lab.follow_until(run, "training")
    directory = Path(run.directory)
    wait_for(directory / run_directory.METRICS)
    pid = run_directory.read_pid(directory) or 0
    assert os.getsid(pid) == pid != os.getsid(0)  # a session of its own: no signal to the app's terminal reaches it
    run_queue.stop_run(training_lab.database, run.id)
    ended = training_lab.follow_until(run)
    assert ended.state == "stopped" and ended.version_id is None
    assert "Stopped by request after" in ended.message
    assert list((directory / run_directory.CHECKPOINTS).glob("checkpoint-*/adapter_model.safetensors"))
    assert not (directory / run_directory.MODEL).exists()


def test_a_run_stopped_before_it_has_started_stops_at_its_first_step(training_lab: Lab):
    run = training_lab.start("dpo", training_lab.freeze("preference"), epochs=20)
    run_queue.follow(training_lab.database, on_version=lambda version: None)
    run_queue.stop_run(training_lab.database, run.id)
    ended = training_lab.follow_until(run)
    assert ended.state == "stopped" and "after 1 of 120 steps" in ended.message


def test_a_run_asked_to_stop_by_a_signal_stops(training_lab: Lab):
    run = training_lab.start("dpo", training_lab.freeze("preference"), epochs=20)
    training_lab.follow_until(run, "training")
    wait_for(Path(run.directory) / run_directory.METRICS)
    os.kill(run_directory.read_pid(Path(run.directory)) or 0, signal.SIGTERM)
    assert training_lab.follow_until(run).state == "stopped"


def test_a_run_killed_from_outside_is_seen_as_such(training_lab: Lab):
    run = training_lab.start("dpo", training_lab.freeze("preference"))
    training_lab.follow_until(run, "training")
    directory = Path(run.directory)
    wait_for(directory / run_directory.LOCK)
    os.kill(run_directory.read_pid(directory) or 0, signal.SIGKILL)
    ended = training_lab.follow_until(run)
    assert (ended.state, ended.version_id) == ("killed", None)
    assert "ended from outside" in ended.message
    assert progress.read_progress(directory).message == ended.message


def test_a_damaged_snapshot_is_refused(training_lab: Lab):
    run = training_lab.start("dpo", training_lab.freeze("preference"))
    with (Path(run.directory) / run_directory.SNAPSHOT).open("ab") as file:
        file.write(b"x")
    ended = training_lab.follow_until(run)
    assert ended.state == "failed" and "fingerprint differs" in ended.message


def test_an_unexpected_error_says_where_the_whole_story_is(training_lab: Lab):
    run = training_lab.start("dpo", training_lab.freeze("preference"))
    path = Path(run.directory) / run_directory.RUN
    described = json.loads(path.read_text())
    del described["parent"]["template"]
    path.write_text(json.dumps(described))
    ended = training_lab.follow_until(run)
    assert ended.state == "failed" and "log.txt" in ended.message
    assert "Traceback" in (Path(run.directory) / run_directory.LOG).read_text()


def wait_for(path: Path, patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if path.exists() and path.stat().st_size:
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} was never written")
