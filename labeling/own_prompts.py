"""A prompt of one's own, asked of both versions of a comparison while one looks on, and then judged like any other.

The answers come in an order that is shuffled here; no version's name leaves before the vote is in. Whoever goes away
takes the request with them: the servers stop writing, and nothing is stored. Once both answers are whole, the prompt,
the answers and the item to judge are stored together.

Pieces are shown as they come only where versions of ours answer. An endpoint writes at a pace of its own, in pieces of
its own size, which would tell who it is: where one takes part, both answers are shown once both are whole.

Such a vote is kept and can be learned from like others, but it does not count in the win rate: that is measured on
held-out prompts, which a hash chose, and people ask what they hope one version is better at.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from labeling.answering import Answerers, seed_for
from labeling.assignment import Item
from labeling.engines.client import Completion, Counted
from labeling.routes import item_json
from labeling.sampling import response_of
from storage import assignments, model_versions, projects, prompts, responses
from storage.database import Cursor, Database
from storage.errors import AppError, BadInput, EngineUnavailable
from storage.records import Assignment, Message, ModelVersion, Person, Project, Prompt, Response, new_id, now

LONGEST = 20_000  # characters
LEASE = timedelta(days=1)  # nobody else waits for it
BROKEN_OFF = "One of the two answers broke off before its end."
WENT_WRONG = "Something unexpected went wrong while the answers were written; the log says what. Nothing was stored."

Event = dict[str, Any]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """What is to be answered, by whom, in the order in which the answers are shown."""

    project: Project
    person: Person
    prompt: Prompt
    versions: tuple[ModelVersion, ...]
    attempt: int  # how often it was answered before

    @property
    def shown_whole(self) -> bool:
        return any(version.is_endpoint for version in self.versions)


class OwnPrompts:
    """Asks for people at the compare page."""

    def __init__(
        self,
        database: Database,
        answerers: Answerers,
        chance: random.Random | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._answerers = answerers
        self._chance = chance or random.Random()
        self._clock = clock

    def begin(self, project_id: str, person: Person, text: str) -> Asked:
        """Refuses first: raises BadInput, NotFound, and what keeps a version from answering."""
        project = projects.get(self._database, project_id)
        if project.purpose != "comparison":
            raise BadInput(f"{project.name} is no comparison. Choose two versions on the compare page.")
        if not 0 < len(text.strip()) <= LONGEST:
            raise BadInput(f"Type what both versions are to answer, {LONGEST:,} letters at most.")
        prompt = self._prompt([Message("user", text.strip())])
        versions = [model_versions.get(self._database, one) for one in project.version_ids]
        for version in versions:
            self._answerers.engine_of(version)
        self._chance.shuffle(versions)
        attempt = responses.count(self._database, project.id, prompt.id) // len(versions)
        return Asked(project, person, prompt, tuple(versions), attempt)

    async def answers(self, asked: Asked) -> AsyncGenerator[Event, None]:
        """Pieces {place, text}, an end {place, done} of each answer, then the {item} to judge; or an {error} at last.

        Where an endpoint takes part, only the last of these.

        Ends the servers' work when it is closed or cancelled.
        """
        coming: asyncio.Queue[Event | Exception] = asyncio.Queue()
        writing = [asyncio.create_task(self._write(asked, place, coming)) for place in range(len(asked.versions))]
        written: dict[int, Response] = {}
        try:
            while len(written) < len(writing):
                event = await coming.get()
                if isinstance(event, Exception):
                    yield {"error": _sentence(event)}
                    return
                if response := event.pop("response", None):
                    written[event["place"]] = response
                if not asked.shown_whole:
                    yield event
            item = await asyncio.to_thread(self._store, asked, [written[place] for place in sorted(written)])
            yield {"item": item_json(item)}
        finally:
            for task in writing:
                task.cancel()
            await asyncio.gather(*writing, return_exceptions=True)

    async def _write(self, asked: Asked, place: int, coming: asyncio.Queue[Event | Exception]) -> None:
        try:
            response = await self._written(asked, place, coming)
            await coming.put({"place": place, "done": True, "response": response})
        except Exception as error:  # whoever reads says it to the person
            await coming.put(error)

    async def _written(self, asked: Asked, place: int, coming: asyncio.Queue[Event | Exception]) -> Response:
        version, counted, started = asked.versions[place], Counted(), time.monotonic()
        wanted = asked.project.sampling_of(version.id)
        sampling = await self._answerers.fitting(version, asked.prompt, wanted)
        seed = seed_for(asked.project, version, asked.prompt, asked.attempt)
        text, reason = "", ""
        async with aclosing(self._answerers.stream(version, asked.prompt, sampling, seed, counted)) as pieces:
            async for delta in pieces:
                text, reason = text + delta.text, delta.finish_reason or reason
                if delta.text:
                    await coming.put({"place": place, "text": delta.text})
        if not reason:  # whoever passed it on closed the connection, or it was no stream
            raise EngineUnavailable(BROKEN_OFF)
        completion = Completion(
            index=0,
            text=text,
            seed=seed,
            finish_reason=reason,
            prompt_tokens=counted.prompt_tokens,
            completion_tokens=counted.completion_tokens,
            latency_seconds=time.monotonic() - started,
            engine=counted.engine,
        )
        return response_of(asked.project, version, asked.prompt, sampling, completion)

    def _prompt(self, messages: list[Message]) -> Prompt:
        """The stored one where it was asked before. Raises BadInput for one that measures this comparison anyway."""
        fresh = prompts.make(messages, source=prompts.OWN_PROMPTS, licence="Own")
        known = prompts.by_messages(self._database, messages)
        if known and known.held_out and known.source != prompts.OWN_PROMPTS:
            raise BadInput("This is one of the held-out prompts: it comes up here by itself. Ask something else.")
        return known or fresh

    def _store(self, asked: Asked, written: list[Response]) -> Item:
        """Prompt, answers and item, all or none."""
        return self._database.write(lambda cursor: self._stored(cursor, asked, written))

    def _stored(self, cursor: Cursor, asked: Asked, written: list[Response]) -> Item:
        text_hash = prompts.text_hash(asked.prompt.messages)
        prompts.insert_new(cursor, [asked.prompt])
        prompt = replace(asked.prompt, id=prompts.ids_by_hash(cursor, [text_hash])[text_hash])
        found = tuple(replace(one, prompt_id=prompt.id) for one in written)
        responses.insert_all(cursor, found)
        assignment = Assignment(
            id=new_id(),
            project_id=asked.project.id,
            prompt_id=prompt.id,
            labeler=asked.person.name,
            displayed_order=tuple(one.id for one in found),
            leased_until=self._clock() + LEASE,
            created_at=self._clock(),
        )
        assignments.insert_all(cursor, [assignment])
        return Item(assignment, prompt, found)


async def as_lines(events: AsyncGenerator[Event, None]) -> AsyncGenerator[str, None]:
    """As server-sent events, which no middleware holds back to compress."""
    async with aclosing(events):
        async for event in events:
            yield f"data: {json.dumps(event)}\n\n"


def _sentence(error: Exception) -> str:
    if isinstance(error, AppError):
        return f"{error} Nothing was stored."
    _log.error("answering an own prompt failed", exc_info=error)
    return WENT_WRONG
