"""Why nothing is ready, and when more will come: measured or written down, never guessed."""

from __future__ import annotations

from storage import judgments, projects, prompts, responses
from storage.database import Database
from tests.labeling.test_assignment import Clock, queue_of, ranked, sampled
from tests.makers import project, response, some_prompts


def test_an_empty_queue_says_why(database: Database) -> None:
    asked = project()
    queue = queue_of(database, why_waiting=lambda project: "The server is starting.")

    assert "Import some" in queue.progress(asked, "ines").waiting
    prompts.add(database, some_prompts(1))
    queue.forget()
    assert queue.progress(asked, "ines").waiting == "The server is starting."
    assert [one.id for one in queue.unsampled(asked, 5)] == [
        one.id for one in prompts.in_order(database, held_out=False)
    ]


def test_waiting_says_who_holds_what_is_left_until_when_and_what_was_skipped(database: Database) -> None:
    asked = project()
    sampled(database, asked, 3)
    clock = Clock()
    queue = queue_of(database, clock=clock)
    hers = queue.take(asked, "ines", 3, "t1")
    clock.run_on(600)

    assert queue.progress(asked, "tom").waiting == (
        "3 prompts are open with others or in another tab; what is not judged there comes free, the first in 20 min."
    )
    queue.judge(ranked(hers[0]))
    queue.skip(hers[1].assignment.id, "ines", "odd")
    assert queue.progress(asked, "ines").waiting == (
        "1 prompt is open with somebody else or in another tab; if it is not judged there, it comes free in 20 min. "
        "1 prompt is left that you skipped."
    )
    queue.judge(ranked(hers[2]))
    assert queue.progress(asked, "ines").waiting == "1 prompt is left that you skipped."
    queue.judge(ranked(queue.take(asked, "tom", 1, "t2")[0]))
    assert queue.progress(asked, "tom").waiting == "Every prompt here is judged. Thank you."


def test_when_more_answers_come_is_said_at_the_pace_of_the_last_ones(database: Database) -> None:
    asked = project()
    prompts.add(database, some_prompts(8))
    clock = Clock()
    queue = queue_of(database, clock=clock)
    unmeasured = "The model is writing more answers; how long that takes is not measured yet."
    assert queue.progress(asked, "ines").waiting == unmeasured

    for took in (20, 90, 40):
        (asks, *_) = queue.unsampled(asked, 24)
        clock.run_on(took)
        new = [response(asks.id, str(n), project_id=asked.id) for n in range(2)]
        responses.add(database, new)
        queue.add_responses(asked, new)
        queue.judge(ranked(queue.take(asked, "ines", 1, "t1")[0]))
    clock.run_on(10)

    soon = "The model is writing more answers; at the pace of the last ones, the next come in about 30 sec."
    assert queue.progress(asked, "ines").waiting == soon  # the median of 20, 90 and 40, 10 seconds ago
    clock.run_on(31)
    late = "The model is writing more answers; it is taking longer than for the last ones, which took 40 sec."
    assert queue.progress(asked, "ines").waiting == late


def test_a_pool_that_was_full_does_not_make_the_pace_look_slow(database: Database) -> None:
    asked = project()
    added = some_prompts(3)
    prompts.add(database, added)
    clock = Clock()
    queue = queue_of(database, clock=clock)

    for one in added[:2]:
        queue.unsampled(asked, 24)
        clock.run_on(20)
        new = [response(one.id, str(n), project_id=asked.id) for n in range(2)]
        responses.add(database, new)
        queue.add_responses(asked, new)
        assert queue.unsampled(asked, 1) == []  # one item is ready: enough
        clock.run_on(3600)
        queue.judge(ranked(queue.take(asked, "ines", 1, "t1")[0]))

    queue.unsampled(asked, 24)
    assert queue.progress(asked, "ines").waiting.endswith("the next come in about 20 sec.")
    assert len(judgments.list_all(database)) == 2


def test_what_somebody_else_skipped_and_has_no_answers_is_being_written(database: Database) -> None:
    # given a prompt that was skipped before its project changed to a version that has not answered yet
    asked = projects.save(database, project())
    sampled(database, asked, 1)
    before = queue_of(database)
    before.skip(before.take(asked, "ines", 1, "t1")[0].assignment.id, "ines", "odd")
    asked = projects.save(database, project(version_ids=("new",)))

    queue = queue_of(database)

    unmeasured = "The model is writing more answers; how long that takes is not measured yet."
    assert queue.progress(asked, "tom").waiting == unmeasured
    assert queue.progress(asked, "ines").waiting == "1 prompt is left that you skipped."


def test_what_is_set_aside_for_the_lead_is_not_said_to_be_for_others(database: Database) -> None:
    asked = project(overlap=2)
    sampled(database, asked, 2)
    queue = queue_of(database)
    judged, odd = queue.take(asked, "ines", 2, "t1")
    for one in (judged, odd):
        queue.judge(ranked(one))
    for name in ("tom", "ute"):
        his = {one.prompt.id: one for one in queue.take(asked, name, 2, name)}
        queue.skip(his[odd.prompt.id].assignment.id, name, "odd")

    done = "You have judged all that you can here. 1 prompt is for other people to judge."
    assert (
        queue.progress(asked, "ines").waiting
        == f"{done} 1 prompt is set aside for the lead: skipped by several people."
    )


def test_the_first_to_finish_what_everybody_judges_is_not_told_that_all_is_judged(database: Database) -> None:
    asked = project(calibration=True)
    sampled(database, asked, 1)
    queue = queue_of(database)
    queue.judge(ranked(queue.take(asked, "ines", 1, "t1")[0]))

    assert queue.progress(asked, "ines").waiting == "You have judged all that you can here. Thank you."
    assert queue.progress(asked, "tom").ready == 1
