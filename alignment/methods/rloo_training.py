"""What RLOO's training does otherwise than that on fixed rows. Imported inside a run only.

The reward model is a second model beside the policy, and is given exactly the tokens that the policy read and wrote,
EOS kept: prompt and completion are not turned into text and back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from transformers import PreTrainedTokenizerBase

from alignment.methods import trl_training
from alignment.methods.base import Inputs, TextReward
from alignment.methods.online import HELD_OUT_ANSWERS, refuse_reward_model
from alignment.methods.rloo import RLOO
from alignment.methods.trl_training import Parts, Rows
from labeling.engines.reward_scorer import Scorer, load
from storage.errors import BadInput, RunFailed

Reward = Callable[..., list[float]]


class RLOOTraining:
    """One training by RLOO: its settings, what `fit` is to do otherwise, and what was found at the end."""

    def __init__(self, method: RLOO, inputs: Inputs) -> None:
        refuse_reward(inputs)
        self.found: dict[str, float] = {}
        self.config = config_of(method, inputs)
        self._method = method
        self._inputs = inputs
        self._learned = 0

    def parts(self) -> Parts:
        return Parts(learned=self._learns_from, options=self._options, finish=self._finish)

    def _learns_from(self, rows: Rows) -> None:
        """How many prompts there are sets how long the run is."""
        refuse_too_few(len(rows), self._method)
        self._learned = len(rows)
        self.config.max_steps = self._method.steps(len(rows))

    def _options(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Rewards by name: TRL logs each of them as rewards/<name>/mean, and their sum as reward."""
        no_end = penalty_of(ends_of(model, tokenizer), self._method.no_end_penalty)
        return {"reward_funcs": [reward_of(self._inputs, tokenizer), no_end]}

    def _finish(self, trainer: Any, tokenizer: PreTrainedTokenizerBase, held_out: Rows) -> None:
        """The reward over the first and the last fifth of the steps that sampled, and the number of prompts."""
        rewards = [line["reward"] for line in trainer.state.log_history if "reward" in line]
        fifth = max(1, len(rewards) // 5)
        answered = trainer.state.global_step // self._method.iterations * self._method.prompts_per_step
        self.found = {"learned_rows": float(min(self._learned, answered))}
        if rewards:
            self.found |= {"first_reward": fmean(rewards[:fifth]), "reward": fmean(rewards[-fifth:])}


def refuse_too_few(rows: int, method: RLOO) -> None:
    """The trainer leaves out prompts that do not fill a batch; where none is left it would never take a step."""
    if rows < method.prompts_per_step:
        raise RunFailed(
            f"A step answers {method.prompts_per_step} prompts, and only {rows} are learned from. Lower the answers "
            "per batch, raise the answers per prompt, or hold out fewer prompts."
        )


def config_of(method: RLOO, inputs: Inputs) -> Any:
    from trl import RLOOConfig  # type: ignore[attr-defined, unused-ignore]

    shared = trl_training.arguments(method, inputs)
    shared.pop("max_length")
    each = shared["per_device_eval_batch_size"]
    return RLOOConfig(
        **{
            **shared,
            "lr_scheduler_type": "constant",
            "warmup_steps": 0,
            "per_device_eval_batch_size": max(1, each // HELD_OUT_ANSWERS) * HELD_OUT_ANSWERS,
        },
        num_generations=method.answers_per_prompt,
        num_generations_eval=HELD_OUT_ANSWERS,
        num_iterations=method.iterations,
        max_completion_length=method.longest_answer,
        temperature=method.temperature,
        beta=method.beta,
    )


def refuse_reward(inputs: Inputs) -> None:
    """Raises BadInput where nothing was chosen, or a reward model that reads otherwise than the parent writes."""
    if inputs.scored_by:
        return
    if inputs.reward is None:
        raise BadInput(
            "RLOO scores the model's answers with a reward model, and none was chosen. Choose one in the form; if "
            "there is none yet, train one from comparisons with the method Reward model."
        )
    refuse_reward_model(inputs.parent, inputs.reward)


def reward_of(inputs: Inputs, tokenizer: PreTrainedTokenizerBase) -> Reward:
    if inputs.scored_by:
        return of_text(inputs.scored_by)
    assert inputs.reward is not None  # refuse_reward
    return scores_of(load(inputs.reward.base_path, inputs.reward.adapter_path), tokenizer)


def of_text(function: TextReward) -> Reward:
    def scored(prompts: Sequence[Any], completions: Sequence[Any], **given: Any) -> list[float]:
        return list(function(prompts, [completion[-1]["content"] for completion in completions]))

    return scored


def scores_of(scorer: Scorer, tokenizer: PreTrainedTokenizerBase) -> Reward:
    def reward_model(prompts: Sequence[Any], completion_ids: Sequence[list[int]], **given: Any) -> list[float]:
        asked = [list(ids) for ids in _prompt_ids(prompts, tokenizer)]
        scores = scorer.score([read + written for read, written in zip(asked, completion_ids, strict=True)])
        return [scorer.scale.normalised(score) for score in scores]

    return reward_model


def penalty_of(ends: frozenset[int], penalty: float) -> Reward:
    def no_end(completion_ids: Sequence[list[int]], **given: Any) -> list[float]:
        return [0.0 if ends.intersection(ids) else -penalty for ids in completion_ids]

    return no_end


def ends_of(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """A model may end in several ways: its generation config and its tokenizer each name some."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*listed, tokenizer.eos_token_id) if token is not None)


def _prompt_ids(prompts: Sequence[Any], tokenizer: PreTrainedTokenizerBase) -> Sequence[Sequence[int]]:
    """As the trainer turned them into tokens."""
    rendered: Mapping[str, Any] = tokenizer.apply_chat_template(
        list(prompts), add_generation_prompt=True, tokenize=True, return_dict=True
    )
    ids: Sequence[Sequence[int]] = rendered["input_ids"]
    return ids
