"""What the runs page and the models page are told, asked over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from alignment import run_directory, run_queue, settings_file
from alignment.models_routes import models_router
from alignment.routes import runs_router
from alignment.run_directory import Outcome
from labeling.engines.supervisor import ServerState
from storage import judgments, leases, model_versions, prompts, runs
from storage.errors import AppError
from storage.records import Person, Ranking, Run
from tests import makers
from tests.alignment.conftest import Lab


class FakeServing:
    """Every version answers, but for those with a problem."""

    def __init__(self, **problems: str) -> None:
        self.problems: Mapping[str, str] = problems

    def ready(self, version_id: str) -> bool:
        return version_id != "slow"

    def state(self) -> list[ServerState]:
        return []


class Web:
    """The routes over one lab, with what they called noted."""

    def __init__(self, lab: Lab) -> None:
        self.role = "engineer"
        self.serving = FakeServing()
        self.served_changed = 0
        app = FastAPI()
        app.add_exception_handler(AppError, _as_json)
        app.include_router(runs_router(lab.database, self.person))
        app.include_router(
            models_router(
                lab.database, self.person, self.serving, lambda version, parent: _wins(version), self.changed, list
            )
        )
        self.client = TestClient(app)

    def person(self, request: Request) -> Person:
        return Person("eve", self.role)  # type: ignore[arg-type]

    def changed(self) -> None:
        self.served_changed += 1

    def get(self, path: str) -> dict:  # type: ignore[type-arg]
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def _as_json(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, error.status if isinstance(error, AppError) else 500)


def _wins(version_id: str) -> dict[str, float] | None:
    return {"value": 0.68, "low": 0.59, "high": 0.76, "judgments": 120} if version_id == "v1" else None


@pytest.fixture
def web(lab: Lab) -> Web:
    return Web(lab)


def measured(run: Run, *steps: int, of: int = 10, began: float | None = None) -> None:
    """As the run itself writes them: a second a step from `began` on, which is now unless it is given."""
    began = time.time() if began is None else began
    with (Path(run.directory) / run_directory.METRICS).open("a") as file:
        for step in steps:
            file.write(json.dumps({"step": step, "steps": of, "time": began + step, "loss": 0.6}) + "\n")


def held_out(run: Run, losses: Mapping[int, float]) -> None:
    """Measurements on held-out rows, which are lines of their own."""
    with (Path(run.directory) / run_directory.METRICS).open("a") as file:
        for step, loss in losses.items():
            file.write(json.dumps({"step": step, "steps": 10, "time": time.time(), "eval_loss": loss}) + "\n")


def ended(lab: Lab, run: Run, state: run_directory.OutcomeState = "succeeded") -> None:
    directory = Path(run.directory)
    (directory / run_directory.LOG).write_text("loading\ndone\n")
    with run_directory.lock(directory):
        pass
    outcome = Outcome(state, "Trained on 20 pairs in 9 s.", 10, 9.0, peak_memory_mb=700, fingerprint="new")
    run_directory.write_outcome(directory, outcome)
    run_queue.follow(lab.database, on_version=lambda version: None)


# ---- runs -----------------------------------------------------------------------------------------------------------


def test_without_runs_the_list_is_empty(web: Web) -> None:
    assert web.get("/api/runs") == {"runs": []}


def test_a_waiting_run_says_its_place_and_what_it_will_become(lab: Lab, web: Web) -> None:
    snapshot = lab.freeze("preference", 20)
    first, second = lab.start("dpo", snapshot), lab.start("dpo", snapshot)

    listed = {run["id"]: run for run in web.get("/api/runs")["runs"]}

    assert [listed[run.id]["place"] for run in (first, second)] == [1, 2]
    assert [listed[run.id]["becomes"] for run in (first, second)] == ["v1", "v2"]
    assert listed[first.id]["state"] == "waiting"
    assert listed[first.id]["method"] == "DPO"


def test_a_training_run_tells_only_the_points_since_the_offset(lab: Lab, web: Web) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20))
    with run_directory.lock(Path(run.directory)):
        began = time.time()
        measured(run, 1, 2, began=began)
        before = web.get(f"/api/runs/{run.id}")
        measured(run, 3, began=began)
        after = web.get(f"/api/runs/{run.id}?since={before['offset']}")

    assert [point["step"] for point in before["points"]] == [1, 2]
    assert [point["step"] for point in after["points"]] == [3]
    assert after["state"] == "training"
    assert (after["step"], after["steps"], after["fraction"]) == (3, 10, 0.3)
    assert after["seconds_left"] == pytest.approx(7, abs=0.5)


def test_a_run_that_has_not_measured_anything_yet_knows_its_planned_steps(lab: Lab, web: Web) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20), batch_size=4, epochs=2)

    assert web.get(f"/api/runs/{run.id}")["steps"] == 10


def test_a_run_that_succeeded_names_its_version_and_its_memory(lab: Lab, web: Web) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20))
    ended(lab, run)

    detail = web.get(f"/api/runs/{run.id}")

    assert detail["state"] == "succeeded"
    assert detail["becomes"] == "v1"
    assert detail["message"] == "Trained on 20 pairs in 9 s. It is version v1."
    assert detail["peak_memory_mb"] == 700
    assert detail["log"] == ["loading", "done"]


def test_settings_say_which_were_changed(lab: Lab, web: Web) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20), epochs=3)

    settings = {one["name"]: one for one in web.get(f"/api/runs/{run.id}")["settings"]}

    assert (settings["epochs"]["title"], settings["epochs"]["value"]) == ("Passes over the data", 3)
    assert [name for name, one in settings.items() if one["changed"]] == ["epochs"]


def test_a_run_of_a_method_that_is_gone_is_still_shown(lab: Lab, web: Web) -> None:
    snapshot = lab.freeze("preference", 20)
    gone = makers.run(
        "old-01", method="old", settings={"x": 1}, snapshot_id=snapshot.id, state="failed", message="Failed."
    )
    runs.add(lab.database, gone)

    detail = web.get("/api/runs/old-01")

    assert detail["method"] == "old"
    assert detail["settings"] == [{"name": "x", "title": "x", "value": 1, "proposed": 1, "changed": False}]


def test_a_run_whose_settings_have_changed_names_since_is_still_shown(lab: Lab, web: Web) -> None:
    snapshot = lab.freeze("preference", 20)
    runs.add(lab.database, makers.run("dpo-01", method="dpo", settings={"old_name": 1}, snapshot_id=snapshot.id))

    detail = web.get("/api/runs/dpo-01")

    assert detail["steps"] == 0
    assert [one["name"] for one in detail["settings"]] == ["old_name"]


def test_a_waiting_run_says_behind_which_it_waits_and_when_that_one_should_end(lab: Lab, web: Web) -> None:
    snapshot = lab.freeze("preference", 20)
    first, second, third = (lab.start("dpo", snapshot) for _ in range(3))
    with run_directory.lock(Path(first.directory)):
        measured(first, 11, 12, of=20)  # a second a step, 8 steps left
        run_queue.follow(lab.database, on_version=lambda version: None)
        listed = {run["id"]: run for run in web.get("/api/runs")["runs"]}

    assert [(listed[run.id]["place"], listed[run.id]["behind"]) for run in (second, third)] == [
        (1, first.id),
        (2, second.id),
    ]
    assert listed[second.id]["starts_in"] == pytest.approx(8, abs=0.5)
    assert (listed[second.id]["device"], listed[third.id]["starts_in"]) == ("cpu", None)


def test_a_run_that_takes_turns_with_the_model_server_says_what_that_does(lab: Lab, web: Web) -> None:
    leases.share(lab.database, ["cpu"])
    leases.take(lab.database, "cpu")
    run = lab.start("dpo", lab.freeze("preference"))
    assert web.get("/api/runs")["runs"][0]["beside_servers"] == ""
    leases.due(lab.database, "cpu", run.id)
    assert "Waiting for the model server to free cpu" in web.get(f"/api/runs/{run.id}")["beside_servers"]
    leases.hand_over(lab.database, "cpu")
    assert "The model server is asleep while this run has cpu" in web.get(f"/api/runs/{run.id}")["beside_servers"]


def test_a_run_tells_its_health_and_its_best_checkpoint(lab: Lab, web: Web) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20))
    with run_directory.lock(Path(run.directory)):
        measured(run, 1, 2)
        held_out(run, {0: 0.69, 4: 0.61, 8: 0.65})
        detail = web.get(f"/api/runs/{run.id}")
        (listed,) = web.get("/api/runs")["runs"]

    assert (detail["health"]["kind"], detail["health"]["title"]) == ("ok", "Nothing wrong")
    assert listed["health"] == "Nothing wrong so far."
    assert (detail["best"]["step"], detail["best"]["value"]) == (4, 0.61)


def test_a_run_with_a_gold_function_tells_how_gold_and_reward_go(lab: Lab, web: Web) -> None:
    scored = {"reward_model": "function:starter-preferred", "gold": "function:starter-well-formed"}
    run, without = lab.start("ppo", lab.freeze("prompt_only"), **scored), lab.start("dpo", lab.freeze("preference"))
    followed_too_far(run)
    with run_directory.lock(Path(run.directory)):
        training = web.get(f"/api/runs/{run.id}")
    ended(lab, run)
    over = web.get(f"/api/runs/{run.id}")

    assert (training["gold"]["kind"], training["gold"]["kept"]) == ("warn", "")
    assert training["health"]["title"] == training["gold"]["title"] == "The reward is followed too far"
    assert over["gold"]["kept"] == "The version is the checkpoint of step 20: gold 0.10 on held-out prompts."
    assert web.get(f"/api/runs/{without.id}")["gold"] is None


def followed_too_far(run: Run) -> None:
    """Gold rises and falls while the reward rises; of the held-out measurements the last has the best reward."""
    gold = [0.6] * 4 + [0.9] * 8 + [0.3] * 8
    lines = [{"step": n, "loss": 0, "gold": one, "reward": n / 10, "kl": n / 10} for n, one in enumerate(gold, 1)]
    held = [{"step": n, "eval_gold": 0.9 - n / 25, "eval_reward": n / 10} for n in (0, 10, 20)]
    with (Path(run.directory) / run_directory.METRICS).open("a") as file:
        file.writelines(json.dumps({**line, "steps": 20, "time": 1.0}) + "\n" for line in [*lines, *held])


def test_before_anything_was_measured_there_is_no_health_and_no_best(lab: Lab, web: Web) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20))
    detail = web.get(f"/api/runs/{run.id}")
    assert (detail["health"], detail["best"], detail["evaluation"]) == (None, None, None)


def test_a_stopped_run_can_be_resumed_from_its_newest_whole_checkpoint(lab: Lab, web: Web) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20))
    for step, whole in ((4, True), (6, False)):
        checkpoint = Path(run.directory) / run_directory.CHECKPOINTS / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        if whole:
            (checkpoint / run_directory.COMPLETE).touch()
    assert not web.get(f"/api/runs/{run.id}")["can_resume"]
    ended(lab, run, "stopped")
    stopped = web.get(f"/api/runs/{run.id}")

    answer = web.client.post(f"/api/runs/{run.id}/resume")

    assert (stopped["can_resume"], stopped["checkpoint_step"]) == (True, 4)
    assert answer.json() == {"state": "waiting"}
    assert web.get(f"/api/runs/{run.id}")["attempt"] == 2


def test_a_run_that_succeeded_cannot_be_resumed(lab: Lab, web: Web) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20))
    ended(lab, run)

    assert not web.get(f"/api/runs/{run.id}")["can_resume"]
    assert web.client.post(f"/api/runs/{run.id}/resume").status_code == 400


def test_a_run_that_is_run_again_says_whether_the_same_weights_came_of_it(lab: Lab, web: Web) -> None:
    first = lab.start("dpo", lab.freeze("preference", 20), epochs=3)
    ended(lab, first)

    again = web.client.post(f"/api/runs/{first.id}/again").json()["id"]

    assert web.get(f"/api/runs/{again}")["repeats"] == {"id": first.id, "same": None}
    assert runs.get(lab.database, again).settings == runs.get(lab.database, first.id).settings
    assert runs.get(lab.database, again).started_by == "eve"
    ended(lab, runs.get(lab.database, again))
    assert web.get(f"/api/runs/{again}")["repeats"] == {"id": first.id, "same": True}


def test_a_run_laid_over_another_names_only_what_it_has_other(lab: Lab, web: Web) -> None:
    snapshot = lab.freeze("preference", 20)
    here, there = lab.start("dpo", snapshot), lab.start("dpo", snapshot, learning_rate=1e-4)
    measured(there, 1, 2)

    laid = web.get(f"/api/runs/{there.id}/curves?against={here.id}")

    assert [point["step"] for point in laid["points"]] == [1, 2]
    assert laid["differences"] == [{"name": "learning_rate", "here": here.settings["learning_rate"], "there": 1e-4}]


def test_two_snapshots_are_told_apart_by_their_names_or_else_by_their_fingerprints(lab: Lab, web: Web) -> None:
    first, longer, again = lab.freeze("preference", 20), lab.freeze("preference", 24), lab.freeze("preference", 20)
    one, other = lab.start("dpo", first), lab.start("dpo", longer)

    [named] = web.get(f"/api/runs/{other.id}/curves?against={one.id}")["differences"]

    assert (named["here"], named["there"]) == ("20 preference", "24 preference")
    assert again.id == first.id  # the same rows are the same snapshot


def test_a_run_says_where_its_files_are_and_those_of_another_tracker(lab: Lab, web: Web) -> None:
    snapshot = lab.freeze("preference", 20)
    plain, tracked = lab.start("dpo", snapshot), lab.start("dpo", snapshot, tracker="tensorboard")

    assert web.get(f"/api/runs/{plain.id}")["made_with"]["directory"] == plain.directory
    assert "tracker" not in web.get(f"/api/runs/{plain.id}")["made_with"]
    told = web.get(f"/api/runs/{tracked.id}")["made_with"]["tracker"]
    assert told == f"tensorboard, in {tracked.directory}/tracker"


def test_settings_come_as_a_file_that_can_be_read_back(lab: Lab, web: Web) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20), epochs=3)

    answer = web.client.get(f"/api/runs/{run.id}/settings.yaml")

    assert answer.headers["content-disposition"] == f'attachment; filename="{run.id}.yaml"'
    assert "epochs: 3" in answer.text
    method, settings, _ = settings_file.from_yaml(answer.text)
    assert (method, settings["epochs"]) == ("dpo", 3)


def test_an_offset_from_before_a_resume_brings_all_points(lab: Lab, web: Web) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20))
    measured(run, 1, 2)
    had = web.get(f"/api/runs/{run.id}")
    (Path(run.directory) / run_directory.METRICS).unlink()
    measured(run, 1)

    then = web.get(f"/api/runs/{run.id}?since={had['offset']}&after={had['points'][-1]['time']}")

    assert (then["points_from"], [point["step"] for point in then["points"]]) == (0, [1])


def test_an_evaluation_is_passed_on(lab: Lab, web: Web) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20))
    run_directory.write_json(Path(run.directory) / run_directory.EVALUATION, {"kind": "reward_model", "accuracy": 0.9})
    assert web.get(f"/api/runs/{run.id}")["evaluation"]["accuracy"] == 0.9


def test_stopping_a_run_in_line_ends_it(lab: Lab, web: Web) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20))

    answer = web.client.post(f"/api/runs/{run.id}/stop")

    assert answer.json() == {"state": "stopped"}


def test_an_unknown_run_is_a_sentence(web: Web) -> None:
    answer = web.client.get("/api/runs/nope")

    assert answer.status_code == 404
    assert answer.json()["error"] == "There is no run nope. The runs page lists those there are."


@pytest.mark.parametrize("path", ["/api/runs", "/api/runs/x", "/api/models"])
@pytest.mark.parametrize("role", ["labeler", "lead"])
def test_runs_and_models_are_for_engineers(web: Web, path: str, role: str) -> None:
    web.role = role

    assert web.client.get(path).status_code == 403


@pytest.mark.parametrize(
    "path",
    ["/api/runs/x/stop", "/api/runs/x/resume", "/api/runs/x/again", "/api/models/v0/load", "/api/models/v0/unload"],
)
def test_nobody_else_stops_loads_or_unloads(lab: Lab, web: Web, path: str) -> None:
    web.role = "lead"

    assert web.client.post(path).status_code == 403
    assert web.client.post("/api/models", json={"place": "/x"}).status_code == 403
    assert model_versions.get(lab.database, "v0").served


# ---- models ---------------------------------------------------------------------------------------------------------


def test_a_version_names_the_run_the_snapshot_and_the_people_behind_it(lab: Lab, web: Web) -> None:
    asked = makers.prompt()
    prompts.add(lab.database, [asked])
    said = [
        makers.judgment(asked.id, Ranking((("a",), ("b",))), id=f"j{n}", labeler=f"person {n % 2}") for n in range(4)
    ]
    for judgment in said:
        lab.database.write(lambda cursor, judgment=judgment: judgments.add(cursor, judgment))
    ended(lab, lab.start("dpo", lab.freeze("preference", 20), beta=0.3))

    made = web.get("/api/models")["versions"][0]

    assert (made["id"], made["parent"], made["method"]) == ("v1", "v0", "DPO")
    assert made["run"]["id"] == "dpo-01"
    assert [one["name"] for one in made["run"]["changed"]] == ["beta"]
    assert (made["snapshot"]["rows"], made["snapshot"]["rows_are"]) == (20, "pairs")
    assert made["snapshot"]["people"] == 2
    assert made["wins"]["value"] == 0.68


def test_the_base_has_no_run_behind_it(web: Web) -> None:
    [base] = web.get("/api/models")["versions"]

    assert (base["id"], base["run"], base["snapshot"], base["wins"]) == ("v0", None, None, None)


def test_a_version_is_served_starting_stored_or_a_problem(lab: Lab, web: Web) -> None:
    for name, served in (("slow", True), ("broken", True), ("kept", False)):
        model_versions.add(lab.database, makers.version(name, served=served))
    web.serving.problems = {"broken": "Its adapter fits another base."}

    states = {one["id"]: (one["state"], one["sentence"]) for one in web.get("/api/models")["versions"]}

    assert {name: state for name, (state, _) in states.items()} == {
        "v0": "served",
        "slow": "starting",
        "broken": "problem",
        "kept": "stored",
    }
    assert states["broken"][1] == "Its adapter fits another base."


def test_unloading_a_version_tells_the_servers(lab: Lab, web: Web) -> None:
    answer = web.client.post("/api/models/v0/unload")

    assert answer.json() == {"id": "v0", "served": False}
    assert not model_versions.get(lab.database, "v0").served
    assert web.served_changed == 1


def test_a_folder_that_is_no_model_is_refused_in_a_sentence(lab: Lab, web: Web, tmp_path: Path) -> None:
    answer = web.client.post("/api/models", json={"place": str(tmp_path / "nowhere")})

    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"There is no folder {tmp_path / 'nowhere'}")
    assert [one.id for one in model_versions.list_all(lab.database)] == ["v0"]
    assert web.served_changed == 0


def test_a_base_model_is_added_and_served(lab: Lab, web: Web, tiny_base: Path) -> None:
    added = web.client.post("/api/models", json={"place": str(tiny_base), "note": " Apache-2.0 "}).json()["id"]

    version = model_versions.get(lab.database, added)
    assert (version.served, version.note, version.parent_id) == (True, "Apache-2.0", None)
    assert web.served_changed == 1
