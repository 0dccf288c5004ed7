"""The one place that sends: it posts a body, and says whether a call went out.

Who passes a client in (of httpx or httpx2) has every call made by it. Else calls go out by bare connections
(``connections``); where the environment names a proxy, by small clients of httpx (``clients``), which know what to do
with it.

``timeout`` holds for the whole call. On the sync side it may overrun while a server drips its headers: a
single read is bounded, their number is not.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, cast
from urllib.request import getproxies

import httpx

from gewe_cache.gewe import clients
from gewe_cache.gewe.calling import Guard, Posted
from gewe_cache.gewe.clients import Clients
from gewe_cache.gewe.connections import AsyncConnections, Connections
from gewe_cache.gewe.wire import Unreached
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2

    GivenClient = httpx.Client | httpx2.Client
    GivenAsyncClient = httpx.AsyncClient | httpx2.AsyncClient

__all__ = ["AsyncTransport", "Guard", "Posted", "SyncTransport", "ThreadTransport"]

_MOST_THREADS = 64
_KINDS_OF_PROXIES = frozenset({"http", "https", "all"})


class SyncTransport:
    """Posts bodies, for the sync driver."""

    def __init__(self, http_client: GivenClient | None = None) -> None:
        """Use ``http_client`` for every call, or connections of our own."""
        self._given = cast("httpx.Client | None", http_client)  # httpx2 has the same API
        self._connections = Connections()
        self._clients = Clients(clients.new_client)
        self._goes_by_proxy = _has_proxy()

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
            return clients.post(self._given, url, headers, body, timeout, guard)
        if not self._goes_by_proxy:
            return self._connections.post(url, headers, body, timeout, guard)
        try:
            client = self._clients.take()
        except Exception as error:  # noqa: BLE001 - such as a proxy in the environment that httpx cannot use
            return _no_client(error)
        try:
            return clients.post(client, url, headers, body, timeout, guard)
        finally:
            surplus = self._clients.give_back(client)
            if surplus is not None:
                surplus.close()

    def close(self) -> None:
        """Close our own idle connections; a client passed in stays its owner's."""
        self._connections.close()
        for client in self._clients.drain():
            client.close()


class AsyncTransport:
    """Posts bodies, for the async driver."""

    def __init__(self, http_client: GivenAsyncClient | None = None) -> None:
        """Use ``http_client`` for every call, or connections of our own."""
        self._given = cast("httpx.AsyncClient | None", http_client)
        self._connections = AsyncConnections()
        self._clients = Clients(clients.new_async_client)
        self._goes_by_proxy = _has_proxy()

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
            return await clients.post_async(self._given, url, headers, body, timeout, guard)
        if not self._goes_by_proxy:
            return await self._connections.post(url, headers, body, timeout, guard)
        try:
            client = self._clients.take()
        except Exception as error:  # noqa: BLE001 - such as a proxy in the environment that httpx cannot use
            return _no_client(error)
        try:
            return await clients.post_async(client, url, headers, body, timeout, guard)
        finally:
            surplus = self._clients.give_back(client)
            if surplus is not None:
                await surplus.aclose()

    async def aclose(self) -> None:
        """Close our own idle connections; a client passed in stays its owner's."""
        await self._connections.aclose()
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


def _has_proxy() -> bool:
    """Tell whether the environment names a proxy, in one of the ways that httpx knows."""
    return not _KINDS_OF_PROXIES.isdisjoint(getproxies())


def _no_client(error: Exception) -> Unreached:
    return Unreached(f"no HTTP client could be made: {one_line(error)}")
