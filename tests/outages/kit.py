"""What the tests of outages share: looks into a sender's store, and ways to spoil a SQLite file."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.kit import FAST, PATIENCE, Driver, World, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gewe_cache import SentImage
    from gewe_cache.store.guard import Store

# Every find asks the database; nothing is written but what a test is about.
ASKING = replace(FAST, front_trust=0.0, usage_interval=60.0, lease_renewal=0.2, store_pause=0.05, database_timeout=0.2)
# A database that failed is left alone for as long as the test lasts.
LEAVING = replace(ASKING, store_pause=600.0)
_WAIT = 0.005


class SqliteWorld(World):
    """A world on a SQLite file."""

    file: Path

    def prime(self, image: str | None = None, to_wxid: str = "wxid_first") -> SentImage:
        """Let another sender upload the image and close."""
        driver = self.open("sync own", _tuning=ASKING)
        sent = send(driver, to_wxid, image or self.image)
        self.drivers.remove(driver)
        driver.close()
        return sent

    def execute(self, *statements: str) -> list[Any]:
        """Run statements in the file behind the senders' backs; give the last one's rows."""
        with closing(sqlite3.connect(self.file, timeout=PATIENCE, isolation_level=None)) as connection:
            rows: list[Any] = []
            for statement in statements:
                rows = connection.execute(statement).fetchall()
            return rows

    def count(self, table: str) -> int:
        """Count the rows of one of our tables."""
        ((number,),) = self.execute(f"SELECT count(*) FROM gewe_cache_{table}")  # noqa: S608 - a test's own name
        return int(number)

    @contextmanager
    def locked(self, *, readers_too: bool = False) -> Iterator[None]:
        """Hold the file locked by another connection: for writers, or for everybody."""
        with closing(sqlite3.connect(self.file, timeout=PATIENCE, isolation_level=None)) as connection:
            if readers_too:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE" if readers_too else "BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")


def store_of(driver: Driver) -> Store:
    """Give a sender's store."""
    store: Store = driver.sender._core.store
    return store


def ask(driver: Driver, name: str, *arguments: Any, **named: Any) -> Any:
    """Call a method of a sender, awaited where that is needed."""
    return driver.run(lambda: getattr(driver.sender, name)(*arguments, **named))


def until(condition: Callable[[], bool]) -> None:
    """Wait for what is certain to come; fail where it does not."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(_WAIT)


def pause_over(driver: Driver) -> None:
    """Wait until a sender asks its database again."""
    store = store_of(driver)
    until(lambda: time.monotonic() >= store._away_until)


def routes(*sent: SentImage) -> list[str]:
    """Give the route of each."""
    return [each.route for each in sent]


def failures(records: list[logging.LogRecord]) -> list[str]:
    """Give the warnings of a database that failed."""
    return [
        record.getMessage()
        for record in records
        if record.name == "gewe_cache.store" and record.levelno >= logging.WARNING
    ]
