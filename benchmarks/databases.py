"""Fresh databases with their tables, gone after use; PostgreSQL is the one that the tests start."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
from tests.postgres import PostgresServer, fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def sqlite() -> Iterator[str]:
    """Give the URL of a SQLite file."""
    with tempfile.TemporaryDirectory(prefix="gewe-cache-benchmark-") as folder:
        url = f"sqlite:///{(Path(folder) / 'cache.db').as_posix()}"
        _migrate(url)
        yield url


@contextmanager
def postgresql() -> Iterator[str]:
    """Give the URL of a database on a PostgreSQL of its own."""
    with server() as server_url, fresh_on(server_url) as url:
        yield url


@contextmanager
def server() -> Iterator[str]:
    """Give the URL of a PostgreSQL of its own."""
    running = PostgresServer()
    try:
        yield running.url
    finally:
        running.close()


@contextmanager
def fresh_on(server_url: str) -> Iterator[str]:
    """Give the URL of a database on a PostgreSQL that runs."""
    with fresh_database(server_url) as url:
        _migrate(url)
        yield url


def _migrate(url: str) -> None:
    database = open_database(url)
    migrate.upgrade(database)
    database.dispose()
