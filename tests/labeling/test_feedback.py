import pytest

from labeling.feedback import FEEDBACK_TYPES, PAIRWISE, RANKING, THUMBS, FeedbackType, feedback_type
from storage.errors import BadInput, NotFound
from storage.records import Ranking, Rating

SHOWN = ("a", "b", "c", "d")


def test_every_feedback_type_explains_itself_under_a_name_of_its_own() -> None:
    assert len({one.name for one in FEEDBACK_TYPES}) == len(FEEDBACK_TYPES)
    for one in FEEDBACK_TYPES:
        assert one.title and one.explanation.endswith(".") and one.minimum_responses >= 1
        assert feedback_type(one.name) is one


def test_an_unknown_feedback_type_names_those_there_are() -> None:
    with pytest.raises(NotFound, match="thumbs, ranking, pairwise"):
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


@pytest.mark.parametrize(
    ("kind", "payload", "shown", "said"),
    [
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
        (PAIRWISE, {"choice": -2}, ("x", "y")),
        (PAIRWISE, {"choice": 3}, ("x", "y")),
        (PAIRWISE, {"choice": 0}, ("x", "y")),
    ],
)
def test_a_payload_comes_back_from_its_verdicts(
    kind: FeedbackType, payload: dict[str, object], shown: tuple[str, ...]
) -> None:
    assert kind.payload(kind.verdicts(payload, shown), shown) == payload
