"""The ledger's writer: what it has committed outlives a loss of power."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from gewe_cache import ImageSender
from gewe_cache.broadcast.writer import LedgerWriter
from gewe_cache.store.engine import open_database

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FULL = 2


def test_it_writes_through_whatever_the_database_is_set_to(shared_database: str) -> None:
    database = open_database(shared_database)
    if not database.is_sqlite:
        with database.reader.connect() as connection:
            name = connection.scalar(text("SELECT current_database()"))
            connection.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
    database.dispose()
    with ImageSender("token", database=shared_database) as sender:
        writer = LedgerWriter(sender._live())
        assert writer.perform_now(_how_durable) in {_FULL, "on"}
        writer.close()


def _how_durable(connection: Connection) -> object:
    is_sqlite = connection.dialect.name == "sqlite"
    return connection.scalar(text("PRAGMA synchronous" if is_sqlite else "SHOW synchronous_commit"))
