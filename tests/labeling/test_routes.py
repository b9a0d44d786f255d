"""The routes under the label and compare pages, without a browser."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from labeling.assignment import Queue
from labeling.compare_routes import AskBody
from labeling.reading import TOO_FAST
from storage import assignments, judgments, projects
from storage.database import Database
from storage.records import Demonstration, Ranking, Score
from tests.labeling.judging_app import add_comparison, add_project, add_versions, judging_api, new_queue

THREE = [["one", "two", "three"]] * 6
AS_JSON = {"content-type": "application/json"}


@pytest.fixture
def queue(database: Database) -> Queue:
    return new_queue(database)


@pytest.fixture
def client(database: Database, queue: Queue) -> TestClient:
    add_versions(database, "base", "v1")
    add_project(database, "rank", "ranking", THREE)
    return TestClient(judging_api(database, queue))


def taken(client: TestClient, count: int = 1, project: str = "rank", **asking: Any) -> list[dict[str, Any]]:
    answer = client.get("/api/label/next", params={"project": project, "count": count, "tab": "tab"}, **asking)
    assert answer.status_code == 200
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def judgment(item: dict[str, Any], *ranks: int, **fields: Any) -> dict[str, Any]:
    ids = [response["id"] for response in item["responses"]]
    verdict = {"ranks": dict(zip(ids, ranks, strict=False))}
    given = {"key": str(uuid4()), "assignment": item["assignment"], "displayed": ids, "focused_seconds": 20.0}
    return {**given, "verdict": verdict, **fields}


def test_an_item_holds_texts_and_nothing_that_anchors(client: TestClient) -> None:
    (item,) = taken(client)
    assert set(item) == {"assignment", "prompt", "responses"}
    assert set(item["prompt"]) == {"messages"}
    assert all(set(response) == {"id", "html", "text"} for response in item["responses"])
    assert {response["text"] for response in item["responses"]} == {"one", "two", "three"}


def test_response_ids_are_of_this_assignment_only(client: TestClient, database: Database) -> None:
    (item,) = taken(client)
    stored = assignments.get(database, item["assignment"]).displayed_order
    assert not set(stored) & {response["id"] for response in item["responses"]}


def test_a_judgment_is_stored_with_its_displayed_order(client: TestClient, database: Database) -> None:
    (item,) = taken(client)
    sent = judgment(item, 2, 1)
    assert client.post("/api/label/judge", json=sent).json() == {"judgment": sent["key"], "names": {}}
    (stored,) = judgments.list_all(database)
    a, b, _ = stored.displayed_order
    assert stored.id == UUID(sent["key"]).hex
    assert stored.verdicts == (Ranking(((b,), (a,))),)
    assert stored.displayed_order == assignments.get(database, item["assignment"]).displayed_order
    assert (stored.labeler, stored.guideline_version, stored.flags) == ("maria", 1, ())


def test_the_same_key_again_is_the_same_judgment(client: TestClient, database: Database) -> None:
    (item,) = taken(client)
    sent = judgment(item, 1, 2, 3)
    answers = [client.post("/api/label/judge", json=sent).json() for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert len(judgments.list_all(database)) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"verdict": {"choice": 1}},
        {"verdict": {"both_bad": True}},  # a tie like the first, but for its flag
        {"verdict": {"choice": 0, "flags": ["unsafe"]}},
        {"verdict": {"choice": 0, "reasons": ["clearer"]}},
        {"note": "Which dose?"},
    ],
)
def test_the_same_key_with_other_words_is_refused_and_not_dropped(
    client: TestClient, database: Database, other: dict[str, Any]
) -> None:
    add_project(database, "pair", "pairwise", [["one", "two"]])
    (item,) = taken(client, project="pair")
    first = {**judgment(item), "verdict": {"choice": 0}}
    assert client.post("/api/label/judge", json=first).status_code == 200

    answer = client.post("/api/label/judge", json={**first, **other})

    assert (answer.status_code, answer.json()["said"]["code"]) == (400, "key_used")
    assert client.post("/api/label/judge", json={**first, "focused_seconds": 0.1}).status_code == 200
    assert len(judgments.list_all(database)) == 1


def test_the_same_judgment_is_known_again_whatever_the_project_makes_of_it_by_now(
    client: TestClient, database: Database, queue: Queue
) -> None:
    edit = add_project(database, "edit", "edit", [["Draft."]], criteria=("helpful",))
    (item,) = taken(client, project="edit")
    one = item["responses"][0]["id"]
    verdict = {"rewrites": {one: "Ideal.\r\n"}, "scores": {one: {"helpful": 4}}, "reasons": ["x"], "flags": ["unsafe"]}
    sent = {**judgment(item), "verdict": verdict, "notes": {one: "A: better"}}
    assert client.post("/api/label/judge", json=sent).status_code == 200
    projects.save(database, replace(edit, pair_from_edit=False))
    queue.forget()

    assert client.post("/api/label/judge", json=sent).status_code == 200


def test_half_a_surrogate_pair_becomes_a_question_mark_and_keeps_nobody_waiting(
    client: TestClient, database: Database
) -> None:
    """As a text that was cut in the middle of an emoji ends."""
    (item,) = taken(client)
    sent = judgment(item, 1, 2, note="blue \ud83d", notes={item["responses"][0]["id"]: "\ude00"})
    sent["verdict"]["rewrites"] = {item["responses"][1]["id"]: "Ideal \ud83d."}

    assert client.post("/api/label/judge", content=json.dumps(sent), headers=AS_JSON).status_code == 200
    (stored,) = judgments.list_all(database)
    assert stored.note == "blue ?\n\nA: ?"
    assert [one.text for one in stored.verdicts if isinstance(one, Demonstration)] == ["Ideal ?."]
    skipped = {"assignment": taken(client)[0]["assignment"], "reason": "\ud83d"}
    assert client.post("/api/label/skip", content=json.dumps(skipped), headers=AS_JSON).status_code == 200


def test_what_the_history_gives_back_can_be_sent_again_as_a_change(client: TestClient, database: Database) -> None:
    (item,) = taken(client)
    last = item["responses"][2]["id"]
    first = judgment(item, 1, 1, 2, note="A: on the whole", notes={last: "C has\n\nB: two paragraphs"})
    client.post("/api/label/judge", json=first)
    (judged,) = client.get("/api/label/history", params={"project": "rank"}).json()["judged"]
    assert judged["item"] == item
    assert (judged["key"], judged["verdict"]) == (first["key"], first["verdict"])
    assert (judged["note"], judged["notes"]) == ("A: on the whole", first["notes"])
    change = {**first, "key": str(uuid4()), "verdict": judged["verdict"], "supersedes": judged["key"]}
    assert client.post("/api/label/judge", json=change).status_code == 200
    assert [one.supersedes for one in judgments.standing(database)] == [UUID(first["key"]).hex]


def test_the_last_ten_standing_judgments_can_be_reopened(client: TestClient, database: Database) -> None:
    add_project(database, "many", answers=[["one", "two"]] * 12)
    sent = [judgment(item, 1, 2) for item in taken(client, count=12, project="many")]
    for one in sent:
        client.post("/api/label/judge", json=one)
    change = {**sent[5], "key": str(uuid4()), "supersedes": sent[5]["key"]}
    client.post("/api/label/judge", json=change)
    judged = client.get("/api/label/history", params={"project": "many"}).json()["judged"]
    newest = [change, *reversed([one for one in sent if one is not sent[5]])]
    assert [one["key"] for one in judged] == [one["key"] for one in newest[:10]]


def test_a_vote_faster_than_reading_is_flagged_not_refused(client: TestClient, database: Database) -> None:
    (item,) = taken(client)
    assert client.post("/api/label/judge", json=judgment(item, 1, 2, focused_seconds=0.1)).status_code == 200
    assert judgments.list_all(database)[0].flags == (TOO_FAST,)


def test_a_vote_faster_than_reading_is_flagged_in_chinese_too(client: TestClient, database: Database) -> None:
    add_project(database, "zh", answers=[["\u7b54" * 90, "\u8bdd" * 90]])  # 180 characters, as long as 115 words
    (item,) = taken(client, project="zh")
    client.post("/api/label/judge", json=judgment(item, 1, 2, focused_seconds=5))
    assert judgments.list_all(database)[0].flags == (TOO_FAST,)


@pytest.mark.parametrize(("seconds", "flags"), [(0.15, (TOO_FAST,)), (40.0, ())])
def test_a_change_is_too_fast_where_both_times_together_are(
    client: TestClient, database: Database, seconds: float, flags: tuple[str, ...]
) -> None:
    (item,) = taken(client)
    first = judgment(item, 1, 2, focused_seconds=0.1)
    client.post("/api/label/judge", json=first)
    change = judgment(item, 2, 1, focused_seconds=seconds, supersedes=first["key"])  # the page adds up both times
    assert client.post("/api/label/judge", json=change).status_code == 200
    assert judgments.standing(database)[0].flags == flags


def test_a_refusal_has_its_sentence_and_a_code_for_other_languages(client: TestClient) -> None:
    (item,) = taken(client)
    client.post("/api/label/judge", json=judgment(item, 1, 2))
    answer = client.post("/api/label/judge", json=judgment(item, 1, 2))
    assert answer.status_code == 400
    assert answer.json()["error"] == answer.json()["said"]["sentence"]
    assert answer.json()["said"]["code"] == "judged_already"


def test_what_keeps_a_model_from_answering_is_told_to_who_can_mend_it(database: Database) -> None:
    add_versions(database, "base")
    project = add_project(database, "rank", "ranking", [["only one"]])
    queue = new_queue(database, why_waiting=lambda project: "base is not loaded.")
    client = TestClient(judging_api(database, queue))
    asking = {"project": project.id, "tab": "tab"}

    told = client.get("/api/label/next", params=asking).json()["progress"]
    client.cookies.set("lead", "yes")
    lead = client.get("/api/label/next", params=asking).json()["progress"]

    assert "base" not in str(told) and told["why"][0]["code"] == "model_problem_hidden"
    assert lead["waiting"] == "base is not loaded." and lead["why"][0]["values"] == {"reason": "base is not loaded."}


def test_all_that_is_said_beside_a_ranking_is_stored_and_given_back(client: TestClient, database: Database) -> None:
    projects.save(database, replace(projects.get(database, "rank"), criteria=("helpful",), reasons=("correct",)))
    (item,) = taken(client)
    a, b, _ = (response["id"] for response in item["responses"])
    beside = {"scores": {b: {"helpful": 4}}, "reasons": ["correct"], "flags": ["unsafe"], "rewrites": {a: "ideal"}}
    sent = judgment(item, 1, 2)
    sent["verdict"] |= beside
    assert client.post("/api/label/judge", json=sent).status_code == 200
    (stored,) = judgments.list_all(database)
    first, second, _ = stored.displayed_order
    assert stored.verdicts == (Ranking(((first,), (second,))), Demonstration("ideal", first, preferred=True))
    assert (stored.scores, stored.reasons, stored.flags) == ((Score(second, "helpful", 4),), ("correct",), ("unsafe",))
    (judged,) = client.get("/api/label/history", params={"project": "rank"}).json()["judged"]
    assert judged["verdict"] == sent["verdict"]


def test_a_project_may_take_ideal_answers_without_pairs(client: TestClient, database: Database) -> None:
    add_project(database, "edit", "edit", [["Draft."]])
    projects.save(database, replace(projects.get(database, "edit"), pair_from_edit=False))
    (item,) = taken(client, project="edit")
    sent = {**judgment(item), "verdict": {"rewrites": {item["responses"][0]["id"]: "Ideal."}}}
    assert client.post("/api/label/judge", json=sent).status_code == 200
    (stored,) = judgments.list_all(database)
    assert stored.verdicts == (Demonstration("Ideal.", improves=stored.displayed_order[0]),)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"displayed": ["x"]}, "not shown in the order"),
        ({"verdict": {"ranks": {"stranger": 1}}}, "was not shown"),
        ({"verdict": {}}, "needs ranks"),
        ({"assignment": "unknown"}, "not known here"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    client: TestClient, database: Database, broken: dict[str, Any], said: str
) -> None:
    (item,) = taken(client)
    answer = client.post("/api/label/judge", json={**judgment(item, 1, 2), **broken})
    assert answer.status_code in (400, 404)
    assert said in answer.json()["error"]
    assert judgments.list_all(database) == []


@pytest.mark.parametrize(("read", "stored"), [(1, 1), (2, 2), (None, 2), (0, 2), (3, 2)])
def test_a_judgment_keeps_the_guidelines_that_were_read(
    client: TestClient, database: Database, queue: Queue, read: int | None, stored: int
) -> None:
    (item,) = taken(client)
    projects.save(database, replace(projects.get(database, "rank"), guidelines="Short **first**."))
    queue.forget()
    assert client.post("/api/label/judge", json=judgment(item, 1, 2, guideline_version=read)).status_code == 200
    assert judgments.list_all(database)[0].guideline_version == stored


def test_a_note_on_one_answer_has_a_limit_too(client: TestClient, database: Database) -> None:
    (item,) = taken(client)
    sent = judgment(item, 1, 2, notes={item["responses"][0]["id"]: "x" * 10_001})
    assert client.post("/api/label/judge", json=sent).status_code in (400, 422)
    assert judgments.list_all(database) == []


def test_nobody_can_judge_or_skip_the_item_of_somebody_else(client: TestClient, database: Database) -> None:
    (item,) = taken(client)
    client.cookies.set("person", "otto")
    assert client.post("/api/label/judge", json=judgment(item, 1, 2)).status_code == 403
    skip = {"assignment": item["assignment"], "reason": "mine now"}
    assert client.post("/api/label/skip", json=skip).status_code == 403
    assert judgments.list_all(database) == []


def test_a_skipped_prompt_does_not_come_back_and_skipping_twice_is_harmless(client: TestClient) -> None:
    (item,) = taken(client)
    for _ in range(2):
        assert (
            client.post("/api/label/skip", json={"assignment": item["assignment"], "reason": "odd"}).status_code == 200
        )
    rest = taken(client, count=10)
    assert len(rest) == 5
    assert item["assignment"] not in {one["assignment"] for one in rest}


def test_progress_counts_mine_and_the_teams(client: TestClient) -> None:
    (item,) = taken(client)
    client.post("/api/label/judge", json=judgment(item, 1, 2))
    progress = client.get("/api/label/next", params={"project": "rank", "tab": "tab", "count": 1}).json()["progress"]
    assert (progress["mine"], progress["team"], progress["total"]) == (1, 1, 6)


def test_without_a_project_the_page_is_told_so(database: Database) -> None:
    client = TestClient(judging_api(database, new_queue(database)))
    answer = client.get("/api/label/next", params={"tab": "tab"}).json()
    assert (answer["project"], answer["items"]) == (None, [])


# ---- compare --------------------------------------------------------------------------------------------------------


def choice(item: dict[str, Any], better: str | None, **fields: Any) -> dict[str, Any]:
    """A pairwise choice for the answer with this text, or a tie."""
    texts = [response["text"] for response in item["responses"]]
    strength = 0 if better is None else (-2 if better in texts[0] else 2)
    return {**judgment(item), "verdict": {"choice": strength}, **fields}


def test_names_come_with_the_answer_to_the_judgment_and_not_before(client: TestClient, database: Database) -> None:
    project = add_comparison(database, 3)
    (item,) = taken(client, project=project.id)
    answer = client.post("/api/label/judge", json=choice(item, "good")).json()
    texts = {response["id"]: response["text"] for response in item["responses"]}
    assert {answer["names"][one]: text for one, text in texts.items()} == {
        "v1": "Something good.",
        "base": "Something bad and long.",
    }


def test_the_results_say_who_won_whatever_the_letters(client: TestClient, database: Database) -> None:
    project = add_comparison(database, 12)
    started = client.post("/api/compare/start", json={"versions": ["v1", "base"]}).json()
    assert started == {"project": project.id, "leaves": "", "left_out": ""}
    for person in ("maria", "otto"):
        client.cookies.set("person", person)
        for item in taken(client, count=12, project=project.id):
            client.post("/api/label/judge", json=choice(item, "good"))
    found = client.get("/api/compare/results", params={"project": project.id, "first": "v1"}).json()
    assert (found["title"], found["judgments"], found["people"], found["prompts"]) == ("v1 beats base", 24, 2, 12)
    assert found["wins"]["value"] == 1 and 0.7 < found["wins"]["low"] < 0.8  # Wilson for 12 prompts: 0.758
    assert found["length"] == "v1 is 2 words shorter."


def test_a_judgment_changed_after_the_names_counts_as_it_was_blind(client: TestClient, database: Database) -> None:
    project = add_comparison(database, 3)
    (item,) = taken(client, project=project.id)
    first = choice(item, "good")
    client.post("/api/label/judge", json=first)
    client.post("/api/label/judge", json=choice(item, "bad", supersedes=first["key"]))
    found = client.get("/api/compare/results", params={"project": project.id}).json()
    assert (found["leader"], found["judgments"]) == ("v1", 1)


def test_versions_are_listed_newest_first_and_one_cannot_meet_itself(client: TestClient) -> None:
    assert [one["id"] for one in client.get("/api/compare/versions").json()["versions"]] == ["v1", "base"]
    answer = client.post("/api/compare/start", json={"versions": ["v1", "v1"]})
    assert answer.status_code == 400
    assert "Choose two versions" in answer.json()["error"]


def test_results_are_of_comparisons_only(client: TestClient) -> None:
    answer = client.get("/api/compare/results", params={"project": "rank"})
    assert answer.status_code == 404
    assert "rank is no comparison" in answer.json()["error"]


def test_a_prompt_of_ones_own_is_of_whole_characters_too() -> None:
    assert AskBody(project="p", text="sky \ud83d").text == "sky ?"
