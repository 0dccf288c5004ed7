"""Calls by bare connections of httpcore, on which httpx itself is built: the default.

A client of httpx costs as much as all the rest of a call, and its pool grows slow with its connections. A call needs
neither: it takes a connection that is idle, or makes one, and has it for itself.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

import httpcore
import httpx

from gewe_cache.gewe import calling
from gewe_cache.gewe.bounded_stream import BoundedBackend, Deadline
from gewe_cache.gewe.calling import KEEP_ALIVE, Guard, Posted, has_left_over, outcome_of, reply_of, time_limits
from gewe_cache.gewe.clients import ssl_context
from gewe_cache.gewe.wire import MAX_ANSWER_BYTES, Reply, Unreached
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

ConnectionT = TypeVar("ConnectionT", "BoundedConnection", httpcore.AsyncHTTPConnection)

_MOST_IDLE = 1000


class Idle(Generic[ConnectionT]):
    """Connections that wait for a call, the last one used first. Safe to share between threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waiting: deque[tuple[float, ConnectionT]] = deque()
        self._lock = threading.Lock()

    def take(self, origin: httpcore.Origin) -> tuple[ConnectionT | None, list[ConnectionT]]:
        """Give a connection that is still good, if there is one, and those to be closed that were not."""
        stale: list[ConnectionT] = []
        with self._lock:
            while self._waiting:
                _, connection = self._waiting.pop()
                if connection.can_handle_request(origin) and not connection.has_expired():
                    return connection, stale
                stale.append(connection)
        return None, stale

    def give_back(self, connection: ConnectionT) -> list[ConnectionT]:
        """Keep a connection that can make another call; give those to be closed, which have waited too long."""
        now = time.monotonic()
        is_reusable = connection.is_available() and not has_left_over(connection)
        stale = [] if is_reusable else [connection]
        with self._lock:
            if not stale:
                self._waiting.append((now, connection))
            while self._waiting and (len(self._waiting) > _MOST_IDLE or self._waiting[0][0] < now - KEEP_ALIVE):
                stale.append(self._waiting.popleft()[1])
        return stale

    def drain(self) -> list[ConnectionT]:
        """Give up all, to be closed."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        return [connection for _, connection in waiting]


class BoundedConnection(httpcore.HTTPConnection):
    """A connection whose calls each end by a deadline."""

    def __init__(self, origin: httpcore.Origin) -> None:
        """Connect to nothing yet."""
        self.deadline = Deadline(0.0)
        context = ssl_context() if origin.scheme == b"https" else None
        backend = BoundedBackend(self.deadline)
        super().__init__(origin, ssl_context=context, keepalive_expiry=KEEP_ALIVE, network_backend=backend)


class Connections:
    """Posts bodies, for the sync driver."""

    def __init__(self) -> None:
        """Connect to nothing yet."""
        self._idle: Idle[BoundedConnection] = Idle()

    def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout: float, guard: Guard | None) -> Posted:
        """Post a body; every failure comes back as an outcome."""
        deadline = time.monotonic() + timeout
        try:
            request = _request(url, headers, body, timeout)
            origin = request.url.origin
            connection, stale = self._idle.take(origin)
            connection = connection or BoundedConnection(origin)
            connection.deadline.at = deadline
        except Exception as error:  # noqa: BLE001 - nothing has gone out
            return _unmade(error)
        try:
            _close(stale)
            if guard is not None:
                guard()
                request.extensions["trace"] = calling.Watch(guard).trace
            return _exchange(connection, request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller learns whether a call went out
            return outcome_of(error, timeout)
        finally:
            _close(self._idle.give_back(connection))

    def close(self) -> None:
        """Close the idle connections."""
        _close(self._idle.drain())


class AsyncConnections:
    """Posts bodies, for the async driver."""

    def __init__(self) -> None:
        """Connect to nothing yet."""
        self._idle: Idle[httpcore.AsyncHTTPConnection] = Idle()

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
            request = _request(url, headers, body, timeout)
            origin = request.url.origin
            connection, stale = self._idle.take(origin)
            if connection is None:
                context = ssl_context() if origin.scheme == b"https" else None
                connection = httpcore.AsyncHTTPConnection(origin, ssl_context=context, keepalive_expiry=KEEP_ALIVE)
        except Exception as error:  # noqa: BLE001 - nothing has gone out
            return _unmade(error)
        try:
            async with asyncio.timeout(timeout):
                await _aclose(stale)
                if guard is not None:
                    guard()
                    request.extensions["trace"] = calling.Watch(guard).trace_async
                return await _exchange_async(connection, request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller learns whether a call went out
            return outcome_of(error, timeout)
        finally:
            await _aclose(self._idle.give_back(connection))

    async def aclose(self) -> None:
        """Close the idle connections."""
        await _aclose(self._idle.drain())


def _exchange(connection: BoundedConnection, request: httpcore.Request) -> Reply:
    response = connection.handle_request(request)
    try:
        received = bytearray()
        for chunk in response.iter_stream():
            received += chunk
            if len(received) > MAX_ANSWER_BYTES:
                return Reply(response.status, None)
        return reply_of(response.status, response.headers, bytes(received))
    finally:
        with suppress(Exception):
            response.close()


async def _exchange_async(connection: httpcore.AsyncHTTPConnection, request: httpcore.Request) -> Reply:
    response = await connection.handle_async_request(request)
    try:
        received = bytearray()
        async for chunk in response.aiter_stream():
            received += chunk
            if len(received) > MAX_ANSWER_BYTES:
                return Reply(response.status, None)
        return reply_of(response.status, response.headers, bytes(received))
    finally:
        with suppress(Exception):
            await response.aclose()


def _request(url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> httpcore.Request:
    address, host = _address(url)
    raw = [
        (b"Host", host),
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", b"identity"),
        (b"Content-Length", b"%d" % len(body)),
        *((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()),
    ]
    return httpcore.Request(b"POST", address, headers=raw, content=body, extensions=time_limits(timeout))


@lru_cache(maxsize=64)
def _address(url: str) -> tuple[httpcore.URL, bytes]:
    """Give the parts of a URL as they go on the wire, and its host header."""
    parsed = httpx.URL(url)
    address = httpcore.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path)
    return address, parsed.netloc


def _unmade(error: Exception) -> Unreached:
    return Unreached(f"the call could not be made: {type(error).__name__}: {one_line(error)}")


def _close(connections: list[BoundedConnection]) -> None:
    for connection in connections:
        with suppress(Exception):
            connection.close()


async def _aclose(connections: list[httpcore.AsyncHTTPConnection]) -> None:
    for connection in connections:
        with suppress(Exception):
            await connection.aclose()
