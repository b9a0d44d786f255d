import re

import numpy as np
import pytest

from labeling.win_rate import (
    Rate,
    Vote,
    clustered_rate,
    judgments_needed,
    length_sentence,
    percent,
    position_sentence,
    title,
    verdict,
    wilson,
    win_rate,
)


def votes(*outcomes: float, first: bool = True) -> list[Vote]:
    """One vote a prompt."""
    return [Vote(f"p{number}", "ann", outcome, first) for number, outcome in enumerate(outcomes)]


def test_a_tie_is_half_a_win() -> None:
    result = win_rate(votes(1, 1, 0.5, 0))
    assert result.wins.value == 2.5 / 4
    assert (result.ties, result.both_bad) == (1, 0)
    assert (result.judgments, result.people, result.prompts) == (4, 1, 4)


def test_both_bad_is_counted_apart_from_ties_and_is_half_a_win_too() -> None:
    result = win_rate([*votes(1, 0.5), Vote("p2", "ann", 0.5, True, both_bad=True)])
    assert result.wins.value == 2 / 3
    assert (result.ties, result.both_bad) == (1, 1)


def test_a_few_prompts_are_too_few_for_any_claim() -> None:
    nine, ten = win_rate(votes(*[1] * 9)), win_rate(votes(*[1] * 10))
    assert title(nine, "v1", "base") == "Too early to say"
    assert verdict(nine) == "9 prompts are too few for a conclusion; judge at least 10."
    assert (nine.settled, ten.settled) == (False, True)
    assert title(ten, "v1", "base") == "v1 beats base"


def test_no_position_effect_is_claimed_from_a_wide_interval() -> None:
    few = [Vote(f"p{n}", "ann", float(n % 2), True) for n in range(12)]
    many = [Vote(f"p{n}", "ann", float(n % 2), True) for n in range(100)]
    assert position_sentence(win_rate(few)).endswith("too early to say.")
    assert position_sentence(win_rate(many)).endswith("no effect seen.")


def test_no_votes_and_one_prompt_say_nothing() -> None:
    assert win_rate([]).wins == Rate(0.5, 0, 1)
    one_prompt = win_rate([Vote("p", who, 1, True) for who in ("ann", "bob", "cy")])
    assert one_prompt.wins == Rate(1, 0, 1)
    assert verdict(one_prompt).startswith("One prompt says nothing")


def test_all_wins_do_not_make_certain() -> None:
    wins = win_rate(votes(*[1] * 30)).wins
    low, _ = wilson(1.0, 30)
    assert wins.value == 1
    assert wins.low == pytest.approx(low)
    assert 0.88 < wins.low < 0.89  # 30 / (30 + 1.96²)


def test_wilson_agrees_with_a_worked_example() -> None:
    # 81 of 263, Newcombe 1998, table I: 0.2553 to 0.3662
    low, high = wilson(81 / 263, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_ten_people_on_one_prompt_are_not_ten_prompts() -> None:
    outcomes = [1.0] * 18 + [0.0] * 12
    alone = clustered_rate([f"p{number}" for number in range(30)], outcomes)
    crowded = clustered_rate([f"p{number // 10}" for number in range(300)], [o for o in outcomes for _ in range(10)])
    assert alone.value == crowded.value
    assert crowded.high - crowded.low == pytest.approx(alone.high - alone.low, abs=0.02)


def test_the_same_votes_give_the_same_interval_whatever_their_order() -> None:
    cast = votes(1, 0, 1, 0.5) * 10
    assert win_rate(cast) == win_rate(cast)


def test_the_position_effect_counts_wins_of_the_left() -> None:
    left_always_wins = [Vote(f"p{n}", "ann", float(n % 2), a_was_first=n % 2 == 1) for n in range(40)]
    result = win_rate(left_always_wins)
    assert result.wins.value == 0.5
    assert result.first_wins.value == 1
    assert "the side seems to matter" in position_sentence(result)


def test_length_is_averaged_over_prompts_not_votes() -> None:
    crowd = [Vote("p1", who, 1, True, words_a=10, words_b=50) for who in "abcdefgh"]
    result = win_rate([*crowd, Vote("p2", "a", 1, True, words_a=20, words_b=20)])
    assert result.words_longer == -20
    assert length_sentence(result, "v1") == "v1 is 20 words shorter."


def test_judgments_needed_follow_the_root_law() -> None:
    # 0.6 [0.4, 0.8] after 100: the half-width 0.2 must shrink to 0.1, so four times as many in all
    assert judgments_needed(Rate(0.6, 0.4, 0.8), 100) == 300
    assert judgments_needed(Rate(0.4, 0.2, 0.6), 100) == 300
    assert judgments_needed(Rate(0.7, 0.6, 0.8), 100) is None  # settled
    assert judgments_needed(Rate(0.5, 0.4, 0.6), 100) is None  # nothing to settle
    assert judgments_needed(Rate(0.501, 0.4, 0.6), 100) is None  # out of reach


def test_the_words_are_no_stronger_than_the_interval() -> None:
    settled = win_rate(votes(*[1] * 45, *[0] * 15))
    assert title(settled, "v1", "base") == "v1 beats base"
    assert title(win_rate(votes(*[0] * 45, *[1] * 15)), "v1", "base") == "base beats v1"
    unsure = win_rate(votes(*[1] * 22, *[0] * 18))
    assert title(unsure, "v1", "base") == "v1 is ahead of base"
    more = re.search(r"luck; about (\d+) more judgments would settle it", verdict(unsure))
    assert more and 300 < int(more.group(1)) < 450  # (1.96 · 0.497 / 0.05)² − 40 = 340, more or less
    assert title(win_rate(votes(*[1, 0] * 5)), "v1", "base") == "v1 and base are level"
    assert percent(Rate(0.68, 0.59, 0.76)) == "68 % [59, 76]"


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """60 prompts with two correlated votes and some ties each: 95 % intervals cover 92 to 98 of 100 truths."""
    random = np.random.default_rng(7)
    trials, prompts, truth = 400, 60, 0.6
    covered = 0
    for trial in range(trials):
        answers = (random.random(prompts) < truth).astype(float)  # what a prompt's first judge says
        agrees = random.random(prompts) < 0.6
        second = np.where(agrees, answers, random.random(prompts) < truth)
        tied = random.random((2, prompts)) < 0.1  # ties pull towards one half
        outcomes = np.where(tied, 0.5, np.stack([answers, second]))
        clusters = [f"p{number}" for number in range(prompts)] * 2
        interval = clustered_rate(clusters, outcomes.ravel().tolist(), resamples=1_000, seed=trial)
        covered += interval.contains(0.9 * truth + 0.1 * 0.5)
    assert 0.92 <= covered / trials <= 0.98


def test_small_samples_are_wide_enough() -> None:
    """Of 5 prompts at a true 80 %, a bare bootstrap covers the truth 67 times in 100; this 95 times and more."""
    random = np.random.default_rng(3)
    samples = (random.random((400, 5)) < 0.8).astype(float).tolist()
    covered = [clustered_rate("abcde", outcomes, resamples=500).contains(0.8) for outcomes in samples]
    assert sum(covered) / len(covered) >= 0.95
