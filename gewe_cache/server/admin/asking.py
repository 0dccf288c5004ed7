"""What the page asks of the database: in threads and on connections of its own, so that no send waits for it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from starlette.exceptions import HTTPException

from gewe_cache.errors import StoreError
from gewe_cache.settings import Tuning, find_database
from gewe_cache.store.guard import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from gewe_cache.sending.shared import Shared

T = TypeVar("T")

_THREADS = 2


class Asking:
    """A database that is asked at most twice at once. Belongs to one event loop."""

    def __init__(self, shared: Shared, database: str | None, tuning: Tuning | None = None) -> None:
        """Connect to nothing yet; a database in memory is the senders' own."""
        self._is_own = not shared.store.database.is_memory
        self._store = shared.store
        if self._is_own:
            self._store = Store(find_database(database), tuning or Tuning(), lambda: None)
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="gewe_cache admin")

    async def ask(self, question: Callable[[Connection], T], *, write: bool = False) -> T:
        """Put a question.

        Raises:
            StoreError: the database failed, or cannot be used; nothing was changed.
        """
        asked = partial(self._store.demand, question, write=write)
        return await asyncio.get_running_loop().run_in_executor(self._executor, asked)

    async def ask_for_page(self, question: Callable[[Connection], T], *, write: bool = False) -> T:
        """Put a question without which there is no page.

        Raises:
            HTTPException: 503, with the database's failure in words.
        """
        try:
            return await self.ask(question, write=write)
        except StoreError as error:
            raise HTTPException(503, str(error)) from error

    async def aclose(self) -> None:
        """Close every connection."""
        await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        self._executor.shutdown()
        if self._is_own:
            self._store.close()
