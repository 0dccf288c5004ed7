"""Rows for the tests of what the operator sees: entries of any age, usage of any hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from gewe_cache import CachedImage, Image
from gewe_cache.keys import keys_of
from gewe_cache.store import entries as store_entries
from gewe_cache.store import usage
from gewe_cache.store.listing import Filters
from gewe_cache.store.tables import entries, keys

if TYPE_CHECKING:
    from gewe_cache.store.engine import Database

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
TTL = timedelta(days=3)
EVERY = Filters(ttl=TTL, now=NOW)
AES_KEY = "294774c8ac2ca8f8114e4d58d2ba78a5"


def add_entry(
    database: Database,
    url: str | None = "https://example.com/poster.png",
    *,
    scope: str = "one",
    age: timedelta = timedelta(hours=1),
    user_md5: str | None = None,
    gewe_md5: str | None = None,
    now: datetime = NOW,
    **columns: Any,
) -> int:
    """Save an entry as a sender does, then set columns that a sender would change later."""
    uploaded_at = now - age
    cached = CachedImage(AES_KEY, "30ab", 4061, 370, 400, gewe_md5, uploaded_at, uploaded_at + TTL)
    known = keys_of(Image(url=url, md5=user_md5), gewe_md5, scope, frozenset()) if url or user_md5 else ()
    with database.writer.begin() as connection:
        entry_id = store_entries.save(connection, cached, scope, url, known)
        if columns:
            connection.execute(update(entries).where(entries.c.id == entry_id).values(columns))
    return entry_id


def retire(database: Database, entry_id: int, *, keep_keys: bool = False, at: datetime = NOW) -> None:
    """Set an entry aside as a fall-back does; the newer entry has its keys."""
    with database.writer.begin() as connection:
        values = {"retired_at": at, "retired_reason": "GeWe refused: cdn信息已失效"}
        connection.execute(update(entries).where(entries.c.id == entry_id).values(values))
        if not keep_keys:
            connection.execute(keys.delete().where(keys.c.entry_id == entry_id))


def add_usage(database: Database, hour: datetime, scope: str = "one", **counts: Any) -> None:
    """Add counts to an hour."""
    with database.writer.begin() as connection:
        usage.add(connection, {(hour, scope): usage.Counts(**counts)}, {})


def scopes_by_id(database: Database) -> dict[int, str]:
    """Give every entry's scope."""
    with database.reader.connect() as connection:
        return {row.id: row.scope for row in connection.execute(select(entries.c.id, entries.c.scope))}


def keys_by_value(database: Database) -> dict[str, int]:
    """Give the entry that each key's value leads to."""
    with database.reader.connect() as connection:
        return {row.value: row.entry_id for row in connection.execute(select(keys.c.value, keys.c.entry_id))}
