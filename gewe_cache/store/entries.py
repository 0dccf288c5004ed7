"""Entries and their keys: find, save, forget."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import LargeBinary, bindparam, delete, exists, insert, select, update

from gewe_cache.image import CachedImage
from gewe_cache.store.keyed_read import KeyedRead
from gewe_cache.store.tables import entries, keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Table
    from sqlalchemy.dialects import postgresql, sqlite

    from gewe_cache.keys import Key


class CorruptEntryError(ValueError):
    """A row that no longer is what was saved; it is treated as a miss."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """The entry to set aside because a forward with it was refused, and GeWe's words."""

    entry_id: int
    reason: str


_FIND = KeyedRead(
    select(
        entries.c.id,
        entries.c.aes_key,
        entries.c.file_id,
        entries.c.length,
        entries.c.width,
        entries.c.height,
        entries.c.md5,
        entries.c.uploaded_at,
        entries.c.upload_began_at,
    )
    .join(keys, keys.c.entry_id == entries.c.id)
    .where(keys.c.digest == bindparam("wanted", type_=LargeBinary(32)), entries.c.retired_at.is_(None)),
    "wanted",
)


def find(connection: Connection, digest: bytes, ttl: timedelta) -> CachedImage | None:
    """Give the entry that a key leads to, fresh or expired; a retired one is not found.

    Raises:
        CorruptEntryError: the row is not what was saved.
    """
    try:
        row = _FIND.first(connection, digest)
        return None if row is None else _cached_image(row, ttl)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        msg = f"an entry in the database is corrupt: {error}"
        raise CorruptEntryError(msg) from error


def save(
    connection: Connection,
    image: CachedImage,
    scope: str,
    url: str | None,
    known_keys: Sequence[Key],
    retirement: Retirement | None = None,
) -> int:
    """Keep a new entry, point all known keys to it, and retire the refused one, in one transaction.

    An older entry to which no key leads any more is removed, unless it is retired.

    Returns:
        The new entry's id.
    """
    entry_id = _insert_entry(connection, image, scope, url)
    digests = [key.digest for key in known_keys]
    replaced = connection.scalars(select(keys.c.entry_id).where(keys.c.digest.in_(digests))).all()
    _point_keys(connection, known_keys, entry_id)
    if retirement is not None:
        _retire(connection, retirement, image.uploaded_at)
    remove_unreachable(connection, set(replaced) - {entry_id})
    return entry_id


def forget(connection: Connection, digest: bytes) -> int | None:
    """Remove the entry that a key leads to, with all its keys.

    Returns:
        Its id, or None when the key led nowhere.
    """
    entry_id = connection.scalar(select(keys.c.entry_id).where(keys.c.digest == digest))
    if entry_id is None:
        return None
    connection.execute(delete(keys).where(keys.c.entry_id == entry_id))
    connection.execute(delete(entries).where(entries.c.id == entry_id))
    return int(entry_id)


def upsert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Give the dialect's INSERT that knows ON CONFLICT; PostgreSQL's is slow to load where nobody uses it."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415

    return sqlite.insert(table)


def _cached_image(row: list[Any], ttl: timedelta) -> CachedImage:
    entry_id, aes_key, file_id, length, width, height, md5, uploaded_at, began_at = row
    expires_at = uploaded_at + ttl
    return CachedImage(aes_key, file_id, length, width, height, md5, uploaded_at, expires_at, entry_id, began_at)


def _insert_entry(connection: Connection, image: CachedImage, scope: str, url: str | None) -> int:
    result = connection.execute(
        insert(entries).values(
            scope=scope,
            url=url,
            aes_key=image.aes_key,
            file_id=image.file_id,
            length=image.length,
            width=image.width,
            height=image.height,
            md5=image.md5,
            upload_began_at=image.upload_began_at or image.uploaded_at,
            uploaded_at=image.uploaded_at,
            last_used_at=image.uploaded_at,
        )
    )
    inserted = result.inserted_primary_key
    assert inserted is not None  # noqa: S101 - the table has one
    return int(inserted[0])


def _point_keys(connection: Connection, known_keys: Sequence[Key], entry_id: int) -> None:
    statement = upsert(connection, keys)
    rows = [
        {"digest": key.digest, "entry_id": entry_id, "kind": key.kind, "value": key.value}
        for key in sorted(known_keys, key=lambda key: key.digest)
    ]
    connection.execute(
        statement.on_conflict_do_update(index_elements=[keys.c.digest], set_={"entry_id": statement.excluded.entry_id}),
        rows,
    )


def _retire(connection: Connection, retirement: Retirement, at: datetime) -> None:
    connection.execute(
        update(entries)
        .where(entries.c.id == retirement.entry_id, entries.c.retired_at.is_(None))
        .values(retired_at=at, retired_reason=retirement.reason)
    )


def remove_unreachable(connection: Connection, entry_ids: set[int]) -> None:
    """Remove those of these entries to which no key leads; a retired one stays for the operator."""
    if not entry_ids:
        return
    connection.execute(
        delete(entries).where(
            entries.c.id.in_(entry_ids),
            entries.c.retired_at.is_(None),
            ~exists().where(keys.c.entry_id == entries.c.id),
        )
    )
