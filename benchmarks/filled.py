"""Databases filled with entries as uploads leave them; made once a run, and used by all who look into them.

A tenth of the entries is 40 to 139 days old, as many of each day; the others were uploaded within the last six days.
Each has two keys, its URL's and GeWe's md5's. Rows go in by the driver's quickest way, the indexes after them.
"""

from __future__ import annotations

import atexit
import hashlib
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert

from benchmarks import databases
from gewe_cache.keys import Key, default_scope
from gewe_cache.store.engine import open_database
from gewe_cache.store.partial_indexes import metadata
from gewe_cache.store.tables import entries, keys, usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Table

    from gewe_cache.store.engine import Database

KINDS: Final = ("SQLite", "PostgreSQL")
TOKEN: Final = "benchmark-token"  # noqa: S105 - no secret
BASE_URL: Final = "http://gewe.invalid/gewe/v2/api"

_SCOPE: Final = default_scope(BASE_URL, TOKEN)
_AT_ONCE: Final = 20_000
_OLD_ONE_IN: Final = 10
_ENTRY_COLUMNS: Final = (
    "id",
    "scope",
    "url",
    "aes_key",
    "file_id",
    "length",
    "width",
    "height",
    "md5",
    "upload_began_at",
    "uploaded_at",
    "last_used_at",
    "forwards",
)
_KEY_COLUMNS: Final = ("digest", "entry_id", "kind", "value")
_DAYS_OF_USAGE: Final = 30


def url_of(number: int) -> str:
    """Give the URL of an entry, numbered from 1."""
    return f"https://images.example.com/posters/{number % 997}/{number}.png"


@cache
def database(kind: str, size: int) -> str:
    """Give the URL of a database of this many entries; it is gone when the run ends."""
    made = databases.sqlite() if kind == "SQLite" else databases.fresh_on(_postgresql())
    url = _until_the_end().enter_context(made)
    opened = open_database(url, timeout=600)
    try:
        _fill(opened, size)
    finally:
        opened.dispose()
    return url


@cache
def _postgresql() -> str:
    return _until_the_end().enter_context(databases.server())


@cache
def _until_the_end() -> ExitStack:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack


def _fill(opened: Database, size: int) -> None:
    indexes = [
        index for table in (metadata.tables[entries.name], metadata.tables[keys.name]) for index in table.indexes
    ]
    now = datetime.now(UTC)
    with opened.writer.begin() as connection:
        if opened.is_sqlite:
            connection.exec_driver_sql("PRAGMA cache_size = -500000")  # the keys come in no order
        for index in indexes:
            index.drop(connection)
        for first in range(1, size + 1, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, size + 1))
            _insert(connection, entries, _ENTRY_COLUMNS, [_entry(number, now) for number in numbers])
            _insert(connection, keys, _KEY_COLUMNS, [key for number in numbers for key in _keys(number)])
        for index in indexes:
            index.create(connection)
        hour = now.replace(minute=0, second=0, microsecond=0)
        hours = [hour - timedelta(hours=number) for number in range(24 * _DAYS_OF_USAGE)]
        connection.execute(
            insert(usage), [{"hour": each, "scope": _SCOPE, "forwards": 90, "uploads": 10} for each in hours]
        )
    _settle(opened, size)


def _insert(connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    cursor: Any = connection.connection.cursor()
    names = ", ".join(columns)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        cursor.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", map(_as_text, rows))  # noqa: S608
        return
    with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _as_text(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Write times as SQLAlchemy writes them into SQLite."""
    return tuple(
        value.replace(tzinfo=None).isoformat(" ", "microseconds") if isinstance(value, datetime) else value
        for value in row
    )


def _settle(opened: Database, size: int) -> None:
    """Do what a database does by itself, or within minutes: count ids, gather statistics, fold the WAL away."""
    of_postgresql = (f"SELECT setval('{entries.name}_id_seq', {size})", "VACUUM ANALYZE", "CHECKPOINT")
    with opened.reader.connect() as connection:
        for statement in ("PRAGMA wal_checkpoint(TRUNCATE)",) if opened.is_sqlite else of_postgresql:
            connection.exec_driver_sql(statement)


def _entry(number: int, now: datetime) -> tuple[Any, ...]:
    old, rest = divmod(number, _OLD_ONE_IN)
    age = timedelta(seconds=number % 518_400) if rest else timedelta(days=40 + old % 100)
    uploaded_at = now - age
    md5 = _md5(number)
    file_id = f"3057{number:08x}" + "02" * 90
    return (
        number,
        _SCOPE,
        url_of(number),
        md5,
        file_id,
        200_000 + number % 300_000,
        1080,
        1920,
        md5,
        uploaded_at,
        uploaded_at,
        uploaded_at,
        number % 50,
    )


def _keys(number: int) -> tuple[tuple[Any, ...], ...]:
    known = (Key.of("url", _SCOPE, url_of(number)), Key.of("md5", _SCOPE, _md5(number)))
    return tuple((key.digest, number, key.kind, key.value) for key in known)


def _md5(number: int) -> str:
    return hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()
