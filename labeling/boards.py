"""The boards that are in memory, each read from the tables when it is first asked for.

What is forgotten is read again: after a restart, and where a project or its prompts changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from labeling.board import Board
from storage import assignments, judgments, model_versions, projects, prompts, responses
from storage.database import Database
from storage.records import ADJUDICATED, GOLD, LATE, Assignment, Judgment, Project


class Boards:
    """One board a project. Its caller holds the lock."""

    def __init__(self, database: Database, minimum_responses: Callable[[str], int]) -> None:
        self._database = database
        self._minimum_responses = minimum_responses
        self._known: dict[str, Board] = {}
        self._menu: dict[str, str] | None = None

    def __iter__(self) -> Iterator[Board]:
        return iter(list(self._known.values()))

    def of(self, project: Project) -> Board:
        if project.id not in self._known:
            current = self._stored(project.id) or project  # the caller's may be from before an edit
            self._known[project.id] = self._read(current)
        return self._known[project.id]

    def of_assignment(self, assignment: Assignment) -> Board | None:
        """None for a prompt that is not the project's any more, because its sources changed."""
        board = self.in_memory(assignment.project_id) or self._of_stored(assignment.project_id)
        return board if board and assignment.prompt_id in board.entries else None

    def in_memory(self, project_id: str) -> Board | None:
        return self._known.get(project_id)

    def project(self, project_id: str) -> Project:
        """As its board has it, else from the tables. Raises NotFound."""
        board = self.in_memory(project_id)
        return board.project if board else projects.get(self._database, project_id)

    def menu(self) -> dict[str, str]:
        """The labeling projects, name by id, oldest first."""
        if self._menu is None:
            self._menu = projects.names(self._database, "labeling")
        return dict(self._menu)

    def assignment(self, assignment_id: str) -> Assignment:
        """A live one from its board, any other from the tables. Raises NotFound."""
        for board in self:
            if assignment_id in board.leases:
                return board.leases[assignment_id]
        return assignments.get(self._database, assignment_id)

    def forget(self, project_id: str | None) -> None:
        """One, or all; and the menu."""
        self._menu = None
        for one in [project_id] if project_id else list(self._known):
            self._known.pop(one, None)

    def _stored(self, project_id: str) -> Project | None:
        return next((one for one in projects.list_all(self._database) if one.id == project_id), None)

    def _of_stored(self, project_id: str) -> Board | None:
        stored = self._stored(project_id)
        return self.of(stored) if stored else None

    def _read(self, project: Project) -> Board:
        asked = prompts.asked_by(self._database, project)
        newest = {one.id: rank for rank, one in enumerate(model_versions.list_all(self._database), 1)}
        board = Board(project, asked, self._minimum_responses(project.feedback_type), newest)
        for sampled in responses.by_prompt(self._database, project.id).values():
            board.add_responses(sampled)
        for assignment in self._in_effect(project):
            if assignment.prompt_id in board.entries:
                _replay(board, assignment)
        for one in adjudicated(self._database, project.id):
            if one.prompt_id in board.entries:
                board.settle(one.prompt_id, one.displayed_order, one.labeler if GOLD in one.flags else "")
        return board

    def _in_effect(self, project: Project) -> list[Assignment]:
        """Oldest first; those that were judged late at the end, as others may have been given other answers by then."""
        late = {one.assignment_id for one in judgments.flagged(self._database, project.id, LATE)}
        return sorted(assignments.list_all(self._database, project.id), key=lambda one: one.id in late)


def adjudicated(database: Database, project_id: str) -> list[Judgment]:
    """What leads settled in this project, oldest first."""
    return judgments.flagged(database, project_id, ADJUDICATED)


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
