import pytest

from labeling.feedback import EDIT, FEEDBACK_TYPES, PAIRWISE, RANKING, THUMBS, FeedbackType, beside, feedback_type
from labeling.feedback.edit import as_pairs
from storage.errors import BadInput, NotFound
from storage.records import Demonstration, Ranking, Rating, Score

SHOWN = ("a", "b", "c", "d")


def test_every_feedback_type_explains_itself_under_a_name_of_its_own() -> None:
    assert len({one.name for one in FEEDBACK_TYPES}) == len(FEEDBACK_TYPES)
    for one in FEEDBACK_TYPES:
        assert one.title and one.explanation.endswith(".") and one.minimum_responses >= 1
        assert feedback_type(one.name) is one


def test_an_unknown_feedback_type_names_those_there_are() -> None:
    with pytest.raises(NotFound, match="thumbs, ranking, pairwise, edit"):
        feedback_type("stars")


def test_thumbs_become_ratings_in_displayed_order() -> None:
    verdicts = THUMBS.verdicts({"thumbs": {"c": "down", "a": "up"}}, SHOWN)
    assert verdicts == (Rating("a", True), Rating("c", False))


def test_ranks_become_tiers_best_first_where_the_same_number_is_a_tie() -> None:
    verdicts = RANKING.verdicts({"ranks": {"d": 1, "c": 2, "a": 2, "b": 4}}, SHOWN)
    assert verdicts == (Ranking((("d",), ("a", "c"), ("b",))),)


def test_unranked_responses_are_left_out() -> None:
    assert RANKING.verdicts({"ranks": {"b": 3, "c": 1}}, SHOWN) == (Ranking((("c",), ("b",))),)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (-3, Ranking((("x",), ("y",)), strength=3)),
        (-1, Ranking((("x",), ("y",)), strength=1)),
        (0, Ranking((("x", "y"),))),
        (2, Ranking((("y",), ("x",)), strength=2)),
    ],
)
def test_a_negative_choice_prefers_the_first_that_was_shown(choice: int, expected: Ranking) -> None:
    assert PAIRWISE.verdicts({"choice": choice}, ("x", "y")) == (expected,)


def test_both_bad_is_a_tie_with_a_flag() -> None:
    payload = {"both_bad": True}
    assert PAIRWISE.verdicts(payload, ("x", "y")) == (Ranking((("x", "y"),)),)
    assert PAIRWISE.flags(payload) == ("both_bad",)
    assert PAIRWISE.flags({"choice": 0}) == ()


def test_rewritten_answers_become_demonstrations_and_emptied_ones_nothing() -> None:
    verdicts = EDIT.verdicts({"rewrites": {"c": "Better.", "a": "Best.", "b": " "}}, SHOWN)
    assert verdicts == (Demonstration("Best.", improves="a"), Demonstration("Better.", improves="c"))


def test_an_ideal_is_better_than_its_original_unless_nothing_was_changed() -> None:
    originals = {"a": "Good.", "b": "Bad."}
    said = (Rating("b", False), Demonstration("Good. ", improves="a"), Demonstration("Right.", improves="b"))
    rating, as_it_is, rewritten = as_pairs(said, originals)
    assert rating == Rating("b", False)
    assert (as_it_is, rewritten) == (said[1], Demonstration("Right.", improves="b", preferred=True))


def test_scores_reasons_and_flags_come_back_from_what_was_stored() -> None:
    payload = {"scores": {"b": {"honest": 2}}, "reasons": ["correct"], "flags": ["unsafe", "for_the_lead"]}
    scores = beside.scores(payload, SHOWN)
    assert scores == (Score("b", "honest", 2),)
    assert beside.payload(scores, beside.reasons(payload), ("too_fast", *beside.flags(payload))) == payload
    assert beside.payload((), (), ("too_fast",)) == {}


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"scores": {"a": {"honest": 6}}}, "from 1 to 5, not 6"),
        ({"scores": {"a": {"honest": True}}}, "from 1 to 5"),
        ({"scores": {"a": {"x" * 201: 1}}}, "up to 200"),
        ({"scores": {"a": 3}}, "an object"),
        ({"scores": {"z": {"honest": 3}}}, "not shown"),
    ],
)
def test_scores_that_cannot_be_meant_are_refused(payload: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        beside.scores(payload, SHOWN)


def test_flags_and_reasons_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(BadInput, match="no flag called 'dull'"):
        beside.flags({"flags": ["dull"]})
    with pytest.raises(BadInput, match="a list of up to 20"):
        beside.reasons({"reasons": ["x"] * 21})


@pytest.mark.parametrize(
    ("kind", "payload", "shown", "said"),
    [
        (EDIT, {}, SHOWN, "No answer is rewritten"),
        (EDIT, {"rewrites": {"a": " "}}, SHOWN, "No answer is rewritten"),
        (EDIT, {"rewrites": {"a": 3}}, SHOWN, "is a text"),
        (EDIT, {"rewrites": {"z": "x"}}, SHOWN, "not shown"),
        (THUMBS, {}, SHOWN, "needs thumbs"),
        (THUMBS, {"thumbs": {}}, SHOWN, "at least one"),
        (THUMBS, {"thumbs": {"a": "sideways"}}, SHOWN, "sideways"),
        (THUMBS, {"thumbs": {"z": "up"}}, SHOWN, "not shown"),
        (RANKING, {"ranks": ["a", "b"]}, SHOWN, "needs ranks"),
        (RANKING, {"ranks": {"a": 1}}, SHOWN, "1 of 4 responses"),
        (RANKING, {"ranks": {"a": 1, "b": 5}}, SHOWN, "from 1 to 4"),
        (RANKING, {"ranks": {"a": True, "b": 1}}, SHOWN, "whole number"),
        (RANKING, {"ranks": {"a": 1, "z": 2}}, SHOWN, "not shown"),
        (PAIRWISE, {"choice": 4}, ("x", "y"), "-3"),
        (PAIRWISE, {"choice": None}, ("x", "y"), "None"),
        (PAIRWISE, {"choice": 1}, SHOWN, "4 were shown"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    kind: FeedbackType, payload: dict[str, object], shown: tuple[str, ...], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        kind.verdicts(payload, shown)


@pytest.mark.parametrize(
    ("kind", "payload", "shown"),
    [
        (THUMBS, {"thumbs": {"a": "up", "d": "down"}}, SHOWN),
        (RANKING, {"ranks": {"a": 2, "b": 1, "d": 2}}, SHOWN),
        (RANKING, {"both_bad": True}, SHOWN),
        (PAIRWISE, {"choice": -2}, ("x", "y")),
        (PAIRWISE, {"choice": 3}, ("x", "y")),
        (PAIRWISE, {"choice": 0}, ("x", "y")),
        (PAIRWISE, {"both_bad": True}, ("x", "y")),
        (EDIT, {"rewrites": {"a": "Better.", "c": "Best."}}, SHOWN),
    ],
)
def test_a_payload_comes_back_from_its_verdicts(
    kind: FeedbackType, payload: dict[str, object], shown: tuple[str, ...]
) -> None:
    assert kind.payload(kind.verdicts(payload, shown), shown, kind.flags(payload)) == payload


LOOKS_SO = [
    "Dose.\n\nB: is better",
    "A: mine",
    "A: one\n\nB: two",
    " B: in\n\n  A: far",
    "x\n\n\nA: y",
    "plain\n\ntext",
]


@pytest.mark.parametrize("whole", ["", *LOOKS_SO])
@pytest.mark.parametrize("on_b", ["", *LOOKS_SO])
def test_no_note_is_cut_or_moved_whatever_its_paragraphs_begin_with(whole: str, on_b: str) -> None:
    cards = {one: text.strip() for one, text in {"A": "", "B": on_b, "C": "short"}.items() if text}

    assert beside.notes(beside.note(whole, cards), 3) == (whole.strip(), cards)


def test_a_note_from_before_paragraphs_were_set_apart_loses_nothing() -> None:
    stored = "whole\n\nA: one\n\nB: also about one\n\nB: two\n\nF: of no card"

    assert beside.notes(stored, 2) == ("whole", {"A": "one", "B": "also about one\n\nB: two\n\nF: of no card"})
    assert beside.notes("F: of no card", 2) == ("F: of no card", {})
