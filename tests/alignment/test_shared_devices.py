"""Runs take turns with the model servers, here with servers that a test plays and a launcher that starts nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from alignment import devices, run_directory, run_queue, shared_devices
from alignment.devices import CPU, Device
from alignment.launchers.launch import Launch
from alignment.run_directory import Outcome
from storage import leases, runs
from storage.leases import NOBODY, SERVER
from storage.records import Run, now
from tests import makers
from tests.alignment.conftest import Lab
from tests.alignment.test_run_queue import PaperLauncher, end, one_pass


@pytest.fixture
def launcher() -> PaperLauncher:
    return PaperLauncher()


@pytest.fixture
def served(lab: Lab) -> Lab:
    """Where the servers have the processor, and take turns with runs."""
    leases.share(lab.database, [CPU])
    leases.take(lab.database, CPU)
    return lab


def held(lab: Lab) -> tuple[str, str]:
    (lease,) = leases.list_all(lab.database)
    return lease.holder, lease.wanted_by


def handed_over(lab: Lab, launcher: PaperLauncher) -> Run:
    """A run that trains because the servers made room."""
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    leases.hand_over(lab.database, CPU)
    one_pass(lab, launcher)
    return run


def test_a_run_starts_when_the_servers_have_made_room_and_not_before(served: Lab, launcher: PaperLauncher):
    run = served.start("dpo", served.freeze("preference"))
    one_pass(served, launcher)
    one_pass(served, launcher)
    assert held(served) == (SERVER, run.id) and launcher.submitted == []
    leases.hand_over(served.database, CPU)
    one_pass(served, launcher)
    assert held(served) == (run.id, NOBODY) and launcher.submitted == [run.id]


@pytest.mark.parametrize("how", ["succeeded", "failed", "stopped", "killed", "gone"])
def test_however_a_run_ends_its_device_is_free_again(served: Lab, launcher: PaperLauncher, how: str):
    run = handed_over(served, launcher)
    directory = Path(run.directory)
    if how == "killed":
        (directory / run_directory.LOCK).write_text("12345")
    elif how == "gone":
        directory.rename(directory.with_name("elsewhere"))
    else:
        end(run, Outcome(how, "It ended.", steps=1, seconds=1.0, fingerprint="abc"))  # type: ignore[arg-type]  # one of three
    one_pass(served, launcher)
    assert held(served) == (NOBODY, NOBODY)


def test_a_run_that_cannot_be_started_keeps_nothing(served: Lab, launcher: PaperLauncher):
    launcher.broken.add("dpo-01")
    run = handed_over(served, launcher)
    assert runs.get(served.database, run.id).state == "failed"
    one_pass(served, launcher)
    assert held(served) == (NOBODY, NOBODY)


def test_an_app_that_was_killed_finds_whose_the_device_is(served: Lab, launcher: PaperLauncher):
    """Everything is read again from storage and the directories, so a pass is a restart."""
    run = handed_over(served, launcher)
    leases.share(served.database, [CPU])  # as the next app does
    leases.take(served.database, CPU)
    one_pass(served, launcher)
    assert held(served) == (run.id, NOBODY)
    (Path(run.directory) / run_directory.LOCK).write_text("12345")  # killed while no app was there
    one_pass(served, launcher)
    leases.take(served.database, CPU)
    assert held(served) == (SERVER, NOBODY)


def test_the_next_in_line_gets_the_device_without_the_servers_in_between(served: Lab, launcher: PaperLauncher):
    first = handed_over(served, launcher)
    second = served.start("dpo", served.freeze("preference", 25))
    end(first)
    one_pass(served, launcher)
    assert held(served) == (second.id, NOBODY) and launcher.submitted == [first.id, second.id]


def test_a_run_taken_out_of_the_line_is_waited_for_no_more(served: Lab, launcher: PaperLauncher):
    run = served.start("dpo", served.freeze("preference"))
    one_pass(served, launcher)
    run_queue.stop_run(served.database, run.id, launcher)
    one_pass(served, launcher)
    assert held(served) == (SERVER, NOBODY)


def test_a_run_stopped_just_after_the_hand_over_gives_the_device_back(served: Lab, launcher: PaperLauncher):
    run = served.start("dpo", served.freeze("preference"))
    one_pass(served, launcher)
    leases.hand_over(served.database, CPU)
    run_queue.stop_run(served.database, run.id, launcher)
    one_pass(served, launcher)
    assert held(served) == (NOBODY, NOBODY) and launcher.submitted == []


def test_a_process_that_has_not_gone_yet_still_has_its_memory(served: Lab, launcher: PaperLauncher):
    run = handed_over(served, launcher)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (Path(run.directory) / run_directory.LOCK).write_text(str(process.pid))
    end(run)
    one_pass(served, launcher)
    assert held(served) == (run.id, NOBODY) and runs.get(served.database, run.id).state == "succeeded"
    process.kill()
    process.wait()
    one_pass(served, launcher)
    assert held(served) == (NOBODY, NOBODY)


def test_runs_elsewhere_take_no_lease_and_wait_for_none(served: Lab):
    leases.share(served.database, ["cuda:0"])
    leases.take(served.database, "cuda:0")
    waiting = [
        makers.run("far", launch={"where": "ray", "device": "cuda:0", "address": "http://head:8265"}),
        makers.run("other", launch={"device": "cuda:1"}),
        makers.run("processor", launch={"device": CPU}),
    ]
    shared_devices.settle(served.database, [], waiting, waiting)
    assert held(served) == (SERVER, NOBODY)
    assert all(shared_devices.may_start(served.database, run) for run in waiting)


def test_a_run_on_two_gpus_needs_the_lease_of_the_one_that_is_shared(served: Lab):
    leases.share(served.database, ["cuda:1"])
    leases.take(served.database, "cuda:1")
    run = makers.run("wide", launch={"device": "cuda:0", "processes": 2})
    shared_devices.settle(served.database, [], [run], [run])
    assert held(served) == (SERVER, "wide") and not shared_devices.may_start(served.database, run)
    leases.hand_over(served.database, "cuda:1")
    assert shared_devices.may_start(served.database, run)


def test_a_run_that_names_no_gpu_takes_one_that_puts_no_server_to_sleep(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    both = (Device("cuda:0", "GPU 0", 80_000), Device("cuda:1", "GPU 1", 80_000))
    monkeypatch.setattr(devices, "gpus", lambda: both)
    leases.share(lab.database, ["cuda:0", "cuda:1"])
    leases.take(lab.database, "cuda:0")
    chosen = [lab.start("dpo", lab.freeze("preference", rows)).launch["device"] for rows in (24, 25, 26)]
    assert chosen == ["cuda:1", "cuda:0", "cuda:1"]


def test_a_run_that_could_not_start_yet_puts_nobody_to_sleep(served: Lab):
    """It waits for another GPU besides."""
    leases.share(served.database, ["cuda:0"])
    leases.take(served.database, "cuda:0")
    busy = makers.run("busy", state="training", launch={"device": "cuda:1"})
    wide = makers.run("wide", launch={"device": "cuda:0", "processes": 2})
    shared_devices.settle(served.database, [busy], [], [wide])
    assert held(served) == (SERVER, NOBODY)


def test_when_the_device_is_free_again_is_known_where_nobody_waits_behind(served: Lab, launcher: PaperLauncher):
    run = handed_over(served, launcher)
    points = [f'{{"step": {step}, "steps": 10, "time": {1000.0 + 10 * step}, "loss": 1}}\n' for step in (1, 2, 3)]
    (Path(run.directory) / run_directory.METRICS).write_text("".join(points))
    before = now()
    one_pass(served, launcher)
    (lease,) = leases.list_all(served.database)
    assert lease.free_at and before <= lease.free_at - timedelta(seconds=70) <= now()
    served.start("dpo", served.freeze("preference", 25))
    one_pass(served, launcher)
    assert leases.list_all(served.database)[0].free_at is None


def test_where_nothing_is_shared_nothing_is_waited_for(lab: Lab, launcher: PaperLauncher):
    run = lab.start("dpo", lab.freeze("preference"))
    one_pass(lab, launcher)
    assert launcher.submitted == [run.id] and leases.list_all(lab.database) == []


def test_our_own_process_number_in_a_lock_is_no_run(served: Lab, launcher: PaperLauncher):
    run = handed_over(served, launcher)
    (Path(run.directory) / run_directory.LOCK).write_text(str(os.getpid()))
    end(run)
    one_pass(served, launcher)
    assert held(served) == (NOBODY, NOBODY)


def test_what_others_have_of_the_gpus_that_a_run_would_need_is_known_before_it_starts(served: Lab):
    """Not the processor: what servers have of its memory cannot be told from what anybody else has."""
    assert shared_devices.had_by_others(served.database, Launch(device=CPU)) == []
    leases.share(served.database, ["cuda:0", "cuda:1"])
    leases.take(served.database, "cuda:0")
    asked = [Launch(device="cuda:0", processes=2), Launch(device="cuda:1"), Launch(where="ray", device="cuda:0")]
    assert [shared_devices.had_by_others(served.database, one) for one in asked] == [["cuda:0"], [], []]
    leases.due(served.database, "cuda:1", "dpo-01")
    assert shared_devices.had_by_others(served.database, asked[0]) == ["cuda:0", "cuda:1"]
