"""The HTTP routes under the pages on which people judge: next items, judge, skip, history.

Plain FastAPI instead of Gradio events, because a labeler waits for these and one costs 0.4 ms here, 5 ms there.

Nothing that anchors leaves before the judgment is in: no version, model name, score, sampling or anybody else's answer.
Response ids are made per assignment, so that not even the id of an answer can be recognised from another page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import Field

from labeling.assignment import Item, Progress, Queue
from labeling.blind import NAMES_SEEN
from labeling.body import Body
from labeling.feedback import EDIT, FeedbackType, beside, feedback_type
from labeling.feedback.base import LETTERS
from labeling.feedback.edit import as_pairs, rewrites
from labeling.identity import PersonOf
from labeling.reading import TOO_FAST, is_too_fast, words
from labeling.rendering import render
from labeling.said import Said, said
from storage import judgments
from storage.database import Database
from storage.errors import AppError, BadInput
from storage.records import Judgment, Person, Project, Verdict, texts_by_id

MOST_ITEMS = 100

Note = Annotated[str, Field(max_length=10_000)]


class JudgeBody(Body):
    """`key` is made in the browser and becomes the judgment's id, so sending it again changes nothing."""

    key: UUID
    assignment: str
    verdict: dict[str, Any]
    displayed: list[str]
    focused_seconds: float = Field(ge=0, allow_inf_nan=False)
    note: Note = ""
    notes: dict[str, Note] = Field(default_factory=dict)
    guideline_version: int | None = None
    supersedes: UUID | None = None


class SkipBody(Body):
    assignment: str
    reason: str = Field(max_length=1_000)


class SayingRoute(APIRoute):
    """Answers with the code of an error too, where it has one, so that the page can say it in its own language."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except AppError as error:
                return JSONResponse(error_json(error), status_code=error.status)

        return handled


def label_router(queue: Queue, database: Database, person_of: PersonOf) -> APIRouter:
    router = APIRouter(prefix="/api/label", route_class=SayingRoute)

    @router.get("/next")
    def next_items(
        request: Request, tab: str, project: str = "", count: int = Query(4, ge=1, le=MOST_ITEMS)
    ) -> dict[str, Any]:
        person = person_of(request)
        chosen = _project(queue, project)
        if chosen is None:
            return {"person": person.name, "project": None, "items": [], "progress": None, "projects": []}
        items = queue.take(chosen, person.name, count, tab)
        return {
            "person": person.name,
            "project": project_json(chosen),
            "projects": [{"id": id, "name": name} for id, name in queue.menu().items()],
            "items": [item_json(item) for item in items],
            "progress": progress_json(queue.progress(chosen, person.name), person),
        }

    @router.post("/judge")
    def judge(request: Request, body: JudgeBody) -> dict[str, Any]:
        person = person_of(request)
        item = queue.item(body.assignment)
        project = queue.project(item.assignment.project_id)
        stored = queue.judge(judgment_of(body, item, project, person))
        return {"judgment": UUID(stored.id), "names": _names(item) if project.purpose == "comparison" else {}}

    @router.post("/skip")
    def skip(request: Request, body: SkipBody) -> dict[str, Any]:
        queue.skip(body.assignment, person_of(request).name, body.reason)
        return {"skipped": body.assignment}

    @router.get("/history")
    def history(request: Request, project: str) -> dict[str, Any]:
        person = person_of(request)
        recent = judgments.recent(database, project, person.name, limit=10)
        return {"judged": [judged_json(one, queue.item(one.assignment_id)) for one in recent if one.assignment_id]}

    return router


# ---- from the browser -----------------------------------------------------------------------------------------------


def judgment_of(body: JudgeBody, item: Item, project: Project, person: Person) -> Judgment:
    """What the browser sent, in our own ids. Raises BadInput where it does not fit what was shown."""
    _check_displayed(body.displayed, item)
    asked = feedback_type(project.feedback_type)
    verdict = _with_own_ids(body.verdict, item)
    displayed = item.assignment.displayed_order
    return Judgment(
        id=body.key.hex,
        prompt_id=item.prompt.id,
        labeler=person.name,
        feedback_type=asked.name,
        verdicts=_verdicts(asked, verdict, item, project),
        displayed_order=displayed,
        project_id=project.id,
        assignment_id=item.assignment.id,
        guideline_version=_guidelines_read(body, project),
        focused_seconds=body.focused_seconds,
        note=_note(body, item),
        flags=(*asked.flags(verdict), *beside.flags(verdict), *_flags(body, item, project)),
        reasons=beside.reasons(verdict),
        scores=beside.scores(verdict, displayed),
        supersedes=body.supersedes.hex if body.supersedes else None,
    )


def _verdicts(asked: FeedbackType, payload: Mapping[str, Any], item: Item, project: Project) -> tuple[Verdict, ...]:
    """What the project asks, and the ideal answers that were written beside it."""
    displayed = item.assignment.displayed_order
    verdicts = asked.verdicts(payload, displayed)
    if asked is not EDIT:
        verdicts += rewrites(payload, displayed)
    return as_pairs(verdicts, texts_by_id(item.responses)) if project.pair_from_edit else verdicts


def _guidelines_read(body: JudgeBody, project: Project) -> int:
    """The guidelines that were on the page, which may have changed since; the current ones where it names none."""
    current = project.guideline_version
    named = body.guideline_version
    return named if named is not None and 1 <= named <= current else current


def _project(queue: Queue, project_id: str) -> Project | None:
    """The project asked for; without one, the newest; None where there is none at all."""
    newest = next(reversed(queue.menu()), "")
    return queue.project(project_id or newest) if project_id or newest else None


def _check_displayed(displayed: Sequence[str], item: Item) -> None:
    if list(displayed) != [opaque_id(item, response) for response in item.assignment.displayed_order]:
        raise BadInput(said("other_order"))


def _with_own_ids(verdict: Mapping[str, Any], item: Item) -> dict[str, Any]:
    """The payload with response ids for opaque ones; what it does not know stays, for the feedback type to refuse."""
    own = {opaque_id(item, response): response for response in item.assignment.displayed_order}

    def translate(value: Any) -> Any:
        return {own.get(key, key): answer for key, answer in value.items()} if isinstance(value, dict) else value

    return {field: translate(value) for field, value in verdict.items()}


def _flags(body: JudgeBody, item: Item, project: Project) -> tuple[str, ...]:
    """What the lead should know about this judgment; nothing is refused for it.

    The seconds of a change hold those of the judgment before it, so whether all was read is asked of both together.
    """
    shown = sum(words(response.text) for response in item.responses)
    too_fast = (TOO_FAST,) if is_too_fast(body.focused_seconds, shown) else ()
    return (*too_fast, NAMES_SEEN) if body.supersedes and project.purpose == "comparison" else too_fast


def _note(body: JudgeBody, item: Item) -> str | None:
    """The note on the whole and those on single cards, as one text; None where all are empty."""
    on_cards = {letter: body.notes.get(opaque_id(item, one), "") for letter, one in _lettered(item).items()}
    return beside.note(body.note, on_cards) or None


# ---- to the browser -------------------------------------------------------------------------------------------------


def error_json(error: AppError) -> dict[str, Any]:
    """The sentence, and its code where it was raised with one: BadInput(said("judged_already"))."""
    first = error.args[0] if error.args else ""
    return {"error": str(error), **({"said": first.as_json()} if isinstance(first, Said) else {})}


def opaque_id(item: Item, response_id: str) -> str:
    return hashlib.sha256(f"{item.assignment.id}:{response_id}".encode()).hexdigest()[:16]


def progress_json(progress: Progress, person: Person) -> dict[str, Any]:
    """`why` nothing is ready, as codes with values; `waiting` says the same in English."""
    why = [_for(person, one) for one in progress.why]
    return {
        "mine": progress.mine,
        "team": progress.team,
        "total": progress.total,
        "ready": progress.ready,
        "why": [one.as_json() for one in why],
        "waiting": " ".join(map(str, why)),
    }


def _for(person: Person, one: Said) -> Said:
    """What keeps a model from answering may name it, so that labelers are not told."""
    return said("model_problem_hidden") if one.code == "model_problem" and person.role == "labeler" else one


def project_json(project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "name": project.name,
        "instruction": project.instruction,
        "guidelines_html": render(project.guidelines),
        "guideline_version": project.guideline_version,
        "feedback_type": project.feedback_type,
        "criteria": list(project.criteria),
        "reasons": list(project.reasons),
    }


def item_json(item: Item) -> dict[str, Any]:
    """A blind item: texts and nothing else."""
    messages = [{"role": one.role, "html": render(one.content)} for one in item.prompt.messages]
    responses = [{"id": opaque_id(item, one.id), "html": render(one.text), "text": one.text} for one in item.responses]
    return {"assignment": item.assignment.id, "prompt": {"messages": messages}, "responses": responses}


def judged_json(judgment: Judgment, item: Item) -> dict[str, Any]:
    """A judgment as the browser sent it, to be reopened and changed."""
    payload = {
        **EDIT.payload(judgment.verdicts, judgment.displayed_order),
        **feedback_type(judgment.feedback_type).payload(judgment.verdicts, judgment.displayed_order, judgment.flags),
        **beside.payload(judgment.scores, judgment.reasons, judgment.flags),
    }
    note, notes = _notes(judgment.note or "", item)
    return {
        "key": str(UUID(judgment.id)),
        "item": item_json(item),
        "verdict": _with_opaque_ids(payload, item),
        "note": note,
        "notes": notes,
        "focused_seconds": judgment.focused_seconds,
        "judged_at": judgment.judged_at.isoformat(),
    }


def _with_opaque_ids(payload: Mapping[str, Any], item: Item) -> dict[str, Any]:
    return {
        field: {opaque_id(item, key): answer for key, answer in value.items()} if isinstance(value, dict) else value
        for field, value in payload.items()
    }


def _notes(text: str, item: Item) -> tuple[str, dict[str, str]]:
    """The way back from `_note`: what is said of the whole, and by card."""
    lettered = _lettered(item)
    whole, on_cards = beside.notes(text, len(lettered))
    return whole, {opaque_id(item, lettered[letter]): one for letter, one in on_cards.items()}


def _lettered(item: Item) -> dict[str, str]:
    """The answers by the letters of their cards."""
    return dict(zip(LETTERS, item.assignment.displayed_order, strict=False))


def _names(item: Item) -> dict[str, str]:
    """Who wrote what, once the judgment is in."""
    return {opaque_id(item, one.id): one.version_id or one.author for one in item.responses}
