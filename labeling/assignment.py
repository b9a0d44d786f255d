"""Who judges what next, in which blind order.

The board (labeling/board.py) says what is free; this says who gets it, and writes it down. Every change is on disk
before the board believes it, under one lock: so at the moment of assigning, the people who judged a prompt and those
who hold it are never more than the project's overlap, whatever the load. Only items with a known answer go
to anybody: they measure people, and are no further opinion.

A lease that runs out frees the item for others; what its holder says afterwards is kept all the same, and marked late.
If it comes to them again it is the same assignment: nobody can judge an item twice, but for the share that the project
asks to see again.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from labeling.board import Board, Entry
from storage import assignments, judgments, model_versions, projects, prompts, responses
from storage.database import Cursor, Database
from storage.errors import BadInput, NotAllowed, NotFound
from storage.records import (
    ADJUDICATED,
    GOLD,
    LATE,
    REPEAT,
    Assignment,
    Demonstration,
    Judgment,
    Project,
    Prompt,
    Ranking,
    Rating,
    Response,
    Verdict,
    new_id,
    now,
)

LEASE = timedelta(minutes=30)
KEY_USED = "This judgment has the key of another one, so it was not saved. Reload the page and judge again."
JUDGED_ALREADY = "This item was judged already, perhaps in another tab. Reload the page to see it."


@dataclass(frozen=True)
class Item:
    """What a labeler sees: the prompt and its responses in the displayed order."""

    assignment: Assignment
    prompt: Prompt
    responses: tuple[Response, ...]


@dataclass(frozen=True)
class Progress:
    """Prompts judged by this labeler; judgments there are and that are wanted; and why nothing is ready, if so.

    Where everybody judges every prompt, `team` and `total` count prompts.
    """

    mine: int
    team: int
    total: int
    ready: int
    waiting: str


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
        self._minimum_responses = minimum_responses
        self._why_waiting = why_waiting
        self._lease = lease
        self._clock = clock
        self._chance = chance or random.Random()
        self._lock = threading.RLock()
        self._boards: dict[str, Board] = {}
        self._tabs: dict[str, str] = {}  # assignment id -> the browser tab that holds it

    def take(self, project: Project, labeler: str, count: int, tab: str) -> list[Item]:
        """The items this tab holds, topped up to `count`. Calling it again changes only how long it holds them."""
        with self._lock:
            board = self._board(project)
            self._expire(board)
            held = [one for one in board.leases.values() if one.labeler == labeler and self._holds(tab, one)]
            self._renew(board, held)
            new = [one for _ in range(count - len(held)) if (one := self._give_next(board, labeler))]
            for one in (*held, *new):
                self._tabs[one.id] = tab
            return [_item(board, board.leases[one.id]) for one in (*held, *new)]

    def judge(self, judgment: Judgment) -> Judgment:
        """Stores a judgment; durable when this returns. The same id again is the same judgment, not a second one.

        Raises BadInput for responses that were not shown and for a second judgment that does not supersede the first,
        NotAllowed for somebody else's item.
        """
        with self._lock:
            assignment = self._own(judgment.assignment_id or "", judgment.labeler)
            _check_shown(judgment, assignment.displayed_order)
            board = self._board_of(assignment)
            marked = replace(judgment, flags=(*judgment.flags, *self._marks(board, assignment, judgment)))
            is_new = self._database.write(lambda cursor: self._store(cursor, marked, assignment))
            if is_new and board and not judgment.supersedes:
                board.judge(assignment)
                self._tabs.pop(assignment.id, None)
        if is_new:
            return marked
        known = judgments.get(self._database, judgment.id)
        if known is None or known.assignment_id != assignment.id:
            raise BadInput(KEY_USED)
        return known

    def skip(self, assignment_id: str, labeler: str, reason: str) -> None:
        """This person will not get this prompt again. Skipping twice is skipping once.

        Raises BadInput where the item was judged already or its lease ran out.
        """
        with self._lock:
            assignment = self._own(assignment_id, labeler)
            if assignment.state == "skipped":
                return
            _check_open(assignment)
            self._update([replace(assignment, state="skipped", skip_reason=reason)])
            board = self._board_of(assignment)
            if board:
                board.skip(assignment)
            self._tabs.pop(assignment.id, None)

    def settle(self, project: Project, judgment: Judgment, *, gold: bool) -> Judgment:
        """Stores a lead's own answer to an item, apart from the labelers'; `gold` makes it the known answer.

        Settling a prompt again supersedes. Raises BadInput for a prompt or responses that the project does not have,
        and for a comparison: there every vote is wanted, and blind.
        """
        if project.purpose == "comparison":
            raise BadInput(f"{project.name} is a comparison, where nobody's answer stands above the others'.")
        with self._lock:
            if known := judgments.get(self._database, judgment.id):
                if (known.project_id, known.prompt_id) != (judgment.project_id, judgment.prompt_id):
                    raise BadInput(KEY_USED)
                return known
            board = self._board(project)
            entry = board.entries.get(judgment.prompt_id)
            if entry is None or not entry.shown:
                raise BadInput(f"{project.name} has no such item. Reload the page to see what there is to settle.")
            _check_shown(judgment, [one.id for one in entry.shown])
            before = [one for one in self._adjudicated(project.id) if one.prompt_id == judgment.prompt_id]
            settled = replace(
                judgment,
                flags=(*judgment.flags, ADJUDICATED, *((GOLD,) if gold else ())),
                supersedes=before[-1].id if before else None,
            )
            self._database.write(lambda cursor: judgments.add(cursor, settled))
            board.settle(judgment.prompt_id, judgment.displayed_order, judgment.labeler if gold else "")
        return settled

    def to_settle(self, project: Project, prompt_id: str = "") -> tuple[Prompt, tuple[Response, ...]]:
        """A prompt and the answers that everybody sees; without an id, the next that nobody judged or holds.

        Raises NotFound.
        """
        with self._lock:
            board = self._board(project)
            entry = board.entries.get(prompt_id) if prompt_id else board.unseen()
            if entry is None or not entry.shown:
                raise NotFound(f"{project.name} has no such item, or none left that nobody has judged.")
            return entry.prompt, tuple(entry.shown)

    def item(self, assignment_id: str) -> Item:
        """An item again, in the order it was shown: what is held is at hand, what was judged is read."""
        with self._lock:
            for board in self._boards.values():
                if assignment_id in board.leases:
                    return _item(board, board.leases[assignment_id])
        assignment = assignments.get(self._database, assignment_id)
        found = responses.get_many(self._database, assignment.displayed_order)
        shown = tuple(found[one] for one in assignment.displayed_order)
        return Item(assignment, prompts.get(self._database, assignment.prompt_id), shown)

    def progress(self, project: Project, labeler: str) -> Progress:
        with self._lock:
            board = self._board(project)
            ready = board.ready_for(labeler)
            waiting = "" if ready else self._waiting(board, labeler)
            return Progress(board.judged_by(labeler), board.judgments, board.wanted, ready, waiting)

    def unsampled(self, project: Project, ahead: int, leave_out: Collection[str] = ()) -> list[Prompt]:
        """The prompts to sample next, so that `ahead` items stay ready for whoever comes."""
        with self._lock:
            missing = max(0, ahead - self._board(project).untouched())
            return [one for one in self.lacking(project) if one.id not in leave_out][:missing]

    def lacking(self, project: Project) -> list[Prompt]:
        """The prompts that nobody judged and that have too few answers to be shown."""
        with self._lock:
            return [one.prompt for one in self._board(project).lacking()]

    def add_responses(self, project: Project, new: Sequence[Response]) -> None:
        """Fresh samples, already stored: a board that is not in memory will read them from the tables."""
        with self._lock:
            board = self._boards.get(project.id)
            if board is not None:
                board.add_responses(new)

    def forget(self, project_id: str | None = None) -> None:
        """Reads a project (or all) from the tables again: its prompts or its settings changed."""
        with self._lock:
            for one in [project_id] if project_id else list(self._boards):
                self._boards.pop(one, None)

    # ---- handing out ----

    def _give_next(self, board: Board, labeler: str) -> Assignment | None:
        entry = self._choose(board, labeler)
        if entry is None:
            return None
        lapsed = entry.lapsed.get(labeler)
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

    def _waiting(self, board: Board, labeler: str) -> str:
        """Why nothing is ready for this labeler."""
        if not board.entries:
            side = "held-out prompts" if board.project.purpose == "comparison" else "prompts"
            return f"There are no {side} yet. Import some on the data page."
        unfinished = board.unfinished()
        left = [one for one in unfinished if labeler not in one.times and not one.settled]
        if not left and unfinished and not board.by_everybody:
            return f"You have judged all that you can here. {prompts_are(len(unfinished))} for other people to judge."
        if not left:
            return "Every prompt here is judged. Thank you."
        set_aside = [one for one in left if one.set_aside]
        skipped = [one for one in left if labeler in one.skipped and not one.set_aside]
        lacking = [one for one in left if not one.shown and not one.skipped]
        held = len(left) - len(set_aside) - len(skipped) - len(lacking)  # all others would be ready
        reasons = [
            (self._why_waiting(board.project) or "The model is writing more answers.") if lacking else "",
            f"{prompts_are(held)} open with others or in another tab." if held else "",
            f"{prompts_are(len(skipped))} left that you skipped." if skipped else "",
            f"{prompts_are(len(set_aside))} set aside for the lead: skipped by several people." if set_aside else "",
        ]
        return " ".join(reason for reason in reasons if reason)

    # ---- remembering ----

    def _board(self, project: Project) -> Board:
        if project.id not in self._boards:
            stored = {one.id: one for one in projects.list_all(self._database)}
            current = stored.get(project.id, project)  # the caller's may be from before an edit
            self._boards[project.id] = self._read_board(current)
        return self._boards[project.id]

    def _board_of(self, assignment: Assignment) -> Board | None:
        """None for a prompt that is not the project's any more, because its sources changed."""
        board = self._boards.get(assignment.project_id) or self._stored_board(assignment.project_id)
        return board if board and assignment.prompt_id in board.entries else None

    def _stored_board(self, project_id: str) -> Board | None:
        stored = {one.id: one for one in projects.list_all(self._database)}
        return self._board(stored[project_id]) if project_id in stored else None

    def _read_board(self, project: Project) -> Board:
        held_out = project.purpose == "comparison"
        asked = prompts.in_order(self._database, held_out=held_out, sources=project.sources)
        newest = {one.id: rank for rank, one in enumerate(model_versions.list_all(self._database), 1)}
        board = Board(project, asked, self._minimum_responses(project.feedback_type), newest)
        for sampled in responses.by_prompt(self._database, project.id).values():
            board.add_responses(sampled)
        for assignment in assignments.list_all(self._database, project.id):
            if assignment.prompt_id in board.entries:
                _replay(board, assignment)
        for one in self._adjudicated(project.id):
            if one.prompt_id in board.entries:
                board.settle(one.prompt_id, one.displayed_order, one.labeler if GOLD in one.flags else "")
        return board

    def _adjudicated(self, project_id: str) -> list[Judgment]:
        return judgments.flagged(self._database, project_id, ADJUDICATED)

    def _own(self, assignment_id: str, labeler: str) -> Assignment:
        assignment = assignments.get(self._database, assignment_id)
        if assignment.labeler != labeler:
            raise NotAllowed("This item is held by somebody else. Reload the page to get your own.")
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
            _check_supersedes(self._database, cursor, judgment)
        elif assignment.state == "judged" and judgments.get(self._database, judgment.id) is None:
            raise BadInput(JUDGED_ALREADY)
        is_new = judgments.add(cursor, judgment)
        if is_new:
            assignments.update(cursor, replace(assignment, state="judged"))
        return is_new


def prompts_are(count: int) -> str:
    return "1 prompt is" if count == 1 else f"{count} prompts are"


def _item(board: Board, assignment: Assignment) -> Item:
    entry = board.entries[assignment.prompt_id]
    by_id = {response.id: response for response in entry.sampled}
    return Item(assignment, entry.prompt, tuple(by_id[one] for one in assignment.displayed_order))


def _replay(board: Board, assignment: Assignment) -> None:
    """What an assignment from the tables means for the board."""
    match assignment.state:
        case "open":
            board.give(assignment)
        case "judged":
            board.judge(assignment)
        case "skipped":
            board.skip(assignment)
        case "expired":
            board.expire(assignment)


def _check_open(assignment: Assignment) -> None:
    if assignment.state == "judged":
        raise BadInput(JUDGED_ALREADY)
    if assignment.state != "open":
        raise BadInput("This item went back to the others, because its time ran out. Reload the page to go on.")


def _check_shown(judgment: Judgment, shown: Sequence[str]) -> None:
    strangers = {one for verdict in judgment.verdicts for one in _named(verdict)} - set(shown)
    if strangers or set(judgment.displayed_order) != set(shown):
        raise BadInput("This judgment is about answers that were not shown in this item. Reload the page.")


def _named(verdict: Verdict) -> Sequence[str]:
    match verdict:
        case Rating(response_id):
            return [response_id]
        case Ranking(tiers):
            return [one for tier in tiers for one in tier]
        case Demonstration(improves=improves):
            return [improves] if improves else []


def _check_supersedes(database: Database, cursor: Cursor, judgment: Judgment) -> None:
    old = judgments.get(database, judgment.supersedes or "")
    if old is None or old.assignment_id != judgment.assignment_id:
        raise NotFound("The judgment to change is not known here. Reload the page.")
    replaced_by = judgments.superseded_by(cursor, old.id)
    if replaced_by not in (None, judgment.id):
        raise BadInput("This judgment was changed already, perhaps in another tab. Reload the page to see it.")
