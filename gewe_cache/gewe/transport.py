"""The one place that knows httpx: it makes clients, posts a body, and says whether a call went out.

httpx's pool grows slow with its connections, so by default every send under way has a small client of its
own, with one connection, all on one SSL context; idle ones are used again, last one first. A client passed
in (of httpx or httpx2) is used as it is.

``timeout`` holds for the whole call. On the sync side it may overrun while a server drips its headers: a
single read is bounded, their number is not.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import httpx

from gewe_cache.gewe.wire import MAX_ANSWER_BYTES, Reply, Unknown, Unreached
from gewe_cache.text import one_line

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Mapping

    import httpx2

    GivenClient = httpx.Client | httpx2.Client
    GivenAsyncClient = httpx.AsyncClient | httpx2.AsyncClient

ClientT = TypeVar("ClientT", httpx.Client, httpx.AsyncClient)
Posted = Reply | Unreached | Unknown
Guard = Callable[[], None]

_MAX_IDLE_CLIENTS = 100
_MOST_THREADS = 64
_CONNECT_SHARE = 0.4
_MAX_CONNECT_SECONDS = 10.0
# Shorter than the keep-alive of usual servers: a connection that the server closes at the very moment of a
# send makes its outcome unknown.
_LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=4.0)
_HTTP_MODULES = frozenset({"httpx", "httpx2"})
_BEFORE_THE_CALL = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "ProxyError",
        "UnsupportedProtocol",
        "InvalidURL",
    }
)
# httpx-aiohttp calls a connection that was lost under way a ConnectTimeout too: there, aiohttp's own error tells.
_BEFORE_THE_CALL_OF_AIOHTTP = frozenset(
    {"ClientConnectorError", "ConnectionTimeoutError", "ClientHttpProxyError", "InvalidURL"}
)
# As httpcore tells it to a request's "trace" extension.
_BEFORE_THE_FIRST_BYTE = "send_request_headers.started"
_INVALID_HEADER = Unreached("the http_client passed in has a header with a line break, NUL or outer blank in it")
_NOT_IN_A_HEADER = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")


class Clients(Generic[ClientT]):
    """Clients of one connection each, handed out one per send. Safe to share between threads."""

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
        """Keep a client for the next send, or return it to be closed where enough are idle."""
        with self._lock:
            if len(self._idle) >= _MAX_IDLE_CLIENTS:
                return client
            self._idle.append(client)
        return None

    def drain(self) -> list[ClientT]:
        """Give up every idle client, to be closed."""
        with self._lock:
            idle, self._idle = self._idle, []
        return idle


class SyncTransport:
    """Posts bodies, for the sync driver."""

    def __init__(self, http_client: GivenClient | None = None) -> None:
        """Use ``http_client`` for every call, or small clients of our own."""
        self._given = cast("httpx.Client | None", http_client)  # httpx2 has the same API
        self._clients = Clients(_new_client)

    @property
    def is_given(self) -> bool:
        """Tell whether the client belongs to the caller."""
        return self._given is not None

    def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout: float, guard: Guard | None = None
    ) -> Posted:
        """Post a body; every failure comes back as an outcome.

        ``guard`` is called right before the first byte is written; what it raises is raised, and nothing was sent.
        """
        if self._given is not None:
            return _post(self._given, url, headers, body, timeout, guard)
        try:
            client = self._clients.take()
        except Exception as error:  # noqa: BLE001 - such as a proxy in the environment that httpx cannot use
            return Unreached(f"no HTTP client could be made: {one_line(error)}")
        try:
            return _post(client, url, headers, body, timeout, guard)
        finally:
            surplus = self._clients.give_back(client)
            if surplus is not None:
                surplus.close()

    def close(self) -> None:
        """Close our own idle clients; one passed in stays its owner's."""
        for client in self._clients.drain():
            client.close()


class AsyncTransport:
    """Posts bodies, for the async driver."""

    def __init__(self, http_client: GivenAsyncClient | None = None) -> None:
        """Use ``http_client`` for every call, or small clients of our own."""
        self._given = cast("httpx.AsyncClient | None", http_client)
        self._clients = Clients(new_async_client)

    @property
    def is_given(self) -> bool:
        """Tell whether the client belongs to the caller."""
        return self._given is not None

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float,  # noqa: ASYNC109 - a limit of the whole call, which becomes an outcome
        guard: Guard | None = None,
    ) -> Posted:
        """Post a body, as ``SyncTransport.post`` does; every failure but cancellation comes back as an outcome."""
        if self._given is not None:
            return await _post_async(self._given, url, headers, body, timeout, guard)
        try:
            client = self._clients.take()
        except Exception as error:  # noqa: BLE001 - such as a proxy in the environment that httpx cannot use
            return Unreached(f"no HTTP client could be made: {one_line(error)}")
        try:
            return await _post_async(client, url, headers, body, timeout, guard)
        finally:
            surplus = self._clients.give_back(client)
            if surplus is not None:
                await surplus.aclose()

    async def aclose(self) -> None:
        """Close our own idle clients; one passed in stays its owner's."""
        for client in self._clients.drain():
            await client.aclose()


class ThreadTransport:
    """Posts bodies on an event loop with a client that was passed to a sync sender, in threads."""

    def __init__(self, transport: SyncTransport) -> None:
        """Use this transport."""
        self._transport = transport
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="gewe_cache post")

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float,  # noqa: ASYNC109 - a limit of the whole call, which becomes an outcome
        guard: Guard | None = None,
    ) -> Posted:
        """Post a body, as ``SyncTransport.post`` does."""
        post = partial(self._transport.post, url, headers, body, timeout, guard)
        return await asyncio.get_running_loop().run_in_executor(self._threads, post)

    async def aclose(self) -> None:
        """Let the threads end with the calls that they make; the client stays its owner's."""
        self._threads.shutdown(wait=False)


def _post(
    client: httpx.Client, url: str, headers: Mapping[str, str], body: bytes, timeout: float, guard: Guard | None
) -> Posted:
    if client.is_closed:
        return Unreached("the http_client passed in is closed")
    deadline = time.monotonic() + timeout
    try:
        request = client.build_request("POST", url, content=body, headers=headers, extensions=time_limits(timeout))
        if _has_invalid_header(request):
            return _INVALID_HEADER
        if guard is not None:
            guard()
            request.extensions["trace"] = _guarding(guard)
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
        return outcome_of(error, timeout)


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
    try:
        async with asyncio.timeout(timeout):
            request = client.build_request("POST", url, content=body, headers=headers, extensions=time_limits(timeout))
            if _has_invalid_header(request):
                return _INVALID_HEADER
            if guard is not None:
                guard()
                request.extensions["trace"] = _guarding_async(guard)
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
        return outcome_of(error, timeout)


def _guarding(guard: Guard) -> Callable[[str, Any], None]:
    """Make the trace of a call that is given up where the guard says so: connecting may have taken a while."""

    def trace(event: str, _info: object) -> None:
        if event.endswith(_BEFORE_THE_FIRST_BYTE):
            guard()

    return trace


def _guarding_async(guard: Guard) -> Callable[[str, Any], Awaitable[None]]:
    trace = _guarding(guard)

    async def trace_async(event: str, info: object) -> None:
        trace(event, info)

    return trace_async


def outcome_of(error: Exception, timeout: float) -> Unreached | Unknown:
    """Tell whether a call that failed had gone out; ``timeout`` in seconds, for the words."""
    reason = f"{type(error).__name__}: {one_line(error)}" if str(error) else type(error).__name__
    if _is_before_the_call(error):
        return Unreached(reason)
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return Unknown(f"no whole answer within {timeout:g} s")
    return Unknown(reason)


def _is_before_the_call(error: Exception) -> bool:
    cause = error.__cause__
    if cause is not None and _comes_from(type(cause), {"aiohttp"}):
        return any(kind.__name__ in _BEFORE_THE_CALL_OF_AIOHTTP for kind in type(cause).__mro__)
    return any(kind.__name__ in _BEFORE_THE_CALL and _comes_from(kind, _HTTP_MODULES) for kind in type(error).__mro__)


def _comes_from(kind: type, packages: Collection[str]) -> bool:
    return kind.__module__.partition(".")[0] in packages


def _has_invalid_header(request: httpx.Request) -> bool:
    """Tell of a header that no client can send; only some say so in a way that tells it from a lost call."""
    return any(_NOT_IN_A_HEADER.search(part) for header in request.headers.raw for part in header)


def time_limits(timeout: float) -> dict[str, Any]:
    """Give httpx's limits of one call of ``timeout`` seconds: less for a connection, so that another may be tried."""
    connect = min(_MAX_CONNECT_SECONDS, timeout * _CONNECT_SHARE)
    return {"timeout": {"connect": connect, "pool": connect, "read": timeout, "write": timeout}}


@cache
def _ssl_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _no_cookies() -> CookieJar:
    """Give a jar that takes none: what was set for one token must not go out with another's call."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


def _new_client() -> httpx.Client:
    return httpx.Client(verify=_ssl_context(), limits=_LIMITS, cookies=_no_cookies())


def new_async_client() -> httpx.AsyncClient:
    """Make a client of one connection that keeps no cookie."""
    return httpx.AsyncClient(verify=_ssl_context(), limits=_LIMITS, cookies=_no_cookies())
