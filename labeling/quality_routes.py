"""The HTTP routes under the quality page: what the judgments say about themselves, and a lead's own answers.

For leads. A lead who settles an item sees what people said, and still no model's name: letters are by the answers' ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import Field

from labeling import agreement, quality
from labeling.agreement import Measured
from labeling.assignment import Progress, Queue
from labeling.blind import blind
from labeling.board import SKIPS_TO_SET_ASIDE, everybody_judges
from labeling.body import Body
from labeling.conflicts import Conflict, conflicts, letters, note_by, said_by
from labeling.feedback import feedback_type
from labeling.feedback.edit import as_pairs
from labeling.guard import require
from labeling.identity import PersonOf
from labeling.quality import Material, Reading
from labeling.rendering import render
from storage import assignments, judgments, projects, prompts, responses
from storage.database import Database
from storage.records import GOLD, Judgment, Person, Project, Prompt, Response, now, texts_by_id

MOST_CONFLICTS = 100
NO_REASON = "no reason given"


class SettleBody(Body):
    """`key` is made in the browser and becomes the judgment's id, so sending it again changes nothing."""

    key: UUID
    project: str
    prompt: str
    verdict: dict[str, Any]
    gold: bool = False
    note: str = Field("", max_length=10_000)


def quality_router(queue: Queue, database: Database, person_of: PersonOf) -> APIRouter:
    router = APIRouter(prefix="/api/quality")

    def lead(request: Request) -> Person:
        return require(person_of(request), "lead")

    @router.get("")
    def whole(request: Request, project: str = "") -> dict[str, Any]:
        person = lead(request)
        chosen = _project(database, project)
        listed = [{"id": one.id, "name": one.name} for one in projects.list_all(database)]
        report = report_json(database, queue, chosen, person) if chosen else None
        return {"projects": listed, "project": chosen.id if chosen else None, "report": report}

    @router.get("/item")
    def item(request: Request, project: str, prompt: str = "") -> dict[str, Any]:
        """What there is to settle; without a prompt, the first that nobody judged: to give it a known answer."""
        lead(request)
        chosen = projects.get(database, project)
        asked, shown = queue.to_settle(chosen, prompt)
        made = [one for one in material(database, chosen).firsts if one.prompt_id == asked.id]
        return item_json(chosen, asked, shown, made)

    @router.post("/settle")
    def settle(request: Request, body: SettleBody) -> dict[str, Any]:
        person = lead(request)
        chosen = projects.get(database, body.project)
        asked, shown = queue.to_settle(chosen, body.prompt)
        stored = queue.settle(chosen, settled(body, chosen, asked, shown, person), gold=body.gold)
        return {"judgment": str(UUID(stored.id)), "gold": GOLD in stored.flags}

    return router


# ---- reading --------------------------------------------------------------------------------------------------------


def _project(database: Database, project_id: str) -> Project | None:
    """The one asked for; without one, the newest that labels; None where there is none."""
    if project_id:
        return projects.get(database, project_id)
    every = projects.list_all(database)
    labeling = [one for one in every if one.purpose == "labeling"]
    return next(reversed(labeling or every), None)


def material(database: Database, project: Project) -> Material:
    """Everything that is said about a project's judgments is said of this."""
    made = blind(judgments.list_all(database, project.id))
    shown = {one for judgment in made for one in judgment.displayed_order}
    return Material(
        judgments=made,
        prompts=prompts.get_many(database, {one.prompt_id for one in made}),
        responses=responses.get_many(database, shown),
    )


def set_aside(database: Database, project: Project) -> dict[str, list[str]]:
    """{prompt: why} of what enough people skipped, and of what one person skipped for a reason and nobody judged."""
    given = assignments.list_all(database, project.id)
    judged = {(one.prompt_id, one.labeler) for one in given if one.state == "judged"}
    by_anybody = {prompt for prompt, _ in judged}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for one in given:
        if one.state == "skipped" and (one.prompt_id, one.labeler) not in judged:
            found[one.prompt_id][one.labeler] = one.skip_reason or NO_REASON
    return {
        prompt: list(why.values())
        for prompt, why in found.items()
        if len(why) >= SKIPS_TO_SET_ASIDE or (prompt not in by_anybody and NO_REASON not in why.values())
    }


def settled(body: SettleBody, project: Project, asked: Prompt, shown: Sequence[Response], person: Person) -> Judgment:
    order = list(letters([one.id for one in shown]))
    kind = feedback_type(project.feedback_type)
    verdicts = kind.verdicts(body.verdict, order)
    return Judgment(
        id=body.key.hex,
        prompt_id=asked.id,
        labeler=person.name,
        feedback_type=kind.name,
        verdicts=as_pairs(verdicts, texts_by_id(shown)) if project.pair_from_edit else verdicts,
        displayed_order=tuple(order),
        project_id=project.id,
        guideline_version=project.guideline_version,
        note=body.note.strip() or None,
        flags=kind.flags(body.verdict),
    )


# ---- to the browser -------------------------------------------------------------------------------------------------


def report_json(database: Database, queue: Queue, project: Project, person: Person) -> dict[str, Any]:
    told = material(database, project)
    people, alpha = quality.readings(told), agreement.alpha(told.opinions)
    raw = agreement.raw_agreement(told.opinions)
    return {
        "type": project.feedback_type,
        "conclusion": _conclusion(project, told, raw, alpha, people),
        "progress": _progress_json(project, queue.progress(project, person.name), told),
        **_agreement_json(project, told, raw, alpha),
        "known": len(told.known),
        "gold_share": project.gold_share,
        "settled": len(told.settled),
        "settles": project.purpose == "labeling",
        "people": [_person_json(one) for one in people],
        "advice": [_advice_json(one, told, alpha) for one in people if one.state == "warn"],
        **_conflicts_json(database, conflicts(told, set_aside(database, project))),
    }


def _conclusion(
    project: Project, told: Material, raw: Measured | None, alpha: Measured | None, people: Sequence[Reading]
) -> str:
    is_shared = project.overlap > 1 or everybody_judges(project)
    return quality.conclusion(raw, people, project.feedback_type, alpha, told.has_overlap, is_shared)


def _agreement_json(project: Project, told: Material, raw: Measured | None, alpha: Measured | None) -> dict[str, Any]:
    """How far people agree, and what it is held against."""
    return {
        "raw": _json(raw),
        "papers": quality.PAPERS,
        "alpha": _json(alpha),
        "usable": quality.USABLE_ALPHA,
        "tau": _json(agreement.tau_b(told.opinions)) if project.feedback_type == "ranking" else None,
        "self": _json(agreement.self_consistency(told.opinions, told.again)),
        "gold": _json(agreement.against(told.opinions, told.known)),
    }


def _advice_json(read: Reading, told: Material, alpha: Measured | None) -> dict[str, str]:
    return {"name": read.name, "sentence": quality.advice(read, told, alpha)}


def _progress_json(project: Project, progress: Progress, told: Material) -> dict[str, Any]:
    counted = {"done": progress.team, "wanted": progress.total}
    if everybody_judges(project):
        return {**counted, "unit": "prompt", "sentence": "Everybody judges every prompt; the table says who has."}
    sentence = quality.pace_sentence(told.wanted, progress.total - progress.team, now())
    return {**counted, "unit": "judgment", "sentence": sentence}


def _json(found: Measured | None) -> dict[str, float] | None:
    return asdict(found) if found else None


def _person_json(read: Reading) -> dict[str, Any]:
    measured = {name: _json(getattr(read, name)) for name in ("others", "gold", "self", "first", "longer")}
    return {
        "name": read.name,
        "judgments": read.judgments,
        "seconds": read.seconds,
        "reading": read.reading,
        **measured,
        "flags": dict(read.flags),
        "state": read.state,
        "concerns": [{"column": column, "words": words} for column, words in read.concerns],
    }


def _conflicts_json(database: Database, found: Sequence[Conflict]) -> dict[str, Any]:
    """The first of them, and how many more there are."""
    first = found[:MOST_CONFLICTS]
    texts = prompts.get_many(database, {one.prompt for one in first})
    said = [{"prompt": one.prompt, "text": texts[one.prompt].text, "said": one.said, "why": one.why} for one in first]
    return {"conflicts": said, "more_conflicts": len(found) - len(first)}


def item_json(project: Project, asked: Prompt, shown: Sequence[Response], made: Sequence[Judgment]) -> dict[str, Any]:
    texts = {one.id: one for one in shown}
    named = letters(list(texts))
    return {
        "prompt": asked.id,
        "type": project.feedback_type,
        "instruction": project.instruction,
        "messages": [{"role": one.role, "html": render(one.content)} for one in asked.messages],
        "responses": [{"id": one, "html": render(texts[one].text), "text": texts[one].text} for one in named],
        "said": [
            {
                "name": one.labeler,
                "said": said_by(one, named),
                "note": note_by(one, named),
                "reasons": ", ".join(one.reasons),
            }
            for one in made
        ],
    }
