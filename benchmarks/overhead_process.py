"""One process of benchmarks.overhead: a prepared run, trained as Plumbline does it or by a bare script around TRL.

    python -m benchmarks.overhead_process ours|bare|sampling DIRECTORY

Prints what a step cost as the last line. The bare script is what an engineer would write: load the model, read the
rows, call the trainer, with the settings that run.json names.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage import snapshots

Mark = Callable[[int, Mapping[str, float]], None]  # at a step, what the trainer logged


def main() -> None:
    kind, directory = sys.argv[1], Path(sys.argv[2])
    marks: list[tuple[int, float, float]] = []

    def mark(step: int, values: Mapping[str, float]) -> None:
        marks.append((step, time.process_time(), values.get("num_tokens", 0.0)))

    (bare if kind == "bare" else ours)(directory, mark) if kind != "sampling" else ours(directory, mark, sampling=True)
    (first, began, _), (last, ended, _) = marks[0], marks[-1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tokens = max(so_far for _, _, so_far in marks)  # a step that learns again from the same answers names none
    print(json.dumps({"step_seconds": (ended - began) / (last - first), "peak_mb": peak, "tokens": tokens}))


def ours(directory: Path, mark: Mark, sampling: bool = False) -> None:
    from alignment.train import DirectoryReport, train

    class Marking(DirectoryReport):
        def metrics(self, step: int, steps: int, values: Mapping[str, float]) -> None:
            super().metrics(step, steps, values)
            mark(step, values)

    described = json.loads((directory / "run.json").read_text())
    described["sample_prompts"] = SAMPLE_PROMPTS if sampling else []
    (directory / "run.json").write_text(json.dumps(described))
    train(Marking(directory))


SAMPLE_PROMPTS = [[{"role": "user", "content": "What is known about the dose of Aldivane?"}]] * 3


def bare(directory: Path, mark: Mark) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback

    described = json.loads((directory / "run.json").read_text())
    settings, base = described["settings"], described["parent"]["base_path"]
    torch.set_num_threads(1)

    class Marking(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
            if "loss" in (logs or {}):
                mark(state.global_step, logs)

    told = bare_of(described, base)
    found = snapshots.read_rows(directory / "snapshot.parquet")
    ids = ("judgment_id", "document_id", "prompt_id")
    data = Dataset.from_list([{name: value for name, value in row.items() if name not in ids} for row in found])
    steps = settings.get("most_steps") or len(data) // settings["batch_size"] * settings["epochs"]
    fields = {
        "output_dir": str(directory / "bare"),
        "seed": settings["seed"],
        "learning_rate": settings["learning_rate"],
        "num_train_epochs": settings["epochs"],
        "per_device_train_batch_size": settings["batch_size"],
        "lr_scheduler_type": "linear",
        "warmup_steps": 2,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": max(1, steps // settings["evaluations"]),
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
    }
    trainer = told.trainer(
        model=told.model,
        args=told.config(**(fields | told.fields)),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(
            task_type="SEQ_CLS" if described["method"] == "reward_model" else "CAUSAL_LM",
            r=settings["lora_rank"],
            lora_alpha=settings["lora_alpha"],
            target_modules="all-linear",
            modules_to_save=["score"] if described["method"] == "reward_model" else None,
        ),
        callbacks=[Marking()],
        **told.options,
    )
    trainer.train()
    trainer.save_model(str(directory / "bare" / "model"))


@dataclass(frozen=True)
class Bare:
    """TRL's trainer and config of a method, the config's fields of its own, the model, what else the trainer gets."""

    trainer: Any
    config: Any
    fields: dict[str, Any]
    model: Any
    options: dict[str, Any] = field(default_factory=dict)


def bare_of(described: Mapping[str, Any], base: str) -> Bare:
    import torch
    import trl
    from transformers import AutoModelForCausalLM
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    method, settings = described["method"], described["settings"]
    if method == "reward_model":
        return bare_reward_model(settings, base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if method == "rloo":
        return Bare(trl.RLOOTrainer, trl.RLOOConfig, rloo_fields(settings), model, {"reward_funcs": rewards(described)})
    length = {"max_length": min(settings["max_length"], model.config.max_position_embeddings)}
    if method == "dpo":
        weights = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, settings["likelihood_weight"]]}
        return Bare(trl.DPOTrainer, trl.DPOConfig, {"beta": settings["beta"], **weights, **length}, model)
    if method == "kto":
        return Bare(trl.KTOTrainer, trl.KTOConfig, {"beta": settings["beta"], **length}, model)
    if method == "orpo":
        return Bare(ORPOTrainer, ORPOConfig, {"beta": settings["beta"], **length}, model)
    own = {"packing": True} if method == "pretrain" else {"completion_only_loss": True}
    return Bare(trl.SFTTrainer, trl.SFTConfig, {**own, **length}, model)


def bare_reward_model(settings: Mapping[str, Any], base: str) -> Bare:
    import torch
    import trl
    from transformers import AutoModelForSequenceClassification

    scorer = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    scorer.config.pad_token_id = scorer.config.pad_token_id or 0
    length = min(settings["max_length"], scorer.config.max_position_embeddings)
    fields = {"max_length": length, "center_rewards_coefficient": settings.get("center_rewards_coefficient")}
    return Bare(trl.RewardTrainer, trl.RewardConfig, fields, scorer)


def rloo_fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "max_steps": settings["most_steps"],
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "num_generations": settings["answers_per_prompt"],
        "num_iterations": settings["iterations"],
        "max_completion_length": settings["longest_answer"],
        "temperature": settings["temperature"],
        "beta": settings["beta"],
    }


def rewards(described: Mapping[str, Any]) -> list[Callable[..., list[float]]]:
    """The reward model's score in its own spreads, and the penalty for an answer that does not end."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    adapter, base = described["reward"]["adapter_path"], described["reward"]["base_path"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    scale = json.loads((Path(adapter) / "reward.json").read_text())
    penalty = described["settings"]["no_end_penalty"]

    def reward_model(prompts: Any, completion_ids: Any, **given: Any) -> list[float]:
        asked = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, return_dict=True)["input_ids"]
        whole = [read + written for read, written in zip(asked, completion_ids, strict=True)]
        batch = tokenizer.pad({"input_ids": whole}, padding_side="right", return_tensors="pt")
        with torch.no_grad():
            scores = model(**batch).logits[:, 0]
        return list(((scores - scale["mean"]) / scale["std"]).tolist())

    def no_end(completion_ids: Any, **given: Any) -> list[float]:
        return [0.0 if tokenizer.eos_token_id in ids else -penalty for ids in completion_ids]

    return [reward_model, no_end]


if __name__ == "__main__":
    main()
