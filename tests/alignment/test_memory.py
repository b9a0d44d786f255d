"""What a run is said to need, worked by hand on a tiny model; benchmarks/memory.py holds it against real peaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment import memory
from alignment.memory import MB, Load, Plan, Shape
from alignment.methods import method_named
from alignment.methods.base import Method

# 7.2 billion parameters, as Mistral's first
LARGE = Shape(7_241_732_096, 4096, 32, 32, 8, 128, 14_336, 32_000, tied=False)
SMALL = Shape(1_000_000, 32, 2, 2, 1, 16, 64, 320, tied=True)


def method(name: str, **settings: Any) -> Method:
    return method_named(name).model_validate(settings)


def mb(plan: Plan) -> dict[str, int]:
    return {part.kind: part.mb for part in memory.estimate(plan)}


def test_a_shape_is_read_from_config_and_weight_files(tiny_base: Path) -> None:
    shape = memory.shape_of(tiny_base)

    assert (shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.head_size) == (32, 2, 2, 1, 16)
    assert (shape.intermediate, shape.tied) == (64, True)
    # a layer: q 32×32+32, k and v 16×32+16 each, o 32×32, three of 64×32, two norms; then the last norm
    layer = (32 * 32 + 32) + 2 * (16 * 32 + 16) + 32 * 32 + 3 * 64 * 32 + 2 * 32
    assert shape.parameters == shape.vocabulary * 32 + 2 * layer + 32


def test_an_adapter_is_rank_times_in_plus_out_of_each_matrix() -> None:
    # q 64, k 48, v 48, o 64, gate, up and down 96 each: 512 times rank 16, in two layers
    assert memory.trained_parameters(method("sft", lora_rank=16), SMALL) == 2 * 16 * 512
    assert memory.trained_parameters(method("sft", lora_rank=16, target_modules="attention"), SMALL) == 2 * 16 * 224
    assert memory.trained_parameters(method("sft", lora_rank=16, layers="upper half"), SMALL) == 16 * 512
    assert memory.trained_parameters(method("sft", tuning="full"), SMALL) == 1_000_000


def test_the_batch_of_a_preference_method_holds_both_answers() -> None:
    assert memory.load_of(method("dpo", batch_size=4, max_length=100), 80) == Load(8, 80)
    assert memory.load_of(method("sft", batch_size=4, max_length=100), 300) == Load(4, 100)
    assert memory.load_of(method("pretrain", batch_size=4, max_length=100), 30) == Load(4, 100)
    assert memory.load_of(method("pretrain", batch_size=4, max_length=100), 30, context=64) == Load(4, 64)
    assert memory.load_of(method("dpo", batch_size=4, max_length=100), 80, processes=2) == Load(4, 80)


def test_a_prompt_that_is_answered_is_as_long_as_both() -> None:
    rloo = method("rloo", batch_size=8, answers_per_prompt=8, longest_answer=50)

    assert memory.load_of(rloo, 30) == Load(8, 80)


def test_weights_are_float32_on_a_cpu_and_bfloat16_on_a_gpu() -> None:
    cpu = Plan(method("dpo"), LARGE, Load(8, 256))

    assert mb(cpu)["weights"] == round(4 * LARGE.parameters / MB)
    assert mb(replace(cpu, device="cuda:0"))["weights"] == round(2 * LARGE.parameters / MB)


def test_four_bits_take_about_a_seventh_of_float32() -> None:
    lora = Plan(method("dpo"), LARGE, Load(8, 256), device="cuda:0")
    qlora = Plan(method("dpo", tuning="qlora"), LARGE, Load(8, 256), device="cuda:0")

    assert 0.25 < mb(qlora)["weights"] / mb(lora)["weights"] < 0.35


def test_the_largest_tile_of_logits_is_4096_tokens_by_32768_words() -> None:
    tile = 4 * 4096 * 32_000 * 8.25
    short, long = (Plan(method("sft"), LARGE, Load(1, length)) for length in (4096, 8192))

    assert mb(short)["logits"] == round((tile + 4 * 4096 * 4096) / MB)
    assert mb(long)["logits"] == round((tile + 4 * 8192 * 4096) / MB)


def test_orpo_and_simpo_keep_all_logits_and_a_reward_model_has_none() -> None:
    load = Load(4, 128)

    assert mb(Plan(method("orpo"), LARGE, load))["logits"] == round(7 * 4 * 512 * 32_000 / MB)
    assert mb(Plan(method("dpo", loss="simpo"), LARGE, load))["logits"] == round(7 * 4 * 512 * 32_000 / MB)
    assert mb(Plan(method("reward_model"), LARGE, load))["logits"] == 0


def test_what_a_layer_keeps_for_a_token() -> None:
    # 10 tokens; 2 layers; 4×32 + 4×32 + 4×64 + length 10 + rank 16 × 7, and holes of 4×64; the head keeps 4×32
    lora = Plan(
        method("sft"), replace(SMALL, hidden=32 * 1024, intermediate=64 * 1024, head_size=16 * 1024), Load(1, 10)
    )
    floats = 4 * 32 * 1024 + 4 * 32 * 1024 + 4 * 64 * 1024 + 10 + 112
    expected = 10 * (2 * (floats + 4 * 64 * 1024) * 4 + 4 * 4 * 32 * 1024)

    assert mb(lora)["activations"] == round(expected / MB)


def test_the_lower_half_keeps_nothing_where_only_the_upper_is_adapted() -> None:
    every = mb(Plan(method("sft"), LARGE, Load(4, 512)))["activations"]
    upper = mb(Plan(method("sft", layers="upper half"), LARGE, Load(4, 512)))["activations"]

    assert upper == pytest.approx(every / 2, rel=0.05)


def test_the_reference_is_a_second_model_only_where_all_weights_are_trained() -> None:
    load = Load(4, 128)

    assert mb(Plan(method("dpo"), LARGE, load))["reference"] == 0
    assert mb(Plan(method("dpo", tuning="full"), LARGE, load))["reference"] == round(4 * LARGE.parameters / MB)
    assert mb(Plan(method("sft", tuning="full"), LARGE, load))["reference"] == 0
    assert mb(Plan(method("orpo", tuning="full"), LARGE, load))["reference"] == 0
    assert mb(Plan(method("dpo", tuning="full", loss="simpo"), LARGE, load))["reference"] == 0


def test_a_child_of_an_adapter_keeps_its_parents_as_reference() -> None:
    child = Plan(method("kto"), LARGE, Load(4, 128), child=True)

    adapter = 4 * memory.trained_parameters(child.method, LARGE)
    assert mb(child)["reference"] == round(adapter / MB)
    assert next(p.name for p in memory.estimate(child) if p.kind == "reference") == "Reference: the parent's adapter"


def test_gradients_of_whole_weights_take_the_room_that_activations_leave() -> None:
    much, little = (Plan(method("sft", tuning="full"), SMALL, Load(1, length)) for length in (8000, 1))
    trained = 4 * SMALL.parameters

    assert mb(much)["adapter"] == round((2 * trained + 4 * 320 * 32) / MB)  # the head's gradient comes first
    assert mb(little)["adapter"] == round(3 * trained / MB)


def test_gradients_of_batches_that_are_added_up_lie_beside_the_activations() -> None:
    plan = Plan(method("sft", tuning="full", accumulate=2), SMALL, Load(1, 8000))

    assert mb(plan)["adapter"] == round(3 * 4 * SMALL.parameters / MB)


def test_a_reward_model_is_a_second_set_of_weights() -> None:
    rloo = Plan(method("rloo"), LARGE, Load(8, 128), reward=LARGE)

    assert mb(rloo)["reward"] == round(4 * LARGE.parameters / MB)
    assert mb(replace(rloo, reward=None))["reward"] == 0
    assert mb(rloo)["value"] == 0


def test_processes_on_a_cpu_share_its_memory_and_those_on_gpus_do_not() -> None:
    plan = Plan(method("sft"), LARGE, Load(4, 128))

    assert mb(replace(plan, processes=2))["weights"] == pytest.approx(2 * mb(plan)["weights"], abs=1)
    gpu = replace(plan, device="cuda:0")
    assert mb(replace(gpu, processes=2))["weights"] == mb(gpu)["weights"]
    assert mb(replace(gpu, processes=2, sharding="fsdp"))["weights"] == round(mb(gpu)["weights"] / 2)
    assert mb(replace(gpu, processes=2, sharding="deepspeed_zero2"))["weights"] == mb(gpu)["weights"]


@pytest.mark.parametrize(
    ("parameters", "words"), [(7_241_732_096, "7.2 B"), (77_230_592, "77 M"), (3_034_560, "3.0 M")]
)
def test_a_size_in_words(parameters: int, words: str) -> None:
    assert memory.in_words(parameters) == words


def test_this_machine_says_what_is_free() -> None:
    free, whole = memory.available("cpu")

    assert 0 < free <= whole


def test_of_a_gpu_that_is_not_there_nobody_can_say() -> None:
    assert memory.available("cuda:7") == (0, 0)


def test_a_gpu_that_is_handed_over_before_the_run_counts_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An awake vLLM has nine tenths of 80 GB; a sleeping one keeps a little."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 8000, 81920\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    assert memory.available("cuda:0") == (8_000, 81_920)
    assert memory.available("cuda:0", handed_over=True) == (81_920 - memory.ASLEEP_MB, 81_920)
    assert memory.available("cpu", handed_over=True)[1] == memory.available("cpu")[1]
