"""How runs are started: here as one process or several, and what becomes of a cluster that does not answer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from alignment import devices, launchers, run_directory, run_queue
from alignment.devices import Device
from alignment.launchers import Launch, LocalLauncher, local, ray
from alignment.launchers.environment import environment_for
from alignment.launchers.launch import accelerate_config, refuse_launch
from alignment.progress import read_lines
from storage import runs
from storage.errors import BadInput
from storage.records import Run
from tests.alignment.conftest import Lab
from tests.app_process import wait_until

CPU, GPU, GPU_2 = Device("cpu", "Processor", 8192), Device("cuda:0", "GPU 0", 0), Device("cuda:1", "GPU 1", 0)


def prepared(lab: Lab, **launch: Any) -> Run:
    snapshot = lab.freeze("preference")
    return run_queue.start_run(lab.database, "dpo", {}, snapshot.id, "v0", "eve", lab.home, launch)


@pytest.fixture(autouse=True)
def no_cluster_is_known() -> None:
    """Or one on a port that is used again would be taken for the one that was there."""
    launchers._ray.cache_clear()


# ---- what is refused


@pytest.mark.parametrize(
    ("launch", "sentence"),
    [
        ({"device": "cuda:0", "processes": 3}, "this machine has no cuda:2. Ask for fewer."),
        ({"device": "cuda:0", "sharding": "fsdp"}, "there is 1. Ask for 2 or more, or none."),
        ({"device": "cuda:0", "processes": 2, "sharding": "deepspeed_zero3"}, "DeepSpeed is not installed here."),
    ],
)
def test_gpus_and_packages_that_are_not_there_are_refused(launch: dict[str, Any], sentence: str):
    with pytest.raises(BadInput) as refused:
        refuse_launch(Launch(**launch), [GPU, GPU_2, CPU], "")
    assert sentence in str(refused.value)


def test_two_gpus_that_are_there_are_not_refused():
    refuse_launch(Launch(device="cuda:0", processes=2, sharding="fsdp"), [GPU, GPU_2, CPU], "")


def test_the_gpus_of_a_cluster_are_the_clusters_to_count():
    refuse_launch(Launch(where="ray", device="cuda:0", processes=8), [CPU], "http://127.0.0.1:8265")


# ---- several processes


@pytest.mark.parametrize(
    ("launch", "kind"),
    [
        ({"device": "cpu"}, "MULTI_GPU"),
        ({"device": "cuda:0"}, "MULTI_GPU"),
        ({"device": "cuda:0", "sharding": "fsdp"}, "FSDP"),
        ({"device": "cuda:0", "sharding": "deepspeed_zero2"}, "DEEPSPEED"),
        ({"device": "cuda:0", "sharding": "deepspeed_zero3"}, "DEEPSPEED"),
    ],
)
def test_accelerate_reads_what_is_written_for_it(tmp_path: Path, launch: dict[str, Any], kind: str):
    """By its own loader, and by the checks of `accelerate launch`, which name every key it does not know."""
    import yaml
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    file = tmp_path / run_directory.ACCELERATE
    file.write_text(yaml.safe_dump(accelerate_config(Launch(**launch, processes=2))))
    config = load_config_from_file(str(file))
    assert (config.distributed_type.value, config.num_processes) == (kind, 2)
    given = launch_command_parser().parse_args(["--config_file", str(file), "-m", "alignment.train", "d"])
    checked, _, _ = _validate_launch_command(given)
    assert checked.use_fsdp == (kind == "FSDP") and checked.use_deepspeed == (kind == "DEEPSPEED")
    if kind == "DEEPSPEED":
        assert checked.zero_stage == int(launch["sharding"][-1])


@pytest.mark.skipif(devices.cores() < 2, reason="two processes want two cores")
def test_two_processes_train_one_adapter(training_lab: Lab):
    run = training_lab.follow_until(prepared(training_lab, processes=2), patience=240)
    assert run.state == "succeeded", (Path(run.directory) / "log.txt").read_text()[-3000:]
    points, _ = read_lines(Path(run.directory) / run_directory.METRICS, 0)
    steps = [point["step"] for point in points if "loss" in point]
    assert steps == sorted(set(steps)) and len(steps) == 12  # 24 rows twice in batches of 4, told by one of the two


# ---- a process here


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has a launcher start another Python program in place of a training."""

    def program(text: str) -> None:
        monkeypatch.setattr(local, "command", lambda launch, directory: [sys.executable, "-c", text])

    return program


def test_a_process_sees_the_devices_of_its_run(lab: Lab, instead: Any):
    instead("import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))")
    directory = Path(prepared(lab, device="cpu").directory)
    launcher = LocalLauncher()
    launcher.submit(directory)
    assert until_it_is(launcher, directory, "killed") and launcher.logs(directory).strip() == "''"


SETTINGS = """
[judges.house]
url = "https://judge.example.org"
model = "big"
key_env = "JUDGE_KEY"
[judges.other]
url = "https://other.example.org"
model = "big"
key_env = "OTHER"
[endpoints.teacher]
url = "https://teacher.example.org"
model = "big"
key_env = "TEACHER_KEY"
"""
KEYS = ("JUDGE_KEY", "OTHER", "TEACHER_KEY", "PLUMBLINE_ENGINE_KEY", "PLUMBLINE_SAMPLING_KEY")


@pytest.fixture
def with_keys(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    (lab.home / "settings.toml").write_text(SETTINGS)
    for name in (*KEYS, "WANDB_API_KEY"):
        monkeypatch.setenv(name, "secret")
    return lab


def test_a_run_gets_the_keys_of_nobody_else(with_keys: Lab, instead: Any):
    instead("import os; print(sorted(name for name, value in os.environ.items() if value == 'secret'))")
    directory = Path(prepared(with_keys, device="cpu").directory)
    launcher = LocalLauncher()
    launcher.submit(directory)
    assert until_it_is(launcher, directory, "killed")
    assert launcher.logs(directory).strip() == "['WANDB_API_KEY']"  # of the tracker that a run may report to


@pytest.mark.parametrize(
    ("described", "own"),
    [
        ({"scored_by": {"kind": "judge", "name": "house", "key_env": "JUDGE_KEY"}}, {"JUDGE_KEY"}),
        ({"scored_by": {"kind": "function", "name": "short", "at": "a:b"}, "gold": None}, set()),
        ({"gold": {"kind": "judge", "name": "other", "key_env": "OTHER"}}, {"OTHER"}),
        ({"sampled_by": "http://127.0.0.1:8000"}, {"PLUMBLINE_SAMPLING_KEY"}),
        ({"sampled_by": "", "scored_by": {"kind": "judge", "name": "here", "key_env": ""}}, set()),
    ],
)
def test_a_run_gets_its_own_keys(with_keys: Lab, described: dict[str, Any], own: set[str]):
    assert set(KEYS) & set(environment_for(described, with_keys.home)) == own


def test_an_ended_process_is_no_zombie_also_where_nobody_asks_for_it(lab: Lab, instead: Any):
    instead("pass")
    launcher = LocalLauncher()
    directory = Path(prepared(lab).directory)
    launcher.submit(directory)
    wait_until("it is gone", 120, lambda: not psutil.pid_exists(launcher._children[directory].pid), pause=0.05)


def test_a_run_whose_gpu_has_gone_since_fails_and_does_not_train_on_the_processor(lab: Lab):
    run = prepared(lab)
    told = run_directory.read_run(Path(run.directory))
    there = {**told, "launch": {**told["launch"], "device": "cuda:7"}}
    run_directory.write_json(Path(run.directory) / run_directory.RUN, there)
    ended = lab.follow_until(run)
    assert ended.state == "failed" and "this machine has no cuda:7" in ended.message


def test_a_process_that_dies_before_it_trains_is_seen_at_once(lab: Lab, instead: Any):
    instead("raise SystemExit('no such module')")
    run = prepared(lab)
    ended = lab.follow_until(run)
    assert ended.state == "killed"
    assert "no such module" in LocalLauncher().logs(Path(run.directory))


def test_a_process_that_is_slow_to_begin_is_not_given_up_while_it_lives(lab: Lab, instead: Any):
    instead("import time; time.sleep(60)")
    directory = Path(prepared(lab).directory)
    launcher = LocalLauncher()
    launcher.submit(directory)
    long_ago = time.time() - 2 * run_directory.STARTING_SECONDS
    os.utime(directory / run_directory.LOG, (long_ago, long_ago))
    assert (launcher.status(directory), LocalLauncher().status(directory)) == ("starting", "killed")
    child = launcher._children[directory]
    child.kill()
    child.wait()
    assert launcher.status(directory) == "killed"


def until_it_is(launcher: LocalLauncher, directory: Path, state: str) -> bool:
    deadline = time.monotonic() + 120
    while launcher.status(directory) != state and time.monotonic() < deadline:
        time.sleep(0.05)
    return launcher.status(directory) == state


# ---- a cluster that is not there


@pytest.fixture
def away(lab: Lab) -> Iterator[Lab]:
    """A lab whose settings name a cluster on a port where nothing listens, and nobody else may while it is held."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        name_cluster(lab, held.getsockname()[1])
        yield lab


def name_cluster(lab: Lab, port: int) -> None:
    (lab.home / "settings.toml").write_text(f'ray_address = "http://127.0.0.1:{port}"\n')


def one_pass(lab: Lab) -> None:
    run_queue.follow(lab.database, on_version=lambda version: None)


def test_a_cluster_that_does_not_answer_leaves_the_run_in_line_and_says_so(away: Lab):
    run = prepared(away, where="ray")
    one_pass(away)
    one_pass(away)
    said = run_directory.read_submission(Path(run.directory))
    assert said and "does not answer" in said["sentence"]
    assert runs.get(away.database, run.id).state in ("waiting", "training")
    assert not (Path(run.directory) / run_directory.LOG).exists()


def test_a_cluster_that_does_not_answer_is_not_asked_at_each_pass(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray, "TIMEOUT", 0.2)  # nobody will answer
    monkeypatch.setattr(ray, "AWAY_SECONDS", 600.0)  # however long the ten passes take
    with socket.create_server(("127.0.0.1", 0)) as silent:  # whoever asks there waits
        silent.setblocking(False)
        name_cluster(lab, silent.getsockname()[1])
        prepared(lab, where="ray")
        for _ in range(10):
            one_pass(lab)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # nobody asked a second time
            silent.accept()


def test_a_run_for_a_cluster_that_does_not_answer_can_be_stopped_and_never_starts(away: Lab):
    run = prepared(away, where="ray")
    one_pass(away)
    run_queue.stop_run(away.database, run.id)
    one_pass(away)
    assert runs.get(away.database, run.id).state == "stopped"
    command = [sys.executable, "-m", "alignment.train", run.directory]  # as if the cluster came back and started it
    late = subprocess.run(command, cwd=local.REPOSITORY, capture_output=True, text=True, check=False)
    assert late.returncode == 1 and "over already" in late.stderr
    assert runs.get(away.database, run.id).message == ray.STOPPED_IN_LINE


def test_runs_here_are_not_held_up_by_a_cluster(away: Lab, instead: Any):
    instead("raise SystemExit(0)")
    prepared(away, where="ray")
    here = prepared(away)
    assert away.follow_until(here).state == "killed"  # it was started, though it came second


class ForgetfulRay(BaseHTTPRequestHandler):
    """A cluster that took every job out of its line, in the words of Ray, and knows none that was deleted."""

    jobs: ClassVar[dict[str, str]] = {}
    submitted: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.submitted.append(asked["submission_id"])
        self.jobs[asked["submission_id"]] = "Job supervisor actor failed to start within 900.0 seconds."
        self._answer(200, {"submission_id": asked["submission_id"]})

    def do_DELETE(self) -> None:
        del self.jobs[self.path.rsplit("/", 1)[1]]
        self._answer(200, {"deleted": True})

    def do_GET(self) -> None:
        known = self.jobs.get(self.path.rsplit("/", 1)[1])
        if self.path == "/api/version":
            self._answer(200, {"version": "4", "ray_version": "2.60.0"})
        else:
            self._answer(200 if known else 404, {"status": "FAILED", "message": known})

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *given: Any) -> None:
        pass


def test_a_job_that_ray_took_out_of_its_line_after_a_quarter_of_an_hour_is_handed_over_again(lab: Lab):
    with ThreadingHTTPServer(("127.0.0.1", 0), ForgetfulRay) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (lab.home / "settings.toml").write_text(f'ray_address = "http://127.0.0.1:{server.server_port}"\n')
        run = prepared(lab, where="ray")
        for _ in range(3):
            one_pass(lab)
        server.shutdown()
    job = ray.job_name(Path(run.directory))
    assert ForgetfulRay.submitted[:2] == [job, job] and runs.get(lab.database, run.id).state in ("waiting", "training")


class Stranger(BaseHTTPRequestHandler):
    """Some other service, which answers whatever it is asked in the same words."""

    words: ClassVar[bytes] = b""
    told: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.words)

    def do_POST(self) -> None:
        self.told.append(self.path)
        self.do_GET()

    def log_message(self, *given: Any) -> None:
        pass


@pytest.mark.parametrize("words", [b'{"hello": "world"}', b"[1]", b"<html>Grafana</html>"])
def test_a_service_that_is_not_ray_is_told_nothing_and_the_run_says_what_was_found(
    lab: Lab, words: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Stranger, "words", words)
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        (lab.home / "settings.toml").write_text(f'ray_address = "{address}"\n')
        run = prepared(lab, where="ray")
        one_pass(lab)
        server.shutdown()
    stored = runs.get(lab.database, run.id)
    assert stored.state == "failed" and Stranger.told == []
    assert stored.message.startswith(
        f"What answers at {address} is no Ray dashboard: asked for its version, it said 200 OK, '{words.decode()}'."
    )


def test_a_job_is_named_by_its_run_its_attempt_and_its_home(lab: Lab):
    directory = Path(prepared(lab).directory)
    first = ray.job_name(directory)
    run_directory.reopen(directory)
    assert first.startswith("dpo-01-1-") and ray.job_name(directory) == first.replace("dpo-01-1-", "dpo-01-2-")
