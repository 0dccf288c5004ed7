"""What the tests of interruptions share: settings that wait briefly, a gate in a store, what a database must hold."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text

from gewe_cache.settings import Tuning
from gewe_cache.store.engine import open_database
from gewe_cache.store.tables import entries, leases, usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gewe_cache import AsyncImageSender, ImageSender
    from gewe_cache.sandbox import Sandbox
    from gewe_cache.sending.parts import Parts

PATIENCE = 20.0
QUICK: dict[str, Any] = {"lease_poll": 0.02, "unreached_pauses": (0.01, 0.01)}
_LOOK_AGAIN = 0.002


def settings(sandbox: Sandbox, database: str, **changes: Any) -> dict[str, Any]:
    """Give a sender's arguments."""
    return {
        "token": sandbox.token,
        "app_id": "wx_sandbox_1",
        "base_url": sandbox.base_url,
        "database": database,
        "scope": "interruptions",
        "timeout": 15.0,
        "_tuning": Tuning(**QUICK),
        **changes,
    }


class Gate:
    """Holds a sender's first store step of one purpose: before it is performed, or with ``after`` when it is."""

    def __init__(self, sender: ImageSender | AsyncImageSender, purpose: str, *, after: bool = False) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()
        store = sender._core.store
        attempt = store.attempt

        def gated(operation: Any, otherwise: Any, **options: Any) -> Any:
            if options.get("purpose") != purpose or self.reached.is_set():
                return attempt(operation, otherwise, **options)
            result = attempt(operation, otherwise, **options) if after else None
            self.reached.set()
            assert self._opened.wait(PATIENCE)
            return result if after else attempt(operation, otherwise, **options)

        store.attempt = gated  # type: ignore[method-assign]

    async def wait_reached(self) -> None:
        """Wait until the step is held."""
        assert await asyncio.to_thread(self.reached.wait, PATIENCE)

    def open(self) -> None:
        """Let it go on."""
        self._opened.set()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what is certain to come; fail where it does not."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(_LOOK_AGAIN)


def is_idle(parts: Parts) -> bool:
    """Tell whether no lane is held, no flight is in the air and no lease is renewed."""
    return not parts.lanes._queues and not parts.flights._in_the_air and not parts.background._held


def check_record(sandbox: Sandbox, *recipients: str) -> None:
    """Hold that exactly these got a message, each once."""
    assert sorted(delivery.to_wxid for delivery in sandbox.deliveries) == sorted(recipients)
    assert sandbox.duplicates() == []


@contextmanager
def _connected(database: str) -> Iterator[Any]:
    opened = open_database(database)
    try:
        with opened.reader.connect() as connection:
            yield connection
    finally:
        opened.dispose()


def saved_files(database: str) -> list[str]:
    """Give the file ids of all entries, oldest first."""
    with _connected(database) as connection:
        return list(connection.scalars(select(entries.c.file_id).order_by(entries.c.id)))


def running_leases(database: str) -> int:
    """Count the leases that nobody has ended."""
    with _connected(database) as connection:
        return len(connection.execute(select(leases.c.owner).where(leases.c.ended_at.is_(None))).all())


def written_usage(database: str) -> dict[str, int]:
    """Give the usage counters, all hours together."""
    with _connected(database) as connection:
        rows = connection.execute(select(usage)).mappings().all()
    return {name: sum(row[name] for row in rows) for name in ("uploads", "forwards", "unknowns")}


def check_intact(database: str) -> None:
    """Hold that a SQLite file is whole."""
    with _connected(database) as connection:
        assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
