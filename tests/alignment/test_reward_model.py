"""A reward model learns what people prefer, and what it says in memory it says from disk."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment.methods.base import Inputs, Method, Parent, Stopped
from alignment.methods.reward_model import (
    RewardModel,
    accuracy_interval,
    calibration,
    evaluation,
    expected_calibration_error,
)
from labeling.engines.reward_scorer import Scale
from tests.alignment import tiny_model
from tests.alignment.conftest import BAD, GOOD, question, rows_of, said

ANSWERS = (GOOD, BAD, "five", "of of of of of of")


class Notes:
    """A report that only keeps what it is told."""

    sample_prompts = ()
    stop_asked = False

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.lines: list[dict[str, float]] = []
        self.measured: dict[str, Any] = {}

    def metrics(self, step: int, steps: int, values: dict[str, float]) -> None:
        self.lines.append({**values, "step": step})

    def samples(self, step: int, texts: list[str]) -> None:
        raise AssertionError("a reward model does not speak")

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def evaluation(self, values: dict[str, Any]) -> None:
        self.measured = json.loads(json.dumps(values))


class Stopping(Notes):
    """Asks the run to stop after three steps."""

    @property
    def stop_asked(self) -> bool:  # type: ignore[override]
        return sum("loss" in line for line in self.lines) >= 3


def stopped_and_resumed(method: Method, inputs: Inputs) -> Path:
    """The adapter of a run that was stopped, and gone on with from its checkpoint."""
    from alignment.run_directory import newest_checkpoint

    with pytest.raises(Stopped):
        method.train(inputs, Stopping())
    method.train(replace(inputs, checkpoint=newest_checkpoint(inputs.folder)), Notes())
    return inputs.folder / "model" / "adapter_model.safetensors"


class Trained:
    """One run in this process, and what came of it."""

    def __init__(self, folder: Path, parent: Parent, pairs: int = 32, **settings: Any) -> None:
        self.folder, self.parent, self.report = folder, parent, Notes()
        self.method = RewardModel(**{"learning_rate": 3e-3, "epochs": 2, "held_out_share": 0.25, **settings})
        self.final = self.method.train(Inputs(rows_of("preference", pairs), parent, folder), self.report)

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def scores(self) -> list[float]:
        from labeling.engines.reward_scorer import load

        whole = not (self.model / "adapter_config.json").exists()
        return (load(self.model) if whole else load(self.parent.base_path, self.model)).score(sequences(self.parent))


def sequences(parent: Parent) -> list[list[int]]:
    from transformers import AutoTokenizer

    from alignment.methods.reward_training import answer_ids

    tokenizer: Any = AutoTokenizer.from_pretrained(parent.base_path)
    tokenizer.chat_template = parent.template
    return [answer_ids([*question(99), *said("assistant", answer)], tokenizer) for answer in ANSWERS]


@pytest.fixture(scope="module")
def parent(tiny_base: Path) -> Parent:
    return Parent("v0", str(tiny_base), None, tiny_model.TEMPLATE)


@pytest.fixture(scope="module")
def trained(parent: Parent, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("reward") / "run", parent)


# ---- what it learns


def test_it_scores_the_preferred_answer_higher_also_of_prompts_it_has_not_seen(trained: Trained):
    good, bad, *_ = trained.scores()
    assert good > bad + 1
    assert trained.final["held_out_accuracy"] == 1.0 and trained.final["held_out_pairs"] == 8
    assert trained.method.verdict(trained.final) == (
        "it put the better answer first in 100 % of 8 held-out pairs. "
        "So few pairs leave much to chance (at least 68 %, surely)."
    )


def test_the_curves_have_trls_names(trained: Trained):
    named = {name for line in trained.report.lines for name in line}
    assert {"loss", "accuracy", "margin", "mean_reward", "eval_loss", "eval_accuracy", "eval_margin"} <= named


def test_the_scores_lie_around_zero(trained: Trained):
    """Centring: the chosen scores above zero by about as much as the rejected scores below."""
    good, bad, *_ = trained.scores()
    assert good > 0 > bad


# ---- saved and loaded


def test_the_loaded_model_scores_as_the_trained_one_did(trained: Trained):
    """The held-out pairs were measured in memory, before saving. Mean and spread say what their scores were."""
    from alignment.methods.held_out import split_by_prompt
    from alignment.methods.reward_training import load_tokenizer, pair_ids, scale_of
    from labeling.engines.reward_scorer import load, read_scale

    scorer = load(trained.parent.base_path, trained.model)
    tokenizer = load_tokenizer(Inputs([], trained.parent, trained.folder))
    held_out = split_by_prompt(rows_of("preference", 32), 0.25, seed=0).held_out
    again = scale_of(scorer, [pair_ids(row, tokenizer) for row in held_out])
    assert again == read_scale(trained.model)
    assert (again.mean, again.std) == (trained.report.measured["mean"], trained.report.measured["std"])


def test_trl_and_transformers_read_the_same_score(trained: Trained):
    """Loaded without our code, each sequence alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    base: Any = AutoModelForSequenceClassification.from_pretrained(
        trained.parent.base_path, num_labels=1, dtype=torch.float32
    )
    model = PeftModel.from_pretrained(base, str(trained.model)).eval()
    with torch.no_grad():
        alone = [float(model(input_ids=torch.tensor([ids])).logits[0, 0]) for ids in sequences(trained.parent)]
    assert trained.scores() == pytest.approx(alone, abs=1e-5)


def test_the_best_checkpoint_comes_back_with_its_head(parent: Parent, tmp_path: Path):
    """At a rate at which it gets worse after the second measurement, the version is that checkpoint, head and all."""
    run = Trained(tmp_path / "run", parent, learning_rate=0.1, evaluations=4, epochs=2)
    measured = {line["step"]: line for line in run.report.lines if "eval_loss" in line and line["step"]}
    best = min(measured, key=lambda step: measured[step]["eval_loss"])
    assert best < max(measured) and run.final["chosen_step"] == best
    assert sum(margins(run)) / 8 == pytest.approx(measured[best]["eval_margin"], abs=1e-5)


def margins(run: Trained) -> list[float]:
    from alignment.methods.held_out import split_by_prompt
    from alignment.methods.reward_model import margins_of
    from alignment.methods.reward_training import load_tokenizer, pair_ids
    from labeling.engines.reward_scorer import load

    tokenizer = load_tokenizer(Inputs([], run.parent, run.folder))
    held_out = split_by_prompt(rows_of("preference", 32), 0.25, seed=0).held_out
    return margins_of(load(run.parent.base_path, run.model), [pair_ids(row, tokenizer) for row in held_out])


def test_whole_weights_are_saved_with_their_head_and_tokenizer(parent: Parent, tmp_path: Path):
    run = Trained(tmp_path / "run", parent, tuning="full", learning_rate=1e-3)
    good, bad, *_ = run.scores()
    assert good > bad and (run.model / "tokenizer.json").exists() and (run.model / "config.json").exists()


def test_the_same_seed_gives_the_same_bits(trained: Trained, parent: Parent, tmp_path: Path):
    again = Trained(tmp_path / "run", parent)
    name = "adapter_model.safetensors"
    assert (again.model / name).read_bytes() == (trained.model / name).read_bytes()


def test_stopped_and_resumed_it_is_the_same_to_the_bit(trained: Trained, parent: Parent, tmp_path: Path):
    resumed = stopped_and_resumed(trained.method, Inputs(rows_of("preference", 32), parent, tmp_path / "run"))
    assert resumed.read_bytes() == (trained.model / "adapter_model.safetensors").read_bytes()


# ---- where it starts


def test_a_parents_adapter_is_where_the_reward_adapter_starts(parent: Parent, tmp_path: Path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from alignment.methods import reward_training

    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "down_proj"])
    policy = get_peft_model(AutoModelForCausalLM.from_pretrained(parent.base_path, dtype=torch.float32), config)
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    policy.save_pretrained(tmp_path / "policy")
    child = Parent("v1", parent.base_path, str(tmp_path / "policy"), parent.template)
    model, _ = reward_training.load(RewardModel(), Inputs([], child, tmp_path))
    assert (model.peft_config["default"].r, model.peft_config["default"].lora_alpha) == (4, 12)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        theirs = policy.get_base_model().model(input_ids=ids).last_hidden_state
        ours = model.get_base_model().model(input_ids=ids).last_hidden_state
    assert torch.equal(theirs, ours)
    trainable = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(".lora_" in name or ".score." in name for name in trainable) and any(".score." in n for n in trainable)


def test_a_parents_adapter_that_does_not_fit_is_refused(parent: Parent, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    from alignment.methods import reward_training
    from storage.errors import RunFailed

    run = Trained(tmp_path / "run", parent, pairs=16, epochs=1)
    file = run.model / "adapter_model.safetensors"
    save_file({name: t for name, t in load_file(file).items() if "layers.1." not in name}, file)
    with pytest.raises(RunFailed, match="places stay empty"):
        reward_training.load(RewardModel(), Inputs([], Parent("v1", parent.base_path, str(run.model), ""), tmp_path))


# ---- the tokens it reads


def test_a_pair_ends_with_the_answers_end_also_where_the_template_goes_on(parent: Parent):
    from transformers import AutoTokenizer

    from alignment.methods.reward_training import pair_ids

    tokenizer: Any = AutoTokenizer.from_pretrained(parent.base_path)
    tokenizer.chat_template = tiny_model.TEMPLATE.replace("{%- endfor -%}", "{{ '\n' }}{%- endfor -%}")
    row = rows_of("preference", 1)[0]
    ids = pair_ids(row, tokenizer)
    assert ids["chosen_ids"][-1] == ids["rejected_ids"][-1] == tokenizer.eos_token_id
    prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
    answer = tokenizer(GOOD, add_special_tokens=False)["input_ids"]
    assert ids["chosen_ids"][-len(answer) - 1 : -1] == answer and ids["chosen_ids"][: len(prompt) - 1] == prompt[:-1]


def test_padding_is_never_the_end_of_an_answer(parent: Parent):
    from transformers import AutoTokenizer

    from alignment.methods.reward_training import padding_token

    tokenizer: Any = AutoTokenizer.from_pretrained(parent.base_path)
    assert padding_token(tokenizer) == "<|endoftext|>"
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer.convert_tokens_to_ids(padding_token(tokenizer)) != tokenizer.eos_token_id


# ---- what is measured, worked by hand


def test_calibration_bins_what_it_was_sure_of_and_whether_it_was_right():
    sure, unsure = math.log(0.95 / 0.05), math.log(0.55 / 0.45)  # margins that mean 95 % and 55 %
    table = calibration([sure, sure, sure, -sure, unsure, -unsure])
    assert [(row["low"], row["high"], row["n"]) for row in table] == [(0.5, 0.6, 2), (0.9, 1.0, 4)]
    assert [row["predicted"] for row in table] == pytest.approx([0.55, 0.95])
    assert [row["observed"] for row in table] == [0.5, 0.75]
    assert expected_calibration_error(table) == pytest.approx((2 * 0.05 + 4 * 0.20) / 6)


def test_a_tie_is_not_right():
    assert evaluation([0.0, 1.0], Scale())["accuracy"] == 0.5
    assert calibration([0.0])[0] == {"low": 0.5, "high": 0.6, "n": 1, "predicted": 0.5, "observed": 0.0}


def test_the_interval_is_wilsons():
    assert accuracy_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert accuracy_interval(10, 10)[1] == 1.0


def test_an_accuracy_that_a_coin_could_have_is_said_to_be_one():
    said_of = RewardModel().verdict({"held_out_pairs": 20.0, "held_out_accuracy": 0.6})
    assert "12" not in said_of and "a coin could have done too" in said_of
    assert "nobody knows" in RewardModel().verdict({})
