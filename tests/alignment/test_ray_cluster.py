"""Runs on a real Ray cluster of one machine: in its line, training, stopped, resumed, refused."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from alignment import run_directory, run_queue
from alignment.launchers import ray
from alignment.progress import read_lines
from storage.records import Run
from tests.alignment import ray_head
from tests.alignment.conftest import Lab, make_lab

PATIENCE = 60.0  # seconds, for one answer
EVERYTHING = "PLUMBLINE_TEST_EVERYTHING"  # of .ci/run, where a skipped test would go unseen


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    if not ray_head.RAY.exists():
        (pytest.fail if os.environ.get(EVERYTHING) else pytest.skip)(ray_head.NO_RAY)
    with ray_head.cluster() as address, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "TIMEOUT", PATIENCE)  # its dashboard is slow where the machine is busy
        yield address


@pytest.fixture
def ray_lab(tmp_path: Path, tiny_base: Path, cluster: str) -> Iterator[Lab]:
    (tmp_path / "settings.toml").write_text(f'ray_address = "{cluster}"\n')
    made = make_lab(tmp_path, tiny_base)
    yield made
    made.database.close()


def start(lab: Lab, device: str = "cpu", **settings: int) -> Run:
    launch = {"where": "ray", "device": device}
    snapshot = lab.freeze("preference")
    return run_queue.start_run(lab.database, "dpo", settings, snapshot.id, "v0", "eve", lab.home, launch)


def until(lab: Lab, happened: Callable[[], bool], patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < deadline
        run_queue.follow(lab.database, on_version=lambda version: None)
        time.sleep(0.2)


def sentence(run: Run) -> str:
    return str((run_directory.read_submission(Path(run.directory)) or {"sentence": ""})["sentence"])


def test_a_run_trains_on_the_cluster_stops_with_a_checkpoint_and_is_resumed_there(ray_lab: Lab, cluster: str):
    run = start(ray_lab, epochs=10)
    directory = Path(run.directory)
    until(ray_lab, lambda: len(read_lines(directory / run_directory.METRICS, 0)[0]) > 3)
    ray_lab.follow_until(run, "training")
    run_queue.stop_run(ray_lab.database, run.id)
    stopped = ray_lab.follow_until(run)
    assert stopped.state == "stopped" and run_directory.newest_checkpoint(directory) is not None

    run_queue.resume_run(ray_lab.database, run.id)
    ended = ray_lab.follow_until(run)
    assert (ended.state, ended.version_id) == ("succeeded", "v1"), ended.message
    assert "succeeded" in (directory / run_directory.LOG).read_text()  # it printed into its own log, not into Ray's
    jobs = {job["submission_id"] for job in httpx.get(f"{cluster}/api/jobs/", timeout=PATIENCE).json()}
    assert {name.rsplit("-", 1)[0] for name in jobs} == {f"{run.id}-1", f"{run.id}-2"}  # however often it was followed


def test_a_run_that_the_cluster_has_no_room_for_says_so_and_can_be_stopped(ray_lab: Lab, cluster: str):
    run = start(ray_lab, device="cuda:0")
    until(ray_lab, lambda: "waiting for resources" in sentence(run))
    assert "In the line of the Ray cluster" in sentence(run)
    run_queue.stop_run(ray_lab.database, run.id)  # at once, though Ray itself lets go of it only when its turn comes
    assert ray_lab.follow_until(run).message == ray.STOPPED_IN_LINE


def test_a_run_that_is_handed_over_twice_is_one_job(ray_lab: Lab, cluster: str):
    run = start(ray_lab, device="cuda:0")
    launcher = ray.RayLauncher(cluster)
    for _ in range(2):  # as by an app that died between handing over and noting it
        launcher.submit(Path(run.directory))
    job = ray.job_name(Path(run.directory))
    jobs = httpx.get(f"{cluster}/api/jobs/", timeout=PATIENCE).json()
    assert [one["submission_id"] for one in jobs].count(job) == 1
    launcher.stop(Path(run.directory))


def test_a_job_that_ends_before_it_trains_fails_in_the_words_of_the_cluster(
    ray_lab: Lab, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ray, "command", lambda launch, directory: ["sh", "-c", "exit 3"])
    run = ray_lab.follow_until(start(ray_lab))
    assert run.state == "killed" and "ended the run before it began to train" in run.message
    assert "exit code 3" in run.message
