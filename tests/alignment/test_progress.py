"""Reading a run's directory at any moment, also in the middle of a write."""

from __future__ import annotations

import errno
import json
import math
import time
from contextlib import suppress
from pathlib import Path

import pytest

from alignment import run_directory
from alignment.progress import all_points, read_progress, seconds_left
from alignment.run_directory import Outcome
from alignment.train import DirectoryReport, fingerprint_of, sentence_for
from storage.errors import RunFailed


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / run_directory.RUN).write_text(json.dumps({"sample_prompts": [[{"role": "user", "content": "hi"}]]}))
    return tmp_path


def line(step: int, steps: int = 10, time: float = 0.0) -> str:
    return json.dumps({"step": step, "steps": steps, "time": time, "loss": 1.0}) + "\n"


def test_a_run_that_has_not_begun_is_at_nothing(directory: Path):
    seen = read_progress(directory)
    assert (seen.state, seen.fraction, seen.points, seen.seconds_left) == ("prepared", 0.0, (), None)
    assert seen.sample_prompts == (({"role": "user", "content": "hi"},),)


def test_points_since_an_offset_are_the_new_ones(directory: Path):
    metrics = directory / run_directory.METRICS
    metrics.write_text(line(1) + line(2))
    first = read_progress(directory)
    metrics.write_text(line(1) + line(2) + line(3))
    then = read_progress(directory, since=first.offset)
    assert [point["step"] for point in first.points] == [1, 2]
    assert [point["step"] for point in then.points] == [3]
    assert read_progress(directory, since=then.offset).points == ()
    assert then.step == 3 and then.fraction == 0.3


def test_a_half_written_last_line_is_left_for_the_next_time(directory: Path):
    metrics = directory / run_directory.METRICS
    metrics.write_text(line(1) + line(2)[:20])
    first = read_progress(directory)
    assert [point["step"] for point in first.points] == [1]
    metrics.write_text(line(1) + line(2))
    assert [point["step"] for point in read_progress(directory, since=first.offset).points] == [2]


def test_an_offset_from_before_a_resume_starts_again_from_the_first_point(directory: Path):
    # given: a page that has three points, and a run that was cut back to its second and has gone on
    metrics = directory / run_directory.METRICS
    metrics.write_text(line(1, time=1) + line(2, time=2) + line(3, time=3))
    had = read_progress(directory)
    metrics.write_text(line(1, time=1) + line(2, time=2) + line(3, time=9) + line(4, time=10))

    then = read_progress(directory, since=had.offset, after=had.points[-1]["time"])

    assert then.points_from == 0
    assert [(point["step"], point["time"]) for point in then.points] == [(1, 1), (2, 2), (3, 9), (4, 10)]


def test_an_offset_beyond_the_file_starts_again_too(directory: Path):
    metrics = directory / run_directory.METRICS
    metrics.write_text(line(1) + line(2))
    had = read_progress(directory)
    metrics.write_text(line(1))
    assert [point["step"] for point in read_progress(directory, since=had.offset).points] == [1]


def test_an_offset_that_still_fits_goes_on_from_there(directory: Path):
    metrics = directory / run_directory.METRICS
    metrics.write_text(line(1, time=1) + line(2, time=2))
    had = read_progress(directory)
    then = read_progress(directory, since=had.offset, after=2)
    assert (then.points, then.points_from, then.offset) == ((), had.offset, had.offset)


def test_points_measured_on_held_out_rows_are_points_too(directory: Path):
    held_out = json.dumps({"step": 2, "steps": 10, "time": 5.0, "eval_loss": 0.9}) + "\n"
    (directory / run_directory.METRICS).write_text(line(1) + line(2) + held_out)
    seen = read_progress(directory)
    assert (seen.step, seen.steps, len(seen.points)) == (2, 10, 3)


def test_all_points_are_read_again_when_there_are_more(directory: Path):
    metrics = directory / run_directory.METRICS
    assert all_points(directory) == ()
    metrics.write_text(line(1))
    assert len(all_points(directory)) == 1
    metrics.write_text(line(1) + line(2))
    assert [point["step"] for point in all_points(directory)] == [1, 2]


def test_a_damaged_line_hides_no_other(directory: Path):
    (directory / run_directory.METRICS).write_text(line(1) + '{"step": 2, "st\n' + line(3))
    assert [point["step"] for point in read_progress(directory).points] == [1, 3]


def test_time_left_is_the_pace_times_what_is_left():
    # two steps took 6 seconds, 4 steps are left
    points = [{"step": 4, "steps": 10, "time": 100.0}, {"step": 6, "steps": 10, "time": 106.0}]
    assert seconds_left(points) == 12.0
    assert seconds_left(points[:1]) is None


def test_a_living_run_tells_its_time_left(directory: Path):
    with run_directory.lock(directory):
        now = time.time()
        (directory / run_directory.METRICS).write_text(line(4, time=now + 100) + line(6, time=now + 106))
        seen = read_progress(directory)
    assert (seen.state, seen.seconds_left) == ("training", pytest.approx(12.0))


def test_the_night_between_a_stop_and_a_resume_is_not_part_of_the_pace(directory: Path):
    yesterday = time.time() - 86_400
    with run_directory.lock(directory):
        now = time.time()
        lines = [line(3, time=yesterday), line(4, time=now + 100), line(6, time=now + 106)]
        (directory / run_directory.METRICS).write_text("".join(lines))
        assert read_progress(directory).seconds_left == pytest.approx(12.0)


def test_a_resumed_run_that_has_measured_nothing_yet_has_no_pace_but_a_step(directory: Path):
    (directory / run_directory.METRICS).write_text(line(3, time=100.0) + line(4, time=200.0))
    with run_directory.lock(directory):
        seen = read_progress(directory)
    assert (seen.step, seen.seconds_left) == (4, None)


def test_what_a_run_took_counts_its_earlier_attempts_and_what_it_does_now(directory: Path):
    point = {"step": 3, "steps": 10, "time": 1_000.0, "seconds": 34.0, "loss": 1.0}
    (directory / run_directory.METRICS).write_text(json.dumps(point) + "\n")
    with run_directory.lock(directory):
        assert read_progress(directory, now=1_005.0).seconds == 39.0
    assert read_progress(directory, now=9_999.0).seconds == 34.0  # killed: nobody knows what came after its last line


def test_a_living_run_says_how_far_it_is(directory: Path):
    with run_directory.lock(directory):
        assert read_progress(directory).message == "Loading the model."
        (directory / run_directory.METRICS).write_text(line(6))
        assert read_progress(directory).message == "Step 6 of 10."


def test_a_run_is_asked_to_stop_by_a_file_in_its_directory(directory: Path):
    report = DirectoryReport(directory)
    assert not report.stop_asked
    (directory / run_directory.STOP).touch()
    assert report.stop_asked


def test_an_outcome_names_the_state_and_the_sentence(directory: Path):
    run_directory.write_outcome(directory, Outcome("failed", "The disk is full.", steps=3, seconds=4.0))
    seen = read_progress(directory)
    assert (seen.state, seen.message, seen.seconds, seen.ended) == ("failed", "The disk is full.", 4.0, True)


def test_the_log_shows_its_last_lines(directory: Path):
    (directory / run_directory.LOG).write_text("".join(f"line {n}\n" for n in range(100)))
    assert read_progress(directory).log[-2:] == ("line 98", "line 99")


def test_until_a_resumed_run_has_begun_the_log_is_that_of_the_attempt_before(directory: Path):
    (directory / run_directory.ATTEMPTS).mkdir()
    (directory / run_directory.ATTEMPTS / "log-1.txt").write_text("stopped\n")
    assert read_progress(directory).log == ("stopped",)
    (directory / run_directory.LOG).write_text("going on\n")
    assert read_progress(directory).log == ("going on",)


def test_a_run_that_takes_its_lock_between_two_looks_is_not_taken_for_dead(
    directory: Path, monkeypatch: pytest.MonkeyPatch
):
    def free_until_now(path: Path) -> bool:
        (path / run_directory.LOCK).write_text("4711")
        return False

    (directory / run_directory.LOG).touch()
    monkeypatch.setattr(run_directory, "lock_is_held", free_until_now)
    assert run_directory.state_of(directory) == "starting"


def test_whole_weights_that_differ_in_the_middle_of_a_file_have_another_fingerprint(tmp_path: Path):
    ends = b"0" * (1 << 20)
    (tmp_path / "model.safetensors").write_bytes(ends + b"1" + ends)
    one = fingerprint_of(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(ends + b"2" + ends)
    assert fingerprint_of(tmp_path) != one


def test_a_run_in_the_line_of_a_cluster_says_what_the_cluster_says(directory: Path):
    (directory / run_directory.SUBMISSION).write_text(
        json.dumps({"job": "j", "sentence": "The cluster has it in line."})
    )
    assert read_progress(directory).message == "The cluster has it in line."


def test_a_value_that_is_not_a_number_is_left_out_so_that_a_line_stays_valid_json(directory: Path):
    with suppress(RunFailed):
        DirectoryReport(directory).metrics(3, 9, {"loss": math.nan, "grad_norm": math.inf, "kl": 1.0})
    (point,) = read_progress(directory).points
    assert point["kl"] == 1.0 and "loss" not in point


def test_reading_leaves_no_trace(directory: Path):
    before = sorted(directory.iterdir())
    read_progress(directory)
    assert sorted(directory.iterdir()) == before


def test_a_full_disk_is_named_whoever_noticed_it():
    noticed_by_python = OSError(errno.ENOSPC, "No space left on device")
    noticed_by_safetensors = RuntimeError("I/O error: No space left on device (os error 28)")
    assert sentence_for(noticed_by_python) == sentence_for(noticed_by_safetensors)
    assert "The disk is full" in sentence_for(noticed_by_python)
