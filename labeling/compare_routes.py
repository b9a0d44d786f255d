"""The HTTP routes under the compare page: which versions there are, a comparison of two, and what it says so far.

The items themselves come from the label page's routes: a comparison is a project like any other, and as blind; a prompt
of one's own is answered here, and then judged by the same routes. Results are sums over all judgments, so they tell
nothing about the prompt on screen, with one exception: which version writes longer answers would give a long one away,
so the page shows that only once a judgment is in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from labeling import win_rate
from labeling.blind import blind
from labeling.body import Body
from labeling.feedback.base import BOTH_BAD
from labeling.guard import require
from labeling.identity import PersonOf
from labeling.own_prompts import OwnPrompts, as_lines
from labeling.reading import words
from labeling.sampling import kept_here_sentence
from labeling.win_rate import Rate, Vote, WinRate
from storage import judgments, model_versions, projects, prompts, responses
from storage.database import Database
from storage.errors import BadInput, NotFound
from storage.records import Judgment, ModelVersion, Person, Project, Prompt, Ranking, Response

Comparison = Callable[[str, str, Person], Project]
Leaving = Callable[[str, str], str]


class StartBody(Body):
    """`may_leave`: whoever begins knows that prompts are sent to an endpoint outside."""

    versions: list[str]
    may_leave: bool = False


class AskBody(Body):
    project: str
    text: str


def compare_router(
    database: Database, person_of: PersonOf, comparison: Comparison, leaving: Leaving, own: OwnPrompts
) -> APIRouter:
    """`comparison` finds or makes the project that compares two versions; `leaving` says what it would send outside.

    Both raise BadInput or NotFound.
    """
    router = APIRouter(prefix="/api/compare")

    @router.get("/versions")
    def versions(request: Request) -> dict[str, Any]:
        person_of(request)
        return {"versions": [_version_json(one) for one in reversed(model_versions.answering(database))]}

    @router.post("/start")
    def start(request: Request, body: StartBody) -> dict[str, Any]:
        if len(body.versions) != 2:
            raise BadInput(f"A comparison is between two versions; {len(body.versions)} were named. Choose two.")
        (first, second), person = body.versions, person_of(request)
        if first != second and (said := leaving(first, second)):
            if not body.may_leave:
                return {"project": None, "leaves": said}
            require(person, "lead")
        project = comparison(first, second, person)
        return {"project": project.id, "leaves": "", "left_out": kept_here_sentence(database, project)}

    @router.post("/ask")
    async def ask(request: Request, body: AskBody) -> StreamingResponse:
        """A prompt of one's own, answered while one looks on; when the browser goes away, so does the request."""
        asked = await run_in_threadpool(own.begin, body.project, person_of(request), body.text)
        return StreamingResponse(as_lines(own.answers(asked)), media_type="text/event-stream")

    @router.get("/results")
    def results(request: Request, project: str, first: str = "") -> dict[str, Any]:
        """`first` is the version to speak of first where neither leads."""
        person_of(request)
        chosen = projects.get(database, project)
        if chosen.purpose != "comparison":
            raise NotFound(f"{chosen.name} is no comparison. Choose two versions on the compare page.")
        a, b = sorted(chosen.version_ids[:2], key=lambda version: version != first)
        votes = votes_of(database, chosen, a)
        return {**results_json(win_rate.win_rate(votes), a, b), "own": own_votes(database, chosen)}

    return router


def votes_of(database: Database, project: Project, a: str) -> list[Vote]:
    """Every standing blind judgment of a comparison, seen from version `a`. Those on prompts of one's own are apart."""
    shown = {one.id: one for found in responses.by_prompt(database, project.id).values() for one in found}
    cast = [vote_of(judgment, shown, a) for judgment in _measuring(database, project)]
    return [vote for vote in cast if vote is not None]


def own_votes(database: Database, project: Project) -> int:
    """How many judgments are kept apart, because people chose their prompts themselves."""
    return len(blind(judgments.list_all(database, project.id))) - len(_measuring(database, project))


def _measuring(database: Database, project: Project) -> list[Judgment]:
    """On prompts that a hash has chosen, and that were no prompts of one's own when they were judged."""
    made = blind(judgments.list_all(database, project.id))
    asked = prompts.get_many(database, {one.prompt_id for one in made})
    return [one for one in made if _measures(one, asked[one.prompt_id])]


def _measures(judgment: Judgment, prompt: Prompt) -> bool:
    """A prompt of one's own that was imported later counts from its import on."""
    own = prompt.source == prompts.OWN_PROMPTS or judgment.judged_at < prompt.created_at
    return prompt.held_out and not own


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
        words_a=words(answer_a.text),
        words_b=words(answer_b.text),
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
    return {
        "id": version.id,
        "parent": version.parent_id,
        "served": version.served,
        "note": version.note,
        "outside": version.is_outside,
        "endpoint": version.is_endpoint,
    }
