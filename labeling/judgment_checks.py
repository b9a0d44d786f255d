"""What a judgment or a skip must fulfil before it is stored. Each check raises what the person reads."""

from __future__ import annotations

from collections.abc import Sequence

from labeling.said import said
from storage import judgments
from storage.database import Cursor, Database
from storage.errors import BadInput, NotFound
from storage.records import Assignment, Demonstration, Judgment, Ranking, Rating, Verdict


def check_open(assignment: Assignment) -> None:
    if assignment.state == "judged":
        raise BadInput(said("judged_already"))
    if assignment.state != "open":
        raise BadInput(said("time_ran_out"))


def check_shown(judgment: Judgment, shown: Sequence[str]) -> None:
    strangers = {one for verdict in judgment.verdicts for one in _named(verdict)} - set(shown)
    if strangers or set(judgment.displayed_order) != set(shown):
        raise BadInput(said("not_shown"))


def check_supersedes(database: Database, cursor: Cursor, judgment: Judgment) -> None:
    old = judgments.get(database, judgment.supersedes or "")
    if old is None or old.assignment_id != judgment.assignment_id:
        raise NotFound(said("change_unknown"))
    replaced_by = judgments.superseded_by(cursor, old.id)
    if replaced_by not in (None, judgment.id):
        raise BadInput(said("changed_already"))


def _named(verdict: Verdict) -> Sequence[str]:
    match verdict:
        case Rating(response_id):
            return [response_id]
        case Ranking(tiers):
            return [one for tier in tiers for one in tier]
        case Demonstration(improves=improves):
            return [improves] if improves else []
