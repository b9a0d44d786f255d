"""vLLM as the app runs it: a real one, wrong starts, killed engines, and an app that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from alignment.devices import gpus
from benchmarks.serving_parity import Difference, Trainer, differences, greedy_of_server
from labeling.assignment import Queue
from labeling.engines.model_server import ModelServer
from labeling.engines.supervisor import Engines, ServedVersion
from labeling.engines.template import INSTRUCTION_TEMPLATE
from labeling.engines.turns import Turns
from labeling.engines.vllm_server import VLLM, cause
from labeling.sampling import Sampler
from storage import leases, model_versions, projects, prompts, responses
from storage.database import Database
from storage.errors import EngineUnavailable
from storage.leases import CPU, NOBODY
from storage.records import Sampling
from tests.app_process import wait_until
from tests.makers import project, some_prompts, version
from tests.vllm_process import group, skip_without_vllm

from .conftest import ADAPTERS, ROOT
from .tiny_models import write_adapter, write_model

PROMPT = "Tell me about the red fox."
SLOTS = VLLM(arguments=("--max-lora-rank", "16", "--max-loras", "2"))  # for four adapters and the untrained one
GONE_WITHIN = 30.0  # seconds: five, and the rest for a machine that is busy


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Where it says who has the processor, which vLLM takes in turns with runs."""
    database = Database.open(tmp_path_factory.mktemp("home") / "plumbline.duckdb")
    yield database
    database.close()


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory, shared: Database) -> Iterator[Engines]:
    skip_without_vllm()
    with Engines(tmp_path_factory.mktemp("logs"), SLOTS, turns=Turns(shared, [CPU])) as engines:
        yield engines
        leader = engines.state()[0].pid
    assert leader is not None
    wait_until("nothing is left of it", GONE_WITHIN, lambda: not group(leader))


@pytest.fixture
def versions(base_folder: Path, adapter_folders: dict[str, Path]) -> list[ServedVersion]:
    base = ServedVersion("v0", str(base_folder), None)
    return [base, *(ServedVersion(name, str(base_folder), str(adapter_folders[name])) for name in ADAPTERS)]


@pytest.fixture
def vllm(engines: Engines, versions: list[ServedVersion]) -> Engines:
    engines.serve(versions)
    engines.wait_ready(*(one.id for one in versions), timeout=300)
    return engines


# ---- what it serves


def test_more_versions_than_it_has_slots_for_answer_in_one_batch_each_as_itself(
    vllm: Engines, versions: list[ServedVersion]
):
    names = [one.id for one in versions]
    alone = {name: _greedy(vllm, name) for name in names}
    assert len(set(alone.values())) == 5
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda name: _greedy(vllm, name), names * 4)) == [alone[name] for name in names * 4]
    (state,) = vllm.state()
    assert state.engine == "vllm 0.32.0" and state.versions == tuple(names) and not vllm.problems


def test_what_cannot_be_served_is_said_within_seconds_and_disturbs_nobody(
    vllm: Engines, versions: list[ServedVersion], base_folder: Path, tmp_path: Path
):
    # given an adapter of a rank too large, one of another base, and one that was cut short
    wide = write_adapter(tmp_path / "wide", base_folder, seed=1, rank=32)
    stranger = write_adapter(tmp_path / "stranger", write_model(tmp_path / "other", layers=4), seed=1)
    cut = Path(shutil.copytree(str(versions[1].adapter_path), tmp_path / "cut"))
    (cut / "adapter_model.safetensors").write_bytes((cut / "adapter_model.safetensors").read_bytes()[:-50])
    pid, before = vllm.state()[0].pid, _greedy(vllm, "owl")
    # when they are to be served beside the others
    bad = {"wide": wide, "stranger": stranger, "cut": cut}
    vllm.serve([*versions, *(ServedVersion(name, str(base_folder), str(path)) for name, path in bad.items())])
    # then each is refused with its reason, and the others answer as before
    wait_until("all three are refused", 60, lambda: len(vllm.problems) == 3)
    assert "LoRA rank 32 is greater than max_lora_rank 16" in vllm.problems["wide"]
    assert "belongs to another base model" in vllm.problems["stranger"]
    assert "file not fully covered" in vllm.problems["cut"]
    assert _greedy(vllm, "owl") == before and vllm.state()[0].pid == pid


def test_an_adapter_whose_folder_is_deleted_does_not_end_the_server(
    vllm: Engines, versions: list[ServedVersion], tmp_path: Path
):
    copied = Path(shutil.copytree(str(versions[1].adapter_path), tmp_path / "copied"))
    vllm.serve([*versions, ServedVersion("copy", versions[0].base_path, str(copied))])
    vllm.wait_ready("copy")
    assert _greedy(vllm, "copy") == _greedy(vllm, "fox")
    for name in ("owl", "elk", "hen"):  # three others in two slots: it is put aside
        _greedy(vllm, name)
    pid = vllm.state()[0].pid
    shutil.rmtree(copied)
    wait_until("it is said", 60, lambda: "copy" in vllm.problems)
    assert _greedy(vllm, "hen") and vllm.state()[0].pid == pid


def test_an_engine_killed_while_it_samples_comes_back_and_nothing_is_stored_half(
    vllm: Engines, database: Database, base_folder: Path, versions: list[ServedVersion]
):
    # given a project whose pool is being filled
    for one in ("v0", "fox"):
        model_versions.add(database, version(one, base_path=str(base_folder), template=INSTRUCTION_TEMPLATE))
    prompts.add(database, some_prompts(8))
    sampling = Sampling(max_tokens=150)
    asked = projects.save(database, project(version_ids=("v0", "fox"), responses_per_prompt=4, sampling=sampling))
    sampler = Sampler(database, Queue(database, minimum_responses=lambda name: 2), vllm, ahead=8)
    before, pid, client = _greedy(vllm, "fox"), vllm.state()[0].pid, vllm.client("v0")[0]
    engine = _engine_of(pid)
    # when the engine is killed in the middle, before the first answer is whole
    filling = threading.Thread(target=sampler.fill)
    filling.start()
    wait_until("it samples", 60, lambda: client.load().running > 0, pause=0.001)
    os.kill(engine, signal.SIGKILL)
    filling.join()
    # then the error is shown, nothing is stored, the server is started again, and the pool fills
    assert "model server" in sampler.problem(asked) and responses.by_prompt(database, asked.id) == {}
    wait_until("it is seen", 30, lambda: vllm.state()[0].status == "restarting")
    vllm.wait_ready("v0", "fox", timeout=300)
    assert vllm.state()[0].pid != pid and _greedy(vllm, "fox") == before
    assert sampler.fill() == 8 and sampler.problem(asked) == ""
    assert [len(one) for one in responses.by_prompt(database, asked.id).values()] == [4] * 8


# ---- wrong starts


def test_where_vllm_is_not_installed_it_is_said_at_once(base_folder: Path, tmp_path: Path):
    assert "`make vllm` installs it" in _refused(base_folder, VLLM(environment=tmp_path), tmp_path)


def test_too_little_memory_is_said_before_it_starts(base_folder: Path, tmp_path: Path):
    skip_without_vllm()
    huge = Path(shutil.copytree(base_folder, tmp_path / "huge"))
    config = json.loads((huge / "config.json").read_text())
    (huge / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 50_000_000}))
    assert "vLLM needs about" in _refused(huge, VLLM(), tmp_path)


def test_a_setting_that_vllm_does_not_know_is_said_in_its_own_words(base_folder: Path, tmp_path: Path):
    skip_without_vllm()
    server = ModelServer(str(base_folder), tmp_path / "log", VLLM(arguments=("--max-lora-rank", "48")))
    wait_until("it has failed", 120, lambda: server.look() or server.status == "restarting")
    detail = server.detail
    server.stop()
    assert "--max-lora-rank: invalid choice: 48 (choose from 1, 8, 16" in detail


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            [
                "(Worker pid=32001) ERROR ValueError: Available memory on node 0 is less than requested (500.0 GiB).",
                "(EngineCore pid=31990) ERROR Exception: WorkerProc initialization failed due to an exception",
                "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
                "  warnings.warn('resource_tracker: There appear to be %d '",
            ],
            "Available memory on node 0 is less than requested (500.0 GiB).",
        ),
        (
            [
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
                "  Value error, User-specified max_model_len (4096) is greater than 256.",
                "    For further information visit",
            ],
            "User-specified max_model_len (4096) is greater than 256.",
        ),
        (["the disk is on fire"], "the disk is on fire"),
        ([], "nothing"),
    ],
)
def test_the_line_that_says_why_is_found(log: list[str], said: str):
    assert cause(log) == said


def test_it_makes_room_for_a_run_and_answers_the_same_after_it(
    vllm: Engines, versions: list[ServedVersion], shared: Database
):
    """On a processor it cannot sleep, so it ends and is started again."""
    before, leader = [_greedy(vllm, one.id) for one in versions], vllm.state()[0].pid
    assert leader is not None
    # when a run asks for the device, then it gets it once nothing is left of the server
    leases.due(shared, CPU, "dpo-01")
    wait_until("the run has it", 60, lambda: leases.list_all(shared)[0].holder == "dpo-01")
    assert not group(leader) and vllm.state()[0].status == "asleep" and not vllm.problems
    with pytest.raises(EngineUnavailable, match="the run dpo-01"):
        vllm.client("v0")
    # when it has ended, then every version answers as it did
    leases.due(shared, CPU, NOBODY)
    vllm.wait_ready(*(one.id for one in versions), timeout=300)
    assert [_greedy(vllm, one.id) for one in versions] == before


# ---- on a GPU

NEAR_ON_A_GPU = 1e-2  # logits so close together are a tie: its kernels multiply in fewer bits, and sum in other orders


@pytest.mark.gpu
def test_greedy_answers_on_a_gpu_of_base_and_four_adapters_in_one_batch_are_the_trainers(
    versions: list[ServedVersion], adapter_folders: dict[str, Path], tmp_path: Path
):
    if not gpus():
        pytest.skip("There is no NVIDIA GPU here.")
    skip_without_vllm()
    arguments = ("--dtype", "float32", "--max-lora-rank", "16", "--gpu-memory-utilization", "0.5")
    with Engines(tmp_path, VLLM((gpus()[0].name,), arguments)) as engines:
        found = differences_from_the_trainer(engines, versions, adapter_folders)
    print(*found, sep="\n")  # a tie is listed, and not hidden
    assert [one for one in found if one.gap >= NEAR_ON_A_GPU] == []


def differences_from_the_trainer(
    engines: Engines, versions: list[ServedVersion], adapters: dict[str, Path]
) -> list[Difference]:
    trainer = Trainer(Path(versions[0].base_path), adapters)
    texts = [f"Tell me about the {word} fox." for word in ("red", "old", "tiny", "brave", "silent", "golden")]
    ids = [tuple(trainer.tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    asked = [(version, prompt) for prompt in ids for version in ("base", *adapters)]
    engines.serve(versions)
    engines.wait_ready(*(one.id for one in versions), timeout=600)
    names = {name: engines.client(one.id)[1] for name, one in zip(("base", *adapters), versions, strict=True)}
    served = greedy_of_server(engines.client("v0")[0], names, asked, 32)
    return differences(trainer, "vLLM", asked, [trainer.greedy(one, 32) for one in asked], served)


# ---- the app is killed


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_nothing_is_left_of_it_when_the_app_is_killed_with_requests_in_flight(base_folder: Path, tmp_path: Path):
    skip_without_vllm()
    app = subprocess.Popen(
        [sys.executable, "-c", APP, str(base_folder), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert app.stdout is not None
    leader = int(app.stdout.readline())
    assert len(group(leader)) >= 4
    killed = time.monotonic()
    app.kill()
    app.wait()
    wait_until("nothing is left", 60, lambda: not group(leader), pause=0.05)
    assert time.monotonic() - killed < GONE_WITHIN


APP = """
import sys, threading
from pathlib import Path
from labeling.engines.supervisor import Engines, ServedVersion
from labeling.engines.vllm_server import VLLM

engines = Engines(Path(sys.argv[2]), VLLM())
engines.serve([ServedVersion("v0", sys.argv[1], None)])
engines.wait_ready("v0", timeout=300)
client, name = engines.client("v0")
asking = {"n": 8, "max_tokens": 200}
threading.Thread(target=lambda: [client.complete(name, "Hello", **asking) for _ in range(1000)], daemon=True).start()
while client.load().running == 0:
    pass
print(engines.state()[0].pid, flush=True)
threading.Event().wait()
"""


def _refused(base: Path, command: VLLM, folder: Path) -> str:
    server = ModelServer(str(base), folder / "log", command)
    server.look()
    assert server.status == "failed" and server.pid is None
    return server.detail


def _engine_of(leader: int | None) -> int:
    assert leader is not None
    return next(pid for pid in group(leader) if "EngineCore" in " ".join(psutil.Process(pid).cmdline()))


def _greedy(engines: Engines, version_id: str) -> str:
    client, name = engines.client(version_id)
    return client.complete(name, PROMPT, temperature=0, max_tokens=24)[0].text
