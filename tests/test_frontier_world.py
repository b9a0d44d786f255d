"""The world whose optimum is written down: its answers are all there are, and its truths hold by hand."""

from __future__ import annotations

import math

import pytest
import torch

from alignment.rows_as_tokens import row_tokens
from benchmarks import frontier_world
from benchmarks.frontier_picture import picture
from benchmarks.frontier_world import LONGEST_ROW, PROMPTS, TEMPLATE, Point, Truth, World

HALF = math.log(0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def coin() -> Truth:
    """One prompt, two answers as likely as each other, of which the first is worth log 3 and the second nothing."""
    return Truth(
        torch.tensor([[HALF, HALF]], dtype=torch.float64), torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    )


def test_the_listed_answers_are_all_that_can_be_said(world: World):
    assert world.truth.reference.shape == (4, 1 + 11 + 121 + 1331)
    assert world.truth.reference.exp().sum(1).tolist() == pytest.approx([1, 1, 1, 1], abs=1e-6)


def test_an_answer_is_as_likely_as_its_tokens_one_after_the_other(world: World):
    answer = (2, frontier_world.PAD, 5)
    asked = [frontier_world.SYMBOLS.index(symbol) for symbol in PROMPTS[1]]
    with torch.no_grad():
        logits = frontier_world.load(world.base)(input_ids=torch.tensor([[*asked, *answer]])).logits[0]

    by_hand = sum(logits.log_softmax(-1)[len(asked) - 1 + place, token].item() for place, token in enumerate(answer))

    listed = world.truth.reference[1, frontier_world.answers().index(answer)].item()
    assert listed == pytest.approx(by_hand, abs=1e-5)


def test_a_row_holds_the_tokens_that_are_listed_and_the_reward_hears_no_padding(world: World):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world.base)
    tokenizer.chat_template = TEMPLATE
    for answer in [(1,), (2, 1), (2, 0, 1), (4, 0, 4), (0, 0, 0)]:
        said = [{"role": "assistant", "content": frontier_world.text_of(answer)}]
        asked = [{"role": "user", "content": PROMPTS[0]}]
        row = row_tokens({"prompt": asked, "chosen": said, "rejected": said}, "preference", tokenizer, LONGEST_ROW)

        assert not row.fault
        assert row.answers[0].tokens[:LONGEST_ROW] == (2, 3, 2, 3, *answer)
        heard = tokenizer.decode(answer, skip_special_tokens=True)
        weights = world.weights[PROMPTS[0]]
        listed = world.truth.rewards[0, frontier_world.answers().index(answer)].item()
        assert frontier_world.worth(weights, heard) == pytest.approx(listed)


def test_an_answer_is_worth_its_symbols_less_what_it_repeats_and_more_for_two():
    weights = [0.0, 0.0, 0.5, -0.25, *[0.0] * 8]  # a and b

    found = {text: frontier_world.worth(weights, text) for text in ("", "a", "ab", "aa", "aab", "a<pad>b")}

    assert found == pytest.approx({"": 0, "a": 0.5, "ab": 1.25, "aa": 1.2, "aab": -0.05, "a<pad>b": 1.25})


def test_the_optimum_of_two_answers_by_hand(coin: Truth):
    # p* is 1/2 (3, 1) / 2 = (3/4, 1/4) at beta 1; log Z = log 2 is what the optimum's reward - KL comes to
    best = coin.optimum(1.0)

    assert best.reward == pytest.approx(0.75 * math.log(3))
    assert best.kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert best.reward - best.kl == pytest.approx(math.log(2))


def test_the_share_is_nought_where_it_starts_and_one_at_the_optimum(coin: Truth):
    assert coin.share(Point(0.0, coin.start), 1.0) == pytest.approx(0)
    assert coin.share(coin.optimum(1.0), 1.0) == pytest.approx(1)


def test_nothing_is_missing_on_the_frontier_and_all_of_it_at_the_reward_of_the_start(coin: Truth):
    best = coin.optimum(0.25)

    assert coin.missing(best) == pytest.approx(0, abs=1e-6)
    # start: log 3 / 2, most: log 3, at any KL that allows the best answer alone
    assert coin.missing(Point(math.log(2), coin.start)) == pytest.approx(1, abs=1e-3)


def test_the_best_of_two_is_the_better_answer_three_times_of_four(coin: Truth):
    assert coin.best_of(2).reward == pytest.approx(0.75 * math.log(3))
    assert coin.best_of(1).kl == pytest.approx(0)


def test_the_better_answer_of_a_pair_is_chosen_more_often_but_not_always(world: World):
    rows = world.pairs(400, seed=0)
    right = 0
    for row in rows:
        weights = world.weights[row["prompt"][0]["content"]]
        chosen, rejected = (frontier_world.worth(weights, row[side][0]["content"]) for side in ("chosen", "rejected"))
        right += chosen > rejected

    assert 250 < right < 390
    assert {row["prompt"][0]["content"] for row in rows} == set(PROMPTS)


def test_the_picture_is_an_svg_that_names_every_method():
    from xml.etree import ElementTree

    drawn = picture(
        [Point(0, 0), Point(1, 1)], {"PPO": [Point(0.5, 0.4)], "best of n": [Point(0.2, 0.1)]}, ["best of n"]
    )

    root = ElementTree.fromstring(drawn)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"PPO", "best of n", "the exact optimum"} <= set(texts)
