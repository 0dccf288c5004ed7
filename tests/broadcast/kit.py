"""What the tests of broadcasts in one process share: a clock that goes on by itself, and looks at the ledger."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from gewe_cache import Broadcast, Image, Pace
from gewe_cache.broadcast.clock import Clock
from gewe_cache.broadcast.recipients import from_items
from gewe_cache.broadcast.run import Listener
from gewe_cache.gewe.transport import SyncTransport
from gewe_cache.store import entries
from gewe_cache.store.tables import deliveries, lanes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Row

    from gewe_cache.broadcast.service import Broadcasts
    from gewe_cache.gewe.transport import Guard, Posted
    from gewe_cache.sandbox import Sandbox
    from gewe_cache.store.engine import Database

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)

_PATIENCE = 30.0


class FakeClock(Clock):
    """A clock that stands still while a call is out, and moves on at once where the run would sleep."""

    def __init__(self, now: datetime = NOON) -> None:
        self.wall = now
        self.seconds = 1000.0
        self.of: Broadcasts | None = None

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.wall += timedelta(seconds=seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        run = None if self.of is None else self.of._run
        if run is not None and run._under_way and event is run._wake:
            async with asyncio.timeout(_PATIENCE):
                await event.wait()
        elif not event.is_set():
            self.advance(seconds)
            await asyncio.sleep(0)


class TimedTransport(SyncTransport):
    """Posts to the sandbox; each call takes some time of a fake clock."""

    def __init__(self, clock: FakeClock, *seconds: float) -> None:
        super().__init__()
        self._clock = clock
        self._seconds = seconds
        self._calls = 0

    def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout: float, guard: Guard | None = None
    ) -> Posted:
        posted = super().post(url, headers, body, timeout, guard)
        self._clock.advance(self._seconds[self._calls % len(self._seconds)])
        self._calls += 1
        return posted


@dataclass(slots=True)
class Bench:
    """The broadcasts of one sender on a fake clock, and the sandbox that they go to."""

    sandbox: Sandbox
    opened: Broadcasts
    clock: FakeClock
    database: Database
    poster: str
    notices: list[str] = field(default_factory=list)

    def begin(self, recipients: Iterable[object], pace: Pace | None = None, *, again: bool = False) -> Broadcast:
        """Write a broadcast of the poster down, and open it."""
        items = from_items(recipients, self.sandbox.app_id)
        plan = self.opened.prepare(Image(url=self.poster), items, pace or Pace.none())
        self.opened.open(plan, again=again)
        return self.opened.find(plan.broadcast_id)

    def run(
        self, broadcast_id: int, *, transport: SyncTransport | None = None, pace: Pace | None = None, **listening: Any
    ) -> Broadcast:
        """Work on it, in a run of its own, until nothing more can be sent."""
        listener = Listener(**{"on_notice": self.notices.append, **listening})
        self.opened._is_stopped = False  # as in the next process
        found = self.opened.check_resumable(broadcast_id)
        try:
            return self.opened.run_now(found, pace=pace, listener=listener, transport=transport)
        finally:
            if transport is not None:
                transport.close()

    def cache_poster(self, app_id: str | None = None) -> None:
        """Let the poster be in the cache already, and nothing in the sandbox's record."""
        self.run(self.begin([(app_id or self.sandbox.app_id, "wxid_first")]).id)
        self.sandbox.clear()

    def forget(self, image: Image) -> None:
        """Remove an image from the cache, as another process does."""
        parts = self.opened.core.parts
        with self.database.writer.begin() as connection:
            entry_id = entries.forget(connection, parts.key_of(image).digest)
        parts.front.drop(parts.key_of(image).digest, entry_id)

    def rows(self, broadcast_id: int) -> list[Row[Any]]:
        """Give the deliveries as the ledger has them, in the order of their numbers."""
        return rows_of(self.database, broadcast_id)

    def states(self, broadcast_id: int) -> dict[str, str]:
        """Give the state of each recipient's delivery."""
        return {row.to_wxid: row.state for row in self.rows(broadcast_id)}

    def reached(self) -> list[str]:
        """Give who got a message, in the order of delivery."""
        return [delivery.to_wxid for delivery in self.sandbox.deliveries]


def rows_of(database: Database, broadcast_id: int) -> list[Row[Any]]:
    """Give a broadcast's deliveries as the ledger has them, in the order of their numbers."""
    statement = select(deliveries).where(deliveries.c.broadcast_id == broadcast_id).order_by(deliveries.c.number)
    with database.reader.connect() as connection:
        return [*connection.execute(statement)]


def lanes_in(database: Database) -> dict[str, Row[Any]]:
    """Give each device's lane."""
    with database.reader.connect() as connection:
        return {row.app_id: row for row in connection.execute(select(lanes))}
