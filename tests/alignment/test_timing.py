"""How long a run is said to take, from steps that were measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignment import timing
from alignment.methods import method_named
from alignment.methods.base import LOGGED_STEPS, Method, Parent
from alignment.methods.ppo import PPO
from alignment.timing import Earlier, Enough, StepSize, StepTime, Stopwatch


def method(name: str = "dpo", **settings: Any) -> Method:
    return method_named(name).model_validate(settings)


def points(*seconds: float, tokens: int = 0) -> list[dict[str, float]]:
    return [
        {"step": number, "time": 1000 + at, "loss": 0.5, **({"num_tokens": number * tokens} if tokens else {})}
        for number, at in enumerate(seconds, start=1)
    ]


def ran(folder: Path, lines: list[dict[str, float]], **settings: Any) -> Earlier:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Earlier(folder.name, str(folder), settings)


def test_the_words_are_steps_times_seconds() -> None:
    step = StepTime(seconds=20.0, size=4.0, in_tokens=False, measured_on="dpo-07")

    found = timing.estimate(76, step, StepSize(examples=4, tokens=999))

    assert found.words == "76 steps × 20 s = 25 min"
    assert (found.seconds, found.measured_on) == (1520.0, "dpo-07")


def test_a_step_with_twice_the_tokens_takes_twice_as_long() -> None:
    step = StepTime(seconds=0.5, size=200.0, in_tokens=True, measured_on="dpo-07")

    found = timing.estimate(10, step, StepSize(examples=4, tokens=400))

    assert (found.seconds_per_step, found.seconds) == (1.0, 10.0)


def test_a_pause_between_two_steps_is_no_step() -> None:
    """At step 3 the run answered prompts for 50 s."""
    assert timing.step_time(points(0, 2, 54, 56, 58, 60)) == (2.0, 0.0)


def test_tokens_of_a_step_are_those_between_two_lines() -> None:
    assert timing.step_time(points(0, 2, 4, 6, tokens=300)) == (2.0, 300.0)


def test_measurements_on_held_out_rows_are_no_steps() -> None:
    lines: list[dict[str, float]] = [{"step": 0, "time": 900.0, "eval_loss": 1.0}, *points(0, 2, 4, 6)]

    assert timing.step_time(lines) == (2.0, 0.0)


def test_a_run_that_was_resumed_is_timed_by_its_own_clock() -> None:
    lines = [{**point, "seconds": 3.0 * point["step"]} for point in points(0, 2, 9999, 10001)]

    assert timing.step_time(lines) == (3.0, 0.0)


def test_a_run_of_three_steps_tells_nothing() -> None:
    assert timing.step_time(points(0, 2, 4)) is None


def test_the_newest_run_that_got_far_enough_counts(tmp_path: Path) -> None:
    short = ran(tmp_path / "dpo-08", points(0, 1))
    long = ran(tmp_path / "dpo-07", points(0, 3, 6, 9), batch_size=8, accumulate=2, gone="setting of an older version")

    assert timing.of_earlier([short, long], method()) == StepTime(3.0, 16.0, False, "dpo-07")
    assert timing.of_earlier([short], method()) is None


def test_a_run_whose_directory_is_gone_counts_for_nothing(tmp_path: Path) -> None:
    assert timing.of_earlier([Earlier("dpo-01", str(tmp_path / "gone"), {})], method()) is None


def test_presets_take_as_long_as_their_steps() -> None:
    """40 pairs in batches of 4: 10 steps a pass; quick makes one, balanced two, thorough three."""
    step = StepTime(seconds=1.0, size=4.0, in_tokens=False, measured_on="dpo-07")

    found = timing.presets(method(batch_size=4), 3_000_000, 40, step, StepSize(examples=4, tokens=0))

    assert found == {"quick": 10.0, "balanced": 20.0, "thorough": 30.0}


@pytest.mark.parametrize(("seconds", "words"), [(8, "8 s"), (99, "99 s"), (1520, "25 min"), (7620, "2 h 7 min")])
def test_durations(seconds: float, words: str) -> None:
    assert timing.duration(seconds) == words


def test_the_first_step_only_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 13.0])
    monkeypatch.setattr(timing.time, "monotonic", lambda: next(clock))
    watch = Stopwatch(2)

    watch.metrics(0, 9, {"eval_loss": 1.0})
    watch.metrics(1, 9, {"loss": 1.0})
    watch.metrics(2, 9, {"loss": 1.0})
    with pytest.raises(Enough):
        watch.metrics(3, 9, {"loss": 1.0})

    assert watch.seconds == 1.5


def test_what_is_timed_is_one_batch_and_keeps_nothing() -> None:
    few = timing.short(method(batch_size=4, accumulate=8, tracker="tensorboard", epochs=2))

    assert timing.batch_of(few) == 4
    assert few.model_dump() | {"held_out_share": 0.0, "tracker": "none", "keep": "last"} == few.model_dump()


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_every_step_of_what_is_timed_is_logged(batch: int) -> None:
    """A run of very many steps logs only some of them, and the stopwatch would wait for those."""
    few = timing.short(method(batch_size=batch))
    rows = [{"place": place} for place in range(1000)]

    steps = few.steps(len(timing.few_of(rows, few)))

    assert timing.MEASURED_STEPS < steps < 2 * LOGGED_STEPS


def test_the_stopwatch_goes_by_the_trainers_own_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 16.0])
    monkeypatch.setattr(timing.time, "monotonic", lambda: next(clock))
    watch = Stopwatch(1)

    watch.metrics(3, 9, {"loss": 1.0})
    with pytest.raises(Enough):
        watch.metrics(6, 9, {"loss": 1.0})

    assert watch.seconds == 2.0


def test_ppo_is_timed_by_whole_iterations() -> None:
    few = timing.short(PPO(batch_size=8, accumulate=4, epochs=3))

    assert timing.batch_of(few) == 32
    assert isinstance(few, PPO) and few.epochs == 3


def test_rows_to_time_come_from_all_over_the_snapshot() -> None:
    rows = [{"place": place} for place in range(1000)]

    found = timing.few_of(rows, method(batch_size=4))

    assert len(found) == 64
    assert max(row["place"] for row in found) > 800
    assert len(timing.few_of(rows[:10], method(batch_size=4))) == 10


def test_steps_that_could_not_be_taken_give_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing.sys, "executable", "/bin/false")  # a process that ends with an error
    parent = Parent("v0", str(tmp_path / "nowhere"), None, "")

    assert timing.measure(method(), [{"prompt": "a"}], parent, {}, tmp_path, {}) is None
    assert not (tmp_path / timing.SCRATCH).exists()
