"""Every expected value is worked out by hand from the verdicts above it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from alignment.datasets import POLICY, document_rows, preference_pairs, prompt_rows, rows_from, tied_pairs
from storage.records import (
    ADJUDICATED,
    REPEAT,
    Demonstration,
    Document,
    Judgment,
    Message,
    Prompt,
    Ranking,
    Rating,
    Response,
    Verdict,
)

MORNING = datetime(2026, 1, 1, 9, tzinfo=UTC)
TEXTS = {"a": "blue", "b": "azure", "c": "green", "d": "red"}


def prompt(prompt_id: str = "sky", held_out: bool = False) -> Prompt:
    words = (Message("user", f"What colour is the {prompt_id}?"),)
    return Prompt(prompt_id, words, held_out=held_out, source="test", licence="CC0")


def judgment(number: int, *verdicts: Verdict, on: str = "sky", supersedes: str | None = None) -> Judgment:
    return Judgment(
        id=f"j{number}",
        prompt_id=on,
        labeler="ana",
        feedback_type="any",
        verdicts=verdicts,
        displayed_order=(),
        supersedes=supersedes,
        judged_at=MORNING + timedelta(minutes=number),
    )


PROMPTS = {one.id: one for one in (prompt("sky"), prompt("sea"), prompt("exam", held_out=True))}
RESPONSES = {one: Response(one, "sky", text, version_id="v0", author="v0") for one, text in TEXTS.items()}


def counted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in counts.items() if number}


def pairs(rows: tuple[Mapping[str, Any], ...]) -> list[tuple[str, str]]:
    return [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]


def test_tied_responses_form_no_pair():
    found = preference_pairs("The sky is", Ranking((("a", "b"), ("c",))), TEXTS)
    assert [(p.chosen, p.rejected) for p in found] == [("blue", "green"), ("azure", "green")]


def test_ties_are_counted_as_the_pairs_they_leave_undecided():
    assert tied_pairs(Ranking((("a", "b", "c"), ("d",)))) == 3


def test_a_ranking_becomes_trl_rows():
    found = rows_from("preference", [judgment(1, Ranking((("a",), ("c",))))], PROMPTS, RESPONSES)
    assert found.rows == (
        {
            "prompt": [{"role": "user", "content": "What colour is the sky?"}],
            "chosen": [{"role": "assistant", "content": "blue"}],
            "rejected": [{"role": "assistant", "content": "green"}],
            "judgment_id": "j1",
        },
    )
    assert found.judgment_ids == ("j1",)


def test_a_partial_ranking_forms_pairs_of_what_was_ranked_only():
    found = rows_from("preference", [judgment(1, Ranking((("b",), ("a",), ("d",))))], PROMPTS, RESPONSES)
    assert pairs(found.rows) == [("azure", "blue"), ("azure", "red"), ("blue", "red")]


def test_the_same_verdict_counts_once_and_both_judgments_are_behind_the_row():
    said = [judgment(1, Ranking((("a",), ("c",)))), judgment(2, Ranking((("a",), ("c",))))]
    found = rows_from("preference", said, PROMPTS, RESPONSES)
    assert pairs(found.rows) == [("blue", "green")]
    assert counted(found.counts) == {"judgments": 2, "verdicts": 2, "duplicates": 1, "rows": 1}
    assert found.judgment_ids == ("j1", "j2")


def test_the_same_texts_under_other_ids_are_the_same_pair():
    again = {"e": Response("e", "sky", "blue", "v1", "v1"), "f": Response("f", "sky", "green", "v1", "v1")}
    said = [judgment(1, Ranking((("a",), ("c",)))), judgment(2, Ranking((("e",), ("f",))))]
    found = rows_from("preference", said, PROMPTS, {**RESPONSES, **again})
    assert counted(found.counts) == {"judgments": 2, "verdicts": 2, "duplicates": 1, "rows": 1}


def test_the_same_pair_on_another_prompt_is_another_row():
    said = [judgment(1, Ranking((("a",), ("c",)))), judgment(2, Ranking((("c",), ("a",))), on="sea")]
    found = rows_from("preference", said, PROMPTS, RESPONSES)
    assert pairs(found.rows) == [("blue", "green"), ("green", "blue")]


def test_the_majority_wins_a_contradiction():
    said = [
        judgment(1, Ranking((("c",), ("a",)))),
        judgment(2, Ranking((("a",), ("c",)))),
        judgment(3, Ranking((("a",), ("c",)))),
    ]
    found = rows_from("preference", said, PROMPTS, RESPONSES)
    assert pairs(found.rows) == [("blue", "green")]
    assert counted(found.counts) == {"judgments": 3, "verdicts": 3, "contradictions": 1, "duplicates": 1, "rows": 1}
    assert found.judgment_ids == ("j2", "j3")


def test_an_even_split_leaves_both_out():
    said = [judgment(1, Ranking((("c",), ("a",)))), judgment(2, Ranking((("a",), ("c",))))]
    found = rows_from("preference", said, PROMPTS, RESPONSES)
    assert found.rows == () and found.judgment_ids == ()
    assert counted(found.counts) == {"judgments": 2, "verdicts": 2, "contradictions": 2}


def test_two_ranks_for_the_same_text_say_nothing():
    twin = {**RESPONSES, "e": Response("e", "sky", "blue", "v1", "v1")}
    found = rows_from("preference", [judgment(1, Ranking((("a",), ("e",), ("c",))))], PROMPTS, twin)
    assert pairs(found.rows) == [("blue", "green")]
    assert counted(found.counts) == {"judgments": 1, "verdicts": 3, "identical": 1, "duplicates": 1, "rows": 1}


def test_held_out_prompts_and_superseded_judgments_never_enter():
    said = [
        judgment(1, Ranking((("a",), ("c",)))),
        judgment(2, Ranking((("c",), ("a",))), supersedes="j1"),
        judgment(3, Ranking((("a",), ("d",))), on="exam"),
    ]
    found = rows_from("preference", said, PROMPTS, RESPONSES)
    assert pairs(found.rows) == [("green", "blue")]
    assert counted(found.counts) == {"judgments": 3, "superseded": 1, "held_out": 1, "verdicts": 1, "rows": 1}


def test_a_leads_answer_stands_alone_and_a_repeat_is_no_second_vote():
    # given two labelers who agree, one of them asked again, and a lead who adjudicated for the opposite
    labelers = [judgment(number, Ranking((("a",), ("c",)))) for number in (1, 2)]
    again = replace(judgment(3, Ranking((("a",), ("c",)))), flags=(REPEAT,))
    lead = replace(judgment(4, Ranking((("c",), ("a",)))), flags=(ADJUDICATED,))
    # then the majority no longer counts, and everything is accounted for
    found = rows_from("preference", [*labelers, again, lead], PROMPTS, RESPONSES)
    assert pairs(found.rows) == [("green", "blue")]
    assert counted(found.counts) == {"judgments": 4, "repeats": 1, "adjudicated": 2, "verdicts": 1, "rows": 1}
    # and without the lead it does, once each
    assert pairs(rows_from("preference", [*labelers, again], PROMPTS, RESPONSES).rows) == [("blue", "green")]


def test_a_lead_settles_only_what_was_asked_in_that_way():
    ideal = judgment(1, Demonstration("Blue, mostly."))
    lead = replace(judgment(2, Ranking((("c",), ("a",)))), flags=(ADJUDICATED,))
    assert len(rows_from("prompt_completion", [ideal, lead], PROMPTS, RESPONSES).rows) == 1


def test_a_response_that_is_gone_is_counted_as_missing():
    found = rows_from("preference", [judgment(1, Ranking((("a",), ("gone",), ("c",))))], PROMPTS, RESPONSES)
    assert pairs(found.rows) == [("blue", "green")]
    assert counted(found.counts) == {"judgments": 1, "verdicts": 3, "missing": 2, "rows": 1}


def test_thumbs_become_labelled_rows():
    said = [judgment(1, Rating("a", True), Rating("b", False), Rating("c", False))]
    found = rows_from("unpaired_preference", said, PROMPTS, RESPONSES)
    labels = [(row["completion"][0]["content"], row["label"]) for row in found.rows]
    assert labels == [("blue", True), ("azure", False), ("green", False)]
    assert counted(found.counts) == {"judgments": 1, "verdicts": 3, "rows": 3, "desirable": 1, "undesirable": 2}


def test_thumbs_up_and_down_on_the_same_text_contradict():
    said = [judgment(n, Rating("a", up)) for n, up in enumerate((True, False, False))]
    found = rows_from("unpaired_preference", said, PROMPTS, RESPONSES)
    assert [row["label"] for row in found.rows] == [False]
    expected = {"judgments": 3, "verdicts": 3, "contradictions": 1, "duplicates": 1, "rows": 1, "undesirable": 1}
    assert counted(found.counts) == expected


def test_demonstrations_become_completions_with_white_space_kept():
    said = [judgment(1, Demonstration(" Blue.\n", improves="a")), judgment(2, Demonstration(" Blue.\n"))]
    found = rows_from("prompt_completion", said, PROMPTS, RESPONSES)
    assert [row["completion"] for row in found.rows] == [[{"role": "assistant", "content": " Blue.\n"}]]
    assert counted(found.counts) == {"judgments": 2, "verdicts": 2, "duplicates": 1, "rows": 1}


def test_an_ideal_that_is_preferred_is_a_pair_over_what_it_improves():
    ideal, plain = Demonstration("cyan", improves="c", preferred=True), Demonstration("cyan", improves="d")
    found = rows_from("preference", [judgment(1, ideal), judgment(2, plain)], PROMPTS, RESPONSES)
    pairs = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in found.rows]
    assert pairs == [("cyan", "green")]
    assert counted(found.counts) == {"judgments": 2, "other_feedback": 1, "verdicts": 1, "rows": 1}


def test_a_ranking_with_an_ideal_beside_it_gives_its_own_pairs_and_one_more():
    said = [judgment(1, Ranking((("a",), ("c",))), Demonstration("cyan", improves="a", preferred=True))]
    found = rows_from("preference", said, PROMPTS, RESPONSES)
    pairs = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in found.rows]
    assert pairs == [("blue", "green"), ("cyan", "blue")]
    completions = rows_from("prompt_completion", said, PROMPTS, RESPONSES).rows
    assert [row["completion"][0]["content"] for row in completions] == ["cyan"]


def test_a_tie_with_an_ideal_beside_it_has_a_pair_after_all():
    said = [judgment(1, Ranking((("a", "c"),)), Demonstration("cyan", improves="a", preferred=True))]
    found = rows_from("preference", said, PROMPTS, RESPONSES)
    assert counted(found.counts) == {"judgments": 1, "ties": 1, "verdicts": 1, "rows": 1}


def test_judgments_of_another_kind_are_counted_and_left():
    said = [judgment(1, Rating("a", True)), judgment(2, Ranking((("a",), ("c",))))]
    found = rows_from("preference", said, PROMPTS, RESPONSES)
    assert counted(found.counts) == {"judgments": 2, "other_feedback": 1, "verdicts": 1, "rows": 1}


def test_the_counts_add_up_and_the_order_of_the_judgments_does_not_matter():
    chance = Random(0)
    said = [judgment(n, Ranking(tuple((one,) for one in chance.sample("abcd", 3)))) for n in range(40)]
    found = rows_from("preference", said, PROMPTS, RESPONSES)
    counts = found.counts
    unused = counts["missing"] + counts["identical"] + counts["duplicates"] + counts["contradictions"]
    assert counts["verdicts"] == 120 == unused + counts["rows"]
    assert rows_from("preference", said[::-1], PROMPTS, RESPONSES) == found


def test_every_judgment_is_accounted_for_also_where_all_answers_tie():
    said = [
        judgment(1, Ranking((("a",), ("c",)))),
        judgment(2, Ranking((("c",), ("a",))), supersedes="j1"),
        judgment(3, Ranking((("a",), ("d",))), on="exam"),
        judgment(4, Rating("a", True)),
        judgment(5, Ranking((("a", "b", "c"),))),
        judgment(6, Ranking((("b", "c"), ("d",)))),
    ]
    counts = rows_from("preference", said, PROMPTS, RESPONSES).counts
    with_a_verdict = {"j2", "j6"}
    left_out = [counts[name] for name in ("superseded", "held_out", "other_feedback", "no_pair")]
    assert left_out == [1, 1, 1, 1]
    assert counts["judgments"] == 6 == sum(left_out) + len(with_a_verdict)
    assert (counts["ties"], counts["verdicts"]) == (3 + 1, 1 + 2)


def test_the_policy_says_what_the_code_does():
    for word in ("Ties", "once", "majority", "even split", "held-out", "superseded", "adjudicated", "repeats"):
        assert word in POLICY


def document(document_id: str, text: str, held_out: bool = False) -> Document:
    return Document(document_id, text, held_out=held_out, source="test", licence="CC0")


def test_documents_become_texts_once_each_and_held_out_ones_never():
    given = [document("d1", "A fox."), document("d2", "An exam.", True), document("d3", "A  fox."), document("d4", "B")]
    found = document_rows(given)
    assert found.rows == ({"text": "A fox.", "document_id": "d1"}, {"text": "B", "document_id": "d4"})
    assert found.source_ids == ("d1", "d4") and found.judgment_ids == ()
    assert found.counts == {"documents": 4, "held_out": 1, "duplicates": 1, "rows": 2}


def test_prompts_become_questions_without_answers():
    again = Prompt("sky2", PROMPTS["sky"].messages, held_out=False, source="other", licence="CC0")
    found = prompt_rows([*PROMPTS.values(), again])
    assert [row["prompt_id"] for row in found.rows] == ["sky", "sea"] == list(found.source_ids)
    assert found.rows[0]["prompt"] == [{"role": "user", "content": "What colour is the sky?"}]
    assert found.counts == {"prompts": 4, "held_out": 1, "duplicates": 1, "rows": 2}
