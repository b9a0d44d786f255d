"""The loop of PPO: sample, score, learn; measured, kept, followed and resumed as every other run. Imported in a run.

Decisions a reader would question:

* The log-probabilities that sampling computed are those the ratio is taken to, with no pass over the rollout of their
  own, where sampling computes as the update does: float32, in this process. Otherwise they are computed anew, and each
  token weighs min(ours / theirs, 2) (truncated importance sampling).
* Followers, trackers and early stopping are those of transformers, called by its own callback protocol.
* A minibatch is read in passes of like length and its gradients added up, so memory does not grow with it.
* The first rollout is checked, and the run ends there if what should be equal is not.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from peft import load_peft_weights, set_peft_model_state_dict
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainerControl, TrainerState, TrainingArguments, set_seed
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback, EarlyStoppingCallback

from alignment.methods import ppo_mathematics as mathematics
from alignment.methods import trl_training
from alignment.methods.base import Inputs, Report, Stopped
from alignment.methods.checkpoints import checked_checkpoint
from alignment.methods.following import Follow, final_metrics
from alignment.methods.online import HELD_OUT_ANSWERS
from alignment.methods.ppo import PPO
from alignment.methods.ppo_backbone import POLICY, REFERENCE, Row, in_passes, load
from alignment.methods.ppo_server import ServerSampler, refuse_other_weights
from alignment.methods.processes import processes
from alignment.methods.rewards import reward_of
from alignment.methods.weights import context_of, load_tokenizer, refuse_no_numbers
from alignment.rows_as_tokens import template_tokens
from alignment.run_directory import MODEL
from labeling.engines.model_folder import write_base_mark
from storage.errors import RunFailed

CAP = 2.0  # of an importance weight
ROUNDING = 1e-4  # log-probabilities so near are the same: else a run's last bits hung on what a server had in its batch
FAR = 0.5  # nats a token, on average: no rounding, but other weights

Prompts = Sequence[Mapping[str, Any]]


@dataclass
class Rollout:
    """What was sampled and scored. Tensors are (answers, longest answer); scores, ended and golds (answers,).

    scores: what the reward gives, less the penalty of an answer without end. golds: of the function that the training
    does not see, where there is one. weights: of each token, where it was sampled otherwise than the update computes.
    gap: there, the furthest that a token's log-probability as sampled lies from ours.
    """

    rows: Sequence[Row]
    mask: Tensor
    logp: Tensor
    reference: Tensor
    values: Tensor
    weights: Tensor
    scores: Tensor
    ended: Tensor
    golds: Tensor | None
    gap: Tensor | None

    @property
    def kl(self) -> Tensor:
        """Of each answer from the reference, in nats (k1). (answers,)"""
        return ((self.logp - self.reference) * self.mask).sum(1)

    def told(self, beta: float) -> dict[str, float]:
        """What curves show of it, by TRL's names where it has them."""
        golds = {} if self.golds is None else {"gold": self.golds.mean().item()}
        weight = mathematics.masked_mean(self.weights, self.mask)  # 1, less what the cap takes off
        apart = {} if self.gap is None else {"sampler_gap": self.gap.item(), "sampler_weight": weight.item()}
        return {
            "reward": self.scores.mean().item(),
            "reward_std": self.scores.std(correction=0).item(),
            "kl": self.kl.mean().item(),
            "objective": (self.scores - beta * self.kl).mean().item(),
            "completions/mean_length": self.mask.sum(1).mean().item(),
            "completions/clipped_ratio": 1 - self.ended.float().mean().item(),
            **golds,
            **apart,
        }


class PPOTraining:
    """One run: `fit` takes it from its rows, or from its checkpoint, to a saved adapter."""

    def __init__(self, method: PPO, inputs: Inputs, report: Report) -> None:
        method.refuse_what_is_missing()
        method.refuse_processes(processes())
        trl_training.prepare_tracker(method, inputs.folder)
        set_seed(method.seed)
        method.refuse_sampler(inputs.sampled_by)
        self.method, self.inputs, self.report = method, inputs, report
        self.tokenizer = load_tokenizer(inputs)
        self.server = ServerSampler(inputs, method.seed) if method.sampler == "model server" else None
        self.reward = reward_of(inputs)
        self.backbone = load(method, inputs, self.tokenizer, self.reward.on_backbone)
        longest = min(method.max_length, context_of(self.backbone.model))
        self.split = trl_training.split_of(method, inputs, self.tokenizer, longest, report)
        self.optimizer = torch.optim.Adam(self.backbone.learned(), lr=method.learning_rate, eps=1e-5)
        self.beta, self.tokens = method.beta, 0
        self.state, self.control = TrainerState(max_steps=method.most_steps), TrainerControl()
        self.follow = Follow(method, report, self.tokenizer)
        self.args, self.handler = self._followed()
        self._orders: dict[int, list[int]] = {}

    def _followed(self) -> tuple[TrainingArguments, CallbackHandler]:
        shared = trl_training.arguments(self.method, self.inputs)
        args = TrainingArguments(**{name: value for name, value in shared.items() if name != "max_length"})
        trl_training.settle(args, 0, self.split, self.method, self.inputs)
        trackers = [tracker() for tracker in get_reporting_integration_callbacks(args.report_to)]
        callbacks = [
            DefaultFlowCallback(),
            self.follow,
            *trl_training.early_stopping(self.method, self.split),
            *trackers,
        ]
        return args, CallbackHandler(callbacks, self.backbone.model, self.tokenizer, self.optimizer, None)

    def fit(self) -> dict[str, float]:
        """The metrics at the end. Raises Stopped, or RunFailed where the run cannot go on."""
        try:
            self._go_on_from(self.inputs.checkpoint)
            self._learn_to_the_end()
        finally:
            self.close()
        if self.follow.stopped:
            raise Stopped
        return self._finish()

    def close(self) -> None:
        self.reward.close()
        if self.server:
            self.server.close()

    def _learn_to_the_end(self) -> None:
        self.control = self.handler.on_train_begin(self.args, self.state, self.control)
        if self.state.global_step == 0 and self.split.held_out:
            self._measure()
        while self.state.global_step < self.state.max_steps and not self.control.should_training_stop:
            self._iterate()
        self.handler.on_train_end(self.args, self.state, self.control)

    def _iterate(self) -> None:
        self.control = self.handler.on_step_begin(self.args, self.state, self.control)
        values = self.step(self._prompts())
        self.state.global_step += 1
        self.control = self.handler.on_step_end(self.args, self.state, self.control)
        if self.control.should_log:
            self._log(values)
        if self.control.should_evaluate:
            self._measure()
        if self.control.should_save:
            self._save()

    # ---- one iteration

    def step(self, prompts: Prompts) -> dict[str, float]:
        """Sample, score, learn. Returns what the curves show."""
        rate = self.method.learning_rate * (1 - self.state.global_step / self.state.max_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rollout = self.rollout(prompts, f"iteration {self.state.global_step}")
        if self.state.global_step == 0:
            self._check(rollout)
            self._expect(rollout)
        told = {**self.learn(rollout), **rollout.told(self.beta), "beta": self.beta, "learning_rate": rate}
        if self.method.kl_target:
            self.beta = mathematics.adapted_beta(self.beta, told["kl"], self.method.kl_target)
        self.tokens += sum(len(row.tokens) for row in rollout.rows)
        return {**told, "num_tokens": float(self.tokens)}

    def rollout(self, prompts: Prompts, noise: str) -> Rollout:
        """An answer to each prompt, with all that is learned from it. `noise`: of a model server, see `_answers`."""
        method, backbone = self.method, self.backbone
        asked = [template_tokens(self.tokenizer, row["prompt"], add_generation_prompt=True) for row in prompts]
        rows = self._answers(asked, noise)
        sampled, values = (pad_sequence([getattr(row, name) for row in rows], True) for name in ("sampled", "value"))
        mask = pad_sequence([torch.ones_like(row.sampled) for row in rows], True)
        logp, weights, gap = sampled, torch.ones_like(mask), None
        if self.server or not backbone.computes_as_it_samples:
            logp, values = backbone.read_all(rows, method.temperature, POLICY)
            apart = (logp - sampled).abs() * mask
            gap = apart.max()
            weights = mathematics.importance_weights(logp, torch.where(apart < ROUNDING, logp, sampled), mask, CAP)
            if self.server:
                refuse_other_weights(mathematics.masked_mean(apart, mask).item(), FAR)
        ended = torch.stack([torch.isin(row.answer[-1], backbone.ends) for row in rows])
        texts = self.tokenizer.batch_decode([row.answer for row in rows], skip_special_tokens=True)
        messages = [row["prompt"] for row in prompts]
        return Rollout(
            rows=rows,
            mask=mask,
            logp=logp,
            reference=backbone.read_all(rows, method.temperature, REFERENCE)[0],
            values=values,
            weights=weights,
            scores=self.reward(backbone, rows, messages, texts) - method.no_end_penalty * (~ended).float(),
            ended=ended,
            golds=torch.tensor(self.inputs.gold(messages, texts)) if self.inputs.gold else None,
            gap=gap,
        )

    def _answers(self, asked: Sequence[Sequence[int]], noise: str) -> list[Row]:
        """Drawn from torch's own noise here; on a model server from seeds, which `noise` is a part of."""
        if self.server:
            return self.server.sample(self.backbone, asked, self.method.longest_answer, noise)
        return self.backbone.sample(asked, self.method.longest_answer, self.method.temperature)

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Several passes over a rollout in minibatches, until the policy has moved too far from what sampled it."""
        method, mask = self.method, rollout.mask
        penalties = mathematics.kl_estimate(rollout.logp - rollout.reference, method.kl_estimator)
        rewards = mathematics.token_rewards(rollout.scores, penalties, mask, self.beta)
        advantages = mathematics.advantages(rewards, rollout.values, mask, method.gamma, method.lam)
        returns = advantages + rollout.values * mask
        whitened = mathematics.whiten(advantages, mask)
        seen: list[dict[str, float]] = []
        for index in self._minibatches(len(rollout.rows)):
            seen.append(self._gradients(rollout, index, whitened, returns))
            if method.most_kl and seen[-1]["approx_kl"] > 1.5 * method.most_kl:
                break
            norm = torch.nn.utils.clip_grad_norm_(self.backbone.learned(), self.args.max_grad_norm)
            seen[-1]["grad_norm"] = norm.item()
            self.optimizer.step()
        told = {name: fmean(values[name] for values in seen if name in values) for name in seen[0]}
        foreseen = mathematics.explained_variance(rewards, rollout.values, mask)
        return {**told, "epochs": len(seen) / method.accumulate, "explained_variance": foreseen.item()}

    def _minibatches(self, rows: int) -> Iterator[Tensor]:
        for _ in range(self.method.epochs):
            yield from torch.randperm(rows).split(self.method.batch_size)

    def _gradients(self, rollout: Rollout, index: Tensor, advantages: Tensor, returns: Tensor) -> dict[str, float]:
        """Those of one minibatch, added up over its passes; what was seen on the way."""
        method, told = self.method, dict[str, float]()
        self.optimizer.zero_grad(set_to_none=True)
        for part in in_passes([rollout.rows[place] for place in index]):
            chosen = index[part]
            logp, entropy, values = self.backbone.read(
                [rollout.rows[place] for place in chosen], method.temperature, entropy_too=method.entropy_weight > 0
            )
            of = {"mask": rollout.mask, "logp": rollout.logp, "old": rollout.values, "weights": rollout.weights}
            of |= {"advantages": advantages, "returns": returns}
            of = {name: tensor[chosen, : logp.shape[1]] for name, tensor in of.items()}
            mask, log_ratio = of["mask"], (logp - of["logp"]) * of["mask"]
            policy = mathematics.policy_loss(log_ratio, of["advantages"], mask, method.clip, of["weights"])
            value = mathematics.value_loss(values, of["old"], of["returns"], mask, method.value_clip)
            spread = mathematics.masked_mean(entropy, mask)
            loss = policy + method.value_weight * value - method.entropy_weight * spread
            share = mask.sum() / rollout.mask[index].sum()
            self._refuse_no_number(loss)
            (loss * share).backward()
            of_policy = mathematics.ratio_stats(log_ratio.detach(), mask, method.clip)
            losses = {"loss": loss, "policy_loss": policy, "value_loss": value, "entropy": spread}
            for name, seen in (losses | of_policy).items():
                told[name] = told.get(name, 0.0) + (seen.detach() * share).item()
        return told

    def _refuse_no_number(self, loss: Tensor) -> None:
        if not bool(torch.isfinite(loss)):
            self.report.metrics(self.state.global_step + 1, self.state.max_steps, {"loss": float("nan")})
            raise RunFailed("The loss was no longer a number. Lower the learning rate and run again.")

    # ---- what holds on the first rollout, or the run is wrong

    def _check(self, rollout: Rollout) -> None:
        """The update reads what was sampled: ratio 1; the policy starts as the reference: KL 0. Raises RunFailed."""
        few = range(min(8, len(rollout.rows)))
        rows, mask = [rollout.rows[place] for place in few], rollout.mask[list(few)]
        with torch.no_grad():
            again = self.backbone.read(rows, self.method.temperature)[0]
        width, equal = again.shape[1], self.backbone.equal
        apart = ((again - rollout.logp[list(few), :width]) * mask[:, :width]).abs().max().item()
        if apart > equal:
            raise RunFailed(
                f"The first update gives tokens another log-probability than their sampling did (by {apart:.3g}), so "
                "the ratio would not be 1 at the start. Choose Adapted layers: all; where that is chosen, this kind of "
                "model cannot be trained by PPO here."
            )
        drift = ((rollout.logp - rollout.reference) * rollout.mask).abs().max().item()
        if drift > equal:
            raise RunFailed(
                f"The policy does not start as its reference (log-probabilities are up to {drift:.3g} apart), so the "
                "drift would be measured from something else than the parent."
            )
        self.reward.check(self.backbone)

    def _expect(self, rollout: Rollout) -> None:
        """The value starts at the mean reward of the first rollout, everywhere."""
        mean = rollout.scores.mean()
        with torch.no_grad():
            self.backbone.value_head.bias += mean
        rollout.values = (rollout.values + mean) * rollout.mask

    # ---- prompts

    def _prompts(self) -> Prompts:
        """Those of this iteration: every prompt comes once before one comes twice, in an order that the seed sets."""
        learned, size = self.split.learned, self.method.rollout
        first = self.state.global_step * size
        return [learned[self._place(number)] for number in range(first, first + size)]

    def _place(self, number: int) -> int:
        turn, place = divmod(number, len(self.split.learned))
        if turn not in self._orders:
            noise = torch.Generator().manual_seed(self.method.seed * 1_000_003 + turn)
            self._orders = {turn: torch.randperm(len(self.split.learned), generator=noise).tolist()}
        return self._orders[turn][place]

    # ---- measuring, keeping, going on

    def _measure(self) -> None:
        """Answers to held-out prompts, with the same noise every time; the noise of training is left as it was."""
        with torch.random.fork_rng():
            torch.manual_seed(self.method.seed)
            held_out = [row for row in self.split.held_out for _ in range(HELD_OUT_ANSWERS)]
            told = self.rollout(held_out, "held out").told(self.beta)
        measured = {f"eval_{name}": value for name, value in told.items()}
        self._log(measured)
        self.control = self.handler.on_evaluate(self.args, self.state, self.control, metrics=measured)
        value, best = measured[self.method.held_out.metric], self.state.best_metric
        if self.state.global_step and (best is None or value > best):
            self.state.best_metric, self.state.best_global_step = value, self.state.global_step

    def _log(self, values: Mapping[str, float]) -> None:
        self.state.log_history.append({**values, "step": self.state.global_step})
        self.control = self.handler.on_log(self.args, self.state, self.control, dict(values))

    def _save(self) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        self.backbone.model.save_pretrained(str(folder), selected_adapters=[POLICY])
        for follower in self.handler.callbacks:
            if isinstance(follower, EarlyStoppingCallback):
                self.state.stateful_callbacks[EarlyStoppingCallback.__name__] = follower.state()
        self.state.save_to_json(str(folder / "trainer_state.json"))
        torch.save(
            {
                "optimizer": self.optimizer.state_dict(),
                "value_head": self.backbone.value_head.state_dict(),
                "noise": torch.get_rng_state(),
                "noise_on_gpu": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
                "beta": self.beta,
                "tokens": self.tokens,
            },
            folder / "optimizer.pt",
        )
        self.control = self.handler.on_save(self.args, self.state, self.control)

    def _go_on_from(self, checkpoint: Path | None) -> None:
        if checkpoint is None:
            return
        self.state = checked_checkpoint(checkpoint)
        kept = torch.load(checkpoint / "optimizer.pt", weights_only=True)
        self._load_policy(checkpoint)
        self.backbone.value_head.load_state_dict(kept["value_head"])
        self.optimizer.load_state_dict(kept["optimizer"])
        torch.set_rng_state(kept["noise"])
        if kept["noise_on_gpu"]:
            torch.cuda.set_rng_state_all(kept["noise_on_gpu"])
        self.beta, self.tokens = kept["beta"], kept["tokens"]
        for follower in self.handler.callbacks:
            if isinstance(follower, EarlyStoppingCallback):
                counted = self.state.stateful_callbacks[EarlyStoppingCallback.__name__]["attributes"]
                follower.early_stopping_patience_counter = counted["early_stopping_patience_counter"]
                self.control.should_training_stop = follower.early_stopping_patience_counter >= self.method.patience

    def _load_policy(self, folder: Path) -> None:
        set_peft_model_state_dict(self.backbone.model, load_peft_weights(str(folder), device="cpu"), POLICY)

    def _finish(self) -> dict[str, float]:
        """The best checkpoint put back, the adapter saved."""
        best = self.state.best_global_step
        if self.args.load_best_model_at_end and best and best != self.state.global_step:
            self._load_policy(Path(self.args.output_dir) / f"checkpoint-{best}")
        refuse_no_numbers(self.backbone.model)
        folder = self.inputs.folder / MODEL
        shutil.rmtree(folder, ignore_errors=True)
        self.backbone.model.save_pretrained(str(folder), selected_adapters=[POLICY])
        write_base_mark(folder, self.inputs.parent.base_path)
        rewards = [line["reward"] for line in self.state.log_history if "reward" in line]
        first = {"first_reward": fmean(rewards[: max(1, len(rewards) // 5)])} if rewards else {}
        learned = min(len(self.split.learned), self.state.global_step * self.method.rollout)
        return {**final_metrics(self.state, self.method, self.split), **first, "learned_rows": float(learned)}
