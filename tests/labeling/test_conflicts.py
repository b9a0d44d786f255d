"""What a lead is shown to settle, and what is held against whom."""

from __future__ import annotations

from typing import Any

import pytest

from labeling import agreement, quality
from labeling.agreement import Opinion
from labeling.conflicts import conflicts
from labeling.quality import Material
from labeling.routes import _joined_again, _set_apart, whole_characters
from storage.database import Database
from storage.errors import BadInput
from storage.people import enter
from storage.records import Judgment, Ranking


def said(labeler: str, *tiers: tuple[str, ...], **more: Any) -> Judgment:
    return Judgment(
        id=f"{labeler}-{tiers}",
        prompt_id="q",
        labeler=labeler,
        feedback_type="ranking",
        verdicts=(Ranking(tiers),),
        displayed_order=("a", "b"),
        project_id="p",
        **more,
    )


def test_what_is_flagged_is_shown_to_the_lead_with_its_note() -> None:
    made = [
        said("ines", ("a",), ("b",), flags=("for_the_lead",), note="Which dose do we mean?"),
        said("tom", ("a",), ("b",), note="Fine."),
    ]

    (found,) = conflicts(Material(made, {}, {}), {})

    assert (found.prompt, found.said, found.why) == ("q", "flagged for the lead by ines", "Which dose do we mean?")


def test_a_prompt_that_is_split_is_listed_once_though_it_is_flagged() -> None:
    made = [said("ines", ("a",), ("b",), flags=("for_the_lead",)), said("tom", ("b",), ("a",))]

    assert len(conflicts(Material(made, {}, {}), {})) == 1


def test_where_all_is_tied_nobody_is_told_that_no_two_people_judged() -> None:
    tied = Material([said("ines", ("a", "b")), said("tom", ("a", "b"))], {}, {})
    alone = Material([said("ines", ("a", "b"))], {}, {})

    assert tied.has_overlap and not alone.has_overlap
    assert "said tie or all bad" in quality.conclusion(None, [], has_overlap=tied.has_overlap)
    assert "No two people" in quality.conclusion(None, [], has_overlap=alone.has_overlap)


def test_nobody_is_held_against_their_own_known_answer() -> None:
    known = {"q": Opinion("lea", "q", {"a": 1.0, "b": 0.0}, {("a", "b"): 1})}

    assert agreement.against([Opinion("lea", "q", {"a": 1.0, "b": 0.0}, {("a", "b"): 1})], known) is None
    assert agreement.against([Opinion("tom", "q", {"a": 1.0, "b": 0.0}, {("a", "b"): 1})], known) is not None


@pytest.mark.parametrize("text", ["Dose.\n\nB: is better", "A: mine", "A: one\n\nB: two", "plain\n\ntext", ""])
def test_a_note_that_looks_like_one_on_a_card_comes_back_as_it_was(text: str) -> None:
    kept = _set_apart(text)

    assert not kept.startswith(("A: ", "B: ")) and "\n\nB: " not in kept
    assert _joined_again(kept) == text


def test_half_a_surrogate_pair_becomes_a_question_mark_wherever_it_is() -> None:
    assert whole_characters({"note\ud83d": ["blue \ud83d", 7, None]}) == {"note?": ["blue ?", 7, None]}


def test_names_are_taken_in_every_script_and_kept_in_one_form(database: Database) -> None:
    assert enter(database, "\u0646\u0631\u06af\u0633\u200c\u0646\u0627\u0632", {}, "labeler").name.count("\u200c") == 1
    assert enter(database, "Rene\u0301", {}, "labeler") == enter(database, "Ren\u00e9", {}, "labeler")
    for name in ("\u200d", "a\u202eb", "a\x00b"):
        with pytest.raises(BadInput, match="letters that can be seen"):
            enter(database, name, {}, "labeler")
