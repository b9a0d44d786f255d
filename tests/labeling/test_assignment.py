"""The queue: who gets which item, for how long, and what becomes of what they say about it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from labeling.assignment import LEASE, Item, Queue
from labeling.board import REPEAT_AFTER, answers_to_show
from storage import assignments, judgments, model_versions, projects, prompts, responses
from storage.database import Database
from storage.errors import BadInput, NotAllowed
from storage.records import ADJUDICATED, GOLD, LATE, REPEAT, Judgment, Project, Ranking, new_id, now
from tests.makers import project, response, some_prompts, version


def queue_of(database: Database, **given: Any) -> Queue:
    return Queue(database, minimum_responses=lambda name: 2, **given)


class Clock:
    """Time that a test moves on."""

    def __init__(self) -> None:
        self.now = now()

    def __call__(self) -> datetime:
        return self.now

    def run_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def outlast_a_lease(self) -> None:
        self.run_on(LEASE.total_seconds() + 1)


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


def test_a_key_that_was_used_for_another_item_saves_nothing_and_says_so(database: Database) -> None:
    asked = project()
    sampled(database, asked, 2)
    queue = queue_of(database)
    first, second = queue.take(asked, "ines", 2, "t1")
    key = queue.judge(ranked(first)).id

    with pytest.raises(BadInput, match="the key of another one"):
        queue.judge(ranked(second, id=key))
    assert len(judgments.list_all(database)) == 1
    queue.judge(ranked(second))


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


def test_what_is_judged_after_it_was_skipped_is_kept_and_marked_late(database: Database) -> None:
    asked = project()
    sampled(database, asked, 1)
    queue = queue_of(database)
    item = queue.take(asked, "ines", 1, "t1")[0]
    queue.skip(item.assignment.id, "ines", "odd")

    assert LATE in queue.judge(ranked(item)).flags


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
    clock = Clock()
    queue = queue_of(database, clock=clock)
    item = queue.take(asked, "ines", 1, "t1")[0]
    clock.outlast_a_lease()

    his = queue.take(asked, "tom", 1, "t2")
    with pytest.raises(BadInput, match="time ran out"):
        queue.skip(item.assignment.id, "ines", "odd")
    late, on_time = queue.judge(ranked(item)), queue.judge(ranked(his[0]))

    assert prompts_of(his) == {item.prompt.id}
    assert [one.flags for one in (late, on_time)] == [(LATE,), ()]
    assert judgments.list_all(database) == [late, on_time]
    assert queue.judge(ranked(item, supersedes=late.id)).flags == (LATE,)  # a change is of the same late judgment


def test_a_late_judgment_of_older_answers_changes_no_answers_shown_after_a_restart_either(database: Database) -> None:
    # given an answer that came while nobody held the prompt, so that he is shown three
    asked = project(responses_per_prompt=3, overlap=2)
    sampled(database, asked, 1)
    clock = Clock()
    queue = queue_of(database, clock=clock)
    (late,) = queue.take(asked, "ines", 1, "t1")
    clock.outlast_a_lease()
    fresh = response(late.prompt.id, "a third answer", project_id=asked.id)
    responses.add(database, [fresh])
    queue.add_responses(asked, [fresh])
    (his,) = queue.take(asked, "tom", 1, "t2")
    # when she judges the two that she was shown
    assert LATE in queue.judge(ranked(late)).flags

    for after in (queue, queue_of(database, clock=clock)):
        assert len(his.responses) == len(after.to_settle(asked, his.prompt.id)[1]) == 3


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

    items = queue_of(database, chance=random.Random(0)).take(asked, "ines", 40, "t1")
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


# ---- overlap --------------------------------------------------------------------------------------------------------


def test_an_item_goes_to_as_many_people_as_the_project_wants_and_to_none_twice(database: Database) -> None:
    asked = project(overlap=2)
    sampled(database, asked, 1)
    queue = queue_of(database)

    hers, his = (queue.take(asked, name, 1, name) for name in ("ines", "tom"))
    assert prompts_of(hers) == prompts_of(his)
    assert queue.take(asked, "ute", 1, "ute") == []  # two hold it
    queue.judge(ranked(hers[0]))
    assert queue.take(asked, "ute", 1, "ute") == []  # one judged it, one holds it
    assert queue.take(asked, "ines", 1, "t2") == []

    assert queue.progress(asked, "ines").team == 1 and queue.progress(asked, "ines").total == 2
    assert "judged all that you can here. 1 prompt is for other people" in queue.progress(asked, "ines").waiting


def test_the_least_judged_come_first(database: Database) -> None:
    asked = project(overlap=2)
    sampled(database, asked, 3)
    queue = queue_of(database)
    first = queue.take(asked, "ines", 1, "t1")[0]
    queue.judge(ranked(first))

    order = [item.prompt.id for item in queue.take(asked, "tom", 3, "t2")]

    assert order[-1] == first.prompt.id


def test_among_equally_judged_what_the_newest_version_wrote_comes_first(database: Database) -> None:
    for name in ("base", "v1"):
        model_versions.add(database, version(name))
    asked = project(version_ids=("base", "v1"))
    old, new = some_prompts(2)
    prompts.add(database, [old, new])
    for one, by in ((old, "base"), (new, "v1")):
        responses.add(database, [response(one.id, f"{n}", version_id=by, project_id=asked.id) for n in range(2)])

    assert [item.prompt.id for item in queue_of(database).take(asked, "ines", 2, "t1")] == [new.id, old.id]


def test_everybody_after_the_first_sees_the_answers_that_the_first_saw(database: Database) -> None:
    asked = project(overlap=2, responses_per_prompt=3)
    sampled(database, asked, 1)
    queue = queue_of(database)
    (hers,) = queue.take(asked, "ines", 1, "t1")
    fresh = response(hers.prompt.id, "another", project_id=asked.id)
    responses.add(database, [fresh])
    queue.add_responses(asked, [fresh])

    for after in (queue, queue_of(database)):  # in memory, and read from the tables again
        (his,) = after.take(asked, "tom", 1, "t2")
        assert set(his.assignment.displayed_order) == set(hers.assignment.displayed_order)


def test_in_a_calibration_round_everybody_judges_every_prompt(database: Database) -> None:
    asked = project(calibration=True)
    sampled(database, asked, 3)
    queue = queue_of(database)

    for name in ("ines", "tom", "ute"):
        for item in queue.take(asked, name, 5, name):
            queue.judge(ranked(item))

    assert Counter(one.labeler for one in judgments.list_all(database)) == {"ines": 3, "tom": 3, "ute": 3}
    assert (queue.progress(asked, "ines").team, queue.progress(asked, "ines").total) == (3, 3)


# ---- leases ---------------------------------------------------------------------------------------------------------


def test_a_tab_that_keeps_asking_keeps_its_items_and_a_closed_tab_gives_them_back(database: Database) -> None:
    asked = project()
    sampled(database, asked, 2)
    clock = Clock()
    queue = queue_of(database, clock=clock)
    kept, left = queue.take(asked, "ines", 1, "open")[0], queue.take(asked, "ines", 1, "closed")[0]

    for _ in range(2):
        clock.run_on(0.7 * LEASE.total_seconds())
        queue.take(asked, "ines", 1, "open")

    assert assignments.get(database, kept.assignment.id).leased_until > clock.now
    assert prompts_of(queue.take(asked, "tom", 2, "t2")) == {left.prompt.id}


def test_what_ran_out_comes_back_to_the_same_person_as_the_same_assignment(database: Database) -> None:
    asked = project()
    sampled(database, asked, 1)
    clock = Clock()
    before = queue_of(database, clock=clock).take(asked, "ines", 1, "closed")[0]
    clock.outlast_a_lease()
    queue = queue_of(database, clock=clock)

    again = queue.take(asked, "ines", 1, "new")[0]

    assert (again.assignment.id, again.assignment.displayed_order) == (
        before.assignment.id,
        before.assignment.displayed_order,
    )
    assert queue.judge(ranked(before)).flags == ()  # it is theirs again, so it is not late
    with pytest.raises(BadInput, match="judged already"):
        queue.judge(ranked(again))


def test_who_comes_back_late_judges_the_answers_that_the_others_judge(database: Database) -> None:
    asked = project(overlap=2, responses_per_prompt=3)
    sampled(database, asked, 1)
    clock = Clock()
    queue = queue_of(database, clock=clock)
    (before,) = queue.take(asked, "ines", 1, "closed")
    clock.outlast_a_lease()
    fresh = response(before.prompt.id, "a third answer", project_id=asked.id)
    responses.add(database, [fresh])
    queue.add_responses(asked, [fresh])
    (his,) = queue.take(asked, "tom", 1, "t2")
    assert len(his.responses) == 3  # nobody held it, so the newer answer is shown too

    for after in (queue, queue_of(database, clock=clock)):
        (again,) = after.take(asked, "ines", 1, "new")
        assert again.assignment.id != before.assignment.id
        assert set(again.assignment.displayed_order) == set(his.assignment.displayed_order)
    late = queue.judge(ranked(before))  # from the tab that slept; kept, as it is about what she saw
    assert (late.flags, len(late.displayed_order)) == ((LATE,), 2)
    assert queue.judge(ranked(again)).flags == (REPEAT,)


def test_late_judgments_may_exceed_the_overlap_but_what_is_handed_out_never_does(database: Database) -> None:
    asked = project(overlap=1)
    sampled(database, asked, 1)
    clock = Clock()
    queue = queue_of(database, clock=clock)
    items = []
    for name in ("ines", "tom"):
        items += queue.take(asked, name, 1, name)
        clock.outlast_a_lease()

    assert [queue.judge(ranked(item)).flags for item in items] == [(LATE,), (LATE,)]
    for after in (queue, queue_of(database)):
        assert after.take(asked, "ute", 1, "t3") == []
        assert (after.progress(asked, "ute").team, after.progress(asked, "ute").total) == (1, 1)


# ---- skipped, known, repeated ---------------------------------------------------------------------------------------


def test_what_two_people_skipped_goes_to_nobody_else(database: Database) -> None:
    asked = project(overlap=3)
    sampled(database, asked, 1)
    queue = queue_of(database)
    for name in ("ines", "tom"):
        queue.skip(queue.take(asked, name, 1, name)[0].assignment.id, name, "not my field")

    for after in (queue, queue_of(database)):
        assert after.take(asked, "ute", 1, "t3") == []
        waiting = after.progress(asked, "ute").waiting
        assert waiting == "1 prompt is set aside for the lead: skipped by several people."


def test_who_skips_a_repeat_has_judged_it_and_sets_nothing_aside(database: Database) -> None:
    asked = project(overlap=3, repeat_share=1.0)
    sampled(database, asked, REPEAT_AFTER + 3)
    queue = queue_of(database)
    skipped = set()
    for name in ("ines", "tom"):
        for _ in range(REPEAT_AFTER + 1):
            queue.judge(ranked(queue.take(asked, name, 1, name)[0]))
        again = queue.take(asked, name, 1, name)[0]
        queue.skip(again.assignment.id, name, "seen it")
        skipped.add(again.prompt.id)
    assert skipped <= prompts_of(queue.take(asked, "ute", REPEAT_AFTER + 3, "t3"))


def settled(item: Item, lead: str = "lead") -> Judgment:
    return replace(ranked(item), labeler=lead, assignment_id=None)


def test_what_a_lead_settled_is_wanted_of_nobody_any_more(database: Database) -> None:
    asked = project(overlap=3)
    sampled(database, asked, 1)
    queue = queue_of(database)
    (item,) = queue.take(asked, "ines", 1, "t1")
    queue.judge(ranked(item))

    stored = queue.settle(asked, settled(item), gold=False)

    assert stored.flags == (ADJUDICATED,)
    for after in (queue, queue_of(database)):
        assert after.take(asked, "tom", 1, "t2") == []
        assert after.progress(asked, "tom").waiting == "Every prompt here is judged. Thank you."
        assert after.progress(asked, "tom").team == 3


def test_nobodys_answer_settles_a_comparison(database: Database) -> None:
    asked = project(purpose="comparison", version_ids=("v0", "v1"), feedback_type="pairwise")
    sampled(database, asked, 1, held_out=True)
    queue = queue_of(database)
    item = queue.take(asked, "ines", 1, "t1")[0]

    with pytest.raises(BadInput, match="nobody's answer stands above"):
        queue.settle(asked, settled(item), gold=False)


def test_settling_again_supersedes_and_the_same_key_again_changes_nothing(database: Database) -> None:
    asked = project()
    sampled(database, asked, 1)
    queue = queue_of(database)
    (item,) = queue.take(asked, "ines", 1, "t1")
    first = queue.settle(asked, settled(item), gold=False)

    second = queue.settle(asked, settled(item, "another lead"), gold=True)
    queue.settle(asked, second, gold=True)

    assert judgments.standing(database) == [second]
    assert (second.supersedes, second.flags) == (first.id, (ADJUDICATED, GOLD))
    with pytest.raises(BadInput, match="no such item"):
        queue.settle(asked, replace(settled(item), id=new_id(), prompt_id="unknown"), gold=False)


def test_known_answers_are_mixed_in_once_for_each_person_but_not_for_who_gave_them(database: Database) -> None:
    asked = project(gold_share=0.5, overlap=1)
    sampled(database, asked, 40)
    queue = queue_of(database, chance=random.Random(1))
    golden = queue.take(asked, "lead", 6, "t0")
    known = prompts_of(golden)
    for item in golden:
        queue.settle(asked, settled(item), gold=True)

    for after in (queue, queue_of(database, chance=random.Random(1))):
        name = f"ines {id(after)}"
        given = [item.prompt.id for item in after.take(asked, name, 12, name)]
        assert len(set(given)) == 12
        assert 2 <= len(set(given) & known) <= 6
    assert not known & prompts_of(queue.take(asked, "lead", 5, "another tab"))


def test_no_known_answer_is_asked_for_where_there_is_no_other_work(database: Database) -> None:
    asked = project(gold_share=1.0)
    sampled(database, asked, 1)
    queue = queue_of(database)
    (item,) = queue.take(asked, "lead", 1, "t0")
    queue.settle(asked, settled(item), gold=True)

    assert queue.take(asked, "ines", 1, "t1") == []


def test_a_share_comes_a_second_time_much_later_and_is_marked(database: Database) -> None:
    asked = project(repeat_share=0.5)
    sampled(database, asked, 60)
    queue = queue_of(database, chance=random.Random(3))
    seen: list[str] = []
    while len(seen) < 40:
        (item,) = queue.take(asked, "ines", 1, "t1")
        again = item.prompt.id in seen
        assert queue.judge(ranked(item)).flags == ((REPEAT,) if again else ())
        if again:
            assert len(seen) - seen.index(item.prompt.id) > REPEAT_AFTER
        seen.append(item.prompt.id)

    times = Counter(Counter(seen).values())
    assert set(times) == {1, 2}
    assert times[2] >= 8
    assert queue.progress(asked, "ines").mine == times[1] + times[2]
    assert queue.progress(asked, "ines").team == times[1] + times[2]  # a repeat is no second opinion


def test_a_repeat_that_was_skipped_does_not_come_a_third_time(database: Database) -> None:
    asked = project(repeat_share=1.0)
    sampled(database, asked, REPEAT_AFTER + 3)
    queue = queue_of(database)
    for _ in range(REPEAT_AFTER + 1):
        queue.judge(ranked(queue.take(asked, "ines", 1, "t1")[0]))
    (again,) = queue.take(asked, "ines", 1, "t1")
    assert again.prompt.id in {one.prompt_id for one in judgments.list_all(database)}

    queue.skip(again.assignment.id, "ines", "seen before")

    for after in (queue, queue_of(database)):
        assert prompts_of(after.take(asked, "ines", 1, "t1")) != {again.prompt.id}


def test_nobody_is_asked_again_where_no_repeats_are_wanted(database: Database) -> None:
    asked = project(overlap=5)
    sampled(database, asked, 25)
    queue = queue_of(database)

    given = [item.prompt.id for _ in range(5) for item in queue.take(asked, "ines", 5, new_id())]

    assert len(set(given)) == 25 and queue.take(asked, "ines", 5, "t9") == []
