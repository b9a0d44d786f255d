"""Where a run trains and as how many processes: the form, what is refused, and the command that follows from it.

Several processes are started by `accelerate launch`, each with its own copy of the model and its own part of every
batch. Sharding splits the weights over them as well; it comes as a configuration of accelerate (`accelerate.yaml` in
the directory of the run), with the values of the examples that TRL is tested with.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from alignment import devices
from alignment.devices import CPU, Device
from alignment.run_directory import ACCELERATE
from storage.errors import BadInput

ADVANCED: dict[str, Any] = {"advanced": True}


class Launch(BaseModel):
    """Where a run trains, and as how many processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    where: Literal["local", "ray"] = Field(
        "local", title="Where it runs",
        description="local: on this machine. ray: on the Ray cluster that settings.toml names.",
    )  # fmt: skip
    device: str = Field(
        "", title="Device", pattern=r"^(cpu|cuda:\d{1,3})?$",
        description="One run trains at a time on each. A settings file that names none takes the shortest line.",
    )  # fmt: skip
    processes: int = Field(
        1, ge=1, le=64, title="Processes",
        description="Each trains on its part of every batch, on a GPU of its own from the chosen one on, or on a core.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip
    sharding: Literal["none", "fsdp", "deepspeed_zero2", "deepspeed_zero3"] = Field(
        "none", title="Weights split over the processes",
        description="none: each has all of them. fsdp and deepspeed_zero3 split weights, gradients and optimiser; "
        "deepspeed_zero2 all but the weights. For models that one GPU cannot hold.",
        json_schema_extra=ADVANCED,
    )  # fmt: skip

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Launch:
        """As run.json and the database have it: there it may also say at which address a cluster was asked."""
        return cls.model_validate({name: value for name, value in stored.items() if name != "address"})

    @property
    def devices(self) -> tuple[str, ...]:
        """Those of this machine that the run keeps busy; none where it trains elsewhere."""
        return () if self.where == "ray" else devices.taken(self.device or CPU, self.processes)


def refuse_launch(launch: Launch, here: Sequence[Device], ray_address: str) -> None:
    """Raises BadInput where a run could not start like this, with the way out."""
    if launch.where == "ray" and not ray_address:
        raise BadInput(
            "No Ray cluster is known here. Name the address of its dashboard in settings.toml "
            '(ray_address = "http://127.0.0.1:8265") and start Plumbline again, or run on this machine.'
        )
    if launch.where == "local":
        _refuse_devices(launch, here)
    if launch.sharding != "none":
        _refuse_sharding(launch)


def _refuse_devices(launch: Launch, here: Sequence[Device]) -> None:
    there = {device.name for device in here}
    if launch.device not in there:
        raise BadInput(f"Device: this machine has no {launch.device}; it has {', '.join(sorted(there))}. Choose one.")
    if launch.device == CPU and launch.processes > devices.cores():
        raise BadInput(
            f"Processes: {launch.processes} were asked for, and this machine has {devices.cores()} cores. More "
            f"processes than cores only wait for each other; ask for {devices.cores()} at most."
        )
    if missing := [name for name in launch.devices if name not in there]:
        raise BadInput(
            f"Processes: {launch.processes} from {launch.device} on need a GPU each, and this machine has no "
            f"{', '.join(missing)}. Ask for fewer."
        )


def _refuse_sharding(launch: Launch) -> None:
    if launch.device == CPU:
        raise BadInput(
            f"{launch.sharding} splits weights over GPUs, and this run trains on the processor. Choose none, or a GPU."
        )
    if launch.processes < 2:
        raise BadInput(f"{launch.sharding} splits weights over processes, and there is 1. Ask for 2 or more, or none.")
    if launch.sharding.startswith("deepspeed") and find_spec("deepspeed") is None:
        raise BadInput(
            "DeepSpeed is not installed here. Install it beside Plumbline (.venv/bin/python -m pip install deepspeed), "
            "or choose fsdp, which needs nothing more."
        )


# ---- the command -----------------------------------------------------------------------------------------------------


def command(launch: Launch, directory: Path) -> list[str]:
    """What starts the training of this directory."""
    training = ["-m", "alignment.train", str(directory)]
    if launch.processes == 1:
        return [sys.executable, *training]
    config = ["--config_file", str(directory / ACCELERATE)]
    return [sys.executable, "-m", "accelerate.commands.launch", *config, *training]


def accelerate_config(launch: Launch) -> dict[str, Any]:
    """What accelerate.yaml says.

    On a processor it says MULTI_GPU too: what accelerate calls MULTI_CPU starts a single process unless MPI is there,
    while this starts all of them, which then talk by gloo because of `use_cpu`.
    """
    on_cpu = launch.device == CPU
    return {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": _DISTRIBUTED[launch.sharding],
        "num_processes": launch.processes,
        "num_machines": 1,
        "machine_rank": 0,
        "main_process_port": 0,  # any free one, or two runs side by side would want the same
        "rdzv_backend": "static",
        "same_network": True,
        "mixed_precision": "no" if on_cpu else "bf16",
        "use_cpu": on_cpu,
        **_SHARDING[launch.sharding],
    }


_DISTRIBUTED = {
    "none": "MULTI_GPU",
    "fsdp": "FSDP",
    "deepspeed_zero2": "DEEPSPEED",
    "deepspeed_zero3": "DEEPSPEED",
}
_ZERO = {
    "deepspeed_multinode_launcher": "standard",
    "offload_optimizer_device": "none",
    "offload_param_device": "none",
}
_SHARDING: dict[str, dict[str, Any]] = {
    "none": {},
    "fsdp": {
        "fsdp_config": {
            "fsdp_version": 2,
            "fsdp_activation_checkpointing": False,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_cpu_ram_efficient_loading": True,
            "fsdp_offload_params": False,
            "fsdp_reshard_after_forward": True,
            "fsdp_state_dict_type": "FULL_STATE_DICT",
        }
    },
    "deepspeed_zero2": {"deepspeed_config": {**_ZERO, "zero_stage": 2, "zero3_init_flag": False}},
    "deepspeed_zero3": {
        "deepspeed_config": {**_ZERO, "zero_stage": 3, "zero3_init_flag": True, "zero3_save_16bit_model": True}
    },
}
