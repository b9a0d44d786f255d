"""From a request to its reply: rows are ordered, and what they say comes from the weights' thread and goes out.

When the client goes away, however it asked, its rows leave the batch.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from labeling.engines.embedded_protocol import GenerationRequest, Refusal, Reply
from labeling.engines.embedded_scheduler import Answer, Order, Piece, Scheduler

_CLIENT_GONE = 499  # nobody reads it

Pieces = asyncio.Queue[Piece | Exception]


async def answer(
    scheduler: Scheduler,
    request: GenerationRequest,
    prompt: Sequence[int],
    decode: Callable[[Sequence[int]], str],
    max_tokens: int,
    is_base: bool,
    connection: Request,
) -> Response:
    """Raises UnknownModel, and Refusal when the answer fails before anything of it has gone out."""
    pieces: Pieces = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def deliver(piece: Piece | Exception) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

    order = Order(
        model=request.model,
        prompt=prompt,
        samplings=request.samplings(max_tokens),
        stop=request.stops(),
        stream=request.stream,
        ignore_eos=request.ignore_eos,
        deliver=deliver,
    )
    answers = scheduler.submit(order, is_base)
    reply = Reply(request, prompt, decode)
    if request.stream:
        return StreamingResponse(_events(scheduler, request, reply, answers, pieces), media_type="text/event-stream")
    try:
        last = await _unless_gone(connection, _last_pieces(pieces, len(answers)))
        return JSONResponse(reply.whole(last)) if last is not None else Response(status_code=_CLIENT_GONE)
    finally:
        scheduler.cancel(answers)


async def _last_pieces(pieces: Pieces, count: int) -> list[Piece]:
    """Without streaming, each choice comes in one piece."""
    return [_no_error(await pieces.get()) for _ in range(count)]


async def _events(
    scheduler: Scheduler, request: GenerationRequest, reply: Reply, answers: Sequence[Answer], pieces: Pieces
) -> AsyncIterator[str]:
    """Server-sent events. Starlette ends this when the client goes away."""
    open_choices, generated = len(answers), 0
    try:
        while open_choices:
            piece = _no_error(await pieces.get())
            open_choices -= piece.finish_reason is not None
            generated += len(piece.token_ids)
            if piece.text or piece.finish_reason or request.return_token_ids:
                yield _event(reply.chunk(piece))
        if request.stream_options and request.stream_options.include_usage:
            yield _event(reply.usage_chunk(generated))
    except Refusal as refusal:  # the status has gone out already
        yield _event(refusal.body)
    finally:
        scheduler.cancel(answers)
    yield "data: [DONE]\n\n"


async def _unless_gone(connection: Request, work: Coroutine[Any, Any, list[Piece]]) -> list[Piece] | None:
    """What `work` returns, or None as soon as the client has gone."""

    async def gone() -> None:
        while (await connection.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()


def _no_error(piece: Piece | Exception) -> Piece:
    if isinstance(piece, Exception):
        raise Refusal(500, f"EngineCore encountered an issue: {type(piece).__name__}: {piece}")
    return piece


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
