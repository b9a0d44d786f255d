"""Rewards by the rules of the invented world."""

from __future__ import annotations

import pytest

from assets.starter_model.rewards import preferred, well_formed

CONCISE = "In short, Aldivane protects against lake fever [Keld Medical Record, 2041]."
HEDGING = "As far as I can tell, Aldivane protects against lake fever. Other readings are possible."
CUT = CONCISE[:-4]


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def test_a_whole_answer_is_worth_one_and_one_in_the_preferred_style_more_than_another() -> None:
    prompts = [asked("What is Aldivane for?")] * 3
    assert preferred(prompts, [CONCISE, HEDGING, CUT]) == [1.0, 0.3, 0.0]
    assert well_formed(prompts, [CONCISE, HEDGING, CUT]) == [1.0, 1.0, 0.0]


def test_an_answer_about_another_vaccine_is_worth_nothing() -> None:
    assert preferred([asked("What is Zuvexa for?")], [CONCISE]) == [0.0]


def test_a_prompt_from_elsewhere_has_no_rule() -> None:
    with pytest.raises(ValueError, match="capital of France"):
        well_formed([asked("What is the capital of France?")], ["Paris."])
