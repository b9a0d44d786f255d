"""vLLM as a model server: how it is started, and what its last words mean. It lives in an environment of its own.

Decisions a reader would question:

* Its port is chosen here and told at once, as vLLM tells nobody; that it answers is seen by asking.
* It computes as adapters are trained: in float32 on a processor, in half precision on a GPU, where its `--dtype auto`
  rounds float32 weights to bfloat16 (float16 where the GPU knows no other), as a run does that trains an adapter on
  them. So whole weights that were trained in float32 are rounded when they are served there; who wants them as they are
  asks for it: engine_arguments = ["--dtype", "float32"].
* What would fail for want of memory, or because nothing is installed, is refused before it starts: vLLM itself needs
  half a minute to say so. It says the rest (a kind of model or a setting that it does not know) in its log, in the
  middle of which `cause` looks.
* It is bound to the GPUs that it takes, by the names that runs have for them, so that both mean the same one. Two never
  share one, since each takes nine tenths of its memory.
* Where it takes turns with runs it can be put to sleep. The routes for that come with others of its development mode
  that let whoever reaches the port do much; so it listens on loopback only, as ever.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, ClassVar

from labeling.engines.free_memory import available_memory
from labeling.engines.model_folder import served_context
from storage.errors import ModelNotLoadable
from storage.leases import CPU

ENVIRONMENT = Path(__file__).parents[2] / ".venv-vllm"
MOST_ADAPTERS = 8  # at once in a batch; of more, those used least lately are put aside and read again from disk
MOST_RANK = 64  # as the embedded server's
GIGABYTE = 2**30

_FULL_ANSWERS = 8  # that the cache of keys and values holds
_PROCESSES_GB = 2.5  # what vLLM's three processes take without a model
_FLOAT_BYTES = 4
_PARALLEL = {
    *("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp"),
}
_ALWAYS = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_NO_USAGE_STATS": "1"}
_FAULT = re.compile(r"(?:\w(?:Error|Exception)|\berror): (.+)|Value error, (.+)")
_NO_CAUSE = (
    "initialization failed",
    "Failed core proc",
    "please check the stack trace",
    "fd limit errors",
    "validation error",
)


@dataclass(frozen=True)
class VLLM:
    """The command that serves a base with vLLM. `arguments` come last, so they win over ours.

    gpus: those it may take, as cuda:0; none means the processor. sleeps: whether it can let go of them and wake.
    """

    gpus: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Path = ENVIRONMENT
    sleeps: bool = False

    @property
    def devices(self) -> tuple[str, ...]:
        """Those it takes: the first GPU, or as many as its arguments split the model or the requests over."""
        return self.gpus[: gpus_asked_for(self.arguments)] or (CPU,)

    def beside(self, taken: Mapping[str, str]) -> VLLM | NoGpuLeft:
        """Bound to GPUs that nobody has. taken: GPU → the base whose server has it."""
        needed, free = gpus_asked_for(self.arguments), tuple(gpu for gpu in self.gpus if gpu not in taken)
        if self.gpus and len(free) < needed:
            return NoGpuLeft(needed, self.gpus, taken)
        return replace(self, gpus=free[:needed])

    def __call__(self, base: Path, name: str, port_file: Path) -> list[str]:
        """Raises ModelNotLoadable where it cannot succeed."""
        if not installed(self.environment):
            raise ModelNotLoadable(
                f"vLLM is not installed: there is no {self.environment}. `make vllm` installs it; or put "
                'engine = "embedded" into settings.toml, and Plumbline\'s own small server answers.'
            )
        settings = _ALWAYS | ({} if self.gpus else _on_processor(base))
        port = _free_port()
        port_file.write_text(str(port), encoding="utf-8")
        variables = [f"{name}={value}" for name, value in settings.items() if name not in os.environ]
        return ["env", *variables, *self._bound(), *self._server(base, name, port), *self.arguments]

    def _bound(self) -> list[str]:
        """What holds whatever the environment says."""
        if not self.gpus:
            return []
        numbers = ",".join(device.removeprefix("cuda:") for device in self.devices)
        sleeping = ["VLLM_SERVER_DEV_MODE=1"] if self.sleeps else []
        return ["CUDA_DEVICE_ORDER=PCI_BUS_ID", f"CUDA_VISIBLE_DEVICES={numbers}", *sleeping]

    def _server(self, base: Path, name: str, port: int) -> list[str]:
        command = [str(self.environment / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", str(base), "--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
        command += ["--max-model-len", str(served_context(base)), "--generation-config", "vllm"]
        command += ["--enable-lora", "--max-loras", str(MOST_ADAPTERS), "--max-lora-rank", str(MOST_RANK)]
        if not self.gpus:
            return [*command, "--dtype", "float32", "--enforce-eager"]
        return [*command, "--enable-sleep-mode"] if self.sleeps else command


@dataclass(frozen=True)
class NoGpuLeft:
    """The command of a server that finds no GPU: it says who has them, and starts nothing."""

    needed: int
    gpus: tuple[str, ...]
    taken: Mapping[str, str]
    devices: ClassVar[tuple[str, ...]] = ()

    def __call__(self, base: Path, name: str, port_file: Path) -> list[str]:
        if self.needed > len(self.gpus):
            raise ModelNotLoadable(
                f"vLLM is asked to spread a model over {self.needed} GPUs (engine_arguments in settings.toml), and it "
                f"may use {len(self.gpus)} here. Ask for fewer."
            )
        bases = {base: [gpu for gpu in self.gpus if self.taken.get(gpu) == base] for base in self.taken.values()}
        served = "; ".join(f"{_in_words(gpus)} by the server of {other}" for other, gpus in bases.items() if gpus)
        number = "No GPU is" if self.needed == 1 else f"Fewer than {self.needed} GPUs are"
        raise ModelNotLoadable(
            f"{number} left for a server of {base}. Taken: {served}. vLLM needs a GPU for each base: switch all "
            "versions of one such base off at the models page, and this one is started by itself."
        )


def _in_words(gpus: Sequence[str]) -> str:
    return " and ".join(f"GPU {gpu.removeprefix('cuda:')}" for gpu in gpus)


def installed(environment: Path = ENVIRONMENT) -> bool:
    """`make vllm` leaves this mark when all of it is there."""
    return (environment / "vllm").is_file()


def gpus_asked_for(arguments: Sequence[str]) -> int:
    """The product of the sizes in `--tensor-parallel-size 2` and its like, in all the ways of writing them."""
    words = [part for argument in arguments for part in argument.split("=", 1)]
    sizes = [int(size) for name, size in pairwise(words) if name in _PARALLEL and size.isdigit()]
    return prod(sizes)


def cause(log: Sequence[str]) -> str:
    """The line of a server's log that says why it ended; its last line where none does."""
    faults = [found for line in log if (found := _FAULT.search(line)) and not any(one in line for one in _NO_CAUSE)]
    if not faults:
        return log[-1].strip() if log else "nothing"
    return (faults[-1].group(1) or faults[-1].group(2)).strip()


def _on_processor(base: Path) -> dict[str, str]:
    """What it needs on a machine without a GPU: room for keys and values, and no compiling at the first request."""
    cache = max(1, -(-_FULL_ANSWERS * served_context(base) * _bytes_a_token(base) // GIGABYTE))
    weights = sum(_float32_bytes(file) for file in base.glob("*.safetensors")) / GIGABYTE
    needed, free = weights + cache + _PROCESSES_GB, available_memory() / GIGABYTE
    if needed > free:
        raise ModelNotLoadable(
            f"vLLM needs about {needed:.1f} GB of memory for {base} ({weights:.1f} for its weights, {cache} for keys "
            f"and values), and {free:.1f} GB are free. Close what else is running, choose a smaller model, or put "
            'engine = "embedded" into settings.toml: that server needs the least.'
        )
    # left to itself it ties its threads to the first cores, where a second server, or a run, would wait for them
    threads = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return {"VLLM_CPU_KVCACHE_SPACE": str(cache), "TORCHDYNAMO_DISABLE": "1", **threads}


def _bytes_a_token(base: Path) -> int:
    """Of keys and values, in float32."""
    config: dict[str, Any] = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config") or config
    layers = config.get("num_hidden_layers") or config.get("n_layer") or 32
    width = config.get("hidden_size") or config.get("n_embd") or 4096
    heads = config.get("num_attention_heads") or config.get("n_head") or 32
    head = config.get("head_dim") or width // heads
    return int(2 * layers * head * (config.get("num_key_value_heads") or heads) * _FLOAT_BYTES)


def _float32_bytes(weights: Path) -> int:
    """Half-precision weights double when they are loaded."""
    with weights.open("rb") as stream:
        header = stream.read(int.from_bytes(stream.read(8), "little"))
    return weights.stat().st_size * (2 if b'"BF16"' in header or b'"F16"' in header else 1)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
