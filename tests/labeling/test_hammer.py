"""Many labelers at once, leases that run out, an app that is killed: nothing lost, doubled or given too often."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

from benchmarks.label_hammer import hammer
from labeling.assignment import Queue
from storage import judgments
from storage.database import Database
from tests.free_ports import free_ports
from tests.labeling.test_assignment import ranked, sampled
from tests.makers import project


def test_many_threads_that_take_and_judge_at_once_never_exceed_the_overlap(database: Database) -> None:
    asked = project(overlap=3)
    sampled(database, asked, 12)
    queue = Queue(database, minimum_responses=lambda name: 2)
    begin = threading.Barrier(16)

    def label(name: str) -> None:
        begin.wait()
        while items := queue.take(asked, name, 2, name):
            queue.judge(ranked(items[0]))

    threads = [threading.Thread(target=label, args=(f"person {n}",)) for n in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    stored = judgments.list_all(database)
    assert set(Counter(one.prompt_id for one in stored).values()) == {3}
    assert len({(one.labeler, one.prompt_id) for one in stored}) == len(stored) == 36
    assert all(one.flags == () for one in stored)


def test_what_was_acknowledged_survives_kills_and_nothing_is_doubled_or_given_too_often(tmp_path: Path) -> None:
    found = hammer(tmp_path, free_ports(1)[0], people=12, prompts=25, overlap=3, kills=2, lease=6, seconds=400)

    assert (found.lost, found.doubled, found.over_assigned) == (0, 0, 0), found.sentence
    assert found.judgments - found.late > 40, found.sentence  # what is late says nothing about what was handed out
    assert found.kills == 2, found.sentence
