"""Each noun comes back from the database as it went in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from storage import assignments, judgments, model_versions, people, projects, prompts, responses, runs, snapshots
from storage.database import Database
from storage.errors import BadInput, NotFound
from storage.records import Assignment, Demonstration, Judgment, Message, Person, Ranking, Rating, Score, now
from tests.makers import judgment, project, prompt, response, run, some_prompts, version

ASKED = [{"role": "user", "content": "Why?"}]
ANSWER = [{"role": "assistant", "content": "Because."}]


def test_a_prompt_is_stored_once_whatever_its_white_space(database: Database) -> None:
    first, again = prompt("How is it stored?"), prompt("How  is it\nstored?")

    assert prompts.add(database, [first]) == 1
    assert prompts.add(database, [again, first]) == 0
    assert prompts.get(database, first.id) == first


def test_the_same_prompt_is_held_out_everywhere_and_about_a_fifth_are() -> None:
    texts = [[Message("user", f"Question {number}?")] for number in range(2000)]

    held_out = [prompts.is_held_out(messages) for messages in texts]

    assert held_out == [prompts.is_held_out(messages) for messages in texts]
    assert 0.17 < sum(held_out) / len(held_out) < 0.23


def test_prompts_come_by_side_and_source(database: Database) -> None:
    mine = [replace(one, source="mine") for one in some_prompts(3)]
    theirs = [replace(prompt(f"Their question {n}?"), source="theirs", held_out=False) for n in range(2)]
    prompts.add(database, [*mine, *theirs])

    assert prompts.in_order(database, held_out=False, sources=["theirs"]) == sorted(theirs, key=lambda p: p.created_at)
    assert len(prompts.in_order(database, held_out=False)) == 5
    assert prompts.in_order(database, held_out=True) == []


def test_changed_guidelines_become_the_next_version(database: Database) -> None:
    first = projects.save(database, project(guidelines="Be fair."))
    renamed = projects.save(database, replace(first, name="Other"))
    changed = projects.save(database, replace(renamed, guidelines="Be fair and quick."))

    assert [first.guideline_version, renamed.guideline_version, changed.guideline_version] == [1, 1, 2]
    assert projects.get(database, "p1") == changed
    assert projects.list_all(database, "comparison") == []


def test_every_kind_of_verdict_comes_back(database: Database) -> None:
    ranked = Ranking((("a",), ("b", "c")), strength=2)
    ideal = Demonstration("x", "a", preferred=True)
    said = judgment("q1", ranked, Rating("a", True), Rating("b", False), ideal, Demonstration("y"))

    assert database.write(lambda cursor: judgments.add(cursor, said))
    assert judgments.list_all(database) == [said]


def test_scores_and_reasons_come_back_beside_judgments_without_any(database: Database) -> None:
    scores = (Score("a", "helpful", 4), Score("b", "honest", 1))
    plain = judgment("q1", Rating("a", True))
    full = judgment("q2", Rating("a", True), scores=scores, reasons=("correct", "shorter"), flags=("unsafe",))
    bare = judgment("q3", Rating("a", True))
    database.write(lambda cursor: judgments.add(cursor, bare))
    database.write(lambda cursor: judgments.insert_all(cursor, [plain, full]))

    assert {one.id: one for one in judgments.list_all(database)} == {one.id: one for one in (plain, full, bare)}


def test_what_a_lead_decides_about_a_project_comes_back(database: Database) -> None:
    decided = {"overlap": 3, "gold_share": 0.1, "repeat_share": 0.05, "calibration": True}
    asked = {"criteria": ("helpful", "honest"), "reasons": ("wrong",), "pair_from_edit": False}
    saved = projects.save(database, project(**decided, **asked))

    assert projects.get(database, "p1") == saved == project(**decided, **asked, created_at=saved.created_at)


def test_a_judgment_sent_twice_is_stored_once(database: Database) -> None:
    said = judgment("q1", Rating("a", True))

    assert database.write(lambda cursor: judgments.add(cursor, said))
    assert not database.write(lambda cursor: judgments.add(cursor, said))
    assert len(judgments.list_all(database)) == 1


def test_a_superseded_judgment_stays_but_stands_no_more(database: Database) -> None:
    given = {"project_id": "p1", "assignment_id": "given"}
    first = judgment("q1", Rating("a", True), **given)
    second = judgment("q1", Rating("a", False), **given, supersedes=first.id)
    for one in (first, second):
        database.write(lambda cursor, one=one: judgments.add(cursor, one))

    assert len(judgments.list_all(database)) == 2
    assert judgments.standing(database) == [second]
    assert judgments.recent(database, "p1", "ines") == [second]


def test_nothing_deletes_or_rewrites_a_judgment() -> None:
    source = Path(judgments.__file__).read_text().upper()

    assert "DELETE" not in source and "UPDATE JUDGMENTS" not in source


def test_responses_and_assignments_come_back(database: Database) -> None:
    answer = response("q1", seed=7, prompt_tokens=9, completion_tokens=4, project_id="p1")
    held = Assignment("a1", "p1", "q1", "ines", (answer.id,), now())
    responses.add(database, [answer])
    assignments.add(database, [held])
    database.write(lambda cursor: assignments.update(cursor, replace(held, state="judged")))

    assert responses.get_many(database, [answer.id, "unknown"]) == {answer.id: answer}
    assert responses.by_prompt(database, "p1") == {"q1": [answer]}
    assert assignments.get(database, "a1") == replace(held, state="judged")


def test_the_main_writer_wrote_most_of_the_answers_that_were_judged(database: Database) -> None:
    shown = [response("q1", f"Answer {n}", version_id=by) for n, by in enumerate(("base", "v1", "base"))]
    unseen = [response("q1", f"Unseen {n}", version_id="v2") for n in range(5)]
    responses.add(database, [*shown, *unseen])
    said = judgment("q1", Rating(shown[0].id, True), displayed_order=tuple(one.id for one in shown))
    database.write(lambda cursor: judgments.add(cursor, said))

    assert responses.main_writer(database, [said.id]) == "base"
    assert responses.main_writer(database, ["another"]) is None


def test_versions_are_numbered_and_one_run_makes_one(database: Database) -> None:
    model_versions.add(database, version("base"))
    first = model_versions.add(database, version(model_versions.next_id(database), run_id="dpo-01"))
    again = model_versions.add(database, version("v2", run_id="dpo-01"))

    assert (first.id, again.id) == ("v1", "v1")
    assert not model_versions.set_served(database, "v1", False).served
    assert [one.id for one in model_versions.served(database)] == ["base"]
    with pytest.raises(NotFound, match="v9"):
        model_versions.set_served(database, "v9", True)


def test_runs_are_numbered_by_method_and_remember_their_outcome(database: Database) -> None:
    runs.add(database, run(runs.next_id(database, "dpo"), settings={"beta": 0.1}))
    assert runs.next_id(database, "dpo") == "dpo-02"
    assert runs.next_id(database, "kto") == "kto-01"

    ended = runs.set_state(database, "dpo-01", "succeeded", message="Done.", version_id="v1", ended_at=now())

    assert runs.get(database, "dpo-01") == ended
    assert ended.settings == {"beta": 0.1}
    assert runs.unfinished(database) == []


def test_the_same_rows_are_one_snapshot_however_often_they_are_frozen(database: Database, tmp_path: Path) -> None:
    rows = [{"prompt": ASKED, "completion": ANSWER, "label": True, "judgment_id": "j1"}]
    made = [
        snapshots.freeze(
            database,
            tmp_path,
            name=name,
            dataset_type="unpaired_preference",
            rows=rows,
            counts={"rows": 1},
            policy="majority",
            judgment_ids=["j1"],
        )
        for name in ("one", "two")
    ]

    assert made[1].id == made[0].id
    assert [path.name for path in tmp_path.glob("*.parquet")] == [Path(made[0].path).name]
    assert snapshots.list_all(database) == [snapshots.get(database, made[0].id)] == [made[0]]
    assert snapshots.read_rows(Path(made[0].path)) == rows


def test_a_name_must_be_one(database: Database) -> None:
    assert people.enter(database, "  Ines   Roth ", {"Ines Roth": "lead"}, "labeler").role == "lead"
    assert people.enter(database, "Tom", {}, "labeler").role == "labeler"
    for bad in ("", "   ", "x" * 41):
        with pytest.raises(BadInput, match="1 to 40"):
            people.enter(database, bad, {}, "labeler")


NARGES_NAZ = "\u0646\u0631\u06af\u0633\u200c\u0646\u0627\u0632"  # Persian, with a joiner between its two parts
SHRI = "\u0936\u094d\u200d\u0930\u0940"  # Devanagari, with one after a mark


def test_names_are_taken_in_every_script_and_kept_in_one_form(database: Database) -> None:
    for name in (NARGES_NAZ, SHRI):
        assert people.enter(database, name, {}, "labeler").name == name
    assert people.enter(database, "Rene\u0301", {"Rene\u0301": "lead"}, "labeler") == Person("Ren\u00e9", "lead")


@pytest.mark.parametrize("name", ["\u200d", "a\u202eb", "a\x00b", "An\u200dna", "Anna\u200c", f"{NARGES_NAZ}\u200c"])
def test_no_two_names_look_the_same_by_what_cannot_be_seen(database: Database, name: str) -> None:
    with pytest.raises(BadInput, match="letters that can be seen"):
        people.enter(database, name, {}, "labeler")


def test_unknown_things_are_not_found(database: Database) -> None:
    for look in (prompts.get, projects.get, runs.get, snapshots.get, assignments.get):
        with pytest.raises(NotFound):
            look(database, "nothing")
    assert judgments.get(database, "nothing") is None
    assert isinstance(judgment("q"), Judgment)
