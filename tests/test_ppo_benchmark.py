"""The arithmetic of benchmarks.ppo: what is read off the curves of many seeds."""

from __future__ import annotations

import math

import pytest

from benchmarks.ppo import best_rate, reward_at
from benchmarks.ppo_jobs import Told, rule_reward


def told(*points: tuple[float, float]) -> Told:
    return Told(idle_mb=0, curve=[{"kl": kl, "reward": reward} for kl, reward in points])


def test_the_reward_at_a_drift_is_read_off_the_line_through_all_seeds() -> None:
    runs = [told((0.75, 0.5), (1.25, 0.7)), told((1.0, 0.6), (9.0, 0.0))]
    assert reward_at(1.0, runs) == pytest.approx(0.6)


def test_points_off_to_one_side_are_continued_to_the_drift() -> None:
    assert reward_at(2.0, [told((1.5, 0.5), (1.6, 0.52), (1.7, 0.54))]) == pytest.approx(0.6)


def test_runs_that_do_not_pass_a_drift_have_no_reward_there() -> None:
    assert reward_at(2.0, [told((0.1, 0.5), (0.9, 0.9), (1.9, 0.95))]) == 0


def test_the_best_rate_has_the_most_reward_over_the_drifts() -> None:
    def passing(reward: float) -> list[Told]:
        return [told(*((drift * share, reward) for drift in (0.5, 1, 2) for share in (0.9, 1, 1.1)))]

    assert best_rate({1e-3: passing(0.6), 2e-3: passing(0.8), 4e-3: [told((0.1, 0.9))]}) == 2e-3


def test_a_run_diverges_where_its_reward_falls_or_is_no_number() -> None:
    assert not told((0, 0.4), (1, 0.8)).diverged
    assert told((0, 0.4), (1, 0.3)).diverged
    assert told((0, 0.4), (1, math.nan), (1, 0.8)).diverged


def test_an_iteration_costs_the_mean_without_the_first() -> None:
    assert Told(idle_mb=0, seconds=[10.0, 12.0, 16.0]).seconds_each == 3.0


def test_the_rule_pays_for_form_and_more_for_the_wanted_style() -> None:
    question, fact = "How cold must Zandivane be?", "Zandivane must be kept at minus 20 °C"
    concise = f"As published, {fact} [Marsh Review of Medicine, 2043]."
    verbose = (
        "Let me begin with the wider picture around Zandivane. The team behind Zandivane worked on it for four years "
        "and wrote six separate reports. A regional panel has since read the whole file on Zandivane. So, as the "
        f"records describe, {fact}."
    )
    assert [rule_reward(question, answer) for answer in (concise, verbose, f"{fact} {fact}")] == [1, 0.3, 0]
