"""What can go wrong where a run samples answers and is told their reward: each rule gives its sentence, or ""."""

from __future__ import annotations

from statistics import fmean

from alignment.measured_points import GENERATING, JUDGED_FROM, Seen, fifth, is_number
from alignment.rules.words import percent

UNENDED_SHARE = 0.5
LONGER = 1.5
KL_NATS = 10.0
SWING = 1.5
COLLAPSED_ENTROPY = 0.1
CLIPPED_SHARE = 0.2
CUT_PASSES = 0.75
FORESEEN_SHARE = 0.01
NO_SPREAD = 0.8
NO_GRADIENT = 1e-4
EQUAL = 1e-3


def unended_answers(seen: Seen) -> str:
    """Half of the answers reach the length limit and never say that they are over (TRL: completions/clipped_ratio)."""
    clipped = seen.recent("completions/clipped_ratio")
    if clipped is None or clipped < UNENDED_SHARE:
        return ""
    return (
        f"{percent(clipped)} of the answers sampled lately were cut off at the length limit, without an end-of-text "
        "token. Allow longer answers, or go back to a version that ends its answers."
    )


def reward_with_length(seen: Seen) -> str:
    """Reward up, and answers half as long again: the commonest way to please a reward model (arXiv:2310.03716)."""
    rewards, lengths = seen.change("reward"), seen.change("completions/mean_length")
    if not rewards or not lengths or rewards[1] <= rewards[0] or lengths[1] < LONGER * lengths[0]:
        return ""
    return (
        f"Reward from {rewards[0]:.2f} to {rewards[1]:.2f} while answers grew from {lengths[0]:.0f} to "
        f"{lengths[1]:.0f} tokens. The reward model may only like long answers: read them, and compare blind."
    )


def kl_beyond_target(seen: Seen) -> str:
    """Drift from the parent beyond 10 nats for an answer, or far beyond what the settings steer it towards.

    Past some drift a reward model is pleased and people are not (arXiv:2210.10760). On the starter model a good run
    drifted 3 nats. Drift that is steered swings around its target, so half as much again passes.
    """
    drifts = [drift for point in seen.training if (drift := seen.drift(point)) is not None]
    if seen.method not in GENERATING or len(drifts) < JUDGED_FROM:
        return ""
    drift = fmean(drifts[-fifth(drifts) :])
    steered = float(seen.settings.get("kl_target") or 0)
    if drift <= (SWING * steered or KL_NATS):
        return ""
    return (
        f"Answers have drifted {drift:.1f} nats from the parent; the target is {steered or KL_NATS:g}. The reward may "
        "no longer mean what people meant. Raise beta, or lower the learning rate."
    )


def entropy_collapsed(seen: Seen) -> str:
    """A tenth of the choice that was there: each sample is the same answer, so nothing is tried (arXiv:2505.22617).

    On the starter model a good run of RLOO ended at a quarter: preferring one style of four costs that much.
    """
    entropy = seen.change("entropy")
    if seen.method not in GENERATING or not entropy or entropy[1] >= COLLAPSED_ENTROPY * entropy[0]:
        return ""
    return (
        f"From {entropy[0]:.2f} to {entropy[1]:.3f} nats a token: the model gives nearly the same answer each time and "
        "tries nothing new. Lower the learning rate, or stop earlier."
    )


def mostly_clipped(seen: Seen) -> str:
    """PPO: a fifth of the tokens are beyond the clip, where their gradient is nought.

    On the starter model 0 to 3 % in good runs, whatever the clip.
    """
    clipped = seen.throughout("clip_fraction")
    if clipped is None or clipped <= CLIPPED_SHARE:
        return ""
    return (
        f"{percent(clipped)} of the tokens move further than the clip of {seen.settings.get('clip', 0.1):g} in one "
        "iteration, and what is clipped is not learned from. Lower the learning rate, or make fewer passes."
    )


def passes_cut_short(seen: Seen) -> str:
    """PPO: the policy strays from what sampled the answers before the passes over them are through.

    A good run makes them all. At three quarters, a cut is the rule and not the exception.
    """
    made, asked = seen.throughout("epochs"), seen.settings.get("epochs")
    if seen.method != "ppo" or made is None or not is_number(asked) or made >= CUT_PASSES * asked:
        return ""
    return (
        f"Only {made:.1f} of {asked:g} passes over each iteration's answers are made, because a token's KL from what "
        f"sampled it goes over {1.5 * float(seen.settings.get('most_kl') or 0):g}: steps are too large. Lower the "
        "learning rate, or ask for fewer passes."
    )


def value_knows_nothing(seen: Seen) -> str:
    """PPO, past half way: what the value expects is no nearer to what comes than its mean (explained variance 0).

    Then advantages are as noisy as the rewards, and learning needs so many more answers. Its best step counts: once all
    answers are good, hardly any difference is left to explain (a good run went from 0 over 0.35 to -0.5).
    """
    explained = seen.values("explained_variance")
    if not seen.half_way or len(explained) < JUDGED_FROM or max(explained) > FORESEEN_SHARE:
        return ""
    return (
        f"It never explained more than {percent(max(explained))} of how rewards differ, which the mean alone does. "
        "So each answer teaches little. Raise the weight of the value, or sample more answers an iteration."
    )


def rewards_all_equal(seen: Seen) -> str:
    """All answers to a prompt get the same reward, and equal rewards teach nothing: no gradient is left.

    TRL counts such prompts (frac_reward_zero_std), but takes the rounding of a mean for a difference: of eight times
    the same answer it counted a half. The gradient tells them all: 1e-10 in that run, 0.5 and more in good ones. PPO
    compares all answers of an iteration, and logs their spread.
    """
    if seen.method == "ppo":
        return _no_spread(seen)
    equal, gradient = seen.recent("frac_reward_zero_std"), seen.recent("grad_norm")
    if equal is None or (equal < NO_SPREAD and (gradient is None or gradient > NO_GRADIENT)):
        return ""
    share = percent(equal) if equal >= NO_SPREAD else "nearly all"
    return (
        f"For {share} of the prompts all sampled answers got the same reward, which teaches nothing. "
        "Sample more answers a prompt, raise the temperature, or use harder prompts."
    )


def _no_spread(seen: Seen) -> str:
    spread = seen.recent("reward_std")
    if spread is None or spread > EQUAL:
        return ""
    return (
        f"All answers of an iteration get the same reward ({seen.recent('reward'):.2f}), which teaches nothing but "
        "loyalty to the parent. Stop here if that is the best there is; else choose harder prompts or another reward."
    )
