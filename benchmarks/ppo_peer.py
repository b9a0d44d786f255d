"""One process of benchmarks.ppo: the PPO of TRL 1.12, the last that had one, in its leanest configuration.

    .venv-trl112/bin/python -m benchmarks.ppo_peer JOB.json

LoRA on the policy and on the value model, the reference is the policy without its adapter, the reward model's adapter
is merged into its weights. An engineer's script around the trainer, with our prompts, batch, lengths, epochs and
beta; clip, lambda and the optimiser are TRL's own:

* `per_device_train_batch_size` is the whole rollout and `num_mini_batches` cuts it, for TRL's accumulation would make
  one optimiser step of a pass over it, and ours makes one of each minibatch.
* Scores are read from the rule by a module in the place of a reward model, where a rule scores.
* The value's head starts at nought: a head of random numbers costs the first iterations.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer

from benchmarks.ppo_jobs import Job, Told, rule_reward

ANSWERS_BEHIND = "<|im_start|>assistant\n"


def main() -> None:
    torch.set_num_threads(1)
    job, told = Job.of_this_process(), Told.after_imports()
    tokenizer = AutoTokenizer.from_pretrained(job.base, padding_side="left")
    torch.manual_seed(job.settings["seed"])
    policy = AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.float32)
    trainer = PPOTrainer(
        args=config(job),
        processing_class=tokenizer,
        model=policy,
        ref_model=None,
        reward_model=reward_model(job, tokenizer),
        value_model=value_model(job),
        train_dataset=Dataset.from_list([{"input_ids": ids} for ids in prompts(job, tokenizer)]),
        peft_config=adapter(job, "CAUSAL_LM"),
        callbacks=[Telling(told)],
    )
    trainer.train()
    told.end()
    told.tell()


def config(job: Job) -> PPOConfig:
    ours = job.settings
    rollout = ours["batch_size"] * ours["accumulate"]
    return PPOConfig(
        output_dir=job.folder,
        seed=ours["seed"],
        learning_rate=ours["learning_rate"],
        total_episodes=rollout * ours["most_steps"],
        per_device_train_batch_size=rollout,
        num_mini_batches=ours["accumulate"],
        local_rollout_forward_batch_size=rollout,
        num_ppo_epochs=ours["epochs"],
        response_length=ours["longest_answer"],
        stop_token="eos",
        temperature=ours["temperature"],
        missing_eos_penalty=ours["no_end_penalty"] or None,
        kl_coef=ours["beta"],
        num_sample_generations=0,
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def adapter(job: Job, task: str) -> LoraConfig:
    kept = ["score"] if task == "SEQ_CLS" else None
    rank, alpha = job.settings["lora_rank"], job.settings["lora_alpha"]
    return LoraConfig(task_type=task, r=rank, lora_alpha=alpha, target_modules="all-linear", modules_to_save=kept)


def prompts(job: Job, tokenizer: Any) -> list[list[int]]:
    tokenizer.chat_template = job.template
    messages = [row["prompt"] for row in job.rows]
    ids: list[list[int]] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return ids


def classifier(job: Job) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(job.base, num_labels=1, dtype=torch.float32)


def value_model(job: Job) -> Any:
    model = classifier(job)
    nn.init.zeros_(model.score.weight)
    return get_peft_model(model, adapter(job, "SEQ_CLS")).base_model.model


def reward_model(job: Job, tokenizer: Any) -> Any:
    if not job.reward:
        return ByRule(tokenizer)
    return PeftModel.from_pretrained(classifier(job), job.reward).merge_and_unload()


class ByRule(nn.Module):  # type: ignore[misc, unused-ignore]  # torch has no types here
    """The rule as the trainer wants a reward model: a body that reads tokens, and a head that scores each place."""

    base_model_prefix = "body"

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.score = nn.Identity()

    def body(self, input_ids: Tensor, attention_mask: Tensor, **given: Any) -> Any:
        found = [self._reward(ids[kept]) for ids, kept in zip(input_ids, attention_mask.bool(), strict=True)]
        everywhere = torch.tensor(found)[:, None, None].expand(*input_ids.shape, 1)
        return SimpleNamespace(hidden_states=[everywhere.clone()])

    def _reward(self, ids: Tensor) -> float:
        end = str(self.tokenizer.eos_token)
        prompt, answer = self.tokenizer.decode(ids).split(ANSWERS_BEHIND)
        asked = prompt.split("<|im_start|>user\n")[1].split(end)[0]
        return rule_reward(asked, answer.split(end)[0])


class Telling(TrainerCallback):  # type: ignore[misc, unused-ignore]  # nor has transformers
    """Keeps the curve, in our words."""

    def __init__(self, told: Told) -> None:
        self.told = told

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
        if "objective/scores" in logs:
            named = {"reward": "objective/scores", "kl": "objective/kl", "approx_kl": "policy/approxkl_avg"}
            self.told.iteration({name: float(logs[theirs]) for name, theirs in named.items()})


if __name__ == "__main__":
    main()
