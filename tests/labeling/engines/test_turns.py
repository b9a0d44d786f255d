"""Model servers make room for a run and come back after it: stopped and started here, asleep where a server can sleep.

What a GPU does is in the test marked `gpu`; vLLM on a processor is in test_vllm_server.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from alignment.devices import gpus
from labeling.engines import server_with_adapters
from labeling.engines.supervisor import Engines, ServedVersion
from labeling.engines.turns import Turns
from labeling.engines.vllm_server import VLLM
from storage import leases
from storage.database import Database
from storage.errors import EngineUnavailable, ModelNotLoadable
from storage.leases import CPU, NOBODY, SERVER
from storage.records import now
from tests.app_process import wait_until
from tests.vllm_process import skip_without_vllm

PROMPT = "Tell me about the red fox."


@pytest.fixture
def versions(base_folder: Path, adapter_folders: dict[str, Path]) -> list[ServedVersion]:
    return [
        ServedVersion("v0", str(base_folder), None),
        ServedVersion("v1", str(base_folder), str(adapter_folders["fox"])),
    ]


@pytest.fixture
def engines(database: Database, tmp_path: Path) -> Iterator[Engines]:
    """That serve nothing yet."""
    with Engines(tmp_path / "logs", turns=Turns(database, [CPU])) as engines:
        yield engines


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database.open(tmp_path_factory.mktemp("home") / "plumbline.duckdb")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def engines_of_module(shared: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with Engines(tmp_path_factory.mktemp("logs"), turns=Turns(shared, [CPU])) as engines:
        yield engines


@pytest.fixture
def awake(engines_of_module: Engines, versions: list[ServedVersion], shared: Database) -> Engines:
    """They answer for both versions; a server takes seconds to start, so some tests share one."""
    leases.due(shared, CPU, NOBODY)
    engines_of_module.serve(versions)
    engines_of_module.wait_ready("v0", "v1")
    return engines_of_module


def holder(database: Database) -> str:
    return leases.list_all(database)[0].holder


def wait_for_hand_over(database: Database, run_id: str) -> None:
    wait_until(f"{run_id} has the device", 60, lambda: holder(database) == run_id, pause=0.05)


def answer(engines: Engines, version_id: str, **how: int) -> str:
    client, name = engines.client(version_id)
    return client.complete(name, PROMPT, temperature=0, **{"max_tokens": 24, **how})[0].text


def status(engines: Engines) -> str:
    return engines.state()[0].status


def test_a_run_that_no_longer_waits_leaves_the_server_as_it_is(awake: Engines, shared: Database):
    pid, (client, name) = awake.state()[0].pid, awake.client("v1")
    with client.usage.asking(name):  # a long answer is under way
        leases.due(shared, CPU, "dpo-01")
        wait_until("it makes room", 60, lambda: status(awake) == "making room", pause=0.05)
        with pytest.raises(EngineUnavailable, match="makes room for the run dpo-01"):
            awake.client("v0")
        leases.due(shared, CPU, NOBODY)
        awake.wait_ready("v0", "v1")
    assert awake.state()[0].pid == pid and holder(shared) == SERVER


def test_servers_make_room_for_a_run_and_answer_as_before_after_it(awake: Engines, shared: Database):
    before, pid = [answer(awake, one) for one in ("v0", "v1")], awake.state()[0].pid
    assert holder(shared) == SERVER and pid is not None
    # when a run asks for the device, then it gets it once nothing of the server is left
    leases.due(shared, CPU, "dpo-01")
    wait_for_hand_over(shared, "dpo-01")
    assert not Path(f"/proc/{pid}").exists()
    # then whoever asks is told why, and no version has a problem
    wait_until("it is said", 60, lambda: "asleep while" in awake.state()[0].detail)
    with pytest.raises(EngineUnavailable, match="asleep while the run dpo-01 trains on the processor"):
        awake.client("v1")
    assert status(awake) == "asleep" and not awake.problems and awake.state()[0].pid is None
    # when it has ended, then both answer as they did
    leases.due(shared, CPU, NOBODY)
    awake.wait_ready("v0", "v1")
    assert [answer(awake, one) for one in ("v0", "v1")] == before and holder(shared) == SERVER


def test_what_is_being_answered_comes_to_its_end_first(awake: Engines, shared: Database):
    whole = answer(awake, "v1", max_tokens=200)
    client, _ = awake.client("v1")
    before = client.usage.of("v1").requests

    def all_are_asked() -> bool:
        used = client.usage.of("v1")  # one may have come to its end already
        return used.requests - before + used.in_flight == 4

    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(answer, awake, "v1", max_tokens=200) for _ in range(4)]
        wait_until("they are asked", 60, all_are_asked, pause=0.001)
        leases.due(shared, CPU, "dpo-01")
        assert {one.result() for one in asked} == {whole}
    wait_for_hand_over(shared, "dpo-01")


def test_after_a_restart_the_servers_wait_for_the_run_that_outlived_the_app(
    versions: list[ServedVersion], database: Database, tmp_path: Path
):
    leases.share(database, [CPU])
    end = now() + timedelta(hours=1)
    leases.due(database, CPU, "dpo-01", free_at=end)
    with Engines(tmp_path, turns=Turns(database, [CPU])) as engines:
        engines.serve(versions)
        wait_until("it is said", 60, lambda: engines.state() and status(engines) == "asleep")
        said = engines.state()[0].detail
        assert f"again when that ends, near {end.astimezone():%H:%M}" in said and engines.state()[0].pid is None
        leases.due(database, CPU, NOBODY)
        engines.wait_ready("v0", "v1")


def test_where_nothing_is_served_the_device_is_nobodys(engines: Engines, database: Database):
    leases.take(database, CPU)  # as an app that served something has left it
    wait_until("it is given back", 60, lambda: holder(database) == NOBODY)
    leases.due(database, CPU, "dpo-01")
    assert holder(database) == "dpo-01"


def test_a_server_that_is_still_starting_makes_room_at_once(
    engines: Engines, versions: list[ServedVersion], database: Database
):
    engines.serve(versions)
    wait_until("it is starting", 60, lambda: engines.state() and engines.state()[0].pid)
    leases.due(database, CPU, "dpo-01")
    wait_for_hand_over(database, "dpo-01")
    assert status(engines) == "asleep"


# ---- a server that knows how to sleep


def sleepy(base: Path, name: str, port_file: Path) -> list[str]:
    return [sys.executable, "-c", SLEEPY, str(port_file)]


def test_a_server_that_can_sleep_is_woken_with_its_adapters_put_on_again(
    versions: list[ServedVersion], database: Database, tmp_path: Path
):
    with Engines(tmp_path, sleepy, turns=Turns(database, [CPU])) as engines:
        engines.serve(versions)
        engines.wait_ready("v0", "v1")
        client, _ = engines.client("v1")
        pid = engines.state()[0].pid
        leases.due(database, CPU, "dpo-01")
        wait_for_hand_over(database, "dpo-01")
        assert engines.state()[0].pid == pid and client.models() == ["base"]
        for ask in (lambda: client.tokenize("v1", PROMPT), lambda: client.complete("v1", PROMPT)):
            with pytest.raises(
                EngineUnavailable, match="makes room for the run dpo-01"
            ):  # who got it before, and is late
                ask()
        leases.due(database, CPU, NOBODY)
        engines.wait_ready("v0", "v1")
        assert engines.state()[0].pid == pid and client.models() == ["base", "v1"]


def test_an_answer_without_end_holds_up_no_run(
    versions: list[ServedVersion], database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server_with_adapters, "PATIENCE_SECONDS", 0.5)
    with Engines(tmp_path, sleepy, turns=Turns(database, [CPU])) as engines:
        engines.serve(versions)
        engines.wait_ready("v1")
        client, name = engines.client("v1")
        with client.usage.asking(name):
            leases.due(database, CPU, "dpo-01")
            wait_for_hand_over(database, "dpo-01")


def test_a_server_that_does_not_wake_is_started_anew(versions: list[ServedVersion], database: Database, tmp_path: Path):
    with Engines(tmp_path, sleepy, turns=Turns(database, [CPU])) as engines:
        engines.serve(versions)
        engines.wait_ready("v1")
        leases.due(database, CPU, "dpo-01")
        wait_for_hand_over(database, "dpo-01")
        pid = engines.state()[0].pid
        assert pid is not None
        os.killpg(pid, signal.SIGKILL)
        leases.due(database, CPU, NOBODY)
        engines.wait_ready("v0", "v1")
        assert engines.state()[0].pid != pid


SLEEPY = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

loaded, asleep, GPU = [], False, os.environ.get("CUDA_VISIBLE_DEVICES", "")

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        cards = [{"id": "base"}, *({"id": name, "parent": "base"} for name in loaded)]
        self.answer({"data": cards, "name": "sleepy", "version": GPU, "is_sleeping": asleep})

    def do_POST(self):
        global asleep
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/sleep?level=1":
            assert not loaded, "adapters are taken off first"
            asleep = True
        elif self.path == "/wake_up":
            asleep = False
        elif self.path == "/v1/load_lora_adapter":
            loaded.append(json.loads(body)["lora_name"])
        else:
            loaded.remove(json.loads(body)["lora_name"])
        self.answer({})

    def answer(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

port = int(sys.argv[sys.argv.index("--port") + 1]) if "--port" in sys.argv else 0
server = HTTPServer(("127.0.0.1", port), Handler)
if not port:
    open(sys.argv[1], "w").write(str(server.server_port))
server.serve_forever()
"""


# ---- several bases on GPUs, which a test plays


GPUS = ("cuda:0", "cuda:1", "cuda:2")


@pytest.fixture
def vllm_of_paper(tmp_path: Path) -> Path:
    """An environment of vLLM whose program is the sleepy server."""
    folder = tmp_path / "vllm"
    (folder / "bin").mkdir(parents=True)
    (folder / "vllm").touch()
    (folder / "bin" / "python").write_text(f"#!{sys.executable}\n{SLEEPY}")
    (folder / "bin" / "python").chmod(0o755)
    return folder


@pytest.fixture
def two_bases(base_folder: Path, tmp_path: Path) -> list[ServedVersion]:
    """A base, and all weights of it trained."""
    whole = shutil.copytree(base_folder, tmp_path / "whole")
    return [ServedVersion("v0", str(base_folder), None), ServedVersion("whole", str(whole), None)]


def test_a_second_base_that_finds_no_gpu_says_who_has_it_and_gets_its_turn(
    two_bases: list[ServedVersion],
    vllm_of_paper: Path,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(server_with_adapters, "TRY_AGAIN_SECONDS", 600.0)  # no later try is what helps
    first, second = two_bases
    command = VLLM(GPUS[:1], environment=vllm_of_paper, sleeps=True)
    with Engines(tmp_path / "logs", command, turns=Turns(database, GPUS[:1])) as engines:
        engines.serve(two_bases)
        engines.wait_ready("v0")
        wait_until("it is said", 60, lambda: "whole" in engines.problems)
        assert f"GPU 0 by the server of {first.base_path}." in engines.problems["whole"]
        with pytest.raises(ModelNotLoadable, match="this one is started by itself"):
            engines.client("whole")
        # then nothing was started for it, and a run takes turns with the other alone
        assert [state.pid is None for state in engines.state()] == [False, True]
        leases.due(database, "cuda:0", "dpo-01")
        wait_for_hand_over(database, "dpo-01")
        leases.due(database, "cuda:0", NOBODY)
        engines.wait_ready("v0")
        # when the first is wanted no more, then the second is served, and not only at some later try
        engines.serve([second])
        wait_until("it is served", 60, lambda: engines.ready("whole"), pause=0.05)
        assert [state.engine for state in engines.state()] == ["sleepy 0"]


def test_each_base_has_its_own_gpu_and_rests_for_a_run_on_that_one_only(
    two_bases: list[ServedVersion], vllm_of_paper: Path, database: Database, tmp_path: Path
):
    with Engines(tmp_path / "logs", VLLM(GPUS, (), vllm_of_paper, True), turns=Turns(database, GPUS)) as engines:
        engines.serve(two_bases)
        engines.wait_ready("v0", "whole")
        assert [state.engine for state in engines.state()] == ["sleepy 0", "sleepy 1"]
        assert [lease.holder for lease in leases.list_all(database)] == [SERVER, SERVER, NOBODY]
        # when a run asks for the second, then only the server there makes room
        leases.due(database, "cuda:1", "dpo-01")
        wait_until("the run has it", 60, lambda: leases.list_all(database)[1].holder == "dpo-01", pause=0.05)
        with pytest.raises(EngineUnavailable, match=r"run dpo-01 (trains )?on GPU 1"):
            engines.client("whole")
        assert engines.ready("v0") and [state.status for state in engines.state()] == ["ready", "asleep"]
        leases.due(database, "cuda:1", NOBODY)
        engines.wait_ready("v0", "whole")


def test_a_base_whose_gpu_a_run_has_waits_for_it_before_it_starts(
    two_bases: list[ServedVersion], vllm_of_paper: Path, database: Database, tmp_path: Path
):
    leases.share(database, GPUS)
    leases.due(database, "cuda:0", "dpo-01")
    with Engines(tmp_path / "logs", VLLM(GPUS, (), vllm_of_paper, True), turns=Turns(database, GPUS)) as engines:
        engines.serve(two_bases)
        engines.wait_ready("whole")
        assert [(state.status, state.pid is None) for state in engines.state()] == [("asleep", True), ("ready", False)]
        leases.due(database, "cuda:0", NOBODY)
        engines.wait_ready("v0")


# ---- on a GPU


@pytest.mark.gpu
def test_vllm_frees_the_gpu_while_it_sleeps_and_answers_the_same_when_it_has_woken(
    versions: list[ServedVersion], database: Database, tmp_path: Path
):
    if not gpus():
        pytest.skip("There is no NVIDIA GPU here.")
    skip_without_vllm()
    gpu = gpus()[0].name
    command = VLLM((gpu,), ("--max-lora-rank", "16", "--gpu-memory-utilization", "0.5"), sleeps=True)
    with Engines(tmp_path, command, turns=Turns(database, [gpu])) as engines:
        engines.serve(versions)
        engines.wait_ready("v0", "v1", timeout=600)
        before, pid, held = [answer(engines, one.id) for one in versions], engines.state()[0].pid, used_mb()
        leases.due(database, gpu, "dpo-01")
        wait_for_hand_over(database, "dpo-01")
        assert used_mb() < held / 4 and engines.state()[0].pid == pid
        woken = time.monotonic()
        leases.due(database, gpu, NOBODY)
        engines.wait_ready("v0", "v1", timeout=600)
        print(f"awake after {time.monotonic() - woken:.1f} s")
        assert [answer(engines, one.id) for one in versions] == before and engines.state()[0].pid == pid


def used_mb() -> int:
    """Of the first GPU."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
