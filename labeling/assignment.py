"""Who judges what next, in which blind order.

The board (labeling/board.py) says what is free; this says who gets it, and writes it down. Every change is on disk
before the board believes it, under one lock: so at the moment of assigning, the people who judged a prompt and those
who hold it are never more than the project's overlap, whatever the load. Only items with a known answer go
to anybody: they measure people, and are no further opinion.

A lease that runs out frees the item for others; what its holder says afterwards is kept all the same, and marked late.
If it comes to them again it is the same assignment, unless others were shown other answers since: nobody can judge an
item twice, but for the share that the project asks to see again.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from labeling.board import Board, Entry
from labeling.boards import Boards, adjudicated
from labeling.judgment_checks import check_open, check_same, check_shown, check_supersedes
from labeling.said import Said, said
from labeling.waiting import Pace, reasons
from storage import assignments, judgments, prompts, responses
from storage.database import Cursor, Database
from storage.errors import BadInput, NotAllowed, NotFound
from storage.records import (
    ADJUDICATED,
    GOLD,
    LATE,
    REPEAT,
    Assignment,
    Judgment,
    Project,
    Prompt,
    Response,
    new_id,
    now,
)

LEASE = timedelta(minutes=30)


@dataclass(frozen=True)
class Item:
    """What a labeler sees: the prompt and its responses in the displayed order."""

    assignment: Assignment
    prompt: Prompt
    responses: tuple[Response, ...]


@dataclass(frozen=True)
class Progress:
    """Prompts judged by this labeler; judgments there are and that are wanted; and `why` nothing is ready, if so.

    Where everybody judges every prompt, `team` and `total` count prompts.
    """

    mine: int
    team: int
    total: int
    ready: int
    why: tuple[Said, ...] = ()

    @property
    def waiting(self) -> str:
        return " ".join(map(str, self.why))


class Queue:
    """Hands out items and takes judgments. Safe to call from any thread."""

    def __init__(
        self,
        database: Database,
        *,
        minimum_responses: Callable[[str], int],
        why_waiting: Callable[[Project], str] = lambda project: "",
        lease: timedelta = LEASE,
        clock: Callable[[], datetime] = now,
        chance: random.Random | None = None,
    ) -> None:
        """`minimum_responses` of a feedback type: how many different responses it needs to say anything.

        `why_waiting` says why the answers that a project lacks are not being written; nothing while they are.
        """
        self._database = database
        self._why_waiting = why_waiting
        self._lease = lease
        self._clock = clock
        self._chance = chance or random.Random()
        self._lock = threading.RLock()
        self._boards = Boards(database, minimum_responses)
        self._pace = Pace(clock)
        self._tabs: dict[str, str] = {}  # assignment id -> the browser tab that holds it

    def take(self, project: Project, labeler: str, count: int, tab: str) -> list[Item]:
        """The items this tab holds, topped up to `count`. Calling it again changes only how long it holds them."""
        with self._lock:
            board = self._boards.of(project)
            self._expire(board)
            held = [one for one in board.leases.values() if one.labeler == labeler and self._holds(tab, one)]
            self._renew(board, held)
            new = [one for _ in range(count - len(held)) if (one := self._give_next(board, labeler))]
            for one in (*held, *new):
                self._tabs[one.id] = tab
            return [_item(board, board.leases[one.id]) for one in (*held, *new)]

    def judge(self, judgment: Judgment) -> Judgment:
        """Stores a judgment; durable when this returns. The same id again is the same judgment, not a second one.

        Raises BadInput for responses that were not shown, for a second judgment that does not supersede the first and
        for another one under the same id, NotAllowed for somebody else's item.
        """
        with self._lock:
            assignment = self._own(judgment.assignment_id or "", judgment.labeler)
            check_shown(judgment, assignment.displayed_order)
            board = self._boards.of_assignment(assignment)
            marked = replace(judgment, flags=(*judgment.flags, *self._marks(board, assignment, judgment)))
            is_new = self._database.write(lambda cursor: self._store(cursor, marked, assignment))
            if is_new and board and not judgment.supersedes:
                board.judge(assignment)
                self._tabs.pop(assignment.id, None)
        if is_new:
            return marked
        return check_same(judgments.get(self._database, judgment.id), judgment)

    def skip(self, assignment_id: str, labeler: str, reason: str) -> None:
        """This person will not get this prompt again. Skipping twice is skipping once.

        Raises BadInput where the item was judged already or its lease ran out.
        """
        with self._lock:
            assignment = self._own(assignment_id, labeler)
            if assignment.state == "skipped":
                return
            check_open(assignment)
            self._update([replace(assignment, state="skipped", skip_reason=reason)])
            board = self._boards.of_assignment(assignment)
            if board:
                board.skip(assignment)
            self._tabs.pop(assignment.id, None)

    def settle(self, project: Project, judgment: Judgment, *, gold: bool) -> Judgment:
        """Stores a lead's own answer to an item, apart from the labelers'; `gold` makes it the known answer.

        Settling a prompt again supersedes. Raises BadInput for a prompt or responses that the project does not have,
        for another answer under the same id, and for a comparison: there every vote is wanted, and blind.
        """
        if project.purpose == "comparison":
            raise BadInput(f"{project.name} is a comparison, where nobody's answer stands above the others'.")
        adjudged = replace(judgment, flags=(*judgment.flags, ADJUDICATED, *((GOLD,) if gold else ())))
        with self._lock:
            if known := judgments.get(self._database, judgment.id):
                return check_same(known, replace(adjudged, supersedes=known.supersedes))
            board = self._boards.of(project)
            entry = board.entries.get(judgment.prompt_id)
            if entry is None or not entry.shown:
                raise BadInput(f"{project.name} has no such item. Reload the page to see what there is to settle.")
            check_shown(judgment, [one.id for one in entry.shown])
            before = [one for one in adjudicated(self._database, project.id) if one.prompt_id == judgment.prompt_id]
            settled = replace(adjudged, supersedes=before[-1].id if before else None)
            self._database.write(lambda cursor: judgments.add(cursor, settled))
            board.settle(judgment.prompt_id, judgment.displayed_order, judgment.labeler if gold else "")
        return settled

    def to_settle(self, project: Project, prompt_id: str = "") -> tuple[Prompt, tuple[Response, ...]]:
        """A prompt and the answers that everybody sees; without an id, the next that nobody judged or holds.

        Raises NotFound.
        """
        with self._lock:
            board = self._boards.of(project)
            entry = board.entries.get(prompt_id) if prompt_id else board.unseen()
            if entry is None or not entry.shown:
                raise NotFound(f"{project.name} has no such item, or none left that nobody has judged.")
            return entry.prompt, tuple(entry.shown)

    def item(self, assignment_id: str) -> Item:
        """An item again, in the order it was shown: what is held is at hand, what was judged is read."""
        with self._lock:
            for board in self._boards:
                if assignment_id in board.leases:
                    return _item(board, board.leases[assignment_id])
        assignment = assignments.get(self._database, assignment_id)
        found = responses.get_many(self._database, assignment.displayed_order)
        shown = tuple(found[one] for one in assignment.displayed_order)
        return Item(assignment, prompts.get(self._database, assignment.prompt_id), shown)

    def progress(self, project: Project, labeler: str) -> Progress:
        with self._lock:
            board = self._boards.of(project)
            ready = board.ready_for(labeler)
            why = () if ready else self._why(board, labeler)
            return Progress(board.judged_by(labeler), board.judgments, board.wanted, ready, why)

    def unsampled(
        self, project: Project, ahead: int, leave_out: Collection[str] = (), last: Collection[str] = ()
    ) -> list[Prompt]:
        """The prompts to sample next, those of the ids `last` after the others, so that `ahead` items stay ready."""
        with self._lock:
            missing = max(0, ahead - self._boards.of(project).untouched())
            lacking = [one for one in self.lacking(project) if one.id not in leave_out]
            wanted = sorted(lacking, key=lambda one: one.id in last)[:missing]
            self._pace.asked(project.id, bool(wanted))
            return wanted

    def lacking(self, project: Project) -> list[Prompt]:
        """The prompts that nobody judged and that have too few answers to be shown."""
        with self._lock:
            return [one.prompt for one in self._boards.of(project).lacking()]

    def add_responses(self, project: Project, new: Sequence[Response]) -> None:
        """Fresh samples, already stored: a board that is not in memory will read them from the tables."""
        with self._lock:
            if new:
                self._pace.came(project.id)
            board = self._boards.in_memory(project.id)
            if board is not None:
                board.add_responses(new)

    def project(self, project_id: str) -> Project:
        """Raises NotFound."""
        with self._lock:
            return self._boards.project(project_id)

    def menu(self) -> dict[str, str]:
        """The projects that people can be asked to judge in, name by id, oldest first."""
        with self._lock:
            return self._boards.menu()

    def forget(self, project_id: str | None = None) -> None:
        """Reads a project (or all) from the tables again: its prompts or its settings changed."""
        with self._lock:
            self._boards.forget(project_id)

    # ---- handing out ----

    def _give_next(self, board: Board, labeler: str) -> Assignment | None:
        entry = self._choose(board, labeler)
        if entry is None:
            return None
        lapsed = _again(entry, labeler)
        given = (
            replace(lapsed, state="open", leased_until=self._until()) if lapsed else self._new(board, entry, labeler)
        )
        if lapsed:
            self._update([given])
        else:
            assignments.add(self._database, [given])
        board.give(given)
        return given

    def _choose(self, board: Board, labeler: str) -> Entry | None:
        """The next prompt; now and then one with a known answer or one judged before, as the project asks."""
        work = next(board.work_for(labeler), None)
        if work is None:
            return None  # nothing is left to hide a test among
        draw, gold, repeat = self._chance.random(), board.project.gold_share, board.project.repeat_share
        mixed_in: list[Entry] = []
        if draw < gold:
            mixed_in = board.gold_for(labeler)
        elif draw < gold + repeat:
            mixed_in = board.repeats_for(labeler)
        return self._chance.choice(mixed_in) if mixed_in else work

    def _new(self, board: Board, entry: Entry, labeler: str) -> Assignment:
        order = [response.id for response in entry.shown]
        self._chance.shuffle(order)
        return Assignment(
            id=new_id(),
            project_id=board.project.id,
            prompt_id=entry.prompt.id,
            labeler=labeler,
            displayed_order=tuple(order),
            leased_until=self._until(),
            created_at=self._clock(),
        )

    def _until(self) -> datetime:
        return self._clock() + self._lease

    def _holds(self, tab: str, assignment: Assignment) -> bool:
        return self._tabs.get(assignment.id, tab) == tab  # after a restart the first tab that asks holds it

    def _renew(self, board: Board, held: Sequence[Assignment]) -> None:
        """A tab that asks is alive: what it holds stays its own. Written once in half a lease, not at each call."""
        due = [one for one in held if one.leased_until - self._clock() < self._lease / 2]
        renewed = [replace(one, leased_until=self._until()) for one in due]
        self._update(renewed)
        for one in renewed:
            board.give(one)

    def _expire(self, board: Board) -> None:
        expired = [replace(one, state="expired") for one in board.leases.values() if one.leased_until <= self._clock()]
        self._update(expired)
        for one in expired:
            board.expire(one)
            self._tabs.pop(one.id, None)

    def _why(self, board: Board, labeler: str) -> tuple[Said, ...]:
        problem = self._why_waiting(board.project)
        return reasons(board, labeler, problem, self._pace.due(board.project.id), self._clock())

    # ---- writing down ----

    def _own(self, assignment_id: str, labeler: str) -> Assignment:
        assignment = self._boards.assignment(assignment_id)
        if assignment.labeler != labeler:
            raise NotAllowed(said("somebody_elses"))
        return assignment

    def _marks(self, board: Board | None, assignment: Assignment, judgment: Judgment) -> tuple[str, ...]:
        """What is noted beside the judgment; a change keeps the marks of what it changes."""
        if judgment.supersedes:
            old = judgments.get(self._database, judgment.supersedes)
            return tuple(mark for mark in (LATE, REPEAT) if old and mark in old.flags)
        entry = board.entries[assignment.prompt_id] if board else None
        again = entry is not None and assignment.labeler in entry.times
        late = assignment.state != "open" or assignment.leased_until <= self._clock()
        return (*((LATE,) if late else ()), *((REPEAT,) if again else ()))

    def _update(self, changed: Sequence[Assignment]) -> None:
        if changed:
            self._database.write(lambda cursor: assignments.update_all(cursor, changed))

    def _store(self, cursor: Cursor, judgment: Judgment, assignment: Assignment) -> bool:
        """Whether it was new."""
        if judgment.supersedes:
            check_supersedes(self._database, cursor, judgment)
        elif assignment.state == "judged" and judgments.get(self._database, judgment.id) is None:
            raise BadInput(said("judged_already"))
        is_new = judgments.add(cursor, judgment)
        if is_new:
            assignments.update(cursor, replace(assignment, state="judged"))
        return is_new


def _again(entry: Entry, labeler: str) -> Assignment | None:
    """Their lease that ran out, unless other answers are shown by now: all who judge a prompt judge the same ones."""
    lapsed = entry.lapsed.get(labeler)
    return lapsed if lapsed and set(lapsed.displayed_order) == {one.id for one in entry.shown} else None


def _item(board: Board, assignment: Assignment) -> Item:
    entry = board.entries[assignment.prompt_id]
    by_id = {response.id: response for response in entry.sampled}
    return Item(assignment, entry.prompt, tuple(by_id[one] for one in assignment.displayed_order))
