"""Requests to GeWe's server that are nothing of ours: passed on as they are, and streamed both ways.

Only one origin is ever contacted. A request is sent once, redirects are not followed, nothing is decoded.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from gewe_cache.gewe.calling import Watch, outcome_of, time_limits
from gewe_cache.gewe.clients import Clients, new_async_client
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Sequence

    from gewe_cache.gewe.wire import Unknown, Unreached

    Headers = Sequence[tuple[bytes, bytes]]


class BrokenOffError(Exception):
    """The answer broke off after its head had come."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The head of an answer; ``chunks`` gives its body as it comes, not decoded.

    Raises:
        BrokenOffError: while ``chunks`` is read, when the rest of the body does not come.
    """

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]


class _Body(httpx.AsyncByteStream):
    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            yield chunk


class PassThrough:
    """Passes requests on to one origin. Belongs to one event loop."""

    def __init__(self, origin: str, timeout: float) -> None:
        """Connect to nothing yet.

        Args:
            origin: scheme, host and port, such as ``http://api.geweapi.com``.
            timeout: seconds until an answer's head, and then for each piece of its body.
        """
        self._origin = origin
        self._host = urlsplit(origin).netloc.encode("ascii")
        self._timeout = timeout
        self._clients = Clients(new_async_client)

    @asynccontextmanager
    async def open(
        self, method: str, target: bytes, headers: Headers, body: AsyncIterable[bytes]
    ) -> AsyncIterator[Passed | Unreached | Unknown]:
        """Pass a request on, and give the head of its answer, or how there came to be none.

        Args:
            method: as the client gave it.
            target: path and query as they are to be on the wire; begins with a slash.
            headers: all but ``Host``; they say how the body is framed.
            body: its pieces. What it raises is raised again, and the server then gets no whole request.
        """
        client = self._clients.take()
        try:
            request = httpx.Request(
                method,
                self._origin,
                headers=[(b"Host", self._host), *headers],
                stream=_Body(body),
                extensions={"target": target, **time_limits(self._timeout)},
            )
            opened = await self._send(client, request)
            if not isinstance(opened, httpx.Response):
                yield opened
                return
            try:
                yield Passed(opened.status_code, opened.headers.raw, _read(opened))
            finally:
                with suppress(Exception):
                    await opened.aclose()
        finally:
            surplus = self._clients.give_back(client)
            if surplus is not None:
                await surplus.aclose()

    async def aclose(self) -> None:
        """Close the idle connections."""
        for client in self._clients.drain():
            await client.aclose()

    async def _send(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response | Unreached | Unknown:
        watch = Watch()
        request.extensions["trace"] = watch.trace_async
        try:
            async with asyncio.timeout(self._timeout):
                return await client.send(request, stream=True, follow_redirects=False)
        except (OSError, TimeoutError, httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            return outcome_of(error, self._timeout, has_begun=watch.has_begun)


async def _read(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_raw():
            yield chunk
    except (OSError, httpx.HTTPError, httpx.StreamError) as error:
        raise BrokenOffError(one_line(error) or type(error).__name__) from error
