"""What a judgment or a skip must fulfil before it is stored. Each check raises what the person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from labeling.feedback.base import BOTH_BAD
from labeling.feedback.beside import FLAGS
from labeling.said import said
from storage import judgments
from storage.database import Cursor, Database
from storage.errors import BadInput, NotFound
from storage.records import GOLD, Assignment, Demonstration, Judgment, Ranking, Rating, Verdict


def check_open(assignment: Assignment) -> None:
    if assignment.state == "judged":
        raise BadInput(said("judged_already"))
    if assignment.state != "open":
        raise BadInput(said("time_ran_out"))


def check_shown(judgment: Judgment, shown: Sequence[str]) -> None:
    strangers = {one for verdict in judgment.verdicts for one in _named(verdict)} - set(shown)
    if strangers or set(judgment.displayed_order) != set(shown):
        raise BadInput(said("not_shown"))


def check_same(known: Judgment | None, sent: Judgment) -> Judgment:
    """What is stored under the id of what was sent. Raises BadInput for another one, whose words would be lost."""
    if known is None or _what_it_says(known) != _what_it_says(sent):
        raise BadInput(said("key_used"))
    return known


def check_supersedes(database: Database, cursor: Cursor, judgment: Judgment) -> None:
    old = judgments.get(database, judgment.supersedes or "")
    if old is None or old.assignment_id != judgment.assignment_id:
        raise NotFound(said("change_unknown"))
    replaced_by = judgments.superseded_by(cursor, old.id)
    if replaced_by not in (None, judgment.id):
        raise BadInput(said("changed_already"))


def _what_it_says(judgment: Judgment) -> tuple[object, ...]:
    """All that a person said with it, and of what.

    Where it is sent again, the seconds, the marks and whether the project makes pairs of rewrites may have changed.
    """
    of = (judgment.project_id, judgment.prompt_id, judgment.assignment_id, judgment.supersedes)
    verdicts = [replace(one, preferred=False) if isinstance(one, Demonstration) else one for one in judgment.verdicts]
    flags = [flag for flag in (BOTH_BAD, *FLAGS, GOLD) if flag in judgment.flags]
    return of, verdicts, flags, judgment.reasons, judgment.scores, judgment.note


def _named(verdict: Verdict) -> Sequence[str]:
    match verdict:
        case Rating(response_id):
            return [response_id]
        case Ranking(tiers):
            return [one for tier in tiers for one in tier]
        case Demonstration(improves=improves):
            return [improves] if improves else []
