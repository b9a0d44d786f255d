"""A project whose judgments are of known quality: three people who mostly agree, and Tom, who does not read."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from storage import assignments, judgments, projects, prompts, responses
from storage.database import Database
from storage.records import (
    ADJUDICATED,
    GOLD,
    REPEAT,
    Assignment,
    Judgment,
    Message,
    Project,
    Prompt,
    Ranking,
    Rating,
    Response,
    Sampling,
    Verdict,
    new_id,
    now,
)

STEADY = {"Ines": 0.96, "Ravi": 0.94, "Lena": 0.95}  # how often each puts the better answer first
TOM = "Tom"
EVIL = "<img src=x onerror=alert(1)>"
GOLDEN = 8  # of the prompts


def judged_project(database: Database, kind: str, count: int = 40, unjudged: int = 3) -> Project:
    """`count` prompts judged by all four, a few of them twice, and some that nobody judged."""
    chance = random.Random(kind)
    made = Project(kind, f"{kind.title()} {EVIL}", "labeling", kind, "Judge them.", "", 1, ("base",), 2, Sampling())
    project = projects.save(database, replace(made, overlap=4, sources=(kind,)))
    asked = [_prompt(kind, number) for number in range(count + unjudged)]
    prompts.add(database, asked)
    better = {one.id: _response(one, kind, f"The better answer to {one.text} {EVIL}") for one in asked}
    worse = {one.id: _response(one, kind, f"The worse one, {'which is longer, ' * 4}to {one.text}") for one in asked}
    responses.add(database, [*better.values(), *worse.values()])
    said: list[Judgment] = []
    for number, one in enumerate(asked[:count]):
        pair = (better[one.id].id, worse[one.id].id)
        if number < GOLDEN:
            said.append(_said(project, one, "lead", pair, pair, flags=(ADJUDICATED, GOLD)))
        for name in (*STEADY, TOM):
            said += _by(project, one, name, pair, chance, again=number % 5 == 0)
    held = [_held(one) for one in said if one.labeler != "lead"]
    assignments.add(database, [assignment for assignment, _ in held])
    kept = [one for one in said if one.labeler == "lead"] + [judgment for _, judgment in held]
    database.write(lambda cursor: judgments.insert_all(cursor, kept))
    return project


def _by(
    project: Project, asked: Prompt, name: str, pair: tuple[str, str], chance: random.Random, *, again: bool
) -> list[Judgment]:
    """What one person says about a prompt, once or twice."""
    times = []
    for flags in ((), (REPEAT,))[: 1 + again]:
        order = tuple(chance.sample(pair, 2))
        right = chance.random() < STEADY.get(name, 0.5)
        if name == TOM:
            right = (order[0] == pair[0]) if chance.random() < 0.7 else right  # what is shown first will do
        seconds = chance.uniform(4, 6) if name == TOM else chance.uniform(20, 40)
        best = pair if right else pair[::-1]
        times.append(_said(project, asked, name, best, order, flags=flags, seconds=seconds))
    return times


def _said(
    project: Project,
    asked: Prompt,
    name: str,
    best: Sequence[str],
    order: Sequence[str],
    *,
    flags: tuple[str, ...] = (),
    seconds: float | None = None,
) -> Judgment:
    return Judgment(
        id=new_id(),
        prompt_id=asked.id,
        labeler=name,
        feedback_type=project.feedback_type,
        verdicts=_verdicts(project.feedback_type, best),
        displayed_order=tuple(order),
        project_id=project.id,
        focused_seconds=seconds,
        flags=flags,
        reasons=("Length",) if best[0] == order[0] else (),
        judged_at=now() - timedelta(hours=len(asked.text) % 5),
    )


def _verdicts(kind: str, best: Sequence[str]) -> tuple[Verdict, ...]:
    if kind == "thumbs":
        return Rating(best[0], True), Rating(best[1], False)
    return (Ranking(((best[0],), (best[1],)), strength=2 if kind == "pairwise" else None),)


def _held(judgment: Judgment) -> tuple[Assignment, Judgment]:
    made = Assignment(
        id=new_id(),
        project_id=judgment.project_id or "",
        prompt_id=judgment.prompt_id,
        labeler=judgment.labeler,
        displayed_order=judgment.displayed_order,
        leased_until=now(),
        state="judged",
    )
    return made, replace(judgment, assignment_id=made.id)


def _prompt(source: str, number: int) -> Prompt:
    text = f"How long does the vaccine of lot {number} keep once it is opened? {EVIL}"
    return Prompt(new_id(), (Message("user", f"{text} ({source})"),), False, source, "CC0")


def _response(asked: Prompt, project_id: str, text: str) -> Response:
    return Response(new_id(), asked.id, text, "base", "base", project_id=project_id)
