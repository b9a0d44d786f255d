"""The line of runs, with a launcher that starts nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from alignment import run_directory, run_queue
from alignment.launchers.local import LocalLauncher
from alignment.run_directory import Outcome
from alignment.scorers.chosen import told
from storage import model_versions, prompts, runs
from storage.endpoints import Judge
from storage.errors import BadInput, DiskFull, NotEnoughFeedback, NotFound
from storage.records import ModelVersion, Run
from tests import makers
from tests.alignment.conftest import Lab
from tests.makers import prompt

DONE = Outcome("succeeded", "Trained.", steps=4, seconds=1.0, fingerprint="abc")


class PaperLauncher:
    """Runs exist on paper: what is submitted trains until a test writes its outcome."""

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.stopped: list[str] = []
        self.broken: set[str] = set()  # runs whose directory cannot be looked at or started

    def submit(self, directory: Path) -> None:
        if directory.name in self.broken:
            raise PermissionError(errno.EACCES, "Permission denied", "log.txt")
        self.submitted.append(directory.name)
        (directory / run_directory.LOG).touch()

    def status(self, directory: Path) -> run_directory.DirectoryState:
        return run_directory.state_of(directory)

    def logs(self, directory: Path) -> str:
        return ""

    def stop(self, directory: Path) -> None:
        self.stopped.append(directory.name)


@pytest.fixture
def launcher() -> PaperLauncher:
    return PaperLauncher()


def one_pass(lab: Lab, launcher: PaperLauncher) -> list[ModelVersion]:
    told: list[ModelVersion] = []
    run_queue.follow(lab.database, told.append, launcher)
    return told


def end(run: Run, outcome: Outcome = DONE) -> None:
    run_directory.write_outcome(Path(run.directory), outcome)


def states(lab: Lab) -> dict[str, str]:
    return {run.id: run.state for run in runs.list_all(lab.database)}


def test_too_few_rows_are_refused_and_nothing_is_left(lab: Lab):
    with pytest.raises(NotEnoughFeedback, match="there are 3"):
        lab.start("dpo", lab.freeze("preference", 3))
    assert runs.list_all(lab.database) == [] and not (lab.home / "runs").exists()


def test_a_snapshot_of_another_kind_is_refused(lab: Lab):
    with pytest.raises(BadInput, match="DPO learns from preference rows"):
        lab.start("dpo", lab.freeze("unpaired_preference"))


def test_a_setting_out_of_range_is_named_in_words(lab: Lab):
    with pytest.raises(BadInput, match=r"^Loyalty to the parent \(beta\): must be greater than 0, and is -1\.$"):
        lab.start("dpo", lab.freeze("preference"), beta=-1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"learning_rate": 5.0}, "Learning rate: must be at most 0.1, and is 5.0."),
        ({"learning_rate": None}, "Learning rate: is empty."),
        ({"epochs": 0}, "Passes over the data: must be at least 1, and is 0."),
        ({"epochs": 1.5}, "Passes over the data: must be a whole number, and is 1.5."),
        ({"learning_rate": "much"}, "Learning rate: must be a number, and is much."),
        ({"surprise": None}, "surprise: there is no such setting."),
    ],
)
def test_what_is_wrong_with_a_setting_is_said_in_words(settings: dict[str, Any], sentence: str):
    with pytest.raises(BadInput) as refused:
        run_queue.validated("dpo", settings)
    assert str(refused.value) == sentence


def test_a_setting_that_does_not_exist_is_refused(lab: Lab):
    with pytest.raises(BadInput, match="no_such_thing"):
        lab.start("dpo", lab.freeze("preference"), no_such_thing=1)


def test_an_unknown_parent_is_refused(lab: Lab):
    with pytest.raises(NotFound):
        lab.start("dpo", lab.freeze("preference"), parent="v99")


def test_the_directory_is_complete_when_the_run_exists(lab: Lab):
    run = lab.start("dpo", lab.freeze("preference"), beta=0.2)
    described = run_directory.read_run(Path(run.directory))
    assert described["settings"]["beta"] == 0.2 == run.settings["beta"]
    assert len(described["sample_prompts"]) == 3
    assert described["packages"]["torch"].startswith("2.")
    assert run_directory.state_of(Path(run.directory)) == "prepared"


def test_a_full_disk_leaves_nothing_behind(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    snapshot = lab.freeze("preference")

    def no_room(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", no_room)
    with pytest.raises(DiskFull):
        lab.start("dpo", snapshot)
    assert runs.list_all(lab.database) == [] and list((lab.home / "runs").iterdir()) == []


def test_one_run_trains_at_a_time_first_come_first_served(lab: Lab, launcher: PaperLauncher):
    snapshot = lab.freeze("preference")
    first, second = lab.start("dpo", snapshot), lab.start("dpo", snapshot)
    one_pass(lab, launcher)
    one_pass(lab, launcher)
    assert launcher.submitted == [first.id]
    assert states(lab) == {first.id: "training", second.id: "waiting"}
    end(first)
    one_pass(lab, launcher)
    assert launcher.submitted == [first.id, second.id]


def test_success_makes_one_version_however_often_it_is_looked_at(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    end(run)
    told = one_pass(lab, launcher) + one_pass(lab, launcher)
    assert [version.id for version in told] == ["v1"]
    stored = runs.get(lab.database, run.id)
    assert (stored.state, stored.version_id, stored.message) == ("succeeded", "v1", "Trained. It is version v1.")


def test_an_app_that_died_between_version_and_run_adds_no_second_version(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    end(run)
    one_pass(lab, launcher)
    runs.set_state(lab.database, run.id, "training")  # as if it had died before the run was marked
    one_pass(lab, launcher)
    assert [version.id for version in model_versions.list_all(lab.database)] == ["v0", "v1"]
    assert runs.get(lab.database, run.id).version_id == "v1"


def test_an_app_that_died_after_the_launch_launches_no_second_process(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    runs.set_state(lab.database, run.id, "waiting")  # as if it had died before the run was marked
    one_pass(lab, launcher)
    assert launcher.submitted == [run.id] and states(lab) == {run.id: "training"}


def test_failure_and_stop_carry_their_sentence_and_make_no_version(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    end(run, Outcome("failed", "The loss was no longer a number.", steps=2, seconds=1.0))
    assert one_pass(lab, launcher) == []
    stored = runs.get(lab.database, run.id)
    assert (stored.state, stored.message) == ("failed", "The loss was no longer a number.")


def test_a_free_lock_without_outcome_means_killed(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    (Path(run.directory) / run_directory.LOCK).write_text("12345")
    one_pass(lab, launcher)
    stored = runs.get(lab.database, run.id)
    assert stored.state == "killed" and "ended from outside" in stored.message


def test_a_directory_that_is_gone_ends_the_run(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    shutil.rmtree(run.directory)
    one_pass(lab, launcher)
    stored = runs.get(lab.database, run.id)
    assert stored.state == "killed" and "gone" in stored.message


def test_stopping_in_line_ends_at_once_and_never_launches(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    run_queue.stop_run(lab.database, run.id, launcher)
    one_pass(lab, launcher)
    assert states(lab) == {run.id: "stopped"} and launcher.submitted == []


def test_stopping_a_training_run_is_asked_of_the_launcher(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    run_queue.stop_run(lab.database, run.id, launcher)
    assert launcher.stopped == [run.id]


def test_a_run_that_cannot_be_started_fails_in_a_sentence_and_the_next_one_starts(lab: Lab, launcher: PaperLauncher):
    snapshot = lab.freeze("preference")
    broken, next_one = lab.start("dpo", snapshot), lab.start("dpo", snapshot)
    launcher.broken = {broken.id}
    one_pass(lab, launcher)
    one_pass(lab, launcher)
    stored = runs.get(lab.database, broken.id)
    assert stored.state == "failed" and "Permission denied" in stored.message and "log of the app" in stored.message
    assert launcher.submitted == [next_one.id]


def test_a_run_that_cannot_be_followed_holds_up_no_other(
    lab: Lab, launcher: PaperLauncher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    snapshot = lab.freeze("preference")
    first, second = lab.start("dpo", snapshot), lab.start("dpo", snapshot)
    monkeypatch.setattr(launcher, "status", _unreadable(launcher.status, first))
    one_pass(lab, launcher)
    end(second)
    assert [version.run_id for version in one_pass(lab, launcher)] == [second.id]
    assert first.id in caplog.text


def test_no_run_starts_on_the_device_of_one_that_may_be_training_still(
    lab: Lab, launcher: PaperLauncher, monkeypatch: pytest.MonkeyPatch
):
    snapshot = lab.freeze("preference")
    first, second = lab.start("dpo", snapshot), lab.start("dpo", snapshot)
    one_pass(lab, launcher)
    with monkeypatch.context() as patch:
        patch.setattr(launcher, "status", _unreadable(launcher.status, first))
        one_pass(lab, launcher)
    assert launcher.submitted == [first.id] and states(lab)[first.id] == "training"
    end(first)
    one_pass(lab, launcher)
    assert launcher.submitted == [first.id, second.id]


def _unreadable(status: Any, run: Run) -> Any:
    def asked(directory: Path) -> run_directory.DirectoryState:
        if directory.name == run.id:
            raise PermissionError(errno.EACCES, "Permission denied")
        state: run_directory.DirectoryState = status(directory)
        return state

    return asked


def test_an_outcome_that_cannot_be_read_is_a_failure(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    (Path(run.directory) / run_directory.OUTCOME).write_text('{"state": "succ')
    one_pass(lab, launcher)
    stored = runs.get(lab.database, run.id)
    assert stored.state == "failed" and "outcome.json was damaged" in stored.message


def test_a_full_disk_is_among_the_reasons_why_a_run_said_nothing():
    assert "or its disk was full" in run_directory.KILLED


def test_stopping_a_run_that_is_still_starting_leaves_word_for_it(tmp_path: Path):
    LocalLauncher().stop(tmp_path)
    assert (tmp_path / run_directory.STOP).exists()
    LocalLauncher().stop(tmp_path / "gone")  # nothing runs there, so nothing happens


# ---- a parent with an adapter


def adapted(lab: Lab, **config: Any) -> str:
    """A version whose adapter has this config; its id."""
    folder = lab.home / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return model_versions.add(lab.database, makers.version("v1", parent_id="v0", adapter_path=str(folder))).id


def test_a_run_from_an_adapter_is_stored_with_the_rank_and_strength_it_really_has(lab: Lab):
    run = lab.start("dpo", lab.freeze("preference"), parent=adapted(lab, r=8, lora_alpha=12))
    described = run_directory.read_run(Path(run.directory))["settings"]
    for settings in (run.settings, described):
        assert (settings["lora_rank"], settings["lora_alpha"]) == (8, 12)


def test_another_rank_than_the_parents_is_refused_before_anything_is_stored(lab: Lab):
    parent = adapted(lab, r=8, lora_alpha=12)
    with pytest.raises(BadInput, match=r"Adapter rank: 4 was asked for, and a run from v1 .* which has 8"):
        lab.start("dpo", lab.freeze("preference"), parent=parent, lora_rank=4)
    assert runs.list_all(lab.database) == []
    assert lab.start("dpo", lab.freeze("preference"), parent=parent, lora_rank=8).settings["lora_rank"] == 8


def test_a_base_takes_whatever_rank_is_asked_for(lab: Lab):
    assert lab.start("dpo", lab.freeze("preference"), lora_rank=4).settings["lora_rank"] == 4


def test_a_parent_whose_adapter_is_gone_is_refused(lab: Lab):
    model_versions.add(lab.database, makers.version("v1", parent_id="v0", adapter_path=str(lab.home / "gone")))
    with pytest.raises(BadInput, match="The adapter of v1 cannot be read"):
        lab.start("dpo", lab.freeze("preference"), parent="v1")


def test_full_weights_inherit_nothing_because_the_adapter_is_merged_into_them(lab: Lab):
    settings = lab.start(
        "dpo", lab.freeze("preference"), parent=adapted(lab, r=8, lora_alpha=12), tuning="full"
    ).settings
    assert (settings["lora_rank"], settings["lora_alpha"]) == (16, 32)


def test_a_run_from_an_adapter_of_the_upper_layers_goes_on_training_those(lab: Lab):
    parent = adapted(lab, r=8, lora_alpha=12, target_modules=["q_proj", "v_proj"], layers_to_transform=[1])
    settings = lab.start("dpo", lab.freeze("preference"), parent=parent).settings
    assert (settings["target_modules"], settings["layers"]) == ("attention", "upper half")


def test_matrices_that_the_parents_adapter_does_not_have_are_refused(lab: Lab):
    parent = adapted(lab, r=8, lora_alpha=12, target_modules=["q_proj", "up_proj"])
    with pytest.raises(BadInput, match=r"Adapted matrices: attention was asked for, .* which has all-linear"):
        lab.start("dpo", lab.freeze("preference"), parent=parent, target_modules="attention")


def test_a_run_that_trained_whole_weights_makes_a_base_of_its_own(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"), tuning="full")
    one_pass(lab, launcher)
    model = Path(run.directory) / run_directory.MODEL
    model.mkdir()
    (model / "config.json").write_text('{"max_position_embeddings": 96}')
    end(run)
    made = one_pass(lab, launcher)[0]
    assert (made.base_path, made.adapter_path, made.context_length, made.kind) == (str(model), None, 96, "policy")


# ---- the reward model of a run


def with_rewards(lab: Lab) -> None:
    """v0 ─ v1, a reward model of the same base; other ─ v2, a reward model of another."""
    v0 = model_versions.get(lab.database, "v0")
    own, other = {"base_path": v0.base_path, "template": v0.template}, {"base_path": "/elsewhere"}
    for version in (
        makers.version("v1", parent_id="v0", adapter_path="a", kind="reward_model", **own),
        makers.version("other", **other),
        makers.version("v2", parent_id="other", adapter_path="b", kind="reward_model", **other),
    ):
        model_versions.add(lab.database, version)


def test_a_run_that_asks_a_reward_model_says_in_its_directory_which(training_lab: Lab):
    with_rewards(training_lab)
    run = training_lab.start("rloo", training_lab.freeze("prompt_only"), reward_model="v1")
    reward = run_directory.read_run(Path(run.directory))["reward"]
    assert (reward["id"], reward["adapter_path"]) == ("v1", "a")


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ("", "nothing that scores is chosen. Choose v1, a function or a judge."),
        ("v0", "v0 is a policy, which gives answers and not scores. Choose v1, a function or a judge."),
        ("v2", "v2 was not made from the same base model as v0, so it reads text as other tokens. Choose v1, "),
        ("v9", "There is no model version v9"),
    ],
)
def test_a_reward_model_that_does_not_fit_is_refused_with_one_that_does(lab: Lab, chosen: str, sentence: str):
    with_rewards(lab)
    with pytest.raises(BadInput) as refused:
        lab.start("rloo", lab.freeze("prompt_only"), reward_model=chosen)
    assert sentence in str(refused.value) and runs.list_all(lab.database) == []


def test_where_there_is_no_reward_model_the_way_out_is_to_train_one(lab: Lab):
    with pytest.raises(BadInput, match="Train one first: a run of the method Reward model from v0"):
        lab.start("rloo", lab.freeze("prompt_only"))


def test_a_reward_model_is_no_parent(lab: Lab):
    with_rewards(lab)
    with pytest.raises(BadInput, match="v1 is a reward_model, which gives scores and not answers"):
        lab.start("dpo", lab.freeze("preference"), parent="v1")


# ---- stopped, killed, resumed, done again


def stopped_at_step_five(lab: Lab, launcher: PaperLauncher) -> Run:
    """A run with a whole checkpoint of step 5 and half of one of step 10."""
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    directory = Path(run.directory)
    for step, files in ((5, ["adapter", "complete"]), (10, ["adapter"])):
        folder = directory / run_directory.CHECKPOINTS / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).touch()
    for name in (run_directory.STOP, run_directory.METRICS):
        (directory / name).write_text("{}\n")
    (directory / run_directory.LOG).write_text("the first attempt\n")
    end(run, Outcome("stopped", "Stopped by request after 10 of 20 steps.", steps=10, seconds=1.0))
    one_pass(lab, launcher)
    return runs.get(lab.database, run.id)


def test_a_resumed_run_is_in_line_again_with_its_checkpoints_and_its_curves(lab: Lab, launcher: PaperLauncher):
    run = stopped_at_step_five(lab, launcher)
    directory = Path(run.directory)
    assert run_queue.resume_run(lab.database, run.id).state == "waiting"
    assert run_directory.state_of(directory) == "prepared"
    checkpoint = run_directory.newest_checkpoint(directory)
    assert checkpoint and run_directory.step_of(checkpoint) == 5  # that of step 10 was never finished
    assert (directory / run_directory.METRICS).exists() and not (directory / run_directory.STOP).exists()
    assert (directory / "attempts" / "log-1.txt").read_text() == "the first attempt\n"
    assert json.loads((directory / "attempts" / "outcome-1.json").read_text())["steps"] == 10
    one_pass(lab, launcher)
    assert states(lab) == {run.id: "training"} and run_directory.attempt(directory) == 2


def test_what_was_marked_confidential_while_a_run_waited_is_in_its_directory_when_it_starts(
    lab: Lab, launcher: PaperLauncher
):
    # given a run in line whose answers a judge outside scores
    run = lab.start("dpo", lab.freeze("preference"))
    file = Path(run.directory) / run_directory.RUN
    judged = told(Judge("far", "https://a.org", "big"), ["an old mark"])
    run_directory.write_json(file, {**json.loads(file.read_text()), "scored_by": judged})
    # when a prompt is marked, and then the run starts
    secret = prompt("A secret?", confidential=True)
    prompts.add(lab.database, [secret])
    one_pass(lab, launcher)
    # then it knows
    scored_by = run_directory.read_run(Path(run.directory))["scored_by"]
    assert scored_by == {**(judged or {}), "confidential": [prompts.text_hash(secret.messages)]}


def test_a_killed_run_can_be_resumed(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    (Path(run.directory) / run_directory.LOCK).write_text("12345")
    one_pass(lab, launcher)
    run_queue.resume_run(lab.database, run.id)
    one_pass(lab, launcher)
    assert launcher.submitted == [run.id, run.id] and states(lab) == {run.id: "training"}


def test_resuming_twice_is_one_resumption(lab: Lab, launcher: PaperLauncher):
    run = stopped_at_step_five(lab, launcher)
    run_queue.resume_run(lab.database, run.id)
    with pytest.raises(BadInput, match="dpo-01 is in line already"):
        run_queue.resume_run(lab.database, run.id)


def test_an_app_that_died_while_it_resumed_a_run_can_resume_it_again(lab: Lab, launcher: PaperLauncher):
    run = stopped_at_step_five(lab, launcher)
    run_directory.reopen(Path(run.directory))  # and then it died, before the database was told
    run_queue.resume_run(lab.database, run.id)
    assert run_directory.state_of(Path(run.directory)) == "prepared" and states(lab) == {run.id: "waiting"}


def test_what_trains_or_has_succeeded_is_not_resumed(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    with pytest.raises(BadInput, match="dpo-01 is training; there is nothing to resume"):
        run_queue.resume_run(lab.database, run.id)
    end(run)
    one_pass(lab, launcher)
    with pytest.raises(BadInput, match="has reached its end: its result is v1"):
        run_queue.resume_run(lab.database, run.id)


def test_a_run_whose_process_lives_after_all_is_not_reopened(lab: Lab, launcher: PaperLauncher):
    run = stopped_at_step_five(lab, launcher)
    with run_directory.lock(Path(run.directory)), pytest.raises(run_directory.Locked):
        run_queue.resume_run(lab.database, run.id)
    assert states(lab) == {run.id: "stopped"}


def test_a_run_whose_directory_is_gone_says_so(lab: Lab, launcher: PaperLauncher):
    run = stopped_at_step_five(lab, launcher)
    shutil.rmtree(run.directory)
    with pytest.raises(BadInput, match="The directory of dpo-01 is gone"):
        run_queue.resume_run(lab.database, run.id)


def test_a_stop_in_line_that_meets_a_launch_is_left_to_the_launcher(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    with run_directory.lock(Path(run.directory)):  # the run has just begun, and nobody noticed yet
        launcher.status = lambda directory: "prepared"  # type: ignore[method-assign]
        run_queue.stop_run(lab.database, run.id, launcher)
    assert launcher.stopped == [run.id]


def test_stopping_what_has_ended_does_nothing(lab: Lab, launcher: PaperLauncher):
    run = stopped_at_step_five(lab, launcher)
    run_queue.stop_run(lab.database, run.id, launcher)
    assert launcher.stopped == [] and states(lab) == {run.id: "stopped"}


def test_a_run_done_again_is_made_of_the_same_and_says_which_it_repeats(lab: Lab, launcher: PaperLauncher):
    first = lab.start("dpo", lab.freeze("preference"), beta=0.2, seed=7)
    again = run_queue.run_again(lab.database, first.id, "tom", lab.home)
    one, two = (run_directory.read_run(Path(run.directory)) for run in (first, again))
    assert {name for name in one if one[name] != two[name]} == {"id", "created_at", "repeats"}
    assert (again.id, again.repeats, again.started_by, two["repeats"]) == ("dpo-02", first.id, "tom", first.id)
    assert runs.get(lab.database, again.id).repeats == first.id


def test_a_run_done_again_answers_the_same_fixed_prompts(lab: Lab):
    first = lab.start("dpo", lab.freeze("preference"))
    told = run_directory.read_run(Path(first.directory))
    run_directory.write_json(Path(first.directory) / run_directory.RUN, {**told, "sample_prompts": [["an old one"]]})
    again = run_queue.run_again(lab.database, first.id, "eve", lab.home)
    assert run_directory.read_run(Path(again.directory))["sample_prompts"] == [["an old one"]]


# ---- devices


def test_run_json_says_with_what_the_run_was_made(lab: Lab):
    described = run_directory.read_run(Path(lab.start("dpo", lab.freeze("preference")).directory))
    assert described["launch"] == {"where": "local", "device": "cpu", "processes": 1, "sharding": "none"}
    assert described["code"]["version"] == "0.1.0" and described["hardware"]["cores"] >= 1
    assert described["proposed"]["tuning"] == "lora" and described["repeats"] is None and described["reward"] is None


def on(lab: Lab, device: str, processes: int = 1) -> Run:
    """A run for a device that this machine need not have."""
    run = lab.start("dpo", lab.freeze("preference"))
    launch = json.dumps({"where": "local", "device": device, "processes": processes, "sharding": "none"})
    statement = "UPDATE runs SET launch = $launch WHERE id = $id"
    lab.database.write(lambda cursor: cursor.execute(statement, {"launch": launch, "id": run.id}))
    return runs.get(lab.database, run.id)


def test_runs_on_different_devices_train_side_by_side(lab: Lab, launcher: PaperLauncher):
    first, other, second = on(lab, "cuda:0"), on(lab, "cuda:1"), on(lab, "cuda:0")
    one_pass(lab, launcher)
    one_pass(lab, launcher)
    assert launcher.submitted == [first.id, other.id]
    assert run_queue.line_before(second, runs.unfinished(lab.database)) == 0  # the first trains; nobody else waits
    end(first)
    one_pass(lab, launcher)
    assert launcher.submitted == [first.id, other.id, second.id]


def test_a_run_on_two_gpus_is_not_passed_by_those_on_one(lab: Lab, launcher: PaperLauncher):
    first, both, small = on(lab, "cuda:0"), on(lab, "cuda:0", processes=2), on(lab, "cuda:1")
    one_pass(lab, launcher)
    assert launcher.submitted == [first.id]  # cuda:1 is free, and kept for the run that needs both
    assert run_queue.line_before(small, runs.unfinished(lab.database)) == 1
    end(first)
    one_pass(lab, launcher)
    assert launcher.submitted == [first.id, both.id]


@pytest.mark.parametrize(
    ("launch", "sentence"),
    [
        ({"where": "ray"}, "No Ray cluster is known here. Name the address of its dashboard in settings.toml"),
        ({"device": "cuda:7"}, "Device: this machine has no cuda:7; it has cpu"),
        ({"device": "tpu"}, "Device: "),
        ({"device": "cpu", "processes": 64}, "Processes: 64 were asked for, and this machine has"),
        ({"device": "cpu", "sharding": "fsdp"}, "fsdp splits weights over GPUs, and this run trains on the processor"),
        ({"surprise": 1}, "surprise: there is no such setting"),
    ],
)
def test_a_launch_that_could_not_work_is_refused_before_anything_is_stored(
    lab: Lab, launch: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("alignment.devices.gpus", lambda: ())
    monkeypatch.setattr("alignment.devices.cores", lambda: 2)  # fewer than are asked for
    snapshot = lab.freeze("preference")
    with pytest.raises(BadInput) as refused:
        run_queue.start_run(lab.database, "dpo", {}, snapshot.id, "v0", "eve", lab.home, launch)
    assert sentence in str(refused.value) and runs.list_all(lab.database) == []


def test_a_launched_run_has_a_minute_to_take_its_lock(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    directory = Path(run.directory)
    launched = (directory / run_directory.LOG).stat().st_mtime
    assert run_directory.state_of(directory, now=launched + 59) == "starting"
    assert run_directory.state_of(directory, now=launched + 61) == "killed"


def test_the_lock_is_seen_from_outside_and_bars_a_second_process(tmp_path: Path):
    with run_directory.lock(tmp_path):
        assert run_directory.lock_is_held(tmp_path)
        with pytest.raises(run_directory.Locked), run_directory.lock(tmp_path, patience=0.1):
            pass
    assert not run_directory.lock_is_held(tmp_path)


def test_taking_the_lock_waits_for_whoever_only_looks(tmp_path: Path):
    path = tmp_path / run_directory.LOCK
    path.touch()
    with path.open() as looker:
        fcntl.flock(looker.fileno(), fcntl.LOCK_SH)
        with pytest.raises(run_directory.Locked), run_directory.lock(tmp_path, patience=0.1):
            pass
    with run_directory.lock(tmp_path, patience=0.1):
        assert run_directory.read_pid(tmp_path)
