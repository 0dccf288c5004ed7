"""Calls by clients of httpx or httpx2: those that are passed in, and our own where the environment names a proxy.

httpx's pool grows slow with its connections, so our own are small: one for every call under way, with one
connection, all on one SSL context; idle ones are used again, last one first.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import httpx

from gewe_cache.gewe import calling
from gewe_cache.gewe.calling import KEEP_ALIVE, Guard, Posted, has_left_over, outcome_of, time_limits
from gewe_cache.gewe.wire import MAX_ANSWER_BYTES, Reply, Unknown, Unreached
from gewe_cache.text import one_line

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    import httpx2

    GivenClient = httpx.Client | httpx2.Client
    GivenAsyncClient = httpx.AsyncClient | httpx2.AsyncClient

ClientT = TypeVar("ClientT", httpx.Client, httpx.AsyncClient)

_MAX_IDLE_CLIENTS = 100
_LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEP_ALIVE)
_INVALID_HEADER = Unreached("the http_client passed in has a header with a line break, NUL or outer blank in it")
_NOT_IN_A_HEADER = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")


class Clients(Generic[ClientT]):
    """Clients of one connection each, handed out one per call. Safe to share between threads."""

    def __init__(self, make: Callable[[], ClientT]) -> None:
        """Make nothing yet."""
        self._make: Callable[[], ClientT] = make
        self._idle: list[ClientT] = []
        self._lock = threading.Lock()

    def take(self) -> ClientT:
        """Give the client that was used last, or a new one."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._make()

    def give_back(self, client: ClientT) -> ClientT | None:
        """Keep a client for the next call, or return it to be closed: it cannot make one, or enough are idle."""
        is_reusable = not _has_left_over(client)
        with self._lock:
            if not is_reusable or len(self._idle) >= _MAX_IDLE_CLIENTS:
                return client
            self._idle.append(client)
        return None

    def drain(self) -> list[ClientT]:
        """Give up every idle client, to be closed."""
        with self._lock:
            idle, self._idle = self._idle, []
        return idle


class GivenClientCalls:
    """Posts bodies by a client that was passed in, and that stays its owner's."""

    def __init__(self, client: GivenClient) -> None:
        """Use this client as it is."""
        self._client = cast("httpx.Client", client)  # httpx2 has the same API

    def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout: float, guard: Guard | None) -> Posted:
        """Post a body; every failure comes back as an outcome."""
        return _post(self._client, url, headers, body, timeout, guard)

    def close(self) -> None:
        """Leave the client open."""


class AsyncGivenClientCalls:
    """Posts bodies by an async client that was passed in, and that stays its owner's."""

    def __init__(self, client: GivenAsyncClient) -> None:
        """Use this client as it is."""
        self._client = cast("httpx.AsyncClient", client)

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float,  # noqa: ASYNC109 - a limit of the whole call, which becomes an outcome
        guard: Guard | None,
    ) -> Posted:
        """Post a body; every failure but cancellation comes back as an outcome."""
        return await _post_async(self._client, url, headers, body, timeout, guard)

    async def aclose(self) -> None:
        """Leave the client open."""


class SmallClientsCalls:
    """Posts bodies by small clients of our own."""

    def __init__(self) -> None:
        """Connect to nothing yet."""
        self._clients = Clients(new_client)

    def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout: float, guard: Guard | None) -> Posted:
        """Post a body; every failure comes back as an outcome."""
        try:
            client = self._clients.take()
        except Exception as error:  # noqa: BLE001 - such as a proxy in the environment that httpx cannot use
            return _no_client(error)
        try:
            return _post(client, url, headers, body, timeout, guard)
        finally:
            surplus = self._clients.give_back(client)
            if surplus is not None:
                surplus.close()

    def close(self) -> None:
        """Close the idle clients."""
        for client in self._clients.drain():
            client.close()


class AsyncSmallClientsCalls:
    """Posts bodies by small async clients of our own."""

    def __init__(self) -> None:
        """Connect to nothing yet."""
        self._clients = Clients(new_async_client)

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
            client = self._clients.take()
        except Exception as error:  # noqa: BLE001 - such as a proxy in the environment that httpx cannot use
            return _no_client(error)
        try:
            return await _post_async(client, url, headers, body, timeout, guard)
        finally:
            surplus = self._clients.give_back(client)
            if surplus is not None:
                await surplus.aclose()

    async def aclose(self) -> None:
        """Close the idle clients."""
        for client in self._clients.drain():
            await client.aclose()


def _has_left_over(client: httpx.Client | httpx.AsyncClient) -> bool:
    """Tell whether something came after the last answer on one of a client's connections, by a proxy or without."""
    try:
        transports = (client._transport, *client._mounts.values())  # noqa: SLF001 - httpx shows none
        pools = (transport._pool for transport in transports if transport is not None)  # noqa: SLF001
        return any(has_left_over(each) for pool in pools for each in pool.connections if each.is_idle())
    except AttributeError:  # a later httpx keeps them elsewhere
        return True


def _no_client(error: Exception) -> Unreached:
    return Unreached(f"no HTTP client could be made: {one_line(error)}")


def _post(
    client: httpx.Client, url: str, headers: Mapping[str, str], body: bytes, timeout: float, guard: Guard | None
) -> Posted:
    if client.is_closed:
        return Unreached("the http_client passed in is closed")
    deadline, watch, request = time.monotonic() + timeout, calling.Watch(guard), None
    try:
        request = client.build_request("POST", url, content=body, headers=headers, extensions=time_limits(timeout))
        if _has_invalid_header(request):
            return _INVALID_HEADER
        if guard is not None:
            guard()
        request.extensions["trace"] = watch.trace
        response = client.send(request, stream=True, follow_redirects=False)
        try:
            request.extensions["timeout"]["read"] = max(0.001, deadline - time.monotonic())
            received = bytearray()
            for chunk in response.iter_bytes():
                received += chunk
                if len(received) > MAX_ANSWER_BYTES:
                    return Reply(response.status_code, None)
                if time.monotonic() > deadline:
                    return Unknown(f"no whole answer within {timeout:g} s")
            return Reply(response.status_code, bytes(received), response.headers)
        finally:
            with suppress(Exception):
                response.close()
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller learns whether a call went out
        return outcome_of(error, timeout, has_begun=watch.has_begun or _is_about_another(error, request))


async def _post_async(
    client: httpx.AsyncClient,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    timeout: float,  # noqa: ASYNC109 - a limit of the whole call, which becomes an outcome
    guard: Guard | None,
) -> Posted:
    if client.is_closed:
        return Unreached("the http_client passed in is closed")
    watch, request = calling.Watch(guard), None
    try:
        async with asyncio.timeout(timeout):
            request = client.build_request("POST", url, content=body, headers=headers, extensions=time_limits(timeout))
            if _has_invalid_header(request):
                return _INVALID_HEADER
            if guard is not None:
                guard()
            request.extensions["trace"] = watch.trace_async
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                received = bytearray()
                async for chunk in response.aiter_bytes():
                    received += chunk
                    if len(received) > MAX_ANSWER_BYTES:
                        return Reply(response.status_code, None)
                return Reply(response.status_code, bytes(received), response.headers)
            finally:
                with suppress(Exception):
                    await response.aclose()
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller learns whether a call went out
        return outcome_of(error, timeout, has_begun=watch.has_begun or _is_about_another(error, request))


def _is_about_another(error: Exception, request: httpx.Request | None) -> bool:
    """Tell of an error about another call, made by a hook of the client's: it tells nothing of this one."""
    with suppress(RuntimeError):  # it is about none
        return request is not None and getattr(error, "request", request) is not request
    return False


def _has_invalid_header(request: httpx.Request) -> bool:
    """Tell of a header that no client can send; only some say so in a way that tells it from a lost call."""
    return any(_NOT_IN_A_HEADER.search(part) for header in request.headers.raw for part in header)


@cache
def ssl_context() -> ssl.SSLContext:
    """Give the one context of all our connections; one takes 20 ms to make."""
    return httpx.create_ssl_context()


def _no_cookies() -> CookieJar:
    """Give a jar that takes none: what was set for one token must not go out with another's call."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


def new_client() -> httpx.Client:
    """Make a client of one connection that keeps no cookie."""
    return httpx.Client(verify=ssl_context(), limits=_LIMITS, cookies=_no_cookies())


def new_async_client() -> httpx.AsyncClient:
    """Make a client of one connection that keeps no cookie."""
    return httpx.AsyncClient(verify=ssl_context(), limits=_LIMITS, cookies=_no_cookies())
