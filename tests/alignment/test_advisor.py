"""What is proposed for the data at hand: the guide's decision flow, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from alignment.advisor import Agreement, Evidence, Readable, advise, agreement
from alignment.methods import METHODS
from storage.records import Ranking
from tests import makers

NEEDS = {"pretrain": 8, "sft": 8, "reward_model": 16, "dpo": 16, "kto": 32, "orpo": 16, "rloo": 8, "ppo": 8}
ROWS_ARE = {"pretrain": "documents", "sft": "examples", "kto": "thumbs", "rloo": "prompts", "ppo": "prompts"}


def evidence(*, answers: bool = True, new: dict[str, int] | None = None, **given: Any) -> Evidence:
    """Rows by method name, pairs for the three that read them; whatever else Evidence has by its name."""
    rows = {name: given.pop(name, 0) for name in NEEDS}
    pairs = given.pop("pairs", 0)
    rows |= dict.fromkeys(("dpo", "orpo", "reward_model"), pairs) if pairs else {}
    prompts = given.pop("prompts", 0)
    rows |= dict.fromkeys(("ppo", "rloo"), prompts) if prompts else {}
    scorer = given.pop("reward_model_id", "")
    readable = {
        name: Readable(
            title=name.upper(),
            rows_are=ROWS_ARE.get(name, "pairs"),
            needs=NEEDS[name],
            rows=rows[name],
            new=(new or {}).get(name, rows[name]),
            possible=rows[name] >= NEEDS[name] and (name not in ("ppo", "rloo") or bool(scorer)),
        )
        for name in NEEDS
    }
    return Evidence(parent="v3", answers=answers, readable=readable, reward_model=scorer, **given)


@pytest.mark.parametrize(
    ("case", "method"),
    [
        (evidence(answers=False, pretrain=100), "pretrain"),
        (evidence(answers=False, pretrain=100, sft=30), "pretrain"),
        (evidence(answers=False, sft=30, pairs=100), "sft"),
        (evidence(answers=False, pairs=100), "orpo"),
        (evidence(answers=False, kto=100), "kto"),
        (evidence(pairs=100, kto=500, sft=30, pretrain=100), "dpo"),
        (evidence(kto=100, sft=30), "kto"),
        (evidence(sft=30, pretrain=100), "sft"),
        (evidence(prompts=100, pretrain=100, reward_model_id="v2"), "ppo"),
        (evidence(rloo=100, pretrain=100, reward_model_id="v2"), "rloo"),
        (evidence(prompts=100, pretrain=100), "pretrain"),
    ],
)
def test_the_data_at_hand_decides(case: Evidence, method: str) -> None:
    assert advise(case).method == method


def test_what_this_line_has_learned_from_already_is_not_proposed_again() -> None:
    learned = evidence(pairs=100, prompts=100, reward_model_id="v2", new={"dpo": 3, "orpo": 3, "reward_model": 3})
    advice = advise(learned)

    assert advice.method == "ppo"
    assert advice.why == (
        "The reward model v2 can score new answers to 100 prompts, so nobody has to judge them first. "
        "v3 has learned from most of your 100 pairs already. PPO writes its own answers as it goes, which takes "
        "several times as long as DPO, but one to a prompt where RLOO needs several."
    )


def test_ppo_is_told_from_dpo_and_from_rloo_where_there_are_no_pairs() -> None:
    advice = advise(evidence(prompts=1200, reward_model_id="v2"))

    assert advice.why.endswith(
        "It writes them itself as it goes, which takes several times as long as DPO on pairs, but one to a prompt "
        "where RLOO needs several."
    )
    assert advice.figures == (("1,200 prompts", "PPO needs 8"),)


def test_without_a_reward_model_prompts_alone_are_never_the_nearest() -> None:
    assert advise(evidence(prompts=1200, dpo=3)).method == "dpo"


def test_where_nothing_is_new_the_best_fit_is_proposed_all_the_same() -> None:
    assert advise(evidence(pairs=100, new={"dpo": 0, "orpo": 0, "reward_model": 0})).method == "dpo"


def test_a_proposal_says_why_in_two_sentences_and_a_number_or_two() -> None:
    advice = advise(evidence(pairs=608, sft=121, judgments={"dpo": 312}, agreement=Agreement(74, 100)))

    assert advice.title == "Train v3 with DPO"
    assert advice.why == (
        "It learns from pairs, and your 312 judgments make 608 of them, on which people agree 74 % of the time. "
        "PPO would need a reward model first and then several times as long; SFT would learn from the 121 examples "
        "only."
    )
    assert advice.figures == (("608 pairs", "DPO needs 16"), ("74 %", "agreement; papers report 63 to 77"))


def test_an_agreement_of_a_few_is_not_shown() -> None:
    assert "agree" not in advise(evidence(pairs=100, agreement=Agreement(2, 3))).why


def test_uneven_thumbs_are_named_as_they_are() -> None:
    advice = advise(evidence(kto=500, thumbs=(40, 460)))

    assert "40 up and 460 down" in advice.why
    assert ("40 : 460", "thumbs up to thumbs down") in advice.figures


def test_with_too_little_of_everything_it_says_what_is_nearest_and_how_much_is_missing() -> None:
    advice = advise(evidence(dpo=12, kto=3))

    assert (advice.method, advice.ready) == ("dpo", False)
    assert advice.why == "DPO is nearest: it needs 16 pairs and there are 12. Label or import 4 more, and it can start."


def test_enough_thumbs_of_which_too_few_are_up_are_refused_in_those_words() -> None:
    thumbs = Readable("KTO", "thumbs", 32, 47, 47, False, "KTO needs at least 8 thumbs-up; there are 5.")

    advice = advise(Evidence(parent="v3", answers=True, readable={"kto": thumbs}))

    assert (advice.ready, advice.why) == (False, "KTO is nearest. KTO needs at least 8 thumbs-up; there are 5.")


@pytest.mark.parametrize("name", NEEDS)
def test_every_method_can_say_why(name: str) -> None:
    for answers in (True, False):
        rows = {"pairs" if name in ("dpo", "orpo", "reward_model") else name: 100}
        advice = advise(evidence(answers=answers, reward_model_id="v2", **rows))
        assert advice.why.endswith(".") and advice.why.count(". ") >= 1


def test_every_method_there_is_has_its_place_in_the_flow() -> None:
    assert {method.name for method in METHODS} == set(NEEDS)


# ---- how far people agree -------------------------------------------------------------------------------------------


def ranked(labeler: str, *tiers: tuple[str, ...], **fields: Any) -> Any:
    return makers.judgment("p", Ranking(tiers), labeler=labeler, **fields)


def test_two_people_agree_on_the_pairs_that_both_put_in_the_same_order() -> None:
    # a > b > c and a > c > b: they agree on ab and ac, not on bc
    said = [ranked("ines", ("a",), ("b",), ("c",)), ranked("tom", ("a",), ("c",), ("b",))]

    assert agreement(said) == Agreement(same=2, compared=3)


def test_ties_and_a_person_alone_say_nothing_of_agreement() -> None:
    said = [ranked("ines", ("a", "b")), ranked("tom", ("a",), ("b",)), ranked("tom", ("c",), ("d",))]

    assert agreement(said) == Agreement(0, 0)


def test_the_source_of_an_imported_file_is_no_person() -> None:
    said = [ranked("ines", ("a",), ("b",)), ranked("ultrafeedback", ("a",), ("b",), feedback_type="import")]

    assert agreement(said) == Agreement(0, 0)


def test_what_was_changed_later_does_not_count() -> None:
    first = ranked("ines", ("b",), ("a",))
    said = [first, ranked("ines", ("a",), ("b",), supersedes=first.id), ranked("tom", ("a",), ("b",))]

    assert agreement(said) == Agreement(1, 1)
