"""Why nothing is ready for a labeler, and when more will come.

What is said about time is measured or written down: how long the last answers took to come, and when a lease ends.
Where neither is known, nothing is said about it.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from labeling.board import Board, Entry
from labeling.said import Said, said

MEASURED = 5  # of the last deliveries count


@dataclass(frozen=True)
class Due:
    """In how many seconds the next answers come, if they take as long as the last ones did; below 0 they are late."""

    seconds: float
    usual: float


class Pace:
    """How fast each project's answers come: from when they were asked for, or the ones before came, until they came."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._since: dict[str, datetime] = {}  # project id -> since when answers are on their way
        self._took: dict[str, deque[float]] = {}

    def asked(self, project_id: str, lacks: bool) -> None:
        """The sampler looked. A pool that is full starts no clock."""
        if lacks:
            self._since.setdefault(project_id, self._clock())
        else:
            self._since.pop(project_id, None)

    def came(self, project_id: str) -> None:
        since = self._since.get(project_id)
        self._since[project_id] = self._clock()
        if since:
            took = (self._clock() - since).total_seconds()
            self._took.setdefault(project_id, deque(maxlen=MEASURED)).append(took)

    def due(self, project_id: str) -> Due | None:
        """None while nothing is on its way, or nothing ever came."""
        since, took = self._since.get(project_id), self._took.get(project_id)
        if since is None or not took:
            return None
        usual = statistics.median(took)
        return Due(usual - (self._clock() - since).total_seconds(), usual)


def reasons(board: Board, labeler: str, problem: str, due: Due | None, now: datetime) -> tuple[Said, ...]:
    """`problem` says why the answers that are lacking are not being written; nothing while they are."""
    if not board.entries:
        return (said("no_held_out" if board.project.purpose == "comparison" else "no_prompts"),)
    unfinished = board.unfinished()
    left = [one for one in unfinished if labeler not in one.times and not one.settled]
    return _sorted_out(board, labeler, left, problem, due, now) if left else _done(board, unfinished)


def _done(board: Board, unfinished: Sequence[Entry]) -> tuple[Said, ...]:
    """This person can judge no more; perhaps others can, or the lead is to look."""
    if board.by_everybody:
        return (said("all_by_you"),)
    set_aside = sum(one.set_aside for one in unfinished)
    for_others = len(unfinished) - set_aside
    found = [
        said("for_others", n=for_others) if for_others else None,
        said("set_aside", n=set_aside) if set_aside else None,
    ]
    return tuple(one for one in found if one) or (said("all_judged"),)


def _sorted_out(
    board: Board, labeler: str, left: Sequence[Entry], problem: str, due: Due | None, now: datetime
) -> tuple[Said, ...]:
    """What is left is set aside, skipped by this person, without answers, or open elsewhere: else it would be ready."""
    set_aside = [one for one in left if one.set_aside]
    skipped = [one for one in left if labeler in one.skipped and not one.set_aside]
    lacking = [one for one in left if not (one.shown or labeler in one.skipped or one.set_aside)]
    rest = {*(one.prompt.id for one in left)} - {one.prompt.id for one in (*set_aside, *skipped, *lacking)}
    found = [
        _writing(problem, due) if lacking else None,
        _open_elsewhere(board, rest, now) if rest else None,
        said("you_skipped", n=len(skipped)) if skipped else None,
        said("set_aside", n=len(set_aside)) if set_aside else None,
    ]
    return tuple(one for one in found if one)


def _writing(problem: str, due: Due | None) -> Said:
    if problem:
        return said("model_problem", reason=problem)
    if due is None:
        return said("writing_unmeasured")
    return (
        said("writing", seconds=round(due.seconds))
        if due.seconds > 0
        else said("writing_late", seconds=round(due.usual))
    )


def _open_elsewhere(board: Board, prompt_ids: set[str], now: datetime) -> Said:
    """A tab that stays open keeps its leases, so the first of them to end is when something may come free."""
    ends = [one.leased_until for one in board.leases.values() if one.prompt_id in prompt_ids]
    seconds = (min(ends) - now).total_seconds() if ends else 0
    return said("open_elsewhere", n=len(prompt_ids), seconds=max(1, round(seconds)))
