"""What a loss curve does not show: what moved and what did not, what was learned from, and what came of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from alignment.methods.base import Inputs, adapter_settings
from alignment.methods.dpo import DPO
from alignment.methods.held_out import split_by_prompt
from alignment.methods.kto import KTO
from alignment.methods.pretrain import windows
from alignment.methods.sft import SFT
from alignment.rows_as_tokens import row_tokens
from alignment.run_directory import CHECKPOINTS, COMPLETE, MODEL
from labeling.engines.model_folder import check_model_folder
from labeling.engines.template import INSTRUCTION_TEMPLATE, read_template
from storage.errors import BadInput, RunFailed
from tests.alignment import tiny_model
from tests.alignment.conftest import BAD, GOOD, said
from tests.alignment.in_process import Heard, parent_of, rows_of, same_bits, train, weights_of


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base)


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first_round")
    train("sft", parent_of(tiny_base), folder, epochs=1)
    return folder / MODEL


def pair(chosen: str, rejected: str = BAD, prompt: str = "what is it") -> dict[str, Any]:
    return {
        "prompt": said("user", prompt),
        "chosen": said("assistant", chosen),
        "rejected": said("assistant", rejected),
        "judgment_id": "j",
    }


# ---- what the model is shown ----------------------------------------------------------------------------------------


def test_rows_too_long_for_the_model_are_left_out_or_cut_and_it_says_so(tokenizer: Any):
    from alignment.methods.trl_training import checked

    report = Heard()
    rows = [pair(GOOD), pair("five " * 60), pair(GOOD, prompt="daily " * 90)]
    kept = checked(rows, "preference", tokenizer, 64, report)
    assert [row["chosen"][0]["content"] for row in kept] == [GOOD, "five " * 60]
    assert report.notes == [
        "1 of 3 rows were left out: the prompt fills all 64 tokens a row may have.",
        "1 rows were cut at 64 tokens, so their answers do not teach where to end.",
    ]


def test_a_prompt_that_leaves_no_room_for_the_answer_is_left_out_where_the_model_writes_it(tokenizer: Any):
    """Prompts of 29 and 46 tokens, and an answer that may take 32 of 64."""
    from alignment.methods.trl_training import checked

    report = Heard()
    rows = [{"prompt": said("user", "daily " * number), "prompt_id": str(number)} for number in (8, 25)]
    kept = checked(rows, "prompt_only", tokenizer, 64, report, room=32)
    assert [row["prompt_id"] for row in kept] == ["8"]
    assert report.notes == [
        "1 of 2 rows were left out: the prompt leaves no room for 32 tokens of answer within the 64 that a row may "
        "have."
    ]
    assert len(checked(rows, "prompt_only", tokenizer, 64, Heard())) == 2  # one that only reads needs no such room


def test_white_space_is_trained_as_it_was_judged_or_not_at_all(tokenizer: Any):
    assert not row_tokens(pair(" five "), "preference", tokenizer, 64).fault
    strips = type(tokenizer).from_pretrained(tokenizer.name_or_path)
    strips.chat_template = tokenizer.chat_template.replace("m['content']", "m['content'].strip()")
    assert "the prompt template changes the answer" in row_tokens(pair(" five "), "preference", strips, 64).fault


def test_a_template_that_never_ends_an_answer_is_refused(tokenizer: Any):
    from alignment.methods.trl_training import checked

    endless = type(tokenizer).from_pretrained(tokenizer.name_or_path)
    endless.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    with pytest.raises(RunFailed, match="would never stop"):
        checked([pair(GOOD)], "preference", endless, 64, Heard())


def test_a_row_as_tokens_is_what_trl_trains_on(tiny_base: Path, tokenizer: Any, tmp_path: Path):
    """Prompt and answer, to the token, the end of the answer last, and the answer alone in the loss."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer  # type: ignore[attr-defined, unused-ignore]

    from alignment.methods import trl_training

    inputs = Inputs([], parent_of(tiny_base), tmp_path)
    model, own = trl_training.load(DPO(), inputs)
    config = DPOConfig(**trl_training.arguments(DPO(), inputs))
    trainer: Any = DPOTrainer(
        model=model, args=config, train_dataset=Dataset.from_list([pair(GOOD)]), processing_class=own
    )
    seen, shown = trainer.train_dataset[0], row_tokens(pair(GOOD), "preference", tokenizer, 128)
    assert [list(one.tokens) for one in shown.answers] == [
        seen["prompt_ids"] + seen["chosen_ids"],
        seen["prompt_ids"] + seen["rejected_ids"],
    ]
    assert seen["chosen_ids"][-1] == tokenizer.eos_token_id
    row = rows_of("prompt_completion", 1)[0]
    sft_config = SFTConfig(**trl_training.arguments(SFT(), inputs), completion_only_loss=True)
    sft: Any = SFTTrainer(model=model, args=sft_config, train_dataset=Dataset.from_list([row]), processing_class=own)
    (answer,) = row_tokens(row, "prompt_completion", tokenizer, 128).answers
    assert list(answer.tokens) == sft.train_dataset[0]["input_ids"]
    assert list(answer.in_loss) == [label != -100 for label in sft.train_dataset[0]["labels"]]
    assert tokenizer.decode([t for t, learned in zip(answer.tokens, answer.in_loss, strict=True) if learned]) == (
        f"{GOOD} 0<|im_end|>"
    )


def test_documents_are_packed_end_to_end_each_with_its_end(tokenizer: Any):
    assert windows([[1, 2, 0], [3, 0], [4, 5, 6, 0]], 4) == [[1, 2, 0, 3], [0, 4, 5, 6]]  # the last, of one, is dropped
    (text,) = row_tokens({"text": "take five", "document_id": "d"}, "language_modeling", tokenizer, 4).answers
    assert tokenizer.decode(text.tokens) == "take five<|im_end|>" and all(text.in_loss)
    assert row_tokens({"text": " ", "document_id": "d"}, "language_modeling", tokenizer, 4).fault


def test_sft_can_train_with_the_instruction_template():
    assert SFT(prompt_template="instruction").template_for("own") == INSTRUCTION_TEMPLATE
    assert SFT().template_for("own") == DPO().template_for("own") == "own"


# ---- held-out rows --------------------------------------------------------------------------------------------------


def test_all_rows_of_a_prompt_lie_on_one_side_whatever_their_order():
    rows = [{"prompt": said("user", str(n % 40)), "number": n} for n in range(80)]
    split = split_by_prompt(rows, 0.1, seed=0)
    assert (len(split.learned), len(split.held_out)) == (72, 8)
    prompts = {row["prompt"][0]["content"] for row in split.held_out}
    assert len(prompts) == 4 and not prompts & {row["prompt"][0]["content"] for row in split.learned}
    turned = split_by_prompt(rows[::-1], 0.1, seed=0)
    assert {row["number"] for row in turned.held_out} == {row["number"] for row in split.held_out}
    assert {row["number"] for row in split_by_prompt(rows, 0.1, 1).held_out} != {r["number"] for r in split.held_out}


def test_too_few_prompts_are_all_learned_from_and_it_says_so():
    rows = [{"prompt": said("user", str(n))} for n in range(20)]
    split = split_by_prompt(rows, 0.1, seed=0)
    assert (len(split.learned), split.held_out) == (20, [])
    assert "10 % of 20 prompts are 2" in split.note
    assert split_by_prompt(rows, 0, 0).note == ""
    assert split_by_prompt(rows[:1] * 9, 0.5, 0).learned == rows[:1] * 9


def test_the_best_checkpoint_on_held_out_rows_becomes_the_version(tiny_base: Path, tmp_path: Path):
    heard, final = train("sft", parent_of(tiny_base), tmp_path, learning_rate=0.05, epochs=6, evaluations=6)
    measured = {step: values["eval_loss"] for step, values in heard.points if "eval_loss" in values and step}
    best = min(measured, key=lambda step: measured[step])
    assert final["chosen_step"] == best and final["eval_loss"] == measured[best]
    assert same_bits(tmp_path / CHECKPOINTS / f"checkpoint-{best}", tmp_path / MODEL)
    kept = {folder.name for folder in (tmp_path / CHECKPOINTS).glob("checkpoint-*")}
    assert kept == {f"checkpoint-{best}", f"checkpoint-{max(measured)}"}
    assert all((tmp_path / CHECKPOINTS / name / COMPLETE).exists() for name in kept)
    assert f"at step {best}, which is the version" in SFT().held_out_verdict(final)


def test_a_version_no_better_than_its_parent_is_said_to_be():
    final = {"first_eval_loss": 1.0, "eval_loss": 1.5, "chosen_step": 4.0}
    assert SFT().held_out_verdict(final) == (
        "The loss on held-out examples went from 1 to 1.5 at step 4, which is the version. That is no better than "
        "before training, so compare the two before you use it."
    )
    assert SFT().held_out_verdict({"chosen_step": 4.0}) == ""


# ---- what moves, and what does not ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pretrain", "sft", "dpo", "kto", "orpo"])
def test_weights_move_on_the_second_step_and_the_same_seed_gives_the_same_bits(
    name: str, tiny_base: Path, tmp_path: Path
):
    """The first step of the warm-up has a rate of 0."""
    heard, final = train(name, parent_of(tiny_base), tmp_path / "one", batch_size=2, evaluations=1)
    assert heard.series("loss")[1] != heard.series("loss")[0]
    assert any(value.abs().max() > 1e-4 for key, value in weights_of(tmp_path / "one" / MODEL).items() if "_B" in key)
    assert final["eval_loss"] < final["first_eval_loss"]
    train(name, parent_of(tiny_base), tmp_path / "two", batch_size=2, evaluations=1)
    assert same_bits(tmp_path / "one" / MODEL, tmp_path / "two" / MODEL)


@pytest.mark.parametrize("name", ["pretrain", "sft", "dpo", "orpo"])
def test_one_batch_of_eight_is_eight_of_one_added_up(name: str, tiny_base: Path, tmp_path: Path):
    """Rows of one length, because TRL weighs each batch of ORPO and of DPO's likelihood term the same."""
    reads = {"pretrain": "language_modeling", "sft": "prompt_completion"}.get(name, "preference")
    rows: Any = [dict(row) for row in rows_of(reads, 16)]  # type: ignore[arg-type]
    for number, row in enumerate(rows):
        for key in ("chosen", "completion"):
            if key in row:
                row[key] = said("assistant", f"{GOOD} {number % 10}")
    rows = [row for row in rows if "text" in row or len(row["prompt"][0]["content"]) == len("what is the dose 1")]
    settings: dict[str, Any] = {"held_out_share": 0, "epochs": 1}
    for folder, sizes in (("whole", (8, 1)), ("parts", (1, 8))):
        batch = {"batch_size": sizes[0], "accumulate": sizes[1]}
        train(name, parent_of(tiny_base), tmp_path / folder, rows[:8], **settings, **batch)
    whole, parts = (weights_of(tmp_path / folder / MODEL) for folder in ("whole", "parts"))
    assert max(float((whole[key] - parts[key]).abs().max()) for key in whole) < 1e-3


def test_the_reference_is_the_parent_and_does_not_move(tiny_base: Path, adapter: Path, tmp_path: Path):
    """The margin of the trainer, worked out without it: parent as reference, child as policy."""
    train("dpo", parent_of(tiny_base, adapter), tmp_path, evaluations=1)
    heard, _ = train("dpo", parent_of(tiny_base, adapter), tmp_path / "same", learning_rate=1e-12, epochs=1)
    assert heard.series("rewards/margins") == pytest.approx([0.0] * 9, abs=1e-5)  # against the base it is not 0
    row = rows_of("preference")[1]
    child, parent, base = (gap(tiny_base, folder, row) for folder in (tmp_path / MODEL, adapter, None))
    assert parent != pytest.approx(base, abs=0.05)
    assert child > parent + 0.1


def test_full_fine_tuning_of_an_adapter_has_the_merged_parent_as_reference(
    tiny_base: Path, adapter: Path, tmp_path: Path
):
    rate = {"tuning": "full", "learning_rate": 1e-4}
    heard, _ = train("dpo", parent_of(tiny_base, adapter), tmp_path, epochs=1, **rate)
    assert heard.series("rewards/margins")[0] == pytest.approx(0.0, abs=1e-4)
    before, after = (
        gap(tiny_base, adapter, rows_of("preference")[1]),
        gap(tmp_path / MODEL, None, rows_of("preference")[1]),
    )
    assert after > before + 0.01
    assert not (tmp_path / "merged_parent").exists()


def gap(base: Path, adapter: Path | None, row: dict[str, Any]) -> float:
    """log p(chosen) - log p(rejected), without TRL."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(adapter)) if adapter else model
    sums = []
    for answer in row_tokens(row, "preference", tokenizer, 128).answers:
        ids = torch.tensor([answer.tokens])
        with torch.no_grad():
            scores = model.eval()(input_ids=ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
        sums.append(float(scores[torch.tensor(answer.in_loss[1:])].sum()))
    return sums[0] - sums[1]


def test_a_full_model_is_served_as_it_was_trained(tiny_base: Path, tmp_path: Path):
    """Loaded by the model server as any base, with the template it was trained with, it answers as the trainer did."""
    train("sft", parent_of(tiny_base), tmp_path, tuning="full", epochs=6)
    folder = check_model_folder(tmp_path / MODEL)
    assert read_template(folder)[0] == tiny_model.TEMPLATE
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        rows_of("prompt_completion")[0]["prompt"], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**asked, max_new_tokens=40, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True).startswith(GOOD) and answer[-1] == tokenizer.eos_token_id


def test_the_upper_half_and_attention_alone_are_what_is_adapted(tiny_base: Path, tmp_path: Path):
    import json

    train("sft", parent_of(tiny_base), tmp_path, layers="upper half", target_modules="attention", epochs=1)
    names = weights_of(tmp_path / MODEL)
    assert names and all(".layers.1.self_attn." in name for name in names)  # of two layers, numbered 0 and 1
    config = json.loads((tmp_path / MODEL / "adapter_config.json").read_text())
    settings = {"lora_rank": 16, "lora_alpha": 32, "target_modules": "attention", "layers": "upper half"}
    assert adapter_settings(config) == settings


@pytest.mark.parametrize("loss", ["sigmoid", "sigmoid_norm", "ipo", "hinge", "robust", "apo_zero", "simpo"])
@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_each_loss_is_the_equation_that_is_cited(loss: str, weight: float, tiny_base: Path, tmp_path: Path):
    import torch
    from datasets import Dataset

    from alignment.methods import trl_training

    inputs = Inputs([], parent_of(tiny_base), tmp_path)
    method = DPO.model_validate({"loss": loss, "beta": 0.5, "likelihood_weight": weight, "wrong_labels": 0.2})
    trainer_class, config = method._simpo(inputs) if loss == "simpo" else method._dpo(inputs)
    model, tokenizer = trl_training.load(method, inputs)
    given = {
        "model": model,
        "args": config,
        "processing_class": tokenizer,
        "peft_config": trl_training.lora(method, model),
    }
    row = {name: value for name, value in pair("take five mg", "ask").items() if name != "judgment_id"}
    trainer = trainer_class(train_dataset=Dataset.from_list([row]), **given)
    torch.manual_seed(0)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:  # or the model would still be the parent, and every r nought
            parameter.data = torch.randn_like(parameter) / 4
    trainer.model.eval()
    (batch,) = trainer.get_train_dataloader()
    found = float(trainer.compute_loss(trainer.model, batch).detach())

    learned = {name: _log_probabilities(trainer.model, tokenizer, row, name) for name in ("chosen", "rejected")}
    with trainer.model.disable_adapter():
        before = {name: _log_probabilities(trainer.model, tokenizer, row, name) for name in ("chosen", "rejected")}
    expected = _loss_of(method, learned, before) - weight * float(learned["chosen"].mean())
    assert found == pytest.approx(expected, rel=1e-4)


def _log_probabilities(model: Any, tokenizer: Any, row: dict[str, Any], name: str) -> Any:
    """Of each token of the answer."""
    import torch

    (answer,) = (one for one in row_tokens(row, "preference", tokenizer, 128).answers if one.name == name)
    tokens = torch.tensor([answer.tokens])
    with torch.no_grad():
        each = model(tokens).logits[0, :-1].log_softmax(-1).gather(-1, tokens[0, 1:, None])[:, 0]
    return each[torch.tensor(answer.in_loss[1:])]


def _loss_of(method: DPO, learned: dict[str, Any], before: dict[str, Any]) -> float:
    """As the comment above `Loss` has it."""
    chosen, rejected = ((learned[name] - before[name]) for name in ("chosen", "rejected"))
    a, b, beta, e = float(chosen.sum()), float(rejected.sum()), method.beta, method.wrong_labels
    h, h_of_means = beta * (a - b), beta * float(chosen.mean() - rejected.mean())
    h_alone = beta * float(learned["chosen"].mean() - learned["rejected"].mean())
    return {
        "sigmoid": -_log_sigmoid(h),
        "sigmoid_norm": -_log_sigmoid(h_of_means),
        "ipo": (h_of_means / beta - 1 / (2 * beta)) ** 2,
        "hinge": max(0.0, 1 - h),
        "robust": (-(1 - e) * _log_sigmoid(h) + e * _log_sigmoid(-h)) / (1 - 2 * e),
        "apo_zero": 1 - math.exp(_log_sigmoid(beta * a)) + math.exp(_log_sigmoid(beta * b)),
        "simpo": -_log_sigmoid(h_alone - method.simpo_margin),
    }[method.loss]


def _log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


@pytest.mark.parametrize("loss", ["sigmoid_norm", "ipo", "hinge", "robust", "apo_zero", "simpo"])
def test_each_loss_prefers_what_people_preferred(loss: str, tiny_base: Path, tmp_path: Path):
    beta = 2.0 if loss == "simpo" else 0.1
    _, final = train("dpo", parent_of(tiny_base), tmp_path, loss=loss, beta=beta, evaluations=1)
    assert final["rewards/margins"] > final["first_rewards/margins"]
    assert "next to nothing" not in DPO.model_validate({"loss": loss, "beta": beta}).verdict(final)


def test_thumbs_are_weighed_by_those_that_are_learned_from(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """2 up and 6 down: 20 × 6 / 2 = 60. With the 8 up that are held out it would be 12."""
    from alignment.methods import trl_training

    def fit(trainer: Any, config: Any, method: Any, inputs: Any, report: Any, parts: Any) -> dict[str, float]:
        parts.learned([{"label": number < 2} for number in range(8)])
        parts.prepare([{"label": True}] * 8, None, 64)
        return {"up": config.desirable_weight, "down": config.undesirable_weight}

    monkeypatch.setattr(trl_training, "fit", fit)
    inputs = Inputs([], parent_of(tiny_base), tmp_path)
    assert KTO().train(inputs, Heard()) == {"up": 60.0, "down": 1.0}


def test_a_method_is_told_once_and_first_which_rows_are_learned_from(tiny_base: Path, tmp_path: Path):
    from trl import SFTConfig, SFTTrainer

    from alignment.methods import trl_training

    heard: list[tuple[str, int]] = []

    def prepare(rows: Any, tokenizer: Any, longest: int) -> Any:
        heard.append(("prepare", len(rows)))
        return rows

    parts = trl_training.Parts(learned=lambda rows: heard.append(("learned", len(rows))), prepare=prepare)
    method = SFT(epochs=1, batch_size=20)
    inputs = Inputs(rows_of("prompt_completion", 40), parent_of(tiny_base), tmp_path)
    config = SFTConfig(**trl_training.arguments(method, inputs), completion_only_loss=True)
    trl_training.fit(SFTTrainer, config, method, inputs, Heard(), parts)
    assert heard == [("learned", 36), ("prepare", 36), ("prepare", 4)]


# ---- what ends a run ------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_ends_the_run_and_the_last_good_checkpoint_is_kept(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import torch
    from trl import SFTTrainer  # type: ignore[attr-defined, unused-ignore]

    sound = SFTTrainer.compute_loss
    calls = iter(range(1000))

    def breaks(self: Any, *given: Any, **named: Any) -> Any:
        loss = sound(self, *given, **named)
        return loss * math.nan if self.model.training and next(calls) == 7 else loss  # in the eighth step

    monkeypatch.setattr(SFTTrainer, "compute_loss", breaks)
    with pytest.raises(RunFailed, match="no longer a number"):
        train("sft", parent_of(tiny_base), tmp_path, epochs=1, evaluations=3)
    kept = [folder for folder in (tmp_path / CHECKPOINTS).glob("checkpoint-*") if (folder / COMPLETE).exists()]
    assert [folder.name for folder in kept] == ["checkpoint-6"]
    assert all(torch.isfinite(value).all() for value in weights_of(kept[0]).values())
    assert not (tmp_path / MODEL).exists()


def test_what_is_not_installed_is_refused_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("alignment.methods.base.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install trackio"):
        DPO(tracker="trackio").refuse_what_is_missing()
    with pytest.raises(BadInput, match="pip install bitsandbytes"):
        DPO(tuning="qlora").refuse_what_is_missing()
    DPO().refuse_what_is_missing()


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(BadInput, match="Pairs per batch: 3 cannot be shared evenly by 2 processes"):
        DPO(batch_size=3).refuse_processes(2)
    DPO(batch_size=4).refuse_processes(2)
    with pytest.raises(BadInput, match="Thumbs per batch: 2 leave each of 2 processes a single one"):
        KTO(batch_size=2).refuse_processes(2)
    KTO(batch_size=4).refuse_processes(2)


def test_another_tracker_writes_into_the_directory_of_the_run(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("tensorboard")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    train("sft", parent_of(tiny_base), tmp_path, epochs=1, tracker="tensorboard")
    assert list((tmp_path / "tracker").glob("events.out.tfevents.*"))
