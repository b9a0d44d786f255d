"""Server-sent events of a model server, line by line, asked for over connections that streams under way share.

By aiohttp, which takes a third of httpx's time for each token: vLLM may run on the same processor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx

from labeling.engines.protocol import bearer, lines_of, refusal

TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=600.0)


@dataclass
class _Session:
    http: aiohttp.ClientSession
    streams: int = 0


class Streaming:
    """Of the server at `url`. A session belongs to an event loop and ends with the last stream under way there."""

    def __init__(self, url: str, key: str, trust_env: bool) -> None:
        self._url = url
        self._key = key
        self._trust_env = trust_env
        self._sessions: dict[asyncio.AbstractEventLoop, _Session] = {}

    async def lines(self, path: str, body: Mapping[str, Any], pauses: Sequence[float]) -> AsyncGenerator[str, None]:
        """What is lost before the reply begins, or a 503, is asked for again after these pauses (seconds).

        Raises what aiohttp raises, EngineUnavailable and EngineRefused. Closing it ends the server's work.
        """
        async with self._session() as http:
            reply = await self._begun(http, path, body, pauses)
            try:
                async for line in lines_of(reply.content.iter_any()):
                    yield line
            finally:
                reply.close()  # and not only let go: where more is to come, the server is to see that nobody reads it

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            http = aiohttp.ClientSession(
                headers=bearer(self._key),
                timeout=TIMEOUT,
                trust_env=self._trust_env,
                connector=aiohttp.TCPConnector(limit=0),  # the server says how many it takes at once
            )
            self._sessions[loop] = _Session(http)
        session = self._sessions[loop]
        session.streams += 1
        try:
            yield session.http
        finally:
            session.streams -= 1
            if not session.streams:
                del self._sessions[loop]
                await session.http.close()

    async def _begun(
        self, http: aiohttp.ClientSession, path: str, body: Mapping[str, Any], pauses: Sequence[float]
    ) -> aiohttp.ClientResponse:
        """A stream whose lines are still to come."""
        for pause in (*pauses, None):
            try:
                reply = await http.post(f"{self._url}{path}", json=body)
                if reply.status == 200:
                    return reply
                said = httpx.Response(reply.status, content=await reply.read())
            except aiohttp.ClientConnectionError as error:
                if pause is None or isinstance(error, aiohttp.SocketTimeoutError):
                    raise
            else:
                if said.status_code != 503 or pause is None:
                    raise refusal(said, self._key)
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")
