from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from labeling.assignment import LEASE, Item, Queue, answers_to_show
from storage import judgments, projects, prompts, responses
from storage.database import Database
from storage.errors import BadInput, NotAllowed
from storage.records import Judgment, Project, Ranking, new_id, now
from tests.makers import project, response, some_prompts


def queue_of(database: Database) -> Queue:
    return Queue(database, minimum_responses=lambda name: 2)


def sampled(database: Database, asked: Project, count: int, held_out: bool = False) -> None:
    """`count` prompts, each with two different responses of every version."""
    added = some_prompts(count, held_out=held_out)
    prompts.add(database, added)
    responses.add(
        database,
        [
            response(one.id, f"{version} {n}", version_id=version, project_id=asked.id)
            for one in added
            for version in asked.version_ids
            for n in range(2 if asked.purpose == "labeling" else 1)
        ],
    )


def ranked(item: Item, **fields: object) -> Judgment:
    shown = item.assignment.displayed_order
    given: dict[str, object] = {"id": new_id(), "supersedes": None, **fields}
    return Judgment(
        prompt_id=item.prompt.id,
        labeler=item.assignment.labeler,
        feedback_type="ranking",
        verdicts=(Ranking(tuple((one,) for one in shown)),),
        displayed_order=shown,
        project_id=item.assignment.project_id,
        assignment_id=item.assignment.id,
        **given,  # type: ignore[arg-type]
    )


def prompts_of(items: Sequence[Item]) -> set[str]:
    return {item.prompt.id for item in items}


def test_two_people_never_hold_the_same_item_of_a_labelling_project(database: Database) -> None:
    asked = project()
    sampled(database, asked, 6)
    queue = queue_of(database)

    hers, his = queue.take(asked, "ines", 3, "t1"), queue.take(asked, "tom", 3, "t2")

    assert len(hers) == len(his) == 3
    assert not prompts_of(hers) & prompts_of(his)
    assert queue.take(asked, "ute", 3, "t3") == []


def test_a_reload_gets_the_same_items_in_the_same_order(database: Database) -> None:
    asked = project()
    sampled(database, asked, 6)
    queue = queue_of(database)
    before = queue.take(asked, "ines", 3, "t1")

    assert queue.take(asked, "ines", 3, "t1") == before
    assert queue_of(database).take(asked, "ines", 3, "t1") == before  # after a restart of the app
    assert not prompts_of(queue.take(asked, "ines", 3, "t2")) & prompts_of(before)


def test_a_judged_item_does_not_come_back(database: Database) -> None:
    asked = project()
    sampled(database, asked, 2)
    queue = queue_of(database)
    first = queue.take(asked, "ines", 1, "t1")[0]

    queue.judge(ranked(first))

    assert first.prompt.id not in prompts_of(queue.take(asked, "ines", 2, "t1"))
    assert first.prompt.id not in prompts_of(queue_of(database).take(asked, "tom", 2, "t2"))
    assert queue.progress(asked, "ines").mine == 1


def test_the_same_key_twice_is_one_judgment(database: Database) -> None:
    asked = project()
    sampled(database, asked, 1)
    queue = queue_of(database)
    said = ranked(queue.take(asked, "ines", 1, "t1")[0])

    assert queue.judge(said) == queue.judge(said)
    assert len(judgments.list_all(database)) == 1


def test_a_change_supersedes_and_only_once(database: Database) -> None:
    asked = project()
    sampled(database, asked, 1)
    queue = queue_of(database)
    item = queue.take(asked, "ines", 1, "t1")[0]
    first = queue.judge(ranked(item))

    second = queue.judge(ranked(queue.item(item.assignment.id), supersedes=first.id))

    assert judgments.standing(database) == [second]
    with pytest.raises(BadInput, match="changed already"):
        queue.judge(ranked(item, supersedes=first.id))


def test_a_second_judgment_of_an_item_is_refused_unless_it_supersedes(database: Database) -> None:
    asked = project()
    sampled(database, asked, 1)
    item = queue_of(database).take(asked, "ines", 1, "t1")[0]
    queue = queue_of(database)  # the app was started again, and two tabs hold the item
    first = queue.judge(ranked(item))

    with pytest.raises(BadInput, match="judged already"):
        queue.judge(ranked(item))
    changed = queue.judge(ranked(item, supersedes=first.id))
    assert queue.judge(first) == first  # sent again late: still the same judgment
    assert judgments.standing(database) == [changed]


def test_what_was_judged_cannot_be_skipped(database: Database) -> None:
    asked = project()
    sampled(database, asked, 1)
    queue = queue_of(database)
    item = queue.take(asked, "ines", 1, "t1")[0]
    queue.judge(ranked(item))

    with pytest.raises(BadInput, match="judged already"):
        queue.skip(item.assignment.id, "ines", "odd")
    assert queue_of(database).progress(asked, "ines").mine == 1


def test_skipping_twice_is_skipping_once(database: Database) -> None:
    asked = project()
    sampled(database, asked, 1)
    queue = queue_of(database)
    item = queue.take(asked, "ines", 1, "t1")[0]

    queue.skip(item.assignment.id, "ines", "odd")
    queue.skip(item.assignment.id, "ines", "again")

    assert queue.item(item.assignment.id).assignment.skip_reason == "odd"


def test_nobody_judges_for_somebody_else_or_about_what_was_not_shown(database: Database) -> None:
    asked = project()
    sampled(database, asked, 1)
    queue = queue_of(database)
    said = ranked(queue.take(asked, "ines", 1, "t1")[0])

    with pytest.raises(NotAllowed):
        queue.judge(replace(said, labeler="tom"))
    with pytest.raises(BadInput, match="not shown"):
        queue.judge(replace(said, verdicts=(Ranking((("strange",),)),)))
    assert judgments.list_all(database) == []


def test_a_skipped_item_goes_to_others_but_not_back(database: Database) -> None:
    asked = project()
    sampled(database, asked, 1)
    queue = queue_of(database)
    item = queue.take(asked, "ines", 1, "t1")[0]

    queue.skip(item.assignment.id, "ines", "not my field")

    assert queue.take(asked, "ines", 1, "t1") == []
    assert prompts_of(queue.take(asked, "tom", 1, "t2")) == {item.prompt.id}


def test_a_lease_that_ran_out_frees_the_item_and_a_late_judgment_is_kept(database: Database) -> None:
    asked = project()
    sampled(database, asked, 1)
    time = [now()]
    queue = Queue(database, minimum_responses=lambda name: 2, clock=lambda: time[0])
    item = queue.take(asked, "ines", 1, "t1")[0]
    time[0] += LEASE + timedelta(seconds=1)

    assert prompts_of(queue.take(asked, "tom", 1, "t2")) == {item.prompt.id}
    with pytest.raises(BadInput, match="time ran out"):
        queue.skip(item.assignment.id, "ines", "odd")
    assert queue.judge(ranked(item)).labeler == "ines"


def test_labelling_never_shows_a_held_out_prompt_and_comparing_only_those(database: Database) -> None:
    labelling = project()
    comparing = project(id="c1", purpose="comparison", version_ids=("base", "v1"))
    sampled(database, labelling, 3)
    sampled(database, comparing, 3, held_out=True)
    queue = queue_of(database)

    assert not any(item.prompt.held_out for item in queue.take(labelling, "ines", 9, "t1"))
    compared = queue.take(comparing, "ines", 9, "t1")
    assert len(compared) == 3 and all(item.prompt.held_out for item in compared)


def test_everybody_may_judge_an_item_of_a_comparison_once(database: Database) -> None:
    comparing = project(id="c1", purpose="comparison", version_ids=("base", "v1"))
    sampled(database, comparing, 1, held_out=True)
    queue = queue_of(database)
    for labeler in ("ines", "tom"):
        item = queue.take(comparing, labeler, 1, labeler)[0]
        queue.judge(ranked(item))
        assert queue.take(comparing, labeler, 1, labeler) == []

    assert len(judgments.list_all(database)) == 2


def test_the_order_is_shuffled(database: Database) -> None:
    asked = project()
    sampled(database, asked, 40)

    items = queue_of(database).take(asked, "ines", 40, "t1")
    first_texts = [item.responses[0].text for item in items]

    assert 8 < first_texts.count("base 0") < 32


def test_equal_answers_are_shown_once_and_too_few_not_at_all() -> None:
    asked = project(responses_per_prompt=4)
    same = [response("q", text) for text in ("a", "b", "a", "b ")]

    assert [one.text for one in answers_to_show(asked, same, 2)] == ["a", "b", "b "]
    assert answers_to_show(asked, same[:1], 2) == []


def test_answers_of_versions_that_left_the_project_are_not_shown() -> None:
    asked = project(version_ids=("v1",), responses_per_prompt=4)
    mixed = [
        response("q", "old", version_id="base"),
        response("q", "a", version_id="v1"),
        response("q", "b", version_id="v1"),
    ]

    assert [one.text for one in answers_to_show(asked, mixed, 2)] == ["a", "b"]


def test_an_empty_queue_says_why(database: Database) -> None:
    asked = project()
    queue = Queue(database, minimum_responses=lambda name: 2, why_waiting=lambda project: "The server is starting.")

    assert "Import some" in queue.progress(asked, "ines").waiting
    prompts.add(database, some_prompts(1))
    queue.forget()
    assert queue.progress(asked, "ines").waiting == "The server is starting."
    assert [one.id for one in queue.unsampled(asked, 5)] == [
        one.id for one in prompts.in_order(database, held_out=False)
    ]


def test_a_board_is_read_by_the_project_as_it_is_stored(database: Database) -> None:
    before = projects.save(database, project(sources=("test",)))
    sampled(database, before, 2)
    queue = queue_of(database)
    assert queue.progress(before, "ines").total == 2
    edited = projects.save(database, project(sources=("elsewhere",)))
    queue.forget(edited.id)

    queue.add_responses(before, [])
    assert queue.unsampled(before, 5) == []  # the sampler still holds the old record

    assert queue.progress(edited, "ines").total == 0


def test_responses_of_a_board_not_in_memory_are_read_from_the_tables_once(database: Database) -> None:
    asked = project()
    (one,) = some_prompts(1)
    prompts.add(database, [one])
    drawn = [response(one.id, text, project_id=asked.id) for text in ("a", "b")]
    responses.add(database, drawn)
    queue = queue_of(database)

    queue.add_responses(asked, drawn)

    assert sorted(shown.text for shown in queue.take(asked, "ines", 1, "t1")[0].responses) == ["a", "b"]


def test_an_item_that_is_held_or_skipped_is_not_ready_for_whoever_comes(database: Database) -> None:
    asked = project()
    sampled(database, asked, 2)
    prompts.add(database, some_prompts(4))  # the first two are there already
    queue = queue_of(database)
    assert queue.unsampled(asked, 2) == []

    _, skipped = queue.take(asked, "ines", 2, "t1")
    queue.skip(skipped.assignment.id, "ines", "odd")

    assert len(queue.unsampled(asked, 2)) == 2


def test_waiting_says_who_holds_what_is_left_and_what_was_skipped(database: Database) -> None:
    asked = project()
    sampled(database, asked, 3)
    queue = queue_of(database)
    hers = queue.take(asked, "ines", 3, "t1")

    assert queue.progress(asked, "tom").waiting == "3 prompts are open with others or in another tab."
    queue.judge(ranked(hers[0]))
    queue.skip(hers[1].assignment.id, "ines", "odd")
    assert queue.progress(asked, "ines").waiting == (
        "1 prompt is open with others or in another tab. 1 prompt is left that you skipped."
    )
    queue.judge(ranked(hers[2]))
    assert queue.progress(asked, "ines").waiting == "1 prompt is left that you skipped."
    queue.judge(ranked(queue.take(asked, "tom", 1, "t2")[0]))
    assert queue.progress(asked, "tom").waiting == "Every prompt here is judged. Thank you."


def test_the_model_is_writing_only_where_answers_are_lacking(database: Database) -> None:
    prompts.add(database, some_prompts(1))

    assert queue_of(database).progress(project(), "ines").waiting == "The model is writing more answers."
