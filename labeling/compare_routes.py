"""The HTTP routes under the compare page: which versions there are, a comparison of two, and what it says so far.

The items themselves come from the label page's routes: a comparison is a project like any other, and as blind. Results
are sums over all judgments, so they tell nothing about the prompt on screen, with one exception: which version writes
longer answers would give a long one away, so the page shows that only once a judgment is in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from labeling import win_rate
from labeling.feedback.pairwise import BOTH_BAD
from labeling.identity import PersonOf
from labeling.routes import NAMES_SEEN
from labeling.win_rate import Rate, Vote, WinRate
from storage import judgments, model_versions, projects, responses
from storage.database import Database
from storage.errors import BadInput, NotFound
from storage.records import Judgment, ModelVersion, Person, Project, Ranking, Response

Comparison = Callable[[str, str, Person], Project]


class StartBody(BaseModel):
    versions: list[str]


def compare_router(database: Database, person_of: PersonOf, comparison: Comparison) -> APIRouter:
    """`comparison` finds or makes the project that compares two versions. Raises BadInput or NotFound."""
    router = APIRouter(prefix="/api/compare")

    @router.get("/versions")
    def versions(request: Request) -> dict[str, Any]:
        person_of(request)
        policies = [one for one in model_versions.list_all(database) if one.kind == "policy"]
        return {"versions": [_version_json(one) for one in reversed(policies)]}

    @router.post("/start")
    def start(request: Request, body: StartBody) -> dict[str, Any]:
        if len(body.versions) != 2:
            raise BadInput(f"A comparison is between two versions; {len(body.versions)} were named. Choose two.")
        first, second = body.versions
        return {"project": comparison(first, second, person_of(request)).id}

    @router.get("/results")
    def results(request: Request, project: str, first: str = "") -> dict[str, Any]:
        """`first` is the version to speak of first where neither leads."""
        person_of(request)
        chosen = projects.get(database, project)
        if chosen.purpose != "comparison":
            raise NotFound(f"{chosen.name} is no comparison. Choose two versions on the compare page.")
        a, b = sorted(chosen.version_ids[:2], key=lambda version: version != first)
        return results_json(win_rate.win_rate(votes_of(database, chosen, a)), a, b)

    return router


def votes_of(database: Database, project: Project, a: str) -> list[Vote]:
    """Every standing blind judgment of a comparison, seen from version `a`."""
    shown = {one.id: one for found in responses.by_prompt(database, project.id).values() for one in found}
    cast = [vote_of(judgment, shown, a) for judgment in blind(judgments.list_all(database, project.id))]
    return [vote for vote in cast if vote is not None]


def blind(made: list[Judgment]) -> list[Judgment]:
    """What people said before they saw the names: a judgment changed afterwards counts as it was."""
    return [judgment for judgment in made if NAMES_SEEN not in judgment.flags]


def vote_of(judgment: Judgment, shown: Mapping[str, Response], a: str) -> Vote | None:
    """None where the judgment is no choice between two known answers."""
    first, *rest = judgment.displayed_order
    rankings = [verdict for verdict in judgment.verdicts if isinstance(verdict, Ranking)]
    if len(rest) != 1 or not rankings or first not in shown or rest[0] not in shown:
        return None
    answer_a, answer_b = sorted((shown[first], shown[rest[0]]), key=lambda response: response.version_id != a)
    tiers = rankings[0].tiers
    return Vote(
        prompt=judgment.prompt_id,
        labeler=judgment.labeler,
        outcome=0.5 if len(tiers) < 2 else float(answer_a.id in tiers[0]),
        a_was_first=answer_a.id == first,
        words_a=len(answer_a.text.split()),
        words_b=len(answer_b.text.split()),
        both_bad=BOTH_BAD in judgment.flags,
    )


def results_json(result: WinRate, a: str, b: str) -> dict[str, Any]:
    """The results card, seen from the version that leads."""
    leads = result.wins.value >= 0.5
    leader, other = (a, b) if leads else (b, a)
    wins = result.wins if leads else result.wins.reversed()
    return {
        "title": win_rate.title(result, a, b),
        "leader": leader,
        "other": other,
        "wins": _rate_json(wins),
        "judgments": result.judgments,
        "people": result.people,
        "prompts": result.prompts,
        "ties": result.ties,
        "both_bad": result.both_bad,
        "settled": result.settled,
        "verdict": win_rate.verdict(result),
        "position": win_rate.position_sentence(result),
        "length": win_rate.length_sentence(result, a),
    }


def _rate_json(rate: Rate) -> dict[str, float]:
    return {"value": rate.value, "low": rate.low, "high": rate.high}


def _version_json(version: ModelVersion) -> dict[str, Any]:
    return {"id": version.id, "parent": version.parent_id, "served": version.served, "note": version.note}
