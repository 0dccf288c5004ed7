"""The one writer of a worker: all that it does at the ledger happens here, one transaction after the other."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from gewe_cache.store.engine import Database, open_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from gewe_cache.sending.core import Core

T = TypeVar("T")


class LedgerWriter:
    """Performs operations in a thread of its own; what is committed outlives a loss of power."""

    def __init__(self, core: Core) -> None:
        """Open the database of a sender once more, durably.

        Raises:
            StoreError: it cannot be used as it is.
        """
        core.store.demand(lambda _: None)  # makes a SQLite file, and refuses a schema that is not ours
        self._shared = core.store.database.is_memory
        timeout = core.settings.tuning.database_timeout
        self._database: Database = (
            core.store.database
            if self._shared
            else open_database(core.settings.database, timeout=timeout, durable=True)
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gewe_cache ledger")

    def perform_now(self, operation: Callable[[Connection], T]) -> T:
        """Perform one in the calling thread; what the database raises is raised, and nothing has changed."""
        try:
            with self._database.writer.begin() as connection:
                return operation(connection)
        except Exception:
            self._database.begin_anew()
            raise

    async def perform(self, operation: Callable[[Connection], T]) -> T:
        """Perform one in the writer's thread, whoever stops waiting for it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.perform_now, operation)

    def close(self) -> None:
        """Wait for what is being written, and close the connections."""
        self._thread.shutdown()
        if not self._shared:
            self._database.dispose()
