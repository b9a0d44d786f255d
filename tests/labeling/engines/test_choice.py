"""Who answers where nobody has said so, and which devices are then taken in turns with runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from labeling.engines import choice
from labeling.engines.choice import command_of, shared_devices
from labeling.engines.model_server import Command, embedded_command
from labeling.engines.vllm_server import VLLM
from storage import leases
from storage.database import Database
from storage.engine_settings import EngineSettings
from storage.errors import ModelNotLoadable
from storage.leases import CPU
from storage.settings import Settings

GPUS = ("cuda:0", "cuda:1")
BY_ITSELF, VLLM_CHOSEN, EMBEDDED = EngineSettings(), EngineSettings("vllm"), EngineSettings("embedded")
IN_TURNS, SIDE_BY_SIDE = EngineSettings(in_turns=True), EngineSettings(in_turns=False)
SPLIT = EngineSettings("vllm", ("--tensor-parallel-size=2",))


@pytest.mark.parametrize(
    ("said", "gpus", "installed", "command", "shared"),
    [
        (BY_ITSELF, (), True, embedded_command, ()),
        (BY_ITSELF, GPUS, False, embedded_command, ()),
        (BY_ITSELF, GPUS, True, VLLM(GPUS, sleeps=True), GPUS),
        (VLLM_CHOSEN, (), True, VLLM(), ()),
        (SPLIT, GPUS, True, VLLM(GPUS, SPLIT.arguments, sleeps=True), GPUS),
        (EMBEDDED, GPUS, True, embedded_command, ()),
        (SIDE_BY_SIDE, GPUS, True, VLLM(GPUS), ()),
        (IN_TURNS, (), True, embedded_command, (CPU,)),
        (EngineSettings("vllm", in_turns=True), (), True, VLLM(), (CPU,)),
        (EngineSettings(urls=("http://a:8000",)), GPUS, False, embedded_command, ()),
    ],
)
def test_settings_and_machine_choose(
    said: EngineSettings, gpus: tuple[str, ...], installed: bool, command: Command, shared: tuple[str, ...]
):
    chosen = command_of(said, gpus, installed)
    assert chosen == command
    assert shared_devices(said, chosen) == shared


@pytest.mark.parametrize(
    ("arguments", "devices"),
    [
        ((), ("cuda:0",)),
        (("--max-loras", "2"), ("cuda:0",)),
        (("-tp", "2"), GPUS),
        (("--data-parallel-size", "2", "--max-loras=4"), GPUS),
    ],
)
def test_vllm_takes_as_many_gpus_as_its_arguments_ask_for(arguments: tuple[str, ...], devices: tuple[str, ...]):
    assert VLLM(GPUS, arguments).devices == devices
    assert VLLM((), arguments).devices == (CPU,)


def test_each_base_gets_gpus_that_no_other_has():
    assert VLLM(GPUS).beside({}) == VLLM(("cuda:0",))
    assert VLLM(GPUS).beside({"cuda:0": "/qwen"}) == VLLM(("cuda:1",))
    assert VLLM((*GPUS, "cuda:2"), ("-tp", "2")).beside({"cuda:1": "/qwen"}).devices == ("cuda:0", "cuda:2")
    assert VLLM().beside({"cuda:0": "/qwen"}) == VLLM()


@pytest.mark.parametrize(
    ("arguments", "taken", "says"),
    [
        (
            (),
            {"cuda:0": "/qwen", "cuda:1": "/fine"},
            r"No GPU is left for a server of /new\. Taken: GPU 0 by the server ",
        ),
        (
            ("-tp", "2"),
            {"cuda:1": "/qwen"},
            "Fewer than 2 GPUs are left for a server of /new. Taken: GPU 1 by the .* /qwen",
        ),
        (("-tp=3",), {"cuda:1": "/qwen"}, "over 3 GPUs .*, and it may use 2 here. Ask for fewer"),
    ],
)
def test_a_base_for_which_no_gpu_is_left_hears_who_has_them(
    arguments: tuple[str, ...], taken: dict[str, str], says: str
):
    command = VLLM(GPUS, arguments).beside(taken)
    assert command.devices == ()
    with pytest.raises(ModelNotLoadable, match=says):
        command(Path("/new"), "base", Path("port"))


def test_on_a_gpu_vllm_is_bound_to_its_own_and_may_sleep(tmp_path: Path):
    # given a model, an environment in which vLLM is installed, and a second GPU that is ours
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 256}))
    (tmp_path / "vllm").touch()
    command = VLLM(("cuda:1",), environment=tmp_path, sleeps=True)
    # when it is to be started
    words = command(tmp_path, "base", tmp_path / "port")
    # then what it sees does not depend on our environment, and the routes of sleep are there
    assert {"CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=1", "VLLM_SERVER_DEV_MODE=1"} <= set(words)
    assert words[-1] == "--enable-sleep-mode" and "--dtype" not in words  # in half precision, as adapters are trained
    side_by_side = dataclasses.replace(command, sleeps=False)(tmp_path, "base", tmp_path / "port")
    assert not {"--enable-sleep-mode", "VLLM_SERVER_DEV_MODE=1"} & set(side_by_side)


def test_what_an_app_that_took_turns_has_left_is_gone_when_the_next_does_not(database: Database, tmp_path: Path):
    asked = Settings(tmp_path, answering=IN_TURNS)
    with choice.engines_of(asked, database, []):
        assert [lease.device for lease in leases.list_all(database)] == [CPU]
    with choice.engines_of(dataclasses.replace(asked, answering=BY_ITSELF), database, []):
        assert leases.list_all(database) == []
