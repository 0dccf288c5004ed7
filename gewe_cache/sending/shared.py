"""What many async senders of one process use together: one database, its threads, and the connections to GeWe.

A thousand tokens are a thousand senders; each with engines and threads of its own would open more connections
than a database admits. What belongs to a token (its flights, its counters) stays its sender's own.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from gewe_cache.gewe.transport import AsyncTransport
from gewe_cache.settings import Tuning, find_database
from gewe_cache.store.guard import Store

if TYPE_CHECKING:
    from collections.abc import Callable

_THREADS = 8


class Shared:
    """Passed to each ``AsyncImageSender`` of an event loop, and closed after the last of them."""

    def __init__(
        self, database: str | None, on_failure: Callable[[], None] = lambda: None, tuning: Tuning | None = None
    ) -> None:
        """Connect to nothing yet.

        Args:
            database: its URL; None for ``GEWE_CACHE_DATABASE``, else the default file.
            on_failure: called, in any thread, each time that the database fails.
            tuning: waits and bounds.

        Raises:
            ValueError, StoreError: the database's URL or driver is unusable.
        """
        self.store = Store(find_database(database), tuning or Tuning(), on_failure)
        self.executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="gewe_cache store")
        self.transport = AsyncTransport()

    async def aclose(self) -> None:
        """Close every connection; no sender may use it any more."""
        await self.transport.aclose()
        await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        self.executor.shutdown()
        self.store.close()
