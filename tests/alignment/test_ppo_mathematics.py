"""Each piece of PPO's mathematics, by numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from alignment.methods import ppo_mathematics as mathematics

ALL = torch.ones(1, 2)
PADDED = torch.tensor([[1.0, 1.0, 0.0]])


def test_whitening_ignores_padding():
    whitened = mathematics.whiten(torch.tensor([[1.0, 3.0, 100.0]]), PADDED)
    assert torch.allclose(whitened, torch.tensor([[-1.0, 1.0, 0.0]]), atol=1e-4)


def test_the_score_lands_on_the_last_real_token_and_the_penalty_on_each():
    # log-ratios 0.5 and -1: -0.1 * 0.5 = -0.05; 0.1 * 1 + 2 = 2.1
    rewards = mathematics.token_rewards(torch.tensor([2.0]), torch.tensor([[0.5, -1.0, -9.0]]), PADDED, beta=0.1)
    assert torch.allclose(rewards, torch.tensor([[-0.05, 2.1, 0.0]]))


def test_advantages_by_hand():
    # V = (1, 2), r = (0, 3): delta_1 = 3 - 2 = 1; delta_0 = 0 + 2 - 1 = 1; A_0 = 1 + 0.95 * 1; padding counts not
    found = mathematics.advantages(
        torch.tensor([[0.0, 3.0, 7.0]]), torch.tensor([[1.0, 2.0, 5.0]]), PADDED, gamma=1.0, lam=0.95
    )
    assert torch.allclose(found, torch.tensor([[1.95, 1.0, 0.0]]))


def test_a_discount_makes_a_later_reward_count_less():
    # gamma 0.5, lam 1, no values: A_1 = 4, A_0 = 1 + 0.5 * 4
    found = mathematics.advantages(torch.tensor([[1.0, 4.0]]), torch.zeros(1, 2), ALL, gamma=0.5, lam=1.0)
    assert torch.allclose(found, torch.tensor([[3.0, 4.0]]))


def test_the_three_estimates_of_a_drift():
    log_ratio = torch.tensor([math.log(2.0)])
    assert mathematics.kl_estimate(log_ratio, "k1").item() == pytest.approx(math.log(2))
    assert mathematics.kl_estimate(log_ratio, "k2").item() == pytest.approx(math.log(2) ** 2 / 2)
    assert mathematics.kl_estimate(log_ratio, "k3").item() == pytest.approx(0.5 - 1 + math.log(2))


def test_k1_and_k3_are_the_true_drift_on_average():
    # policy (0.75, 0.25) against (0.5, 0.5): KL = 0.75 log 1.5 + 0.25 log 0.5
    policy, log_ratio = torch.tensor([0.75, 0.25]), torch.tensor([1.5, 0.5]).log()
    true = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    for estimator in ("k1", "k3"):
        assert (policy * mathematics.kl_estimate(log_ratio, estimator)).sum().item() == pytest.approx(true, abs=1e-6)


def test_clipping_stops_the_gradient_of_a_ratio_that_has_gone_far_enough():
    log_ratio = torch.tensor([[0.5, 0.0]], requires_grad=True)
    loss = mathematics.policy_loss(log_ratio, torch.ones(1, 2), ALL, clip=0.2, weights=ALL)
    loss.backward()
    assert log_ratio.grad is not None
    # the first is held at 1.2; the second has ratio 1: loss -(1.2 + 1) / 2, and only the second has a gradient
    assert loss.item() == pytest.approx(-1.1)
    assert log_ratio.grad.tolist() == [[0.0, -0.5]]


def test_a_ratio_that_went_the_wrong_way_is_not_held():
    log_ratio = torch.tensor([[-0.5, 0.0]], requires_grad=True)
    mathematics.policy_loss(log_ratio, torch.ones(1, 2), ALL, clip=0.2, weights=ALL).backward()
    assert log_ratio.grad is not None and log_ratio.grad[0, 0] != 0


def test_the_value_may_move_by_its_clip_only():
    # value 2 where it was 0 and should be 2: unclipped error 0, clipped to 0.2: (0.2 - 2)^2 = 3.24, half of the mean
    loss = mathematics.value_loss(
        torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]), ALL, clip=0.2
    )
    assert loss.item() == pytest.approx(0.5 * 3.24 / 2)


def test_how_far_the_policy_has_moved():
    seen = mathematics.ratio_stats(torch.tensor([[math.log(2.0), 0.0]]), ALL, clip=0.2)
    assert seen["ratio"].item() == pytest.approx(1.5)
    assert seen["approx_kl"].item() == pytest.approx((1 - math.log(2)) / 2)
    assert seen["clip_fraction"].item() == 0.5


def test_how_much_the_value_foresees():
    # rewards to go (3, 2) and (5, 1): mean 2.75, variance (0.0625 + 0.5625 + 5.0625 + 3.0625) / 4 = 2.1875
    rewards, mask = torch.tensor([[1.0, 2.0], [4.0, 1.0]]), torch.ones(2, 2)
    togo = torch.tensor([[3.0, 2.0], [5.0, 1.0]])
    assert mathematics.explained_variance(rewards, togo + 7, mask).item() == pytest.approx(1)  # a constant is no error
    assert mathematics.explained_variance(rewards, torch.zeros(2, 2), mask).item() == pytest.approx(0)
    # off by (1, -1, 0, 0): variance 0.5
    off = togo + torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    assert mathematics.explained_variance(rewards, off, mask).item() == pytest.approx(1 - 0.5 / 2.1875)
    # all answers get the same, token for token: nothing is left to foresee
    same = torch.tensor([[0.0, 2.0], [0.0, 2.0]])
    assert mathematics.explained_variance(same, torch.zeros(2, 2), torch.ones(2, 2)).item() == 0


def test_importance_weights_are_cut_at_the_cap_and_leave_padding_alone():
    ours, sampled = torch.tensor([[0.0, -1.0, 0.0]]), torch.tensor([[-5.0, -1.0 + math.log(2.0), -9.0]])
    weights = mathematics.importance_weights(ours, sampled, PADDED, cap=2.0)
    assert torch.allclose(weights, torch.tensor([[2.0, 0.5, 1.0]]))


def test_the_penalty_is_steered_towards_its_target():
    assert mathematics.adapted_beta(0.1, kl=2.0, target=1.0) == pytest.approx(0.1 * 1.02)  # an error is cut at 0.2
    assert mathematics.adapted_beta(0.1, kl=0.9, target=1.0) == pytest.approx(0.1 * 0.99)


@pytest.mark.parametrize("entropy_too", [False, True])
def test_log_probabilities_in_pieces_are_those_of_the_whole_and_so_are_their_gradients(entropy_too: bool):
    # given hidden states, an output layer and tokens
    torch.manual_seed(0)
    hidden, weight = torch.randn(7, 5), torch.randn(11, 5)
    tokens, wanted = torch.randint(11, (7,)), torch.randn(7)

    def loss_of(logp: torch.Tensor, entropy: torch.Tensor) -> torch.Tensor:
        return (wanted * logp).sum() + (entropy * wanted.roll(1)).sum() * (1 if entropy_too else 0)

    # when autograd works on the whole
    plain = hidden.clone().requires_grad_()
    every = (plain @ weight.T / 0.7).log_softmax(-1)
    logp, entropy = every.gather(1, tokens[:, None]).squeeze(1), -(every.exp() * every).sum(-1)
    loss_of(logp, entropy).backward()

    # then three at a time give the same
    pieces = hidden.clone().requires_grad_()
    found = mathematics.TokenLogProbabilities.apply(pieces, weight, tokens, 0.7, entropy_too, 3)
    loss_of(*found).backward()
    assert torch.allclose(found[0], logp, atol=1e-5) and torch.allclose(found[1], entropy, atol=1e-5)
    assert pieces.grad is not None and plain.grad is not None
    assert torch.allclose(pieces.grad, plain.grad, atol=1e-5)
