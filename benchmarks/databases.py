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
    server = PostgresServer()
    try:
        with fresh_database(server.url) as url:
            _migrate(url)
            yield url
    finally:
        server.close()


def _migrate(url: str) -> None:
    database = open_database(url)
    migrate.upgrade(database)
    database.dispose()
