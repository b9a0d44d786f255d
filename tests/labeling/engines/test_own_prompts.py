"""A prompt of one's own at the compare page, asked of the real servers through the real routes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from typing import Any

import httpx
import pytest

from labeling.answering import Answerers
from labeling.assignment import Queue
from labeling.comparison import comparison_of
from labeling.engines.client import EngineClient
from labeling.engines.template import read_template
from storage import judgments, model_versions, projects, prompts, responses
from storage.database import Database
from storage.records import ModelVersion, Project, Sampling, new_id
from tests.labeling.judging_app import judging_api, new_queue, serving
from tests.makers import project, prompt

from .conftest import ServerUnderTest

COMPARED = ("fox", "owl")
MANY = 24
LONG = Sampling(temperature=0.0, max_tokens=200)  # the likeliest words of a random model go round in circles


class OneServer:
    """Answers as every version."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    def client(self, version_id: str, /) -> tuple[EngineClient, str]:
        return self._client, version_id


@pytest.fixture
def comparison(database: Database, server: ServerUnderTest) -> Project:
    template, _, _ = read_template(server.folder)
    for name in COMPARED:
        model_versions.add(
            database,
            ModelVersion(name, str(server.folder), str(server.adapters[name]), None, None, template, name, 256),
        )
    made = comparison_of(database, *COMPARED)
    return projects.save(database, project(**{**vars(made), "sampling": LONG}))


@pytest.fixture
def browser(database: Database, comparison: Project, client: EngineClient) -> Iterator[httpx.Client]:
    app = judging_api(database, new_queue(database), Answerers(OneServer(client)))
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as browser:
        yield browser


def ask(browser: httpx.Client, comparison: Project, text: str) -> list[dict[str, Any]]:
    body = {"project": comparison.id, "text": text}
    with browser.stream("POST", "/api/compare/ask", json=body) as reply:
        return [json.loads(line.removeprefix("data: ")) for line in reply.iter_lines() if line]


def vote(browser: httpx.Client, item: dict[str, Any]) -> dict[str, Any]:
    displayed = [one["id"] for one in item["responses"]]
    body = {"assignment": item["assignment"], "displayed": displayed, "verdict": {"choice": -2}, "focused_seconds": 60}
    key = "00000000-0000-4000-8000-" + new_id()[:12]
    found: dict[str, Any] = browser.post("/api/label/judge", json={"key": key, **body}).json()
    return found


def test_both_answers_stream_are_stored_whole_and_are_judged_like_any_other(
    browser: httpx.Client, database: Database, comparison: Project
) -> None:
    events = ask(browser, comparison, "Tell me about the red fox.")

    # the pieces add up to what is stored, in the order in which they are shown
    item = events[-1]["item"]
    written = ["".join(one.get("text", "") for one in events if one.get("place") == place) for place in (0, 1)]
    assert written == [one["text"] for one in item["responses"]] and all(written)
    (stored,) = responses.by_prompt(database, comparison.id).values()
    assert {(one.text, one.sampling) for one in stored} == {(text, LONG) for text in written}
    assert all(one.completion_tokens and one.prompt_tokens and one.seed and one.latency_seconds for one in stored)
    assert {one.finish_reason for one in stored} <= {"stop", "length"} and all(one.engine for one in stored)
    # nothing but texts was sent before the vote, and the names after it
    assert {name for event in events for name in event} == {"place", "text", "done", "item"}
    assert {name for one in item["responses"] for name in one} == {"id", "html", "text"}
    names = vote(browser, item)["names"]
    assert sorted(names.values()) == sorted(COMPARED)
    by_text = {one.text: one.version_id for one in stored}
    assert [names[one["id"]] for one in item["responses"]] == [by_text[one["text"]] for one in item["responses"]]
    # the vote is kept, and stands apart from what is measured
    assert len(judgments.list_all(database, comparison.id)) == 1
    results = browser.get("/api/compare/results", params={"project": comparison.id}).json()
    assert (results["judgments"], results["own"]) == (0, 1)


def test_whoever_goes_away_takes_the_request_with_them(
    browser: httpx.Client, client: EngineClient, database: Database, comparison: Project
) -> None:
    # given how much two whole answers are
    before = client.tokens_generated()
    ask(browser, comparison, "Tell me about the old fox.")
    whole = client.tokens_generated() - before
    assert whole == 2 * LONG.max_tokens
    # when many, so that their answers take seconds, leave after the first piece
    with ExitStack() as leaving:
        for number in range(MANY):
            body = {"project": comparison.id, "text": f"Tell me about fox {number}."}
            next(leaving.enter_context(browser.stream("POST", "/api/compare/ask", json=body)).iter_lines())
    # then the server has nothing to do any more, long before all is written
    assert until(lambda: (load := client.load()).running + load.waiting == 0)
    assert client.tokens_generated() - before - whole < MANY * whole
    # and nothing of it is stored, unless both answers were whole before their reader had left
    stored = responses.by_prompt(database, comparison.id)
    assert len(stored) < 1 + MANY and {one.id for one in prompts.in_order(database)} == set(stored)
    ends = [one.finish_reason == "stop" or one.completion_tokens == LONG.max_tokens for one in chain(*stored.values())]
    assert all(ends) and len(ends) == 2 * len(stored)


def test_whoever_goes_away_before_the_first_piece_leaves_nothing_either(
    browser: httpx.Client, client: EngineClient, database: Database, comparison: Project
) -> None:
    body = {"project": comparison.id, "text": "Tell me about the brave fox."}
    with pytest.raises(httpx.ReadTimeout):
        browser.post("/api/compare/ask", json=body, timeout=httpx.Timeout(60, read=0.0005))
    time.sleep(0.2)  # for the request to reach the server
    assert until(lambda: client.load().running == 0)
    assert responses.by_prompt(database, comparison.id) == {} and prompts.in_order(database) == []


def test_the_same_prompt_again_is_answered_otherwise(
    browser: httpx.Client, database: Database, comparison: Project
) -> None:
    for _ in range(2):
        ask(browser, comparison, "Tell me about the silent fox.")

    (stored,) = responses.by_prompt(database, comparison.id).values()
    assert len({one.seed for one in stored}) == 4
    assert len(prompts.in_order(database)) == 1


def test_own_prompts_are_asked_of_nobody_else(browser: httpx.Client, database: Database, comparison: Project) -> None:
    ask(browser, comparison, "Tell me about the golden fox.")
    (asked,) = prompts.in_order(database)

    assert asked.source == prompts.OWN_PROMPTS
    assert asked.held_out == prompts.is_held_out(asked.messages)
    assert prompts.asked_by(database, comparison) == prompts.asked_by(database, project()) == []
    assert prompts.asked_by(database, project(sources=(prompts.OWN_PROMPTS,))) == ([] if asked.held_out else [asked])


def test_a_held_out_prompt_is_not_asked_out_of_turn(
    browser: httpx.Client, database: Database, comparison: Project
) -> None:
    prompts.add(database, [prompt("Held out?", held_out=True)])

    reply = browser.post("/api/compare/ask", json={"project": comparison.id, "text": " Held  out? "})

    assert reply.status_code == 400 and "it comes up here by itself" in reply.json()["error"]


def test_a_version_that_does_not_answer_is_said_before_anything_is_written(
    database: Database, comparison: Project
) -> None:
    with serving(judging_api(database, Queue(database, minimum_responses=lambda name: 2))) as address:
        asked = {"project": comparison.id, "text": "Why?"}
        reply = httpx.post(f"{address}/api/compare/ask", json=asked, timeout=60)

    assert (reply.status_code, reply.json()["error"]) == (503, "The model server is being started.")


def until(is_so: Any, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.02)
    return False
