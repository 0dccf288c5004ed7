"""How the database is, for health checks and metrics: asked at most once at a time, and never waited for long."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import text

from gewe_cache.errors import StoreError
from gewe_cache.settings import find_ttl
from gewe_cache.store.listing import Filters
from gewe_cache.store.reports import TableCounts, table_counts

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from sqlalchemy import Connection

    from gewe_cache.sending.shared import Shared

State = Literal["ready", "away", "unusable"]

_STATE_SECONDS = 2.0
_COUNTS_SECONDS = 15.0
_PATIENCE = 1.0
_AWAY = object()


class DatabaseWatch:
    """Looks at the database now and then. Belongs to one event loop."""

    def __init__(self, shared: Shared, ttl: timedelta | None) -> None:
        """Look at nothing yet."""
        self._store = shared.store
        counted = partial(_count, ttl=find_ttl(ttl))
        self._state = _Remembered(shared, self._look, "away", _STATE_SECONDS)
        self._counts = _Remembered(shared, partial(self._ask, counted), None, _COUNTS_SECONDS)

    async def state(self) -> State:
        """Tell whether it is ready, away (sends go on without it) or unusable (its schema; sends are refused)."""
        state: State = await self._state.get()
        return state

    async def counts(self) -> TableCounts | None:
        """Give how many entries there are, or None while the database is away."""
        counts: TableCounts | None = await self._counts.get()
        return counts

    def _look(self) -> State:
        try:
            found = self._store.attempt(_answer, _AWAY, purpose="health")
        except StoreError:
            return "unusable"
        return "away" if found is _AWAY else "ready"

    def _ask(self, operation: Callable[[Connection], TableCounts]) -> TableCounts | None:
        try:
            return self._store.attempt(operation, None, purpose="metrics")
        except StoreError:
            return None


class _Remembered:
    """The last answer to a question that is put in a thread."""

    def __init__(self, shared: Shared, question: Callable[[], Any], first: Any, seconds: float) -> None:  # noqa: ANN401
        self._shared = shared
        self._question = question
        self._answer = first
        self._seconds = seconds
        self._asked_at = float("-inf")
        self._asking: asyncio.Future[Any] | None = None

    async def get(self) -> Any:  # noqa: ANN401 - each question has its own answer
        if self._asking is None and time.monotonic() - self._asked_at >= self._seconds:
            self._asked_at = time.monotonic()
            self._asking = asyncio.get_running_loop().run_in_executor(self._shared.executor, self._question)
            self._asking.add_done_callback(self._take)
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=_PATIENCE)
        return self._answer

    def _take(self, asked: asyncio.Future[Any]) -> None:
        self._asking = None
        if not asked.cancelled() and asked.exception() is None:
            self._answer = asked.result()


def _answer(connection: Connection) -> object:
    return connection.scalar(text("SELECT 1"))


def _count(connection: Connection, ttl: timedelta) -> TableCounts:
    return table_counts(connection, Filters(ttl=ttl))
