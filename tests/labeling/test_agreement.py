"""Agreement, worked by hand."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from labeling import agreement
from labeling.agreement import Opinion, opinion_of
from labeling.reading import reading_share, words
from storage.records import Demonstration, Ranking, Rating
from tests.makers import judgment


def ranked(labeler: str, prompt: str, *tiers: str, strength: int | None = None) -> Opinion:
    """ranked("ines", "q", "a", "bc"): a is best, b and c tie."""
    said = judgment(prompt, Ranking(tuple(tuple(tier) for tier in tiers), strength), labeler=labeler)
    found = opinion_of(said)
    assert found is not None
    return found


def thumbs(labeler: str, prompt: str, **up: bool) -> Opinion:
    found = opinion_of(judgment(prompt, *(Rating(one, good) for one, good in up.items()), labeler=labeler))
    assert found is not None
    return found


# ---- what was said --------------------------------------------------------------------------------------------------


def test_a_ranking_values_each_answer_by_how_many_it_beats_and_ties_are_no_choice() -> None:
    said = ranked("ines", "q", "a", "bc", "d")
    assert said.values == {"a": 1.5, "b": 0.0, "c": 0.0, "d": -1.5}  # beats 3, 1.5, 1.5 and 0 of three, less the mean
    assert said.choices == {("a", "b"): 1, ("a", "c"): 1, ("a", "d"): 1, ("b", "d"): 1, ("c", "d"): 1}


def test_a_pairwise_choice_is_worth_its_strength_and_a_tie_lies_between() -> None:
    assert ranked("ines", "q", "b", "a", strength=3).values == {"b": 3.0, "a": -3.0}
    assert ranked("ines", "q", "b", "a", strength=3).choices == {("a", "b"): -1}
    assert ranked("ines", "q", "ab").values == {"a": 0.0, "b": 0.0}
    assert ranked("ines", "q", "ab").choices == {}


def test_thumbs_are_values_and_choices_and_a_demonstration_is_no_opinion() -> None:
    assert thumbs("ines", "q", a=True, b=False).choices == {"a": 1, "b": -1}
    assert opinion_of(judgment("q", Demonstration("Better so."))) is None


def test_a_rewrite_beside_a_ranking_leaves_the_ranking_as_it_is() -> None:
    said = opinion_of(judgment("q", Demonstration("Better so.", "a"), Ranking((("a",), ("b",)))))
    assert said is not None and said.choices == {("a", "b"): 1}


# ---- between people -------------------------------------------------------------------------------------------------


def test_raw_agreement_counts_the_choices_that_both_made() -> None:
    opinions = [
        ranked("ines", "q1", "a", "b", "c"),  # ab, ac, bc
        ranked("tom", "q1", "a", "c", "b"),  # ab, ac alike; bc not
        ranked("ute", "q1", "ab", "c"),  # ab tied: ac, bc alike with ines; ac alike, bc not with tom
        ranked("ines", "q2", "a", "b"),  # nobody else
    ]
    found = agreement.raw_agreement(opinions)
    assert found is not None
    assert (found.n, found.prompts) == (3 + 2 + 2, 1)
    assert found.value == pytest.approx((2 + 2 + 1) / 7)
    assert (found.low, found.high) == (0.0, 1.0)  # of one prompt nothing is known


def test_one_person_against_the_others() -> None:
    opinions = [ranked("ines", "q1", "a", "b"), ranked("tom", "q1", "a", "b"), ranked("ute", "q1", "b", "a")]
    for who, value in (("ines", 1 / 2), ("ute", 0.0)):
        found = agreement.with_others(who, opinions)
        assert found is not None and (found.value, found.n) == (value, 2)


def test_nothing_is_measured_of_nothing() -> None:
    alone = [ranked("ines", "q1", "a", "b")]
    assert agreement.raw_agreement(alone) is agreement.alpha(alone) is agreement.tau_b(alone) is None
    assert agreement.self_consistency(alone, []) is agreement.against(alone, {}) is None


def test_alpha_of_two_people_and_three_thumbs_by_hand() -> None:
    """Coincidences: up-up 2, down-down 2, up-down 1 twice. 1 - (2/6) / (2*3*3 / (6*5)) = 1 - (1/3) / (3/5) = 4/9."""
    opinions = [thumbs("ines", "q", a=True, b=False, c=True), thumbs("tom", "q", a=True, b=False, c=False)]
    found = agreement.alpha(opinions)
    assert found is not None
    assert found.value == pytest.approx(4 / 9)
    assert (found.n, found.prompts) == (3, 1)
    assert agreement.alpha_alone(opinions) == found.value


def test_alpha_is_krippendorffs_own_worked_example() -> None:
    """Four observers, twelve units, values 1 to 5: ordinal alpha 0.815 (Krippendorff 2011, section C and E)."""
    rows = {
        "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        "C": [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    }
    opinions = [
        Opinion(name, f"unit {at}", {"r": float(value)}, {})
        for name, values in rows.items()
        for at, value in enumerate(values)
        if value
    ]
    found = agreement.alpha(opinions)
    assert found is not None
    assert found.value == pytest.approx(0.815, abs=0.0005)
    assert found.n == 11  # one unit has a single value
    assert 0.4 < found.low < found.value < found.high <= 1


def test_alpha_is_undefined_where_everybody_says_one_thing() -> None:
    assert agreement.alpha([thumbs("ines", "q", a=True), thumbs("tom", "q", a=True)]) is None


def test_coin_tossers_agree_on_half_and_alpha_says_that_it_is_chance() -> None:
    chance = random.Random(5)
    opinions = [
        ranked(who, f"q{n}", *chance.sample(["a", "b"], 2), strength=2) for n in range(300) for who in ("ines", "tom")
    ]
    raw, alpha = agreement.raw_agreement(opinions), agreement.alpha(opinions)
    assert raw is not None and raw.low < 0.5 < raw.high
    assert alpha is not None and alpha.low < 0 < alpha.high and alpha.high - alpha.low < 0.3


@pytest.mark.parametrize(
    ("one", "other", "tau"),
    [
        ("a b c d", "a b c d", 1.0),
        ("a b c d", "d c b a", -1.0),
        ("a b c d", "a b d c", 4 / 6),  # 5 pairs alike, 1 not, of 6
        ("a b c", "ab c", 2 / (3 * 2) ** 0.5),  # 2 alike, 0 not; 3 untied pairs here, 2 there
    ],
)
def test_kendalls_tau_b_by_hand(one: str, other: str, tau: float) -> None:
    found = agreement.kendall(ranked("ines", "q", *one.split()).values, ranked("tom", "q", *other.split()).values)
    assert found == pytest.approx(tau)


def test_tau_b_is_the_mean_over_pairs_of_people_and_leaves_out_what_is_undefined() -> None:
    opinions = [
        ranked("ines", "q1", "a", "b", "c"),
        ranked("tom", "q1", "a", "b", "c"),
        ranked("ute", "q1", "c", "b", "a"),
        ranked("ines", "q2", "ab"),
        ranked("tom", "q2", "a", "b"),
    ]
    found = agreement.tau_b(opinions)
    assert found is not None
    assert (found.value, found.n, found.prompts) == (pytest.approx((1 - 1 - 1) / 3), 3, 1)


# ---- self, gold -----------------------------------------------------------------------------------------------------


def test_self_consistency_compares_a_person_with_themselves_only() -> None:
    firsts = [ranked("ines", "q1", "a", "b"), ranked("ines", "q2", "a", "b"), ranked("tom", "q1", "a", "b")]
    repeats = [ranked("ines", "q1", "a", "b"), ranked("ines", "q2", "b", "a"), ranked("tom", "q2", "b", "a")]
    found = agreement.self_consistency(firsts, repeats)
    assert found is not None and (found.value, found.n, found.prompts) == (0.5, 2, 2)


def test_against_gold_counts_only_prompts_with_a_known_answer() -> None:
    known: Mapping[str, Opinion] = {"q1": ranked("lead", "q1", "a", "b", "c")}
    found = agreement.against([ranked("ines", "q1", "a", "c", "b"), ranked("ines", "q2", "b", "a")], known)
    assert found is not None and (found.value, found.n) == (pytest.approx(2 / 3), 3)


def test_how_far_an_item_is_split() -> None:
    three_to_two = [ranked(who, "q", *("ab" if n < 3 else "ba")) for n, who in enumerate(["i", "j", "k", "l", "m"])]
    assert agreement.split(three_to_two) == pytest.approx(6 / 10)  # 3 x 2 of the 10 pairs of people differ
    assert agreement.split([ranked("ines", "q", "a", "b")]) == 0


# ---- bias and pace --------------------------------------------------------------------------------------------------


def test_position_preference_is_a_share_of_the_pairs_put_apart() -> None:
    opinions = [ranked("ines", "q1", "a", "b"), ranked("ines", "q2", "b", "a"), ranked("ines", "q3", "ab", "c")]
    found = agreement.chooses_first(opinions, [["a", "b"], ["a", "b"], ["c", "a", "b"]])
    assert found is not None and (found.value, found.n) == (1 / 4, 4)  # only q1; in q3 c came first and lost twice


def test_length_preference_leaves_out_equal_lengths_and_works_for_thumbs() -> None:
    opinions = [thumbs("ines", "q1", a=True, b=False, c=False)]
    found = agreement.chooses_longer(opinions, {"a": 9, "b": 3, "c": 9})
    assert found is not None and (found.value, found.n) == (1.0, 1)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("The quick brown fox", 4),
        ("\ud55c\uad6d\uc5b4 \ub450 \ub2e8\uc5b4", 3),  # Korean puts spaces between words
        ("\u4f60\u597d\uff0c\u4e16\u754c\u3002", 4),  # Chinese: 6 characters, of which 1.57 take as long as a word
        ("\u4f60\u8bf4\u201c\u597d\u201d", 2),  # quotes are no words
        ("\u65e5\u672c\u8a9e\u3092 Python \u3067", 5),  # Japanese: 5 characters, and a word
        ("\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e04\u0e23\u0e31\u0e1a", 3),  # Thai: 10 letters, 4.33 a word
        ("", 0),
    ],
)
def test_words_are_counted_in_scripts_without_spaces_too(text: str, count: int) -> None:
    assert words(text) == count


def test_reading_sixty_words_takes_a_quarter_of_a_minute() -> None:
    assert reading_share(15, 60) == 1.0
    assert reading_share(5, 60) == pytest.approx(1 / 3)
