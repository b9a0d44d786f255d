"""An endpoint outside answers in a project and in a comparison as a version does, and is asked nothing confidential."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labeling.answering import Answerers, endpoints_of
from labeling.assignment import Queue
from labeling.comparison import comparison_of, leaving
from labeling.engines.endpoints import Endpoints
from labeling.engines.template import INSTRUCTION_TEMPLATE
from labeling.feedback import feedback_type
from labeling.sampling import Sampler, kept_here_sentence, sample_version
from storage import model_versions, projects, prompts, responses
from storage.database import Database
from storage.endpoints import Endpoint
from storage.errors import NotAllowed
from storage.records import ModelVersion, Project, Sampling
from tests.endpoint_server import EndpointServer, endpoint_server, said, streamed
from tests.labeling.judging_app import Nobody, judging_api
from tests.labeling.test_sampling import FakeEngine
from tests.makers import project, prompt, some_prompts, version

KEY = "sk-very-secret"
OUTSIDE = "outside: house (big)"


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with endpoint_server() as made:
        numbers = iter(range(1, 1_000))
        made.replies = lambda words: said(f"Answer {next(numbers)}.")
        yield made


@pytest.fixture
def endpoints(server: EndpointServer, database: Database, tmp_path: Path) -> Endpoints:
    """One endpoint that counts as outside, named in the settings."""
    file = tmp_path / "house.key"
    file.write_text(KEY)
    file.chmod(0o600)
    return endpoints_of(database, [Endpoint("house", server.url, "big", key_file=str(file), inside=False)])


def sampler_of(database: Database, endpoints: Endpoints) -> tuple[Sampler, Queue]:
    queue = Queue(database, minimum_responses=lambda name: feedback_type(name).minimum_responses)
    return Sampler(database, queue, Nobody(), endpoints=endpoints), queue


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def answers(database: Database, asked: Project) -> list[str]:
    return [one.text for found in responses.by_prompt(database, asked.id).values() for one in found]


def test_it_answers_in_a_project_and_each_answer_says_how(
    database: Database, server: EndpointServer, endpoints: Endpoints
) -> None:
    prompts.add(database, some_prompts(1))
    drawn = Sampling(0.7, 0.9, 64, seed=3, system="Be brief.")
    asked = projects.save(database, project(version_ids=(OUTSIDE,), samplings={OUTSIDE: drawn}))

    sampler_of(database, endpoints)[0].fill()

    (found,) = responses.by_prompt(database, asked.id).values()
    assert {(one.version_id, one.author, one.sampling) for one in found} == {(OUTSIDE, OUTSIDE, drawn)}
    assert [one.seed for one in found] == [body["seed"] for body in server.bodies]
    assert {one.engine for one in found} == {f"openai-compatible {server.url} big-2031-01"}
    assert {(one.finish_reason, one.prompt_tokens) for one in found} == {("stop", None)}  # it counted none
    assert all(one.latency_seconds and one.latency_seconds > 0 for one in found)
    assert server.bodies[0]["messages"][0] == {"role": "system", "content": "Be brief."}


def test_confidential_prompts_are_left_out_and_counted(
    database: Database, server: EndpointServer, endpoints: Endpoints
) -> None:
    prompts.add(database, [prompt("A secret?", held_out=False, confidential=True), prompt("Open?", held_out=False)])
    asked = projects.save(database, project(version_ids=(OUTSIDE,)))
    sampler, queue = sampler_of(database, endpoints)

    sampler.fill()

    assert set(server.asked) == {"Open?"} and len(answers(database, asked)) == 2
    assert kept_here_sentence(database, asked) == (
        "1 confidential prompt is left out: what is confidential is never sent to an endpoint outside."
    )
    assert sampler.problem(asked) == ""  # nothing keeps the pool from filling
    assert queue.progress(asked, "ines").total == 1


def test_a_version_of_our_own_is_asked_what_is_confidential(database: Database, endpoints: Endpoints) -> None:
    model_versions.add(database, version("base"))
    prompts.add(database, [prompt("A secret?", held_out=False, confidential=True)])

    assert [one.text for one in prompts.asked_by(database, project())] == ["A secret?"]
    assert prompts.asked_by(database, project(version_ids=("base", OUTSIDE))) == []


def test_a_mark_that_is_set_later_holds_for_the_next_request(
    database: Database, server: EndpointServer, endpoints: Endpoints
) -> None:
    # given a prompt that was open when it was looked up
    secret = prompt("A secret?", held_out=False)
    prompts.add(database, [secret])
    there = model_versions.get(database, OUTSIDE)
    # when its source is marked, and whoever holds it asks all the same
    prompts.mark_confidential(database, "test", True)
    with pytest.raises(NotAllowed):
        sample_version(Answerers(Nobody(), endpoints), project(version_ids=(OUTSIDE,)), there, secret, 1)
    # then nothing left
    assert server.bodies == []


def test_a_comparison_leaves_confidential_prompts_out_and_says_first_what_it_would_send(
    database: Database, server: EndpointServer, endpoints: Endpoints
) -> None:
    model_versions.add(database, version("base"))
    first, second = some_prompts(2, held_out=True)
    prompts.add(database, [first, prompt(second.text, held_out=True, confidential=True)])

    assert f"1 held-out prompt is sent to {server.url}, and what you ask here too." in leaving(
        database, "base", OUTSIDE
    )
    asked = comparison_of(database, "base", OUTSIDE)
    assert leaving(database, "base", OUTSIDE) == ""  # it was begun
    assert [one.text for one in prompts.asked_by(database, asked)] == [first.text]


def test_a_comparison_that_sends_prompts_outside_is_begun_by_a_lead(database: Database, endpoints: Endpoints) -> None:
    model_versions.add(database, version("base"))
    queue = Queue(database, minimum_responses=lambda name: 2)
    with TestClient(judging_api(database, queue, Answerers(Nobody(), endpoints))) as browser:
        body = {"versions": ["base", OUTSIDE]}
        told = browser.post("/api/compare/start", json=body).json()
        assert told["project"] is None and "are sent to" in told["leaves"]
        assert browser.post("/api/compare/start", json=body | {"may_leave": True}).status_code == 403
        browser.cookies.set("lead", "yes")
        assert browser.post("/api/compare/start", json=body | {"may_leave": True}).json()["project"]
        browser.cookies.clear()
        assert browser.post("/api/compare/start", json=body).json()["project"]  # from then on for everybody


def test_what_the_settings_name_no_more_cannot_be_chosen_and_is_remembered(
    database: Database, endpoints: Endpoints
) -> None:
    model_versions.add(database, version("base"))
    assert [one.id for one in model_versions.answering(database)] == [OUTSIDE, "base"]

    endpoints_of(database, [Endpoint("house", "https://models.example.org", "bigger")])

    assert [one.id for one in model_versions.answering(database)] == ["outside: house (bigger)", "base"]
    assert not model_versions.get(database, OUTSIDE).served


def test_an_endpoint_is_no_version_where_weights_are_asked_for(database: Database, endpoints: Endpoints) -> None:
    assert model_versions.list_all(database) == [] and model_versions.served(database) == []


def test_an_endpoint_that_stays_away_is_said_and_its_project_rests(
    database: Database, server: EndpointServer, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labeling.engines.endpoint_client.PAUSES", (0.0,))
    server.replies = lambda words: (503, "busy")
    prompts.add(database, some_prompts(1))
    asked = projects.save(database, project(version_ids=(OUTSIDE,)))
    sampler, _ = sampler_of(database, endpoints)

    assert [sampler.fill() for _ in range(3)] == [0, 0, 0]
    assert "gave no answer in 2 tries: it answers 503 (busy)" in sampler.problem(asked)
    assert len(server.bodies) <= 4  # one try of each answer, and then rest
    server.replies = lambda words: said(f"Answer {len(server.bodies)}.")
    sampler.wake()
    assert sampler.fill() == 1


def test_nothing_is_paid_for_while_the_other_version_cannot_answer(
    database: Database, server: EndpointServer, endpoints: Endpoints
) -> None:
    model_versions.add(database, version("base"))
    prompts.add(database, some_prompts(2, held_out=True))
    asked = comparison_of(database, "base", OUTSIDE)
    sampler, _ = sampler_of(database, endpoints)

    assert sampler.fill() == 0
    assert "being started" in sampler.problem(asked) and server.bodies == []


def test_a_prompt_that_gets_no_answer_throws_none_of_the_others_away(
    database: Database, server: EndpointServer, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an endpoint that stays away from one prompt of three
    monkeypatch.setattr("labeling.engines.endpoint_client.PAUSES", ())
    prompts.add(database, [prompt(text, held_out=False) for text in ("Hard?", "One?", "Two?")])
    asked = projects.save(database, project(version_ids=(OUTSIDE,)))
    server.replies = lambda words: (503, "busy") if words == "Hard?" else said(f"Answer {len(server.bodies)}.")
    sampler, _ = sampler_of(database, endpoints)
    # when it is asked
    assert sampler.fill() == 3
    # then the answers to the others are kept, and they are asked once
    assert len(answers(database, asked)) == 4
    sampler.fill()
    assert server.asked.count("One?") == server.asked.count("Two?") == 2


def test_an_endpoint_that_hangs_keeps_no_other_project_waiting(
    database: Database, server: EndpointServer, endpoints: Endpoints, tmp_path: Path
) -> None:
    # given a project whose endpoint never ends its answer, and after it one that a version of ours answers
    server.go_on.clear()
    model_versions.add(database, version(base_path=str(tmp_path), template=INSTRUCTION_TEMPLATE))
    prompts.add(database, some_prompts(1))
    projects.save(database, project(id="p1", version_ids=(OUTSIDE,)))
    own = projects.save(database, project(id="p2"))
    queue = Queue(database, minimum_responses=lambda name: 2)
    sampler = Sampler(database, queue, FakeEngine(), endpoints=endpoints)  # type: ignore[arg-type]
    # when both are filled in the background
    with sampler.running(pause=0.01):
        # then the second is full while the first still waits
        wait_until(lambda: queue.progress(own, "ines").ready == 1 and len(server.bodies) > 0)
        assert len(server.bodies) <= 2
        server.go_on.set()  # whoever still waits ends before the database does


# ---- a prompt of one's own, asked of endpoints


def ask_own(database: Database, endpoints: Endpoints, comparison: Project) -> list[dict[str, Any]]:
    queue = Queue(database, minimum_responses=lambda name: 2)
    with TestClient(judging_api(database, queue, Answerers(Nobody(), endpoints))) as browser:
        reply = browser.post("/api/compare/ask", json={"project": comparison.id, "text": "Why?"})
    return [json.loads(line.removeprefix("data: ")) for line in reply.text.splitlines() if line]


@pytest.fixture
def two(database: Database, server: EndpointServer) -> tuple[Endpoints, Project]:
    """Two endpoints, and their comparison."""
    named = [Endpoint("house", server.url, model, inside=False) for model in ("big", "small")]
    found = endpoints_of(database, named)
    return found, comparison_of(database, OUTSIDE, "outside: house (small)")


def test_the_pace_of_an_endpoint_tells_nothing_because_both_answers_come_whole(
    database: Database, server: EndpointServer, two: tuple[Endpoints, Project]
) -> None:
    server.replies = lambda words: streamed("It ", "scatters.")

    (event,) = ask_own(database, *two)

    assert [one["text"] for one in event["item"]["responses"]] == ["It scatters."] * 2
    (stored,) = responses.by_prompt(database, two[1].id).values()
    engines = {f"openai-compatible {server.url} {model}" for model in ("big", "small")}
    assert {one.engine for one in stored} == engines


@pytest.mark.parametrize("reply", [said("It scatters."), (200, streamed("It ", "scatters.")[1].split("\n\n")[0])])
def test_an_answer_without_its_end_is_not_stored(
    database: Database, server: EndpointServer, two: tuple[Endpoints, Project], reply: tuple[int, str]
) -> None:
    server.replies = lambda words: reply  # no stream at all, or one that was closed after its first piece

    (event,) = ask_own(database, *two)
    assert event["error"].startswith("The endpoint house (")
    assert event["error"].endswith(") broke off before the end of its answer. Nothing was stored.")
    assert responses.by_prompt(database, two[1].id) == {}


def test_the_key_is_in_no_file_no_log_and_no_reply(
    database: Database,
    server: EndpointServer,
    endpoints: Endpoints,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # given an endpoint that repeats its key in an answer's place, in an error and in a header
    caplog.set_level(logging.DEBUG)
    model_versions.add(database, ModelVersion("base", "/model", None, None, None, "{{ }}", "base", 512))
    prompts.add(database, some_prompts(3, held_out=True))
    asked = comparison_of(database, "base", OUTSIDE)
    server.replies = lambda words: (401, f"Incorrect API key provided: {KEY}")
    sampler, queue = sampler_of(database, endpoints)
    labeling = projects.save(database, project(version_ids=(OUTSIDE,)))
    prompts.add(database, some_prompts(2))
    # when it is asked by every way
    sampler.fill()
    with TestClient(judging_api(database, queue, Answerers(Nobody(), endpoints))) as browser:
        replies = [
            browser.get("/api/compare/versions"),
            browser.post("/api/compare/start", json={"versions": ["base", OUTSIDE]}),
            browser.post("/api/compare/ask", json={"project": asked.id, "text": "Why?"}),
            browser.get("/api/label/next", params={"tab": "t", "project": labeling.id}),
            browser.get("/api/compare/results", params={"project": asked.id}),
        ]
    # then the key was sent, and can be found nowhere else
    assert server.keys and set(server.keys) == {f"Bearer {KEY}"}
    told = " ".join([sampler.problem(labeling), caplog.text, *(f"{one.headers} {one.text}" for one in replies)])
    database.close()
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".key")
    assert "(key)" in told and KEY not in told and KEY.encode() not in written
