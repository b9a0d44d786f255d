"""How much memory a run will need, by component, before it starts.

Computed from the model's config.json and the headers of its weight files alone, so that it costs milliseconds and needs
no torch. It follows what is alive at the moment when a run needs most, which is the first instant of the backward pass:
all activations are there, and the language-model head turns them into logits and back. benchmarks/memory.py holds
the result against the measured peak, for each method, at 75 million parameters.

Two decisions a reader would question:

* The logits are usually the largest part although no trainer keeps them: TRL computes them in tiles of 4,096 tokens by
  32,768 words, and on a CPU a tile goes through `TILE_COPIES` copies of itself. The trainers of ORPO and SimPO are the
  exceptions, they keep all of them.
* Gradients of whole weights take the place of what the backward pass has freed: logits, and activations where these do
  not lie on the heap. So they are not added, unless that is less, or batches are added up (`accumulate`).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alignment.devices import memory_mb
from alignment.methods.base import Method, TunedMethod
from alignment.methods.dpo import DPO
from alignment.methods.ppo import PPO
from alignment.methods.ppo_passes import LOGITS_AT_ONCE, ROWS_AT_ONCE, TOKENS_AT_ONCE
from alignment.model_size import parameters
from labeling.engines.free_memory import available_memory

MB = 1024 * 1024
LIBRARIES_MB: Mapping[str, int] = {"cpu": 480, "cuda": 600}  # Python, torch, TRL; on a GPU what CUDA itself takes
TILE_TOKENS, TILE_WORDS = 4096, 32768  # of TRL's chunked language-model head
TILE_COPIES = 8.25  # alive at once in trl.kernels.chunked_logprob._backward_tile; the quarter is a mask of one byte
PPO_COPIES = 3.0  # of a piece's logits: they, their exponentials, and what of these is multiplied
ALL_COPIES = 7.0  # of all logits: trl.experimental.orpo keeps two, and its backward pass makes five more
QUANTISED_BYTES = 0.57  # a weight in 4 bits, with the scales of its block
HOLES = 4  # temporaries a layer that glibc cannot use again, measured at 256 to 1,280 tokens
PASSES = 1.6  # PPO's passes differ in length, so that one does not fit into the holes of the last; measured
ASLEEP_MB = 3072  # that a sleeping vLLM may keep of a GPU (CUDA itself, recorded graphs): assumed, never measured
HEAP_LIMIT = 32 * MB  # glibc's largest threshold: what is larger is given back at once
WITH_REFERENCE = ("dpo", "kto", "rloo", "ppo")

Kind = Literal["weights", "adapter", "reference", "reward", "value", "activations", "logits", "rollouts", "libraries"]


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder, as every family of models has them."""

    parameters: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    tied: bool


@dataclass(frozen=True)
class Part:
    """One component, in the words of the page."""

    kind: Kind
    name: str
    mb: int


@dataclass(frozen=True)
class Load:
    """What goes through the model at once: sequences with gradient, and how long the longest of them is."""

    sequences: int
    length: int

    @property
    def tokens(self) -> int:
        return self.sequences * self.length


# ---- what the files of a model say ----------------------------------------------------------------------------------


def shape_of(folder: str | Path) -> Shape:
    """Raises OSError or KeyError where the folder is no model: check_model_folder says so in a sentence first."""
    config: dict[str, Any] = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    config = {**config, **(config.get("text_config") or {})}
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    return Shape(
        parameters=parameters(folder),
        hidden=hidden,
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or hidden // heads),
        intermediate=int(config.get("intermediate_size") or 4 * hidden),
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", False)),
    )


# ---- what a run needs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """A run as far as its memory depends on it. `load` is the largest batch; `processes` share the batch."""

    method: Method
    model: Shape
    load: Load
    device: str = "cpu"
    reward: Shape | None = None
    reward_apart: bool = False  # in a process of its own, which has its own libraries too
    child: bool = False  # of an adapter: the reference is a copy of that
    processes: int = 1
    sharding: str = "none"

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def tuning(self) -> str:
        return self.method.tuning if isinstance(self.method, TunedMethod) else "full"

    @property
    def float_bytes(self) -> int:
        """Of what the model computes with: bfloat16 on a GPU, float32 on a CPU."""
        return 2 if self.on_gpu else 4


def load_of(method: Method, longest: int, processes: int = 1, context: int = 1 << 30, device: str = "cpu") -> Load:
    """What passes through the model at once where the longest row has this many tokens. Documents fill all there is."""
    if not isinstance(method, TunedMethod):
        return Load(1, longest)
    each = max(1, method.batch_size // processes)
    if isinstance(method, PPO):
        whole = min(longest + method.answer_room, method.max_length, context)
        return Load(max(1, min(each, TOKENS_AT_ONCE[_kind(device)] // whole)), whole)
    if method.reads == "prompt_only":
        return Load(each, min(longest + method.answer_room, method.max_length, context))
    if method.reads == "language_modeling":
        return Load(each, min(method.max_length, context))
    return Load(2 * each if method.reads == "preference" else each, min(longest, method.max_length, context))


def estimate(plan: Plan) -> list[Part]:
    """The parts that add up to the peak of one process. A part that this run does not have is 0."""
    weights, trained = _weights(plan), _trained_bytes(plan)
    optimiser, gradients = 2 * trained, trained
    activations, logits = _activations(plan), _logits(plan)
    room = logits if _on_heap(plan) else activations + logits
    held_at_peak = _gradients_at_peak(plan, gradients, room)
    parts: list[tuple[Kind, str, float]] = [
        ("weights", _weights_name(plan), weights),
        ("adapter", _adapter_name(plan), (0 if plan.tuning == "full" else trained) + optimiser + held_at_peak),
        ("reference", _reference_name(plan), _reference(plan)),
        ("reward", _reward_name(plan), _reward(plan)),
        ("value", "Value: a head on the policy", 4 * 4 * plan.model.hidden if isinstance(plan.method, PPO) else 0),
        ("activations", "Activations", activations),
        ("logits", "Logits", logits),
        ("rollouts", "Rollouts", _rollouts(plan, activations + logits)),
        ("libraries", "Python, torch and TRL", LIBRARIES_MB["cuda" if plan.on_gpu else "cpu"] * MB),
    ]
    return [Part(kind, name, round(_shared(plan, kind, size) / MB)) for kind, name, size in parts]


def total_mb(parts: Sequence[Part]) -> int:
    return sum(part.mb for part in parts)


# ---- weights and what trains them -----------------------------------------------------------------------------------


def _weights(plan: Plan) -> float:
    if plan.tuning == "qlora":
        return QUANTISED_BYTES * linear_weights(plan.model) + 2 * (plan.model.parameters - linear_weights(plan.model))
    master = (
        2 * linear_weights(plan.model) if plan.on_gpu and plan.tuning == "full" else 0
    )  # copies that autocast keeps
    return plan.model.parameters * (4 if plan.tuning == "full" else plan.float_bytes) + master


def linear_weights(model: Shape) -> int:
    """Of the matrices that an adapter goes beside: attention and feed-forward, of all layers."""
    return model.layers * sum(out * into for out, into in _matrices(model))


def _matrices(model: Shape) -> list[tuple[int, int]]:
    """(out, in) of q, k, v, o, gate, up, down."""
    q, kv = model.heads * model.head_size, model.kv_heads * model.head_size
    hidden, wide = model.hidden, model.intermediate
    return [(q, hidden), (kv, hidden), (kv, hidden), (hidden, q), (wide, hidden), (wide, hidden), (hidden, wide)]


def trained_parameters(method: Method, model: Shape) -> int:
    """All of them, or those of the two small matrices (out × rank, rank × in) beside each that is adapted."""
    if not isinstance(method, TunedMethod) or method.tuning == "full":
        return model.parameters
    adapted = _matrices(model)[: 4 if method.target_modules == "attention" else 7]
    return _adapted_layers(method, model) * sum(method.lora_rank * (out + into) for out, into in adapted)


def _adapted_layers(method: Method, model: Shape) -> int:
    upper = isinstance(method, TunedMethod) and method.tuning != "full" and method.layers == "upper half"
    return model.layers - model.layers // 2 if upper else model.layers


def _trained_bytes(plan: Plan) -> float:
    """float32, of adapters and of whole weights alike: small steps would vanish in bfloat16."""
    return 4 * trained_parameters(plan.method, plan.model)


def _gradients_at_peak(plan: Plan, gradients: float, freed: float) -> float:
    """What gradients take beyond the room that activations and logits leave them as the backward pass goes down.

    Those of the head come first, while all activations are still there.
    """
    if isinstance(plan.method, TunedMethod) and plan.method.accumulate > 1:
        return gradients
    head = 4 * plan.model.vocabulary * plan.model.hidden if plan.tuning == "full" and _has_logits(plan.method) else 0
    return max(head, gradients - freed)


def _reference(plan: Plan) -> float:
    """With an adapter the reference is the same weights with the adapter off, or a copy of the parent's adapter."""
    if plan.method.name not in WITH_REFERENCE or _is_simpo(plan.method):
        return 0
    if plan.tuning == "full":
        return 4 * plan.model.parameters
    return _trained_bytes(plan) if plan.child else 0


def _reward(plan: Plan) -> float:
    """PPO's reward model is an adapter like the one that is trained, where it stands on the same weights."""
    if plan.reward is None:
        return 0
    if plan.reward_apart:
        return apart_mb(plan.reward, plan.device) * MB
    return _trained_bytes(plan) if plan.method.name == "ppo" else plan.float_bytes * plan.reward.parameters


def apart_mb(reward: Shape, device: str) -> int:
    """What a reward model takes in a process of its own."""
    return LIBRARIES_MB[_kind(device)] + (4 if device == "cpu" else 2) * reward.parameters // MB


def _kind(device: str) -> str:
    return "cpu" if device == "cpu" else "cuda"


# ---- what a batch takes ---------------------------------------------------------------------------------------------


def _activations(plan: Plan) -> float:
    """What a forward pass keeps for the backward pass, and what a CPU's allocator cannot give away meanwhile."""
    held_back = _held_back(plan) if plan.tuning != "full" else 0
    layers = _adapted_layers(plan.method, plan.model)
    a_token = layers * (_floats_a_token(plan) * plan.float_bytes + _norm_bytes(plan)) + 4 * 4 * plan.model.hidden
    again = PASSES if isinstance(plan.method, PPO) and _on_heap(plan) else 1
    return again * plan.load.tokens * (a_token + layers * held_back)


def _floats_a_token(plan: Plan) -> int:
    """Numbers that one layer keeps for each token.

    Two residual streams and two normalised inputs (hidden each); queries, repeated keys and values, and the attended
    values (heads × head size each); gate, its activation, up, and their product (intermediate each); the attention
    mask's row; and either what the adapters' first matrices give (rank each), or the normalised inputs once more,
    before their weight.
    """
    model, attended = plan.model, plan.model.heads * plan.model.head_size
    kept = 4 * model.hidden + 4 * attended + 4 * model.intermediate + plan.load.length
    if plan.tuning == "full" or not isinstance(plan.method, TunedMethod):
        return kept + 2 * model.hidden
    return kept + plan.method.lora_rank * (4 if plan.method.target_modules == "attention" else 7)


def _norm_bytes(plan: Plan) -> int:
    """Norms compute in float32: where the rest does not, each of the two keeps a copy of its input."""
    return 2 * 4 * plan.model.hidden if plan.on_gpu else 0


def _held_back(plan: Plan) -> float:
    """Bytes a token and layer that glibc holds in holes between the adapters' small tensors.

    A freed temporary of a feed-forward matrix leaves a hole in the heap in which the next one does not quite fit.
    Tensors of 32 MiB and more are not on the heap.
    """
    return HOLES * 4 * plan.model.intermediate if _on_heap(plan) else 0


def _on_heap(plan: Plan) -> bool:
    """Whether what a layer keeps lies on glibc's heap, which gives nothing back while anything behind it is in use."""
    return not plan.on_gpu and 4 * plan.load.tokens * plan.model.intermediate < HEAP_LIMIT


def _is_simpo(method: Method) -> bool:
    """DPO's loss without a reference, which TRL has in another trainer."""
    return isinstance(method, DPO) and method.loss == "simpo"


def _has_logits(method: Method) -> bool:
    """A reward model has one number a token in their place."""
    return method.makes == "policy"


def _logits(plan: Plan) -> float:
    if not _has_logits(plan.method):
        return 0
    if isinstance(plan.method, PPO):
        return PPO_COPIES * 4 * min(LOGITS_AT_ONCE, plan.load.tokens) * plan.model.vocabulary
    if plan.method.name == "orpo" or _is_simpo(plan.method):
        return ALL_COPIES * 4 * plan.load.tokens * plan.model.vocabulary
    tile = min(plan.load.tokens, TILE_TOKENS) * min(plan.model.vocabulary, TILE_WORDS)
    gradient = 4 * plan.load.tokens * plan.model.hidden
    return tile * 2 + gradient if plan.on_gpu else tile * 4 * TILE_COPIES + gradient


def _rollouts(plan: Plan, freed: float) -> float:
    """Keys and values of the answers while they are written, beyond the room that training needs afterwards."""
    if plan.method.reads != "prompt_only":
        return 0
    model, method = plan.model, plan.method
    sequences = min(ROWS_AT_ONCE, method.rollout) if isinstance(method, PPO) else plan.load.sequences
    tokens = sequences * plan.load.length
    cached = 2 * model.layers * model.kv_heads * model.head_size * plan.float_bytes * tokens
    if isinstance(method, PPO) and _on_heap(plan):
        return 2 * cached  # a cache grows by copies, and what those leave free is too small for what comes after
    return max(0, cached - freed)


# ---- several processes ----------------------------------------------------------------------------------------------


def _shared(plan: Plan, kind: Kind, size: float) -> float:
    """What one device sees: GPUs have a process each, a CPU has all of them."""
    split = {"none": (), "deepspeed_zero2": ("adapter",)}.get(plan.sharding, ("weights", "adapter", "reference"))
    each = size / plan.processes if kind in split else size
    return each if plan.on_gpu else each * plan.processes


# ---- words ----------------------------------------------------------------------------------------------------------


def _weights_name(plan: Plan) -> str:
    kept = {"qlora": "4 bits"}.get(plan.tuning, "bf16" if plan.on_gpu and plan.tuning != "full" else "float32")
    return f"Weights, {in_words(plan.model.parameters)} in {kept}"


def _adapter_name(plan: Plan) -> str:
    return "Gradients and optimiser" if plan.tuning == "full" else "Adapter and optimiser"


def _reference_name(plan: Plan) -> str:
    if plan.tuning == "full":
        return "Reference: the parent's weights"
    return "Reference: the parent's adapter" if plan.child else "Reference: the adapter switched off"


def _reward_name(plan: Plan) -> str:
    if plan.reward_apart:
        return "Reward model, in a process of its own"
    return "Reward model: its adapter" if plan.reward and plan.method.name == "ppo" else "Reward model"


def in_words(parameters: int) -> str:
    """7.2 B, 75 M."""
    return (
        f"{parameters / 1e9:.1f} B" if parameters >= 1e9 else f"{parameters / 1e6:.{1 if parameters < 1e7 else 0}f} M"
    )


# ---- what there is --------------------------------------------------------------------------------------------------


def available(device: str, handed_over: bool = False) -> tuple[int, int]:
    """(free, in all) in MB, of the machine or of a GPU. (0, 0) where nobody could say.

    Free now, or, where a GPU is to be `handed_over` before the run starts, then: whoever has it keeps little of it.
    """
    if device == "cpu":
        return _of_machine()
    free, whole = _of_gpu(device)
    return (max(free, whole - ASLEEP_MB), whole) if handed_over else (free, whole)


def _of_machine() -> tuple[int, int]:
    whole = memory_mb()
    return min(available_memory() // MB, whole), whole


def _of_gpu(device: str) -> tuple[int, int]:
    number = device.removeprefix("cuda:")
    command = ["nvidia-smi", "--query-gpu=memory.free,memory.total", "--format=csv,noheader,nounits", f"--id={number}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        free, whole = (int(value) for value in answer.strip().split(","))
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0, 0
    return free, whole
