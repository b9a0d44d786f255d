"""Many people at once on an app that is killed again and again: is anything lost, doubled or handed out too often?

Each thread is a labeler with a browser's habits: it takes items, now and then looks at one for longer than its lease,
submits under a key of its own, and sends again until it hears that the judgment is stored or refused. Meanwhile the app
is killed (SIGKILL) and started again at random moments. What was acknowledged is then looked for in the tables. How
many people a prompt had was counted in them whenever it was handed out, before anybody else could be given anything.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx

from benchmarks.label_process import FILE, PEOPLE, PROJECT, LabelProcess, fill
from storage import judgments
from storage.database import Database
from storage.records import LATE

SLOW_SHARE = 0.04  # of the judgments come after their lease has run out
CERTAIN = (200, 400, 404)  # stored, or refused for good


@dataclass
class Hammered:
    """What the tables hold, against what the labelers were told."""

    judgments: int
    acknowledged: int
    kills: int
    late: int
    assigned: int
    lost: int
    doubled: int
    over_assigned: int

    @property
    def sentence(self) -> str:
        return (
            f"{self.acknowledged} acknowledged of {self.judgments} stored, {self.late} late, {self.kills} kills: "
            f"{self.lost} lost, {self.doubled} doubled, {self.over_assigned} of {self.assigned} over-assigned"
        )


@dataclass
class Crowd:
    """What the labelers of all threads share."""

    url: str
    until: float
    lease: float  # seconds
    acknowledged: set[str] = field(default_factory=set)
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def works(self) -> bool:
        return not self.finished.is_set() and time.monotonic() < self.until


def hammer(
    folder: Path, port: int, *, people: int, prompts: int, overlap: int, kills: int, lease: float, seconds: float
) -> Hammered:
    """Until everything is judged, or the time is over. `lease` and `seconds` are both in seconds."""
    fill(folder, prompts, overlap=overlap)
    with LabelProcess(folder, port, "--lease", str(lease), "--count-people") as process:
        crowd = Crowd(process.url, time.monotonic() + seconds, lease)
        threads = [threading.Thread(target=_label, args=(crowd, f"person {n}", n)) for n in range(people)]
        for one in threads:
            one.start()
        done = _kill_now_and_then(crowd, process, kills, prompts * overlap)
        for one in threads:
            one.join()
    return count(folder, crowd.acknowledged, overlap, done)


def count(folder: Path, acknowledged: set[str], overlap: int, kills: int) -> Hammered:
    database = Database.open(folder / FILE)
    stored = judgments.list_all(database, PROJECT)
    database.close()
    people = [int(line) for line in (folder / PEOPLE).read_text().splitlines()]
    by_person = Counter((one.labeler, one.prompt_id) for one in stored)
    return Hammered(
        judgments=len(stored),
        acknowledged=len(acknowledged),
        kills=kills,
        late=sum(LATE in one.flags for one in stored),
        lost=len(acknowledged - {one.id for one in stored}),
        doubled=sum(times - 1 for times in by_person.values()),
        assigned=len(people),
        over_assigned=sum(one > overlap for one in people),
    )


def _kill_now_and_then(crowd: Crowd, process: LabelProcess, kills: int, wanted: int) -> int:
    """At random points of the work; returns how often it was done."""
    chance, done = random.Random(0), 0
    for at in sorted(chance.uniform(0.05, 0.9) * wanted for _ in range(kills)):
        while crowd.works and len(crowd.acknowledged) < at:
            time.sleep(0.01)  # between two looks
        if not crowd.works:
            break
        process.kill()
        process.start()
        done += 1
    return done


# ---- one labeler ----------------------------------------------------------------------------------------------------


def _label(crowd: Crowd, name: str, seed: int) -> None:
    chance, tab = random.Random(seed), str(uuid4())
    with httpx.Client(base_url=crowd.url, cookies={"person": name}, timeout=60, verify=False) as client:
        while crowd.works:
            answer = _ask(client, tab)
            if answer is None or not answer["items"]:
                if answer and answer["progress"]["team"] == answer["progress"]["total"]:
                    crowd.finished.set()
                time.sleep(chance.uniform(0.3, 1.2))  # the page waits longer
                continue
            item = answer["items"][0]
            slow = chance.random() < SLOW_SHARE
            seconds = chance.uniform(1.0, 1.8) * crowd.lease if slow else chance.uniform(0, 0.05)
            time.sleep(seconds)  # reading; who is slow outlasts the lease
            _submit(crowd, client, _judgment(item, chance))


def _ask(client: httpx.Client, tab: str) -> dict[str, Any] | None:
    try:
        answer = client.get("/api/label/next", params={"project": PROJECT, "tab": tab, "count": 2})
    except httpx.HTTPError:
        return None
    found: dict[str, Any] = answer.json()
    return found if answer.status_code == 200 else None


def _judgment(item: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    ids = [one["id"] for one in item["responses"]]
    ranks = chance.sample(range(1, len(ids) + 1), len(ids))
    return {
        "key": str(uuid4()),
        "assignment": item["assignment"],
        "displayed": ids,
        "focused_seconds": 5.0,
        "verdict": {"ranks": dict(zip(ids, ranks, strict=True))},
    }


def _submit(crowd: Crowd, client: httpx.Client, judgment: dict[str, Any]) -> None:
    """Again and again under the same key, as the page's outbox does."""
    while True:
        try:
            answer = client.post("/api/label/judge", json=judgment)
        except httpx.HTTPError:
            if time.monotonic() > crowd.until + 30:
                return
            time.sleep(0.1)  # it was killed, and is being started again
            continue
        if answer.status_code == 200:
            crowd.acknowledged.add(UUID(judgment["key"]).hex)
        if answer.status_code in CERTAIN:
            return
