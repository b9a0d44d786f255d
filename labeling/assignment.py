"""Who judges what next, in which blind order.

The tables are the truth; this is the same truth in memory, rebuilt at start, because choosing the next item by counting
judgments costs 300 ms in a large database and nothing here. Every change is written before it is believed.

An item of a labelling project is judged by one person; one of a comparison by everybody who comes, once each.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from storage import assignments, judgments, projects, prompts, responses
from storage.database import Cursor, Database
from storage.errors import BadInput, NotAllowed, NotFound
from storage.records import (
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
JUDGED_ALREADY = "This item was judged already, perhaps in another tab. Reload the page to see it."


@dataclass(frozen=True)
class Item:
    """What a labeler sees: the prompt and its responses in the displayed order."""

    assignment: Assignment
    prompt: Prompt
    responses: tuple[Response, ...]


@dataclass(frozen=True)
class Progress:
    """Prompts judged by this labeler, by anybody, in all; sampled and free to judge; and why nothing is, if so."""

    mine: int
    team: int
    total: int
    ready: int
    waiting: str


@dataclass
class _Board:
    """One project's queue in memory."""

    prompts: dict[str, Prompt] = field(default_factory=dict)
    responses: dict[str, list[Response]] = field(default_factory=dict)
    judged: dict[str, set[str]] = field(default_factory=dict)  # prompt id -> labelers
    skipped: dict[str, set[str]] = field(default_factory=dict)
    open: dict[str, Assignment] = field(default_factory=dict)  # by assignment id


class Queue:
    """Hands out items and takes judgments. Safe to call from any thread."""

    def __init__(
        self,
        database: Database,
        *,
        minimum_responses: Callable[[str], int],
        why_waiting: Callable[[Project], str] = lambda project: "",
        clock: Callable[[], datetime] = now,
    ) -> None:
        """`minimum_responses` of a feedback type: how many different responses it needs to say anything.

        `why_waiting` says why the answers that a project lacks are not being written; nothing while they are.
        """
        self._database = database
        self._minimum_responses = minimum_responses
        self._why_waiting = why_waiting
        self._clock = clock
        self._lock = threading.RLock()
        self._boards: dict[str, _Board] = {}
        self._tabs: dict[str, str] = {}  # assignment id -> the browser tab that holds it

    def take(self, project: Project, labeler: str, count: int, tab: str) -> list[Item]:
        """The items this tab holds, topped up to `count`. Calling it again changes nothing."""
        with self._lock:
            board = self._board(project)
            self._expire(board)
            held = [one for one in board.open.values() if one.labeler == labeler and self._holds(tab, one)]
            new = [
                self._assignment(project, board, prompt_id, labeler)
                for prompt_id in self._next(project, board, labeler)[: max(0, count - len(held))]
            ]
            if new:
                assignments.add(self._database, new)
            for one in new:
                board.open[one.id] = one
            for one in (*held, *new):
                self._tabs[one.id] = tab
            return [_item(board, one) for one in (*held, *new)]

    def judge(self, judgment: Judgment) -> Judgment:
        """Stores a judgment; durable when this returns. The same id again is the same judgment, not a second one.

        Raises BadInput for responses that were not shown and for a second judgment that does not supersede the first,
        NotAllowed for somebody else's item.
        """
        with self._lock:
            assignment = self._own(judgment.assignment_id or "", judgment.labeler)
            _check_shown(judgment, assignment)
            self._database.write(lambda cursor: self._store(cursor, judgment, assignment))
            board = self._boards.get(assignment.project_id)
            if board:
                board.open.pop(assignment.id, None)
                board.judged.setdefault(assignment.prompt_id, set()).add(judgment.labeler)
        stored = judgments.get(self._database, judgment.id)
        assert stored is not None
        return stored

    def skip(self, assignment_id: str, labeler: str, reason: str) -> None:
        """This person will not get this prompt again. Skipping twice is skipping once.

        Raises BadInput where the item was judged already or its lease ran out.
        """
        with self._lock:
            assignment = self._own(assignment_id, labeler)
            if assignment.state == "skipped":
                return
            _check_open(assignment)
            self._update(replace(assignment, state="skipped", skip_reason=reason))
            board = self._boards.get(assignment.project_id)
            if board:
                board.open.pop(assignment.id, None)
                board.skipped.setdefault(assignment.prompt_id, set()).add(labeler)

    def item(self, assignment_id: str) -> Item:
        """An item again, in the order it was shown: to reopen a judgment."""
        assignment = assignments.get(self._database, assignment_id)
        found = responses.get_many(self._database, assignment.displayed_order)
        shown = tuple(found[one] for one in assignment.displayed_order)
        return Item(assignment, prompts.get(self._database, assignment.prompt_id), shown)

    def progress(self, project: Project, labeler: str) -> Progress:
        with self._lock:
            board = self._board(project)
            ready = len(self._next(project, board, labeler))
            team = sum(1 for prompt_id in board.prompts if board.judged.get(prompt_id))
            mine = sum(1 for prompt_id in board.prompts if labeler in board.judged.get(prompt_id, ()))
            waiting = "" if ready else self._waiting(project, board, labeler)
            return Progress(mine, team, len(board.prompts), ready, waiting)

    def unsampled(self, project: Project, ahead: int, leave_out: Collection[str] = ()) -> list[Prompt]:
        """The prompts to sample next, so that `ahead` items stay ready for whoever comes."""
        with self._lock:
            board = self._board(project)
            lacking = self.lacking(project)
            held = {one.prompt_id for one in board.open.values()}
            not_ready = {one.id for one in lacking} | held | _named_in(board.judged) | _named_in(board.skipped)
            ready = sum(1 for one in board.prompts if one not in not_ready)
            return [one for one in lacking if one.id not in leave_out][: max(0, ahead - ready)]

    def lacking(self, project: Project) -> list[Prompt]:
        """The prompts that nobody judged and that have too few answers to be shown."""
        with self._lock:
            board = self._board(project)
            unjudged = [one for one in board.prompts.values() if not board.judged.get(one.id)]
            return [one for one in unjudged if not self._answers(project, board, one.id)]

    def add_responses(self, project: Project, new: Sequence[Response]) -> None:
        """Fresh samples, already stored: a board that is not in memory will read them from the tables."""
        with self._lock:
            board = self._boards.get(project.id)
            if board is None:
                return
            for response in new:
                board.responses.setdefault(response.prompt_id, []).append(response)

    def forget(self, project_id: str | None = None) -> None:
        """Reads a project (or all) from the tables again: its prompts or its settings changed."""
        with self._lock:
            for one in [project_id] if project_id else list(self._boards):
                self._boards.pop(one, None)

    # ---- choosing ----

    def _next(self, project: Project, board: _Board, labeler: str) -> list[str]:
        """Prompt ids this labeler may judge, least judged first."""
        taken = self._taken(project, board, labeler)
        sampled = (one for one in board.responses if one in board.prompts and one not in taken)
        free = [one for one in sampled if self._answers(project, board, one)]
        return sorted(free, key=lambda one: len(board.judged.get(one, ())))

    def _taken(self, project: Project, board: _Board, labeler: str) -> set[str]:
        everybody = project.purpose == "comparison"  # then only one's own judgments and leases close an item
        held = {one.prompt_id for one in board.open.values() if one.labeler == labeler or not everybody}
        return held | self._done(project, board, labeler) | _named_in(board.skipped, labeler)

    def _done(self, project: Project, board: _Board, labeler: str) -> set[str]:
        """Prompt ids that need no judgment of this labeler any more."""
        return _named_in(board.judged, labeler if project.purpose == "comparison" else None)

    def _answers(self, project: Project, board: _Board, prompt_id: str) -> list[Response]:
        """The responses to show, or none while there are too few."""
        return answers_to_show(
            project, board.responses.get(prompt_id, ()), self._minimum_responses(project.feedback_type)
        )

    def _assignment(self, project: Project, board: _Board, prompt_id: str, labeler: str) -> Assignment:
        order = [response.id for response in self._answers(project, board, prompt_id)]
        random.shuffle(order)
        return Assignment(
            id=new_id(),
            project_id=project.id,
            prompt_id=prompt_id,
            labeler=labeler,
            displayed_order=tuple(order),
            leased_until=self._clock() + LEASE,
            created_at=self._clock(),
        )

    def _holds(self, tab: str, assignment: Assignment) -> bool:
        return self._tabs.get(assignment.id, tab) == tab  # after a restart the first tab that asks holds it

    def _expire(self, board: _Board) -> None:
        expired = [replace(one, state="expired") for one in board.open.values() if one.leased_until <= self._clock()]
        for one in expired:
            self._update(one)
            del board.open[one.id]

    def _waiting(self, project: Project, board: _Board, labeler: str) -> str:
        """Why nothing is ready for this labeler."""
        if not board.prompts:
            side = "held-out prompts" if project.purpose == "comparison" else "prompts"
            return f"There are no {side} yet. Import some on the data page."
        left = set(board.prompts) - self._done(project, board, labeler)
        if not left:
            return "Every prompt here is judged. Thank you."
        skipped = left & _named_in(board.skipped, labeler)
        lacking = {one.id for one in self.lacking(project)} & left - skipped
        held = left - skipped - lacking  # what is neither skipped nor lacks answers would be ready
        reasons = [
            (self._why_waiting(project) or "The model is writing more answers.") if lacking else "",
            f"{prompts_are(len(held))} open with others or in another tab." if held else "",
            f"{prompts_are(len(skipped))} left that you skipped." if skipped else "",
        ]
        return " ".join(reason for reason in reasons if reason)

    # ---- remembering ----

    def _board(self, project: Project) -> _Board:
        if project.id not in self._boards:
            stored = {one.id: one for one in projects.list_all(self._database)}
            current = stored.get(project.id, project)  # the caller's may be from before an edit
            self._boards[project.id] = _read_board(self._database, current)
        return self._boards[project.id]

    def _own(self, assignment_id: str, labeler: str) -> Assignment:
        assignment = assignments.get(self._database, assignment_id)
        if assignment.labeler != labeler:
            raise NotAllowed("This item is held by somebody else. Reload the page to get your own.")
        return assignment

    def _update(self, assignment: Assignment) -> None:
        self._database.write(lambda cursor: assignments.update(cursor, assignment))

    def _store(self, cursor: Cursor, judgment: Judgment, assignment: Assignment) -> None:
        if judgment.supersedes:
            _check_supersedes(self._database, cursor, judgment)
        elif assignment.state == "judged" and judgments.get(self._database, judgment.id) is None:
            raise BadInput(JUDGED_ALREADY)
        if judgments.add(cursor, judgment):
            assignments.update(cursor, replace(assignment, state="judged"))


def answers_to_show(project: Project, sampled: Sequence[Response], minimum: int) -> list[Response]:
    """What one prompt's item shows, or nothing while it cannot be judged.

    A comparison shows one answer a version, equal or not. A labelling item shows different answers only: equal ones
    among the samples of a prompt are shown once.
    """
    if project.purpose == "comparison":
        latest = {response.version_id: response for response in sampled if response.version_id in project.version_ids}
        return list(latest.values()) if len(latest) == len(project.version_ids) else []
    current = [response for response in sampled if response.version_id in project.version_ids]
    distinct: dict[str, Response] = {}
    for response in current:
        distinct.setdefault(response.text, response)
    shown = list(distinct.values())[: project.responses_per_prompt]
    return shown if len(shown) >= minimum else []


def prompts_are(count: int) -> str:
    return "1 prompt is" if count == 1 else f"{count} prompts are"


def _item(board: _Board, assignment: Assignment) -> Item:
    by_id = {response.id: response for response in board.responses[assignment.prompt_id]}
    shown = tuple(by_id[one] for one in assignment.displayed_order)
    return Item(assignment, board.prompts[assignment.prompt_id], shown)


def _read_board(database: Database, project: Project) -> _Board:
    held_out = project.purpose == "comparison"
    board = _Board(
        prompts={one.id: one for one in prompts.in_order(database, held_out=held_out, sources=project.sources)},
        responses=responses.by_prompt(database, project.id),
    )
    for assignment in assignments.list_all(database, project.id):
        if assignment.prompt_id not in board.prompts:
            continue
        if assignment.state == "judged":
            board.judged.setdefault(assignment.prompt_id, set()).add(assignment.labeler)
        elif assignment.state == "skipped":
            board.skipped.setdefault(assignment.prompt_id, set()).add(assignment.labeler)
        elif assignment.state == "open":
            board.open[assignment.id] = assignment
    return board


def _named_in(labelers_of: Mapping[str, set[str]], labeler: str | None = None) -> set[str]:
    """The prompt ids that stand with this labeler; with any, where none is named."""
    return {one for one, labelers in labelers_of.items() if (labeler in labelers if labeler else labelers)}


def _check_open(assignment: Assignment) -> None:
    if assignment.state == "judged":
        raise BadInput(JUDGED_ALREADY)
    if assignment.state != "open":
        raise BadInput("This item went back to the others, because its time ran out. Reload the page to go on.")


def _check_shown(judgment: Judgment, assignment: Assignment) -> None:
    strangers = {one for verdict in judgment.verdicts for one in _named(verdict)} - set(assignment.displayed_order)
    if strangers or set(judgment.displayed_order) != set(assignment.displayed_order):
        raise BadInput("This judgment is about answers that were not shown in this item. Reload the page.")


def _named(verdict: Verdict) -> Sequence[str]:
    match verdict:
        case Rating(response_id):
            return [response_id]
        case Ranking(tiers):
            return [one for tier in tiers for one in tier]
        case Demonstration(_, improves):
            return [improves] if improves else []


def _check_supersedes(database: Database, cursor: Cursor, judgment: Judgment) -> None:
    old = judgments.get(database, judgment.supersedes or "")
    if old is None or old.assignment_id != judgment.assignment_id:
        raise NotFound("The judgment to change is not known here. Reload the page.")
    replaced_by = judgments.superseded_by(cursor, old.id)
    if replaced_by not in (None, judgment.id):
        raise BadInput("This judgment was changed already, perhaps in another tab. Reload the page to see it.")
