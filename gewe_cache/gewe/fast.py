"""Calls by aiohttp, for many devices at once: the extra ``gewe-cache[fast]``, used where ``GEWE_CACHE_HTTP`` says so.

One session with as many connections as there are calls. aiohttp sends a POST once, whatever happens to it.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING

import aiohttp
import httpx
from yarl import URL

from gewe_cache.gewe.calling import KEEP_ALIVE, Guard, Posted, connect_seconds, outcome_of, reply_of
from gewe_cache.gewe.clients import ssl_context
from gewe_cache.gewe.wire import MAX_ANSWER_BYTES, Reply, Unreached
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import SimpleNamespace

    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


class _Guarded:
    """A call that may not be written any more once its guard has raised."""

    def __init__(self, guard: Guard | None) -> None:
        self._guard = guard
        self.stopped_by: BaseException | None = None

    def check(self) -> None:
        """Stop the call, in a way that aiohttp's writer can bear, where the guard raises."""
        if self._guard is None:
            return
        try:
            self._guard()
        except BaseException as error:
            self.stopped_by = error
            msg = "stopped before its first byte"
            raise ConnectionAbortedError(msg) from error


class _Connector(aiohttp.TCPConnector):
    """Gives no connection on which something came unasked, which the next call would read as its own answer."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own limits
    ) -> Connection:
        """Give a connection on which nothing waits to be read; one that never comes counts as not reached."""
        connection = await super().connect(req, traces, timeout)
        if _is_clean(connection):
            return connection
        async with asyncio.timeout(timeout.connect):
            while not _is_clean(connection):
                connection.close()
                connection = await super().connect(req, traces, timeout)
        return connection


class AiohttpCalls:
    """Posts bodies, for the async driver."""

    def __init__(self) -> None:
        """Connect to nothing yet."""
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float,  # noqa: ASYNC109 - a limit of the whole call, which becomes an outcome
        guard: Guard | None,
    ) -> Posted:
        """Post a body; every failure but cancellation comes back as an outcome."""
        try:
            session, address, limits = self._opened(), _address(url), _limits(timeout)
        except Exception as error:  # noqa: BLE001 - nothing has gone out
            return Unreached(f"the call could not be made: {type(error).__name__}: {one_line(error)}")
        guarded = _Guarded(guard)
        try:
            async with (
                asyncio.timeout(timeout),
                session.post(
                    address,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=limits,
                    trace_request_ctx=guarded,
                ) as response,
            ):
                return await _read(response)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller learns whether a call went out
            if guarded.stopped_by is not None:
                raise guarded.stopped_by from None
            return outcome_of(error, timeout)

    async def aclose(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            # Both come before a byte is written: the head goes out with the body, which another task writes.
            trace.on_request_headers_sent.append(_check)
            trace.on_request_chunk_sent.append(_check)
            self._session = aiohttp.ClientSession(
                connector=_Connector(
                    limit=0, keepalive_timeout=KEEP_ALIVE, ssl=ssl_context(), resolver=aiohttp.ThreadedResolver()
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                trace_configs=[trace],
            )
        return self._session


def _is_clean(connection: Connection) -> bool:
    return connection.protocol is None or not connection.protocol.should_close


async def _check(_session: aiohttp.ClientSession, context: SimpleNamespace, _event: object) -> None:
    guarded: _Guarded = context.trace_request_ctx
    guarded.check()


async def _read(response: aiohttp.ClientResponse) -> Reply:
    received = bytearray()
    async for chunk in response.content.iter_any():
        received += chunk
        if len(received) > MAX_ANSWER_BYTES:
            response.close()
            return Reply(response.status, None)
    return reply_of(response.status, list(response.raw_headers), bytes(received))


@lru_cache(maxsize=64)
def _address(url: str) -> URL:
    """Give a URL as httpx would put it on the wire."""
    return URL(str(httpx.URL(url)), encoded=True)


@lru_cache(maxsize=64)
def _limits(timeout: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect_seconds(timeout))
