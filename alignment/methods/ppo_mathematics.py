"""The mathematics of PPO: pure functions of tensors, each with a test worked by hand.

Sources: PPO arXiv:1707.06347; GAE arXiv:1506.02438; the reward with its penalty arXiv:1909.08593 and 2203.02155;
implementation details arXiv:2403.17031. Shapes: `answers` is the number of answers, `tokens` the length of the longest;
`mask` is 1.0 on an answer's own tokens, its EOS included, and 0.0 behind them.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]
ADAPTS = 0.1  # the adaptive penalty's gain (arXiv:1909.08593, section 2.2)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1)


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Zero mean and unit variance over the real tokens of the whole rollout; nought elsewhere."""
    centred = values - masked_mean(values, mask)
    return centred * torch.rsqrt(masked_mean(centred**2, mask) + 1e-8) * mask


def kl_estimate(log_ratio: Tensor, estimator: Estimator) -> Tensor:
    """KL(policy || reference) a token, from log(policy / reference) at the token that the policy sampled.

    k1 is unbiased; k2 and k3 are never negative and vary less; k3 is unbiased too (Schulman 2020, "Approximating KL
    divergence"). As a penalty in the reward only k1 leads to the optimum of reward - beta KL: the others' gradients
    are those of another objective (arXiv:2506.09477).
    """
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return log_ratio**2 / 2
    return torch.exp(-log_ratio) - 1 + log_ratio


def token_rewards(scores: Tensor, penalties: Tensor, mask: Tensor, beta: float) -> Tensor:
    """-beta KL at each token, and the score on the last (arXiv:2203.02155, Eq. 2). (answers, tokens)"""
    rewards = -beta * penalties * mask
    last = mask.sum(1).long() - 1
    rewards[torch.arange(len(rewards)), last] += scores
    return rewards


def advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimation: delta_t = r_t + gamma V_t+1 - V_t; A_t = delta_t + gamma lam A_t+1.

    Behind an answer's end V is nought (arXiv:1506.02438, Eq. 11 to 16). (answers, tokens)
    """
    values, found = values * mask, torch.zeros_like(rewards)
    after = value_after = torch.zeros_like(rewards[:, 0])
    for token in reversed(range(rewards.shape[1])):
        delta = rewards[:, token] + gamma * value_after - values[:, token]
        after = (delta + gamma * lam * after) * mask[:, token]
        found[:, token], value_after = after, values[:, token]
    return found


def policy_loss(log_ratio: Tensor, advantage: Tensor, mask: Tensor, clip: float, weights: Tensor) -> Tensor:
    """max(-A ratio, -A clip(ratio)), the mean over tokens (arXiv:1707.06347, Eq. 7), each with its importance weight.

    log_ratio: log(policy now / policy of the rollout), (answers, tokens)
    """
    ratio = log_ratio.exp()
    losses = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))
    return masked_mean(losses * weights, mask)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error, of the value or of the value moved by at most `clip`, whichever is worse."""
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (clipped - returns) ** 2), mask)


def ratio_stats(log_ratio: Tensor, mask: Tensor, clip: float) -> dict[str, Tensor]:
    """How far the policy has moved from the one that sampled: KL a token (k3), and the share of tokens clipped."""
    ratio = log_ratio.exp()
    return {
        "ratio": masked_mean(ratio, mask),
        "approx_kl": masked_mean(ratio - 1 - log_ratio, mask),
        "clip_fraction": masked_mean(((ratio - 1).abs() > clip).float(), mask),
    }


def explained_variance(rewards: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """1 - var(rewards to go - values) / var(rewards to go): 1 where the value foresees all, 0 or less where nothing.

    Where rewards do not differ there is nothing to foresee, and it is 0.
    Rewards to go and not the returns that the value learns from, which are partly its own words where lambda < 1.
    """
    togo = advantages(rewards, torch.zeros_like(values), mask, gamma=1.0, lam=1.0)
    missed, spread = togo - values, masked_mean((togo - masked_mean(togo, mask)) ** 2, mask)
    explained = 1 - masked_mean((missed - masked_mean(missed, mask)) ** 2, mask) / spread.clamp(min=1e-8)
    return torch.where(spread > 1e-8, explained, 0.0)


def importance_weights(ours: Tensor, sampled: Tensor, mask: Tensor, cap: float) -> Tensor:
    """min(policy of the update / policy that sampled, cap) a token: they differ where another engine sampled.

    Truncated importance sampling (Ionides 2008): the cap trades a little bias for bounded variance.
    """
    return torch.where(mask.bool(), (ours - sampled).exp().clamp(max=cap), torch.ones_like(ours))


def adapted_beta(beta: float, kl: float, target: float) -> float:
    """The next penalty: higher where the KL of a whole answer lies over its target (arXiv:1909.08593, section 2.2)."""
    error = max(-0.2, min(0.2, kl / target - 1))
    return beta * (1 + ADAPTS * error)


class TokenLogProbabilities(torch.autograd.Function):  # type: ignore[misc, unused-ignore]  # torch has no types here
    """log p of given tokens under a frozen output layer, and the entropy, without logits of more than `chunk` tokens.

    Their gradients with respect to the hidden states are worked out while the logits are there, so that nothing of
    the size of the vocabulary is kept for the backward pass, nor computed twice:
    d log p(t) / dh = (W_t - p W) / T and d H / dh = -(p (log p + H)) W / T.

    hidden: (n, width); weight: (vocabulary, width); tokens: (n,). Returns log p (n,) and entropy (n,), float32.
    The entropy has a gradient where `entropy_too`, else it is only reported; without any gradient it is nought.
    """

    @staticmethod
    def forward(  # type: ignore[override, unused-ignore]  # torch types it as (*args, **kwargs)
        ctx: Any, hidden: Tensor, weight: Tensor, tokens: Tensor, temperature: float, entropy_too: bool, chunk: int
    ) -> tuple[Tensor, Tensor]:
        learns = ctx.needs_input_grad[0]
        found, entropies = (hidden.new_zeros(len(hidden), dtype=torch.float32) for _ in range(2))
        gradient = torch.empty_like(hidden) if learns else None
        of_entropy = torch.empty_like(hidden) if learns and entropy_too else None
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            logits = (hidden[part] @ weight.T).float().div_(temperature)
            everything = logits.logsumexp(1, keepdim=True)
            found[part] = (logits.gather(1, tokens[part, None]) - everything).squeeze(1)
            if gradient is None:
                continue
            logp = logits.sub_(everything)
            p = logp.exp()
            entropies[part] = -torch.linalg.vecdot(p, logp)
            if of_entropy is not None:
                of_entropy[part] = (p * (logp + entropies[part, None])).to(weight.dtype) @ weight / -temperature
            gradient[part] = (weight[tokens[part]] - p.to(weight.dtype) @ weight) / temperature
        ctx.gradients = gradient, of_entropy
        return found, entropies

    @staticmethod
    def backward(ctx: Any, of_found: Tensor, of_entropies: Tensor) -> Any:  # type: ignore[override, unused-ignore]
        gradient, of_entropy = ctx.gradients
        total = of_found[:, None].to(gradient.dtype) * gradient
        if of_entropy is not None:
            total = total + of_entropies[:, None].to(gradient.dtype) * of_entropy
        return total, None, None, None, None, None
