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
from pathlib import Path
from typing import Any

from storage import snapshots


def main() -> None:
    kind, directory = sys.argv[1], Path(sys.argv[2])
    marks: list[tuple[int, float]] = []

    def mark(step: int) -> None:
        marks.append((step, time.process_time()))

    (bare if kind == "bare" else ours)(directory, mark) if kind != "sampling" else ours(directory, mark, sampling=True)
    (first, began), (last, ended) = marks[0], marks[-1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"step_seconds": (ended - began) / (last - first), "peak_mb": peak}))


def ours(directory: Path, mark: Callable[[int], None], sampling: bool = False) -> None:
    from alignment.train import DirectoryReport, train

    class Marking(DirectoryReport):
        def metrics(self, step: int, steps: int, values: Mapping[str, float]) -> None:
            super().metrics(step, steps, values)
            mark(step)

    described = json.loads((directory / "run.json").read_text())
    described["sample_prompts"] = SAMPLE_PROMPTS if sampling else []
    (directory / "run.json").write_text(json.dumps(described))
    train(Marking(directory))


SAMPLE_PROMPTS = [[{"role": "user", "content": "What is known about the dose of Aldivane?"}]] * 3


def bare(directory: Path, mark: Callable[[int], None]) -> None:
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
                mark(state.global_step)

    trainer_class, config_class, own, model = trainer_of(described["method"], settings, base)
    found = snapshots.read_rows(directory / "snapshot.parquet")
    ids = ("judgment_id", "document_id", "prompt_id")
    data = Dataset.from_list([{name: value for name, value in row.items() if name not in ids} for row in found])
    steps = len(data) // settings["batch_size"] * settings["epochs"]
    config = config_class(
        output_dir=str(directory / "bare"),
        seed=settings["seed"],
        learning_rate=settings["learning_rate"],
        num_train_epochs=settings["epochs"],
        per_device_train_batch_size=settings["batch_size"],
        max_length=min(settings["max_length"], model.config.max_position_embeddings),
        lr_scheduler_type="linear",
        warmup_steps=2,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        logging_steps=1,
        save_strategy="steps",
        save_steps=max(1, steps // settings["evaluations"]),
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        **own,
    )
    trainer = trainer_class(
        model=model,
        args=config,
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
    )
    trainer.train()
    trainer.save_model(str(directory / "bare" / "model"))


def trainer_of(method: str, settings: Mapping[str, Any], base: str) -> tuple[Any, Any, dict[str, Any], Any]:
    """TRL's trainer and config of a method, the fields of its own, and the model."""
    import torch
    import trl
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    if method == "reward_model":
        scorer = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
        scorer.config.pad_token_id = scorer.config.pad_token_id or 0
        coefficient = {"center_rewards_coefficient": settings.get("center_rewards_coefficient")}
        return trl.RewardTrainer, trl.RewardConfig, coefficient, scorer
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if method == "dpo":
        weights = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, settings["likelihood_weight"]]}
        return trl.DPOTrainer, trl.DPOConfig, {"beta": settings["beta"], **weights}, model
    if method == "kto":
        return trl.KTOTrainer, trl.KTOConfig, {"beta": settings["beta"]}, model
    if method == "orpo":
        return ORPOTrainer, ORPOConfig, {"beta": settings["beta"]}, model
    own = {"packing": True} if method == "pretrain" else {"completion_only_loss": True}
    return trl.SFTTrainer, trl.SFTConfig, own, model


if __name__ == "__main__":
    main()
