"""The one place that sends: it posts a body, and says whether a call went out.

Calls go out by bare connections (``connections``), unless something else is asked for: by a client that was passed in,
of httpx or httpx2, or where the environment names a proxy, by small clients of httpx (``clients``), which know what to
do with it; on the async side by aiohttp (``fast``), where ``GEWE_CACHE_HTTP`` says so.

``timeout`` holds for the whole call. A sync client of httpx may overrun it while a server drips its headers: a
single read is bounded, their number is not.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Protocol
from urllib.request import getproxies

from gewe_cache.gewe.calling import Guard, Posted
from gewe_cache.gewe.clients import (
    AsyncGivenClientCalls,
    AsyncSmallClientsCalls,
    GivenClientCalls,
    SmallClientsCalls,
)
from gewe_cache.settings import wants_aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gewe_cache.gewe.clients import GivenAsyncClient, GivenClient

__all__ = ["AsyncTransport", "Guard", "Posted", "SyncTransport", "ThreadTransport", "check_async_calls", "has_proxy"]

_MOST_THREADS = 64
_KINDS_OF_PROXIES = frozenset({"http", "https", "all"})


class _Wire(Protocol):
    def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout: float, guard: Guard | None
    ) -> Posted: ...

    def close(self) -> None: ...


class _AsyncWire(Protocol):
    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float,  # noqa: ASYNC109 - a limit of the whole call, which becomes an outcome
        guard: Guard | None,
    ) -> Posted: ...

    async def aclose(self) -> None: ...


class SyncTransport:
    """Posts bodies, for the sync driver."""

    def __init__(self, http_client: GivenClient | None = None) -> None:
        """Use ``http_client`` for every call, or connections of our own."""
        self._wire: _Wire
        if http_client is not None:
            self._wire = GivenClientCalls(http_client)
        else:
            self._wire = _calls()

    @property
    def is_given(self) -> bool:
        """Tell whether the client belongs to the caller."""
        return isinstance(self._wire, GivenClientCalls)

    def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout: float, guard: Guard | None = None
    ) -> Posted:
        """Post a body; every failure comes back as an outcome.

        ``guard`` is called right before the first byte is written; what it raises is raised, and nothing was sent.
        """
        return self._wire.post(url, headers, body, timeout, guard)

    def close(self) -> None:
        """Close our own idle connections; a client passed in stays its owner's."""
        self._wire.close()


class AsyncTransport:
    """Posts bodies, for the async driver."""

    def __init__(self, http_client: GivenAsyncClient | None = None) -> None:
        """Use ``http_client`` for every call, or connections of our own.

        Raises:
            ValueError: ``GEWE_CACHE_HTTP`` names something unknown, or not installed.
        """
        self._wire = _async_calls(http_client)

    @property
    def is_given(self) -> bool:
        """Tell whether the client belongs to the caller."""
        return isinstance(self._wire, AsyncGivenClientCalls)

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float,  # noqa: ASYNC109 - a limit of the whole call, which becomes an outcome
        guard: Guard | None = None,
    ) -> Posted:
        """Post a body, as ``SyncTransport.post`` does; every failure but cancellation comes back as an outcome."""
        return await self._wire.post(url, headers, body, timeout, guard)

    async def aclose(self) -> None:
        """Close our own idle connections; a client passed in stays its owner's."""
        await self._wire.aclose()


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


def check_async_calls() -> None:
    """Tell before anything is begun whether ``AsyncTransport`` can be made.

    Raises:
        ValueError: as it does.
    """
    _async_calls(None)


def has_proxy() -> bool:
    """Tell whether the environment names a proxy, in one of the ways that httpx knows."""
    return not _KINDS_OF_PROXIES.isdisjoint(getproxies())


def _calls() -> _Wire:
    if has_proxy():
        return SmallClientsCalls()
    from gewe_cache.gewe.connections import Connections  # noqa: PLC0415 - httpcore is slow to import, also for httpx

    return Connections()


def _async_calls(http_client: GivenAsyncClient | None) -> _AsyncWire:
    if http_client is not None:
        return AsyncGivenClientCalls(http_client)
    wanted = wants_aiohttp()
    if has_proxy():
        return AsyncSmallClientsCalls()
    if not wanted:
        from gewe_cache.gewe.connections import AsyncConnections  # noqa: PLC0415

        return AsyncConnections()
    try:
        from gewe_cache.gewe.fast import AiohttpCalls  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        msg = "GEWE_CACHE_HTTP: aiohttp is not installed. Nothing was sent. Run: pip install 'gewe-cache[fast]'"
        raise ValueError(msg) from error
    return AiohttpCalls()
