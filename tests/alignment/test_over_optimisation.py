"""Whether gold falls while the reward rises, worked by hand. (A run that does it: test_health_of_runs.py.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from alignment.measured_points import Seen
from alignment.over_optimisation import Finding, Stretch, gold_against_reward

STEPS = 20


def finding(
    gold: Sequence[float], reward: Sequence[float], kl: Sequence[float] | None = None, method: str = "ppo", **more: Any
) -> Finding | None:
    drifts = kl or [step / 10 for step in range(1, len(gold) + 1)]
    points: list[Mapping[str, Any]] = [
        {"step": step, "loss": 0.0, "gold": g, "reward": r, "kl": d, **more}
        for step, (g, r, d) in enumerate(zip(gold, reward, drifts, strict=True), 1)
    ]
    return gold_against_reward(Seen(method, points, {}, STEPS, ended=True))


def rising(number: int = STEPS) -> list[float]:
    return [0.1 * step for step in range(number)]


# gold rises to 0.9 in the third fifth of the run and falls to 0.5 in the last
HUMP = [*[0.6] * 4, *[0.8] * 4, *[0.9] * 4, *[0.7] * 4, *[0.5] * 4]


def test_gold_that_falls_while_the_reward_rises_is_a_reward_followed_too_far() -> None:
    found = finding(HUMP, rising())

    assert found is not None and found.kind == "warn"
    # the best fifth is steps 9 to 12: drift (0.9 + 1.0 + 1.1 + 1.2) / 4, reward (0.8 + 0.9 + 1.0 + 1.1) / 4
    assert found.best == Stretch(step=11, drift=pytest.approx(1.05), reward=pytest.approx(0.95), gold=0.9)
    assert found.sentence.startswith(
        "Gold was highest, 0.90, around step 11, at a drift of 1.1 nats an answer. Since then it fell to 0.50 while "
        "the reward went on from 0.95 to 1.75."
    )


def test_gold_that_wobbles_as_much_from_step_to_step_has_not_fallen() -> None:
    # between neighbours 0.4 always: noise 0.4 / sqrt(2) = 0.283, and 2.5 * 0.283 * sqrt(2 / 4) = 0.5
    wobbling = [0.9, 0.5] * 8 + [0.6, 0.2] * 2
    found = finding(wobbling, rising())

    # first fifth 0.7, last 0.4: 0.3 lower
    assert found is not None and (found.kind, found.title) == ("ok", "Gold goes along")
    assert "gold stays near 0.40" in found.sentence


def test_gold_that_rises_with_the_reward_goes_along() -> None:
    found = finding([0.5 + step / 100 for step in range(STEPS)], rising())

    # reward 0.15 to 1.75; gold 0.515 to 0.675; drift of the last fifth (1.7 + 1.8 + 1.9 + 2.0) / 4
    assert found == Finding(
        "ok",
        "Gold goes along",
        "Over a drift of 1.9 nats an answer the reward rose from 0.15 to 1.75 and gold rose from 0.52 to 0.68: none of "
        "it was at gold's cost.",
    )


def test_where_both_fall_the_reward_is_not_to_blame() -> None:
    found = finding(HUMP, list(reversed(rising())))

    assert found is not None and (found.kind, found.title) == ("", "Both fell")


def test_without_a_gain_in_reward_gold_says_nothing() -> None:
    found = finding([0.9] * STEPS, [0.5] * STEPS)

    assert found is not None and (found.kind, found.title) == ("", "No reward gained")


def test_a_few_steps_are_too_early() -> None:
    found = finding(HUMP[:9], rising(9))

    assert found == Finding("", "Too early", "9 of 20 steps say nothing yet of gold against reward.")


def test_a_run_without_a_gold_function_has_no_finding() -> None:
    points = [{"step": 1, "loss": 0.0, "reward": 1.0, "kl": 0.1}]

    assert gold_against_reward(Seen("ppo", points, {}, STEPS, ended=True)) is None


def test_drift_that_is_logged_a_token_is_told_for_an_answer() -> None:
    found = finding(HUMP, rising(), kl=[0.1] * STEPS, method="rloo", **{"completions/mean_length": 30.0})

    assert found is not None and found.best is not None
    assert found.best.drift == pytest.approx(3.0)
