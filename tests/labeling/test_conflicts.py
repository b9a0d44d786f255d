"""What a lead is shown to settle, and what is held against whom."""

from __future__ import annotations

from typing import Any

from labeling import agreement, quality
from labeling.agreement import Opinion
from labeling.conflicts import OTHER_ANSWERS, conflicts, letters, note_by, said_about, said_by
from labeling.quality import Material
from storage.records import ADJUDICATED, LATE, REPEAT, Judgment, Ranking, Rating


def said(labeler: str, *tiers: tuple[str, ...], **more: Any) -> Judgment:
    given: dict[str, Any] = {
        "prompt_id": "q",
        "feedback_type": "ranking",
        "verdicts": (Ranking(tiers),),
        "displayed_order": ("a", "b"),
    }
    return Judgment(
        id=f"{labeler}-{tiers}",
        labeler=labeler,
        project_id="p",
        **{**given, **more},
    )


def test_what_is_flagged_is_shown_to_the_lead_with_its_note() -> None:
    made = [
        said("ines", ("a",), ("b",), flags=("for_the_lead",), note="Which dose do we mean?"),
        said("tom", ("a",), ("b",), note="Fine."),
    ]

    (found,) = conflicts(Material(made, {}, {}), {})

    assert (found.prompt, found.said, found.why) == ("q", "flagged for the lead by ines", "Which dose do we mean?")


def test_a_flag_on_a_repeat_reaches_the_lead_too_and_what_is_settled_is_gone() -> None:
    again = said("ines", ("a",), ("b",), flags=(REPEAT, "unsafe"))
    settled = said("lead", ("a",), ("b",), flags=(ADJUDICATED,))

    assert [one.said for one in conflicts(Material([again], {}, {}), {})] == ["flagged unsafe by ines"]
    assert conflicts(Material([again, settled], {}, {}), {"q": ["no idea"]}) == []


def test_a_prompt_is_listed_once_with_all_that_there_is_to_settle() -> None:
    made = [
        said("ines", ("a",), ("b",), flags=("unsafe", "for_the_lead"), note="It names a dose."),
        said("tom", ("b",), ("a",), flags=("unsafe",), note="Wrong unit.", reasons=("correct",)),
    ]

    (found,) = conflicts(Material(made, {}, {}), {"q": ["not my field"]})

    flagged = "flagged unsafe by ines and tom, for the lead by ines"
    assert found.said == f"{flagged}; 1 for A, 1 for B; skipped by 1 person"
    assert found.why == "ines: It names a dose.\n\ntom: Wrong unit.\n\ncorrect\n\nnot my field"


def test_what_somebody_flagged_comes_before_what_people_differ_on() -> None:
    split = [said("ines", ("a",), ("b",)), said("tom", ("b",), ("a",))]
    flagged = said("ines", ("a",), ("b",), flags=("for_the_lead",), prompt_id="r")

    assert [one.prompt for one in conflicts(Material([*split, flagged], {}, {}), {"s": ["no idea"]})] == ["r", "q", "s"]


def test_what_was_said_of_other_answers_is_given_no_letters() -> None:
    late = said("tom", ("x",), ("y",), displayed_order=("x", "y"), flags=(LATE,), note="odd\n\nA: wrong unit")
    of_both = said("ravi", ("b",), ("x",), displayed_order=("b", "x"), note="B: wrong unit")
    shown = letters(["a", "b"])

    assert said_about([late, said("ines", ("a",), ("b",)), said("lena", ("b",), ("a",))]) == (
        "1 for A, 1 for B, 1 of other answers"
    )
    assert said_by(late, shown) == OTHER_ANSWERS
    assert note_by(late, shown) == "odd\n\nAnother answer: wrong unit"
    assert note_by(of_both, shown) == "Another answer: wrong unit"


def test_notes_on_cards_have_the_letters_of_the_lead_and_not_those_of_who_wrote_them() -> None:
    made = said("ines", ("a",), ("b",), displayed_order=("b", "a"), note="Both short.\n\nA: wrong unit\n\nB: right")

    assert said_by(made, letters(["a", "b"])) == "A, then B"
    assert note_by(made, letters(["a", "b"])) == "Both short.\n\nA: right\n\nB: wrong unit"


def test_where_all_is_tied_nobody_is_told_that_no_two_people_judged() -> None:
    tied = Material([said("ines", ("a", "b")), said("tom", ("a", "b"))], {}, {})
    alone = Material([said("ines", ("a", "b"))], {}, {})

    assert tied.has_overlap and not alone.has_overlap
    for kind in ("ranking", "thumbs"):
        assert "where two people judged the same prompt" in quality.conclusion(None, [], kind, has_overlap=True)
        assert "No two people" in quality.conclusion(None, [], kind, has_overlap=False)


def test_nobody_is_told_to_share_prompts_where_they_are_shared() -> None:
    assert "2 or more people per prompt on the projects page" in quality.conclusion(None, [])
    shared = quality.conclusion(None, [], is_shared=True)
    assert shared == "Can these judgments be trusted? No two people have judged the same prompt yet."


def test_thumbs_that_all_point_one_way_are_told_from_no_thumbs_at_all() -> None:
    up = [said(name, ("a",), feedback_type="thumbs", verdicts=(Rating("a", True),)) for name in ("ines", "tom")]
    told = Material(up, {}, {})

    alpha = agreement.alpha(told.opinions)
    assert "all their thumbs point the same way" in quality.conclusion(
        agreement.raw_agreement(told.opinions), [], "thumbs", alpha, told.has_overlap
    )


def test_nobody_is_held_against_their_own_known_answer() -> None:
    known = {"q": Opinion("lea", "q", {"a": 1.0, "b": 0.0}, {("a", "b"): 1})}

    assert agreement.against([Opinion("lea", "q", {"a": 1.0, "b": 0.0}, {("a", "b"): 1})], known) is None
    assert agreement.against([Opinion("tom", "q", {"a": 1.0, "b": 0.0}, {("a", "b"): 1})], known) is not None
