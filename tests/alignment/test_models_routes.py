"""The models page: a reward model that scores, and the servers with their lights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from alignment.models_routes import models_router
from alignment.run_directory import EVALUATION
from alignment.scoring import whole_text
from labeling.engines.client import Load
from labeling.engines.endpoints import EndpointState
from labeling.engines.supervisor import ServerState
from labeling.engines.usage import Used
from storage import model_versions, runs
from storage.errors import AppError, EngineUnavailable
from storage.records import ModelVersion, Person
from tests import makers
from tests.alignment import tiny_model
from tests.alignment.conftest import Lab, make_lab, question, said

MEASURED = {
    "kind": "reward_model",
    "pairs": 26,
    "accuracy": 1.0,
    "interval": [0.87, 1.0],
    "calibration": [],
    "ece": 0.0,
}


class ScoresByLength:
    """A model server that likes long texts, and keeps what it was asked."""

    def score(self, model: str, inputs: Sequence[str]) -> list[float]:
        self.asked = (model, list(inputs))
        return [float(len(text)) for text in inputs]


class FakeServing:
    problems: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.scorer = ScoresByLength()
        self.states: list[ServerState] = []
        self.endpoints: list[EndpointState] = []

    def ready(self, version_id: str) -> bool:
        return True

    def usage(self, version_id: str) -> Used:
        return Used(3, 120, 1, 60.0, 0.5) if version_id == "v0" else Used()

    def state(self) -> list[ServerState]:
        return self.states

    def client(self, version_id: str) -> tuple[ScoresByLength, str]:
        if version_id == "slow":
            raise EngineUnavailable("Version slow is being loaded: try again in a moment.")
        return self.scorer, "base"


class Web:
    def __init__(self, lab: Lab) -> None:
        self.role, self.serving = "engineer", FakeServing()
        app = FastAPI()
        app.add_exception_handler(AppError, _as_json)
        router = models_router(
            lab.database, self.person, self.serving, lambda a, b: None, lambda: None, lambda: self.serving.endpoints
        )
        app.include_router(router)
        self.client = TestClient(app)

    def person(self, request: Request) -> Person:
        return Person("eve", self.role)  # type: ignore[arg-type]

    def score(self, version: str, prompt: str, *answers: str) -> Any:
        return self.client.post(f"/api/models/{version}/score", json={"prompt": prompt, "answers": answers})


def _as_json(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)
    return JSONResponse({"error": str(error)}, status_code=error.status)


@pytest.fixture
def home(tmp_path: Path, tiny_base: Path) -> Iterator[Lab]:
    """A reward model v1 from the run rm-01, and one that is still being loaded."""
    lab = make_lab(tmp_path, tiny_base)
    directory = tmp_path / "runs" / "rm-01"
    directory.mkdir(parents=True)
    (directory / EVALUATION).write_text(json.dumps(MEASURED))
    snapshot = lab.freeze("preference")
    run = makers.run("rm-01", method="reward_model", snapshot_id=snapshot.id, parent_id="v0", directory=str(directory))
    runs.add(lab.database, run)
    for name in ("v1", "slow"):
        model_versions.add(lab.database, reward_version(name, tiny_base, "rm-01" if name == "v1" else None))
    yield lab
    lab.database.close()


def reward_version(name: str, base: Path, run_id: str | None) -> ModelVersion:
    given = {"parent_id": "v0", "run_id": run_id, "kind": "reward_model", "base_path": str(base)}
    return makers.version(name, template=tiny_model.TEMPLATE, **given)


def test_a_reward_model_is_listed_with_what_was_measured(home: Lab):
    listed = {one["id"]: one for one in Web(home).client.get("/api/models").json()["versions"]}
    assert listed["v1"]["kind"] == "reward_model" and listed["v1"]["evaluation"] == MEASURED
    assert listed["v1"]["sentence"] == "A model server scores as this version."
    assert listed["slow"]["evaluation"] is None and listed["v0"]["evaluation"] is None


def test_answers_are_scored_in_the_order_given_as_texts_that_end_with_their_end(home: Lab):
    web = Web(home)
    answer = web.score("v1", "what is it", "five", "five mg")
    assert answer.status_code == 200
    name, texts = web.serving.scorer.asked
    assert name == "base" and answer.json() == {"scores": [float(len(text)) for text in texts]}
    assert texts[1].endswith("<|im_start|>assistant\nfive mg<|im_end|>") and "what is it" in texts[1]


def test_the_text_that_is_scored_is_the_one_trained_on(home: Lab, tiny_base: Path):
    from transformers import AutoTokenizer

    from alignment.methods.reward_training import answer_ids

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_base)
    version = model_versions.get(home.database, "v1")
    text = whole_text(version, question(1)[0]["content"], "take five")
    trained = answer_ids([*question(1), *said("assistant", "take five")], tokenizer)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == trained


@pytest.mark.parametrize(
    ("version", "prompt", "answers", "says"),
    [
        ("v0", "what", ["five"], "v0 answers prompts and gives no scores"),
        ("v1", " ", ["five"], "Write the prompt"),
        ("v1", "what", ["five", " "], "An answer is empty"),
        ("slow", "what", ["five"], "is being loaded"),
        ("v7", "what", ["five"], "There is no model version v7"),
    ],
)
def test_what_cannot_be_scored_is_refused(home: Lab, version: str, prompt: str, answers: list[str], says: str):
    answer = Web(home).score(version, prompt, *answers)
    assert answer.status_code >= 400 and says in answer.json()["error"]


def test_more_than_four_answers_are_too_many(home: Lab):
    assert Web(home).score("v1", "what", *"abcde").status_code == 422


def test_scoring_is_for_engineers(home: Lab):
    web = Web(home)
    web.role = "labeler"
    assert web.score("v1", "what", "five").status_code == 403


# ---- servers


def server(base: Path, **fields: Any) -> ServerState:
    figures = (Load(), 0.0, 0.0, False)
    idle = ServerState(str(base), "vllm 0.32.0", "http://x", True, 7, "ready", "", ("v0",), ("v0",), *figures)
    return replace(idle, **fields)


@pytest.mark.parametrize(
    ("fields", "light", "says"),
    [
        ({}, ("run", "Ready"), ""),
        ({"load": Load(4, 2, 900), "tokens_per_second": 81.0}, ("run", "Answering"), ""),
        (
            {"load": Load(4, 2, 900), "hangs": True, "silent_seconds": 38.0},
            ("bad", "Hangs"),
            "no token has come for 38",
        ),
        ({"status": "starting", "detail": "The model is being loaded."}, ("wait", "Starting"), "being loaded"),
        ({"status": "restarting", "detail": "It was killed."}, ("wait", "Starting again"), "It was killed."),
        ({"status": "making room", "detail": "For dpo-01."}, ("wait", "Making room"), "For dpo-01."),
        ({"status": "asleep", "detail": "While dpo-01 trains."}, ("wait", "Asleep"), "While dpo-01 trains."),
        ({"status": "failed", "detail": "vLLM is not installed."}, ("bad", "Down"), "vLLM is not installed."),
        ({"detail": "It has not answered for 8 seconds."}, ("warn", "Silent"), "has not answered for 8 seconds."),
        ({"wanted": ("v0", "v3")}, ("warn", "Incomplete"), "Not served yet, or refused: v3."),
    ],
)
def test_a_light_means_that_tokens_come(
    home: Lab, tiny_base: Path, fields: dict[str, Any], light: tuple[str, str], says: str
):
    web = Web(home)
    web.serving.states = [server(tiny_base, **fields)]
    told = web.client.get("/api/models/servers").json()
    [one] = told["servers"]
    assert (one["light"], one["word"]) == light and says in one["sentence"]
    assert told["used"]["v0"] == asdict(Used(3, 120, 1, 60.0, 0.5))


@pytest.mark.parametrize(
    ("problem", "used", "light", "word"),
    [
        ("", Used(), "", "Not asked yet"),
        ("", Used(in_flight=1), "run", "Answering"),
        ("", Used(3, 120, 0, 60.0, 0.5), "run", "Answers"),
        ("The endpoint house refused (401).", Used(3, 120, 1, 60.0, 0.5), "bad", "No answer"),
    ],
)
def test_an_endpoint_does_as_its_last_request_went(home: Lab, problem: str, used: Used, light: str, word: str):
    web = Web(home)
    web.serving.endpoints = [EndpointState("outside: house (big)", "https://house.example", problem, used)]
    (shown,) = web.client.get("/api/models/servers").json()["endpoints"]
    assert (shown["light"], shown["word"], shown["sentence"]) == (light, word, problem)
    assert shown["used"]["seconds_a_request"] == used.seconds_a_request


def test_the_versions_of_a_server_that_makes_room_for_a_run_say_so(home: Lab, tiny_base: Path):
    web = Web(home)
    model_versions.set_served(home.database, "v0", True)
    web.serving.states = [server(tiny_base, status="asleep", detail="The model is asleep while dpo-01 trains.")]
    listed = {one["id"]: one for one in web.client.get("/api/models").json()["versions"]}
    assert (listed["v0"]["state"], listed["v0"]["sentence"]) == ("asleep", "The model is asleep while dpo-01 trains.")
    assert listed["v1"]["state"] != "asleep"


def test_why_a_version_has_a_server_of_its_own_is_said(home: Lab, tiny_base: Path):
    web = Web(home)
    whole = makers.version("whole", parent_id="v0", run_id="sft-01", base_path=str(tiny_base))
    model_versions.add(home.database, whole)
    web.serving.states = [server(tiny_base, wanted=(one,), versions=(one,)) for one in ("v0", "whole", "v1")]
    said = [one["sentence"] for one in web.client.get("/api/models/servers").json()["servers"]]
    assert said == [
        "",
        "whole is whole weights of its own, so it has a server of its own.",
        "v1 scores answers, so it has a server of its own.",
    ]
