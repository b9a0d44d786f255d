"""Each verdict on a run, worked by hand. (Runs that provoke them: test_health_of_runs.py.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alignment.health import RULES, Health, health

STEPS = 20


def run(
    *, held_out: Mapping[int, Mapping[str, float]] | None = None, **metrics: Sequence[float]
) -> list[dict[str, Any]]:
    """A point a step with these metrics (`rewards__margins` is rewards/margins), and held-out points between them."""
    points = []
    for step in range(1, STEPS + 1):
        values = {name.replace("__", "/"): values[step - 1] for name, values in metrics.items()}
        points.append({"step": step, "steps": STEPS, "time": float(step), "learning_rate": 1e-3, **values})
        if held_out and step in held_out:
            points.append({"step": step, "steps": STEPS, "time": step + 0.5, **held_out[step]})
    return points


def line(first: float, last: float) -> list[float]:
    """Evenly from the first to the last step."""
    return [first + (last - first) * step / (STEPS - 1) for step in range(STEPS)]


def flat(value: float) -> list[float]:
    return [value] * STEPS


def verdict(method: str, points: Sequence[Mapping[str, Any]], ended: bool = True, **settings: Any) -> Health:
    found = health(method, points, {"beta": 0.1, "learning_rate": 1e-3, **settings}, STEPS, ended)
    assert found is not None
    return found


GOOD_DPO = {
    "loss": line(0.69, 0.5),
    "rewards__chosen": line(0, 0.2),
    "rewards__rejected": line(0, -0.2),
    "rewards__margins": line(0, 0.4),
}
GOOD_RLOO = {
    "loss": flat(0.0),
    "reward": line(0.2, 0.9),
    "reward_std": flat(0.3),
    "kl": flat(0.1),
    "entropy": line(1.0, 0.6),
    "completions__mean_length": flat(30.0),
    "completions__clipped_ratio": flat(0.0),
    "frac_reward_zero_std": flat(0.1),
}

GOOD_PPO = {
    **{name: values for name, values in GOOD_RLOO.items() if name != "frac_reward_zero_std"},
    "kl": line(0.0, 2.0),  # of an answer
    "clip_fraction": flat(0.05),
    "epochs": flat(2.0),
    "explained_variance": line(-0.1, 0.6),
}


# ---- healthy --------------------------------------------------------------------------------------------------------


def test_before_anything_is_measured_there_is_no_verdict():
    assert health("dpo", [], {}, STEPS, False) is None
    assert health("dpo", [{"step": 0, "steps": STEPS, "eval_loss": 0.7}], {}, STEPS, False) is None


def test_a_few_steps_are_too_early_to_say_more():
    found = verdict("dpo", run(**GOOD_DPO)[:4], ended=False)
    assert (found.kind, found.title) == ("ok", "Nothing wrong")
    assert found.sentence == "4 of 20 steps measured: too early to say more."
    ended = verdict("dpo", run(**GOOD_DPO)[:4], ended=True)
    assert ended.sentence == "Steps measured: 4, too few to say more."


def test_a_healthy_run_says_what_is_known():
    # the last fifth of margins 0 to 0.4 are steps 17 to 20: 0.4 * (16 + 17 + 18 + 19) / 4 / 19 = 0.368
    held = {
        1: {"eval_rewards/accuracies": 0.52},
        10: {"eval_rewards/accuracies": 0.64},
        20: {"eval_rewards/accuracies": 0.71},
    }
    found = verdict("dpo", run(held_out=held, **GOOD_DPO))
    assert (found.kind, found.title, found.short) == ("ok", "Healthy", "Healthy so far.")
    assert found.sentence == (
        "Margin 0.37; chosen answers are not losing probability. Held-out accuracy rose to 71 % and has not turned."
    )


def test_held_out_accuracy_that_has_turned_names_its_best():
    held = {
        1: {"eval_rewards/accuracies": 0.6},
        10: {"eval_rewards/accuracies": 0.75},
        20: {"eval_rewards/accuracies": 0.7},
    }
    assert verdict("dpo", run(held_out=held, **GOOD_DPO)).sentence.endswith(
        "Held-out accuracy rose to 70 %; its best was 75 %, at step 10."
    )


def test_a_healthy_sft_run_speaks_of_its_losses():
    # first fifth of 2 to 1: 2 - (0 + 1 + 2 + 3) / 4 / 19 = 1.92, last fifth 1.08
    found = verdict("sft", run(loss=line(2, 1), held_out={1: {"eval_loss": 1.9}, 20: {"eval_loss": 1.2}}))
    assert found.sentence == "Loss fell from 1.92 to 1.08. Held-out loss fell to 1.20 and has not turned."


def test_a_healthy_rloo_run_speaks_of_reward_and_length():
    # first fifth of 0.2 to 0.9: 0.2 + 0.7 * 1.5 / 19 = 0.255; last: 0.845
    assert verdict("rloo", run(**GOOD_RLOO)).sentence == (
        "Reward rose from 0.26 to 0.84; answers are 30 tokens long (30 at first)."
    )


# ---- each thing that goes wrong -------------------------------------------------------------------------------------


def test_a_loss_that_is_not_a_number_is_named_with_its_step():
    points = run(loss=line(1, 2))
    del points[6]["loss"]  # as train.py leaves it out
    found = verdict("sft", points, learning_rate=0.1)
    assert (found.kind, found.title) == ("bad", "The loss is not a number")
    assert found.sentence.startswith("It was lost at step 7 of 20")
    assert "lower learning rate, which was 0.1." in found.sentence


def test_a_loss_that_doubled_is_named():
    # the higher of the first two points is 1.2; the last fifth is 5
    found = verdict("sft", run(loss=[1, 1.2, *[5] * 18]))
    assert (found.kind, found.title) == ("bad", "The loss has risen")
    assert found.sentence.startswith("From 1.20 at first to 5.00")
    assert verdict("sft", run(loss=[1, 1.2, *[2.3] * 18])).title != "The loss has risen"


def test_the_loss_of_a_policy_gradient_may_rise():
    assert verdict("rloo", run(**{**GOOD_RLOO, "loss": line(0.01, 0.1)})).title == "Healthy"


def test_chosen_answers_that_fall_along_with_the_rejected_are_named():
    # rewards over beta 0.1: the last fifth of 0 to -0.2 is -0.184, so -1.8 nats; rejected 0 to -0.5 is -4.6 nats
    falling = {**GOOD_DPO, "rewards__chosen": line(0, -0.2), "rewards__rejected": line(0, -0.5)}
    found = verdict("dpo", run(**falling))
    assert (found.kind, found.title) == ("warn", "Chosen answers are losing probability")
    assert found.sentence.startswith("They are 1.8 nats less likely than under the parent, the rejected ones 4.6")
    assert "weight of the better answer" in found.sentence


def test_the_same_fall_with_a_larger_beta_is_small():
    falling = {**GOOD_DPO, "rewards__chosen": line(0, -0.2), "rewards__rejected": line(0, -0.5)}
    assert verdict("dpo", run(**falling), beta=0.5).title == "Healthy"  # -0.184 / 0.5: a third of a nat


def test_a_loss_without_a_reference_is_not_held_against_the_parent():
    """SimPO's rewards are beta times the log-probability of a token, so they are below 0 in any run."""
    simpo = {**GOOD_DPO, "rewards__chosen": line(-4, -3), "rewards__rejected": line(-4, -5)}
    found = verdict("dpo", run(**simpo), beta=2.0, loss="simpo")
    assert found.title == "Healthy" and found.sentence.startswith("Margin 0.37; loss fell from")


def test_saturated_margins_are_named():
    # the last fifth of 0 to 5 is 5 * 17.5 / 19 = 4.61, over beta 0.1: 46 nats
    found = verdict("dpo", run(**{**GOOD_DPO, "rewards__margins": line(0, 5)}))
    assert (found.kind, found.title) == ("warn", "Margins are saturated")
    assert "Margin 4.61, which is 46 nats" in found.sentence


def test_a_large_margin_that_chosen_answers_gained_is_learning():
    # of a margin of 46 nats the chosen answers gained 28 themselves: 3 * 17.5 / 19 = 2.76, over beta
    gained = {**GOOD_DPO, "rewards__margins": line(0, 5), "rewards__chosen": line(0, 3)}
    assert verdict("dpo", run(**gained)).title == "Healthy"


def test_held_out_loss_that_turns_while_the_training_loss_falls_is_named():
    held = {5: {"eval_loss": 1.3}, 10: {"eval_loss": 1.1}, 20: {"eval_loss": 1.4}}
    found = verdict("sft", run(loss=line(2, 0.1), held_out=held), keep="best")
    assert (found.kind, found.title) == ("warn", "Held-out loss has turned")
    # around step 10: steps 9 and 10 of 2 to 0.1, so 2 - 0.1 * (8 + 9) / 2 = 1.15; around step 20: 0.15
    assert found.sentence.startswith("It was lowest at step 10 (1.10) and is 1.40 now, while the training loss fell")
    assert "from 1.15 to 0.15" in found.sentence
    assert "step 10 by this measure" in found.sentence


def test_held_out_loss_that_turns_with_the_training_loss_is_not_memorising():
    held = {5: {"eval_loss": 1.3}, 10: {"eval_loss": 1.1}, 20: {"eval_loss": 1.4}}
    found = verdict("sft", run(loss=line(1, 1.5), held_out=held))
    assert found.title == "Nothing learned"
    assert found.sentence.startswith("The held-out loss was 1.300 at first and is 1.400 now.")


def test_the_held_out_loss_of_a_policy_gradient_means_nothing():
    held = {5: {"eval_loss": 0.01}, 10: {"eval_loss": -0.02}, 20: {"eval_loss": 0.02}}
    assert verdict("rloo", run(**{**GOOD_RLOO, "loss": line(0.01, -0.01)}, held_out=held)).title == "Healthy"


def test_reward_that_rises_with_length_is_named():
    found = verdict("rloo", run(**{**GOOD_RLOO, "completions__mean_length": line(20, 60)}))
    assert (found.kind, found.title) == ("warn", "Reward rises with length")
    # first fifth of 20 to 60: 20 + 40 * 1.5 / 19 = 23; last: 57
    assert "grew from 23 to 57 tokens" in found.sentence


def test_drift_beyond_its_target_is_named():
    # 0.5 nats a token * 30 tokens = 15 nats
    found = verdict("rloo", run(**{**GOOD_RLOO, "kl": flat(0.5)}))
    assert (found.kind, found.title) == ("warn", "Drift is beyond its target")
    assert "15.0 nats from the parent; the target is 10" in found.sentence


def test_drift_that_is_steered_may_swing_around_its_target():
    """PPO logs the drift of an answer, not that of a token."""
    swinging = verdict("ppo", run(**{**GOOD_RLOO, "kl": flat(23)}), kl_target=20)
    assert swinging.title == "Healthy"
    away = verdict("ppo", run(**{**GOOD_RLOO, "kl": flat(31)}), kl_target=20)  # more than half as much again
    assert "31.0 nats from the parent; the target is 20" in away.sentence
    assert verdict("ppo", run(**{**GOOD_RLOO, "kl": flat(9)})).title == "Healthy"


def test_a_healthy_ppo_run_speaks_of_reward_and_length():
    found = verdict("ppo", run(**GOOD_PPO), epochs=2, most_kl=0.1)
    assert (found.title, found.sentence) == (
        "Healthy",
        "Reward rose from 0.26 to 0.84; answers are 30 tokens long (30 at first).",
    )


def test_tokens_that_are_mostly_clipped_are_named():
    # 0.7 to 0, as the learning rate falls to nought: 0.35 throughout
    found = verdict("ppo", run(**{**GOOD_PPO, "clip_fraction": line(0.7, 0)}), epochs=2, clip=0.2)
    assert (found.kind, found.title) == ("warn", "Steps are too large")
    assert found.sentence.startswith("35 % of the tokens move further than the clip of 0.2 in one iteration")
    assert verdict("ppo", run(**{**GOOD_PPO, "clip_fraction": flat(0.15)}), epochs=2).title == "Healthy"


def test_passes_that_are_cut_short_are_named():
    # 12 times 1 of 2 passes and 8 times both: 28 / 20; KL of a token over 1.5 * 0.1
    found = verdict("ppo", run(**{**GOOD_PPO, "epochs": [*[1.0] * 12, *[2.0] * 8]}), epochs=2, most_kl=0.1)
    assert (found.kind, found.title) == ("warn", "Iterations end early")
    assert found.sentence.startswith("Only 1.4 of 2 passes over each iteration's answers are made")
    assert "goes over 0.15" in found.sentence
    some = run(**{**GOOD_PPO, "epochs": [*[2.0] * 15, *[1.0] * 5]})  # 35 / 20: more than three quarters
    assert verdict("ppo", some, epochs=2, most_kl=0.1).title == "Healthy"


def test_an_sft_run_whose_epochs_are_counted_is_not_taken_for_one_cut_short():
    assert verdict("sft", run(loss=line(2, 1), epochs=flat(0.5)), epochs=3).title == "Healthy"


def test_a_value_that_explains_nothing_is_named_but_only_past_half_way():
    points = run(**{**GOOD_PPO, "explained_variance": flat(0.0)})
    assert verdict("ppo", points[:8], ended=False, epochs=2).title == "Healthy"
    found = verdict("ppo", points, epochs=2)
    assert (found.kind, found.title) == ("warn", "The value knows nothing")
    assert found.sentence.startswith(
        "It never explained more than 0 % of how rewards differ, which the mean alone does."
    )
    late = run(**{**GOOD_PPO, "explained_variance": [*line(0.0, 0.3)[:16], *[-0.5] * 4]})  # nothing left to explain
    assert verdict("ppo", late, epochs=2).title == "Healthy"


def test_gold_that_falls_while_the_reward_rises_is_named():
    gold = [*[0.8] * 4, *[0.9] * 4, *[0.85] * 4, *[0.7] * 4, *[0.5] * 4]
    found = verdict("ppo", run(**GOOD_PPO, gold=gold), epochs=2)
    assert (found.kind, found.title) == ("warn", "The reward is followed too far")
    assert found.sentence.startswith("Gold has fallen from 0.90 since step 7, while the reward went on rising")
    assert verdict("ppo", run(**GOOD_PPO, gold=flat(0.9)), epochs=2).title == "Healthy"


def test_answers_that_all_get_the_same_reward_are_named_with_it():
    same = {**GOOD_PPO, "reward": [*line(0.2, 1.0)[:10], *[1.0] * 10], "reward_std": [*[0.3] * 10, *[0.0] * 10]}
    found = verdict("ppo", run(**same), epochs=2)
    assert (found.kind, found.title) == ("warn", "Rewards are all equal")
    assert found.sentence.startswith("All answers of an iteration get the same reward (1.00)")


def test_collapsed_entropy_is_named():
    found = verdict("rloo", run(**{**GOOD_RLOO, "entropy": [*[1.0] * 10, *[0.02] * 10]}))
    assert (found.title, found.sentence[:37]) == ("Entropy has collapsed", "From 1.00 to 0.020 nats a token: the ")


def test_answers_that_do_not_end_are_bad():
    found = verdict("rloo", run(**{**GOOD_RLOO, "completions__clipped_ratio": line(0.2, 0.8)}))
    assert (found.kind, found.title) == ("bad", "Answers do not end")
    assert found.sentence.startswith("75 % of the answers")  # 0.2 + 0.6 * 17.5 / 19


def test_rewards_that_are_all_equal_are_named():
    found = verdict("rloo", run(**{**GOOD_RLOO, "frac_reward_zero_std": flat(0.95)}))
    assert (found.kind, found.title) == ("warn", "Rewards are all equal")
    assert "For 95 % of the prompts" in found.sentence


def test_equal_rewards_that_trl_does_not_count_show_in_the_gradient():
    uncounted = {**GOOD_RLOO, "frac_reward_zero_std": flat(0.5)}
    found = verdict("rloo", run(**uncounted, grad_norm=flat(1e-7)))
    assert found.title == "Rewards are all equal" and found.sentence.startswith("For nearly all of the prompts")
    assert verdict("rloo", run(**uncounted, grad_norm=flat(0.5))).title == "Healthy"


def test_gradients_ten_times_those_at_first_are_named():
    found = verdict("sft", run(loss=line(2, 1.5), grad_norm=[*[0.2] * 16, *[4.0] * 4]))
    assert (found.kind, found.title) == ("warn", "Gradients are exploding")
    assert "Gradient norm 4.0 lately, 0.2 at first" in found.sentence
    small = run(loss=line(2, 1.5), grad_norm=[*[0.02] * 16, *[0.4] * 4])  # below the norm at which they are cut
    assert verdict("sft", small).title == "Healthy"


def test_accuracy_at_chance_is_named_for_the_held_out_pairs():
    held = {10: {"eval_accuracy": 0.5}, 20: {"eval_accuracy": 0.53}}
    points = run(loss=line(0.7, 0.4), accuracy=line(0.5, 0.9), held_out=held)
    found = verdict("reward_model", points)
    assert (found.kind, found.title) == ("warn", "Accuracy is at chance")
    assert "in 53 % of the held-out pairs" in found.sentence


def test_a_margin_that_does_not_grow_means_nothing_was_learned_but_only_past_half_way():
    points = run(**{**GOOD_DPO, "rewards__margins": flat(0.01)})
    assert verdict("dpo", points[:6], ended=False).title == "Healthy"
    found = verdict("dpo", points)
    assert found.title == "Nothing learned"
    assert found.sentence.startswith("The margin is only 0.01, which is 0.10 nats. Raise the learning rate")


def test_a_loss_that_does_not_fall_means_nothing_was_learned():
    assert verdict("sft", run(loss=flat(1.0))).sentence.startswith(
        "The training loss was 1.000 at first and is 1.000 now."
    )


def test_a_loss_that_rose_by_half_is_no_reason_to_learn_faster():
    # first fifth of 1 to 1.5: 1 + 0.5 * 1.5 / 19 = 1.039; last: 1.461
    assert verdict("sft", run(loss=line(1, 1.5))).sentence == (
        "The training loss was 1.039 at first and is 1.461 now. It has risen: lower the learning rate."
    )


def test_a_reward_that_rises_less_than_it_wobbles_from_step_to_step_has_not_risen():
    """Prompts differ more than the answers to one, so a step's mean wobbles more than its answers' spread suggests."""
    # 18 of 19 differences are 0.2, one is 0.05: noise sqrt((18 * 0.04 + 0.0025) / 19 / 2) = 0.138, so two standard
    # errors of a difference between means of four are 2 * 0.138 * sqrt(2 / 4) = 0.195, and it rose by 0.15
    wobbling = [*[0.3, 0.5] * 8, *[0.45, 0.65] * 2]
    found = verdict("rloo", run(**{**GOOD_RLOO, "reward": wobbling, "reward_std": flat(0.02)}))
    assert (found.title, found.sentence[:52]) == (
        "Nothing learned",
        "The reward was 0.40 at first and is 0.55 now. Raise ",
    )
    risen = [*[0.3, 0.5] * 8, *[0.55, 0.75] * 2]  # by 0.25
    assert verdict("rloo", run(**{**GOOD_RLOO, "reward": risen})).title == "Healthy"


def test_a_reward_that_does_not_rise_means_nothing_was_learned():
    found = verdict("rloo", run(**{**GOOD_RLOO, "reward": flat(0.3)}))
    assert (found.title, found.sentence[:52]) == (
        "Nothing learned",
        "The reward was 0.30 at first and is 0.30 now. Raise ",
    )


def test_the_gravest_is_named_first_and_the_rest_after_it():
    ruined = {**GOOD_DPO, "loss": [1, 1, 1, *[9] * 17], "rewards__margins": line(0, 5)}
    found = verdict("dpo", run(**ruined))
    assert (found.kind, found.title) == ("bad", "The loss has risen")
    assert found.sentence.endswith("Also: margins are saturated.")


def test_every_rule_says_where_its_threshold_comes_from():
    assert all(rule.__doc__ and len(rule.__doc__) > 60 for _, _, rule in RULES)
