"""What a lead is told about judgments, from judgments of known quality."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from labeling import quality
from labeling.agreement import Measured
from labeling.blind import NAMES_SEEN
from labeling.conflicts import conflicts, said_about, said_by
from labeling.quality import Material, Reading
from labeling.quality_routes import material, quality_router, set_aside
from storage import judgments, prompts, responses
from storage.database import Database
from storage.errors import AppError
from storage.records import ADJUDICATED, GOLD, LATE, REPEAT, Judgment, Person, Ranking, Rating, now
from tests.labeling.judged_project import TOM, judged_project
from tests.labeling.judging_app import add_project, add_versions, new_queue
from tests.makers import judgment, prompt, response


def measured(value: float, *, prompts: int = 40, half: float = 0.05) -> Measured:
    return Measured(value, value - half, value + half, prompts, prompts)


def read(name: str, told: Material) -> Reading:
    return next(one for one in quality.readings(told) if one.name == name)


@pytest.fixture
def told(database: Database) -> Material:
    return material(database, judged_project(database, "ranking"))


# ---- the whole ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (None, "No two people have judged the same prompt yet"),
        (measured(0.9, prompts=4), "Too early to say: only 4 prompts were judged by two people."),
        (measured(0.7), "Yes, to train on: people choose alike as often as in the papers."),
        (measured(0.9), "more often than in the papers"),
        (measured(0.6), "With care: people choose alike less often than in the papers (63 to 77 %)."),
        (measured(0.53), "Not yet: that people choose alike could be chance."),
        (measured(0.65, half=0.2), "Not yet: that people choose alike could be chance."),
        (measured(0.8, half=0.15), "people choose alike as often as in the papers."),
    ],
)
def test_the_conclusion_is_no_stronger_than_the_numbers(raw: Measured | None, says: str) -> None:
    assert says in quality.conclusion(raw, [])


@pytest.mark.parametrize(
    ("alpha", "says"),
    [
        (None, "No two people have judged the same prompt yet"),
        (measured(0.9, prompts=4), "Too early to say: only 4 prompts"),
        (measured(0.0), "Not yet: that people thumb alike could be chance."),
        (measured(0.4), "With care: people thumb alike more often than by chance"),
        (measured(0.8), "Yes, to train on: people thumb alike"),
    ],
)
def test_thumbs_are_trusted_by_what_is_beyond_chance(alpha: Measured | None, says: str) -> None:
    """Two people who thumb nine of ten up, whatever they read, agree on 82 %."""
    assert says in quality.conclusion(measured(0.82), [], "thumbs", alpha)


def test_rewrites_are_not_said_to_agree_or_not() -> None:
    assert quality.conclusion(None, [], "edit").startswith("Rewritten answers are not compared")


def test_progress_ends_when_this_weeks_pace_says_so() -> None:
    monday = datetime.fromisoformat("2031-03-03T12:00:00+00:00")
    made = [judgment("q", judged_at=monday - timedelta(days=days)) for days in (0.1, 1, 1.5, 2, 30)]
    assert quality.pace_sentence(made, 0, monday) == "All of them are there."
    assert (
        quality.pace_sentence(made, 2, monday) == "2 left; at this week's pace done on Friday."
    )  # 4 in 7 days: 3.5 more
    assert quality.pace_sentence(made, 40, monday).endswith("done on 12 May 2031.")
    assert quality.pace_sentence(made[-1:], 5, monday) == "5 left; nobody has judged for a week."
    begun_today = [judgment("q", judged_at=monday - timedelta(hours=1)) for _ in range(10)]
    assert quality.pace_sentence(begun_today, 20, monday).endswith("done today.")


def test_what_a_lead_had_settled_brings_the_end_no_nearer() -> None:
    noon = datetime.fromisoformat("2031-03-03T12:00:00+00:00")
    before, after = (judgment("q", judged_at=noon + timedelta(hours=hours)) for hours in (-1, 1))
    other = judgment("r", judged_at=noon)
    known = judgment("q", judged_at=noon, labeler="lead", flags=(ADJUDICATED, GOLD))

    assert Material([before, known, other, after], {}, {}).wanted == [before, other]


# ---- person by person -----------------------------------------------------------------------------------------------


def test_who_does_not_read_is_found_and_who_does_is_left_alone(told: Material) -> None:
    tom = read(TOM, told)
    assert {column for column, _ in tom.concerns} >= {"seconds", "gold", "first"}
    assert tom.state == "warn"
    assert [read(name, told).concerns for name in ("Ines", "Ravi", "Lena")] == [()] * 3
    assert [one.name for one in quality.readings(told)].count("lead") == 0  # a lead's own answers are kept apart


def test_the_numbers_of_a_person_are_of_their_own_judgments(told: Material) -> None:
    ines = read("Ines", told)
    assert ines.judgments == 48  # 40 and 8 of them again
    assert ines.gold is not None and (ines.gold.n, ines.gold.prompts) == (8, 8)
    assert ines.self is not None and ines.self.n == 8
    assert ines.others is not None and ines.others.n == 120  # three others on 40 prompts
    assert ines.first is not None and ines.first.n == 40
    assert ines.seconds is not None and 20 <= ines.seconds <= 40


def test_advice_says_what_it_is_about_and_how_far_the_others_agree_without(told: Material) -> None:
    said = quality.advice(read(TOM, told), told, measured(0.3))
    assert "s each, where others take" in said
    assert "of known answers are met" in said
    assert "Without their 48 judgments, alpha is 0." in said


def test_a_person_is_not_read_before_ten_judgments(told: Material) -> None:
    few = Material([one for one in told.judgments if one.labeler == TOM][:9], told.prompts, told.responses)
    assert read(TOM, few).state == "wait"


def test_pace_is_measured_against_reading_prompt_and_answers() -> None:
    asked, answers = prompt("one two three four"), ["five six", "seven eight"]
    shown = [response("q", text) for text in answers]
    said = judgment(
        asked.id, Rating(shown[0].id, True), displayed_order=tuple(one.id for one in shown), focused_seconds=4.0
    )
    told = Material([said], {asked.id: asked}, {one.id: one for one in shown})
    assert told.to_read(said) == 8
    assert read("ines", told).reading == 2.0  # 8 words take 2 seconds


def test_one_odd_person_makes_nobody_else_look_odd(told: Material) -> None:
    assert not [column for column, _ in read("Ines", told).concerns]


# ---- what to settle -------------------------------------------------------------------------------------------------


def votes(*best: str, kind: str = "ranking") -> list[Judgment]:
    """vote("A", "B", "") of the answers A and B: for A, for B, a tie."""
    tiers = {"A": (("a",), ("b",)), "B": (("b",), ("a",)), "": (("a", "b"),)}
    return [
        judgment("q", Ranking(tiers[one]), labeler=f"person {n}", displayed_order=("b", "a"), feedback_type=kind)
        for n, one in enumerate(best)
    ]


def test_a_split_is_said_in_votes() -> None:
    assert said_about(votes("A", "B", "A", "")) == "2 for A, 1 for B, 1 tie"
    assert [said_by(one) for one in votes("B", "")] == ["B, then A", "tie"]
    bad = [replace(one, flags=("both_bad",)) for one in votes("", "")]
    assert (said_about([*bad, *votes("")]), said_by(bad[0])) == ("2 both bad, 1 tie", "both bad")
    thumbs = [
        judgment("q", Rating("a", up), labeler=str(up), displayed_order=("a",), feedback_type="thumbs")
        for up in (True, False)
    ]
    assert said_about(thumbs) == "A: 1 up, 1 down"


@pytest.mark.parametrize(("best", "is_conflict"), [("AB", True), ("AAAB", True), ("AAAAAB", False), ("A", False)])
def test_people_conflict_where_they_differ_on_more_than_a_third(best: str, is_conflict: bool) -> None:
    told = Material(votes(*best), {}, {})
    assert bool(conflicts(told, {})) is is_conflict  # AAAB: 3 of 6 pairs differ; AAAAAB: 5 of 15


def test_the_most_split_comes_first_then_what_was_skipped_and_what_is_settled_is_gone() -> None:
    one, other = votes("A", "B"), [replace(vote, prompt_id="r") for vote in votes("A", "A", "B")]
    told = Material([*other, *one], {}, {})
    found = conflicts(told, {"s": ["no idea", "not mine"]})
    assert [(conflict.prompt, conflict.said) for conflict in found] == [
        ("q", "1 for A, 1 for B"),
        ("r", "2 for A, 1 for B"),
        ("s", "skipped by 2 people"),
    ]
    assert found[2].why == "no idea; not mine"
    settled = replace(one[0], labeler="lead", flags=(ADJUDICATED,))
    assert [conflict.prompt for conflict in conflicts(Material([*other, *one, settled], {}, {}), {})] == ["r"]


# ---- the routes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def client(database: Database) -> TestClient:
    add_versions(database, "base")
    add_project(database, "rank", "ranking", [["one", "two", "three"]] * 4, overlap=2)
    app = FastAPI()
    app.include_router(quality_router(new_queue(database), database, _person_of))
    app.add_exception_handler(AppError, _as_json)
    return TestClient(app)


def _person_of(request: Request) -> Person:
    name = request.cookies.get("person", "lead")
    return Person(name, "lead" if name == "lead" else "labeler")


def _as_json(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=error.status if isinstance(error, AppError) else 500)


def item(client: TestClient, prompt: str = "") -> dict[str, Any]:
    found = client.get("/api/quality/item", params={"project": "rank", "prompt": prompt})
    assert found.status_code == 200
    given: dict[str, Any] = found.json()
    return given


def settle(client: TestClient, found: dict[str, Any], **fields: Any) -> Any:
    ranks = {one["id"]: rank for rank, one in enumerate(found["responses"], 1)}
    body = {"key": str(uuid4()), "project": "rank", "prompt": found["prompt"], "verdict": {"ranks": ranks}, **fields}
    return client.post("/api/quality/settle", json=body)


def test_it_is_for_leads_alone(client: TestClient) -> None:
    found = item(client)
    client.cookies.set("person", "maria")
    assert client.get("/api/quality").status_code == 403
    assert client.get("/api/quality/item", params={"project": "rank"}).status_code == 403
    assert settle(client, found).status_code == 403


def test_a_known_answer_is_stored_once_however_often_it_is_sent(client: TestClient, database: Database) -> None:
    found, key = item(client), str(uuid4())
    answers = [settle(client, found, gold=True, key=key, note=" Sure. ").json() for _ in range(2)]
    assert answers == [{"judgment": key, "gold": True}] * 2
    (stored,) = judgments.list_all(database)
    assert (stored.labeler, stored.flags, stored.note, stored.assignment_id) == (
        "lead",
        (ADJUDICATED, GOLD),
        "Sure.",
        None,
    )
    assert item(client)["prompt"] != found["prompt"]


def test_an_item_to_settle_names_no_model(client: TestClient) -> None:
    found = item(client)
    assert {key for one in found["responses"] for key in one} == {"id", "html", "text"}
    assert "base" not in str(found)


def test_what_does_not_fit_is_refused(client: TestClient, database: Database) -> None:
    found = item(client)
    assert settle(client, found, verdict={"ranks": {"stranger": 1}}).status_code == 400
    assert settle(client, found, prompt="unknown").status_code == 404
    assert client.get("/api/quality", params={"project": "unknown"}).status_code == 404
    assert judgments.list_all(database) == []


def test_the_report_of_nothing_says_so(client: TestClient) -> None:
    found = client.get("/api/quality", params={"project": "rank"}).json()["report"]
    assert (found["raw"], found["alpha"], found["people"], found["conflicts"]) == (None, None, [], [])
    assert (found["progress"]["done"], found["progress"]["wanted"], found["progress"]["unit"]) == (0, 8, "judgment")


def test_what_one_person_skipped_for_a_reason_is_listed_until_somebody_judges_it(database: Database) -> None:
    add_versions(database, "base")
    asked = add_project(database, "rank", "ranking", [["one", "two"]] * 2, overlap=1)
    queue = new_queue(database)
    first, second = queue.take(asked, "maria", 2, "tab")
    queue.skip(first.assignment.id, "maria", "I do not know this drug")
    queue.skip(second.assignment.id, "maria", "")

    assert set_aside(database, asked) == {first.prompt.id: ["I do not know this drug"]}
    again = next(one for one in queue.take(asked, "otto", 2, "other tab") if one.prompt.id == first.prompt.id)
    order = again.assignment.displayed_order
    made = judgment(first.prompt.id, Ranking((order,)), labeler="otto", project_id="rank", displayed_order=order)
    queue.judge(replace(made, assignment_id=again.assignment.id))
    assert set_aside(database, asked) == {}


def test_a_flagged_judgment_reaches_the_lead_with_its_note(database: Database, client: TestClient) -> None:
    found = item(client)
    ids = tuple(one["id"] for one in found["responses"])
    made = judgment(found["prompt"], Ranking((ids,)), project_id="rank", displayed_order=ids[::-1])
    flagged = replace(made, flags=("for_the_lead",), note="A: cites no source")
    database.write(lambda cursor: judgments.add(cursor, flagged))

    (row,) = client.get("/api/quality", params={"project": "rank"}).json()["report"]["conflicts"]

    assert set(row) == {"prompt", "text", "said", "why"}
    assert (row["said"], row["why"]) == ("flagged for the lead by ines", "C: cites no source")
    assert [(one["said"], one["note"]) for one in item(client, found["prompt"])["said"]] == [("tie", row["why"])]


def test_another_answer_under_the_same_key_is_refused(client: TestClient, database: Database) -> None:
    found, key = item(client), str(uuid4())
    assert settle(client, found, key=key, gold=True).status_code == 200
    for other in ({"gold": False}, {"gold": True, "note": "Because."}):
        assert "the key of another one" in settle(client, found, key=key, **other).json()["error"]
    assert len(judgments.list_all(database)) == 1


def test_the_report_of_judged_items_has_every_number_with_its_n(database: Database, client: TestClient) -> None:
    judged_project(database, "pairwise")
    found = client.get("/api/quality", params={"project": "pairwise"}).json()["report"]
    assert found["raw"]["n"] == 6 * 40 and found["alpha"]["n"] == 80 and found["self"]["n"] == 32
    assert found["known"] == 8 and found["gold"]["n"] == 32
    assert found["tau"] is None  # of two answers there is no whole ranking
    assert len(found["people"]) == 4 and found["conflicts"]


def test_a_judgment_changed_after_the_names_counts_as_it_was(database: Database) -> None:
    project = judged_project(database, "pairwise", count=1)
    before = material(database, project).firsts
    seen = replace(before[0], id="seen", flags=(NAMES_SEEN,), supersedes=before[0].id, judged_at=now())
    database.write(lambda cursor: judgments.add(cursor, seen))
    assert {one.id for one in material(database, project).firsts} == {one.id for one in before}


def test_repeats_and_late_ones_are_told_apart(database: Database) -> None:
    asked, shown = prompt(), [response("q", text) for text in ("a", "b")]
    prompts.add(database, [asked])
    responses.add(database, shown)
    made = [
        judgment(asked.id, Rating(shown[0].id, True), project_id="p1", flags=flags)
        for flags in ((), (REPEAT,), (LATE,), (ADJUDICATED,))
    ]
    told = Material(made, {}, {})
    assert (len(told.firsts), len(told.repeats), list(told.settled)) == (2, 1, [asked.id])
