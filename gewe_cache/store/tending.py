"""Tending: entries forgotten or pruned by the thousand, a scope renamed.

Every change goes in batches of one short transaction each, so that no sender waits long for the database;
on SQLite, which has one writer at a time, each is followed by a pause of its own length. What is done stays
done if the rest is broken off.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import delete, select, tuple_, update

from gewe_cache.keys import Key
from gewe_cache.store import leases
from gewe_cache.store import usage as usage_counts
from gewe_cache.store.entries import remove_unreachable, upsert
from gewe_cache.store.listing import Filters, Place, find_places
from gewe_cache.store.tables import entries, keys, usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Row

    from gewe_cache.store.engine import Database

T = TypeVar("T")

_HOUR = timedelta(hours=1)


@dataclass(slots=True)
class Pace:
    """How much to change at once: as much as took the wanted time before, within bounds."""

    size: int = 200
    least: int = 20
    most: int = 1000
    wanted_seconds: float = 0.04
    sleep: Callable[[float], None] = time.sleep
    longest: float = field(default=0.0, init=False)

    def perform(self, database: Database, change: Callable[[Connection], T]) -> T:
        """Make one change in a transaction, then let others in."""
        with database.writer.begin() as connection:
            began = time.perf_counter()
            result = change(connection)
        took = time.perf_counter() - began
        self.adapt(took)
        if database.is_sqlite:
            self.sleep(took)
        return result

    def adapt(self, took: float) -> None:
        """Learn from how long a change took."""
        self.longest = max(self.longest, took)
        self.size = max(self.least, min(self.most, int(self.size * self.wanted_seconds / max(took, 1e-6))))


@dataclass(slots=True)
class Pruned:
    """What a prune has removed so far."""

    entries: int = 0
    usage_rows: int = 0
    leases: int = 0


def forget_matching(database: Database, filters: Filters, pace: Pace | None = None) -> Iterator[int]:
    """Remove the entries that are meant, with all their keys; yields how many so far, after each batch."""
    pace = pace or Pace()
    removed, after = 0, None
    while places := _find(database, filters, after, pace.size):
        entry_ids = [place.id for place in places]
        removed += pace.perform(database, lambda connection, ids=entry_ids: remove_entries(connection, ids))  # type: ignore[misc]
        after = places[-1]
        yield removed


def forget_ids(database: Database, entry_ids: Sequence[int], pace: Pace | None = None) -> Iterator[int]:
    """Remove these entries, with all their keys; yields how many so far, after each batch."""
    pace = pace or Pace()
    removed, left = 0, list(entry_ids)
    while left:
        some, left = left[: pace.size], left[pace.size :]
        removed += pace.perform(database, lambda connection, ids=some: remove_entries(connection, ids))  # type: ignore[misc]
        yield removed


def prune(
    database: Database, filters: Filters, *, with_usage: bool = False, pace: Pace | None = None
) -> Iterator[Pruned]:
    """Remove old entries, old usage on request, and leases that nobody waits for; yields what is gone so far.

    Raises:
        ValueError: ``filters`` names no age.
    """
    if filters.uploaded_before is None:
        msg = "uploaded_before: a prune needs an explicit age."
        raise ValueError(msg)
    pace, pruned = pace or Pace(), Pruned()
    for pruned.entries in forget_matching(database, filters, pace):
        yield pruned
    if with_usage:
        before, scope = filters.uploaded_before, filters.scope
        while gone := pace.perform(database, lambda connection: _remove_usage(connection, before, scope, pace.size)):
            pruned.usage_rows += gone
            yield pruned
    pruned.leases = pace.perform(database, leases.sweep)
    yield pruned


def rescope(database: Database, old: str, new: str, pace: Pace | None = None) -> Iterator[int]:
    """Move all entries, keys and usage of a scope to another; yields how many entries so far.

    Where both know an image, the newer upload wins; the other is removed when no key leads to it any more,
    unless it is retired. Senders that still use the old scope go on filling it: change them first.

    Raises:
        ValueError: the scopes are the same.
    """
    if old == new:
        msg = "rescope: the old and the new scope are the same."
        raise ValueError(msg)
    pace, moved = pace or Pace(), 0
    while some := pace.perform(database, lambda connection: move_entries(connection, old, new, pace.size)):
        moved += some
        yield moved
    while pace.perform(database, lambda connection: _move_usage(connection, old, new, pace.size)):
        yield moved


def remove_entries(connection: Connection, entry_ids: Sequence[int]) -> int:
    """Remove these entries with all their keys; give how many there were."""
    connection.execute(delete(keys).where(keys.c.entry_id.in_(entry_ids)))
    return connection.execute(delete(entries).where(entries.c.id.in_(entry_ids))).rowcount


def move_entries(connection: Connection, old: str, new: str, limit: int) -> int:
    """Move some entries of a scope, oldest first, with their keys; give how many."""
    oldest = (entries.c.uploaded_at, entries.c.id)
    entry_ids = connection.scalars(select(entries.c.id).where(entries.c.scope == old).order_by(*oldest).limit(limit))
    if not (moving := list(entry_ids)):
        return 0
    connection.execute(update(entries).where(entries.c.id.in_(moving)).values(scope=new))
    _move_keys(connection, moving, new)
    return len(moving)


def _find(database: Database, filters: Filters, after: Place | None, limit: int) -> list[Place]:
    with database.reader.connect() as connection:
        return find_places(connection, filters, after, limit)


def _move_keys(connection: Connection, moving: list[int], new: str) -> None:
    rows = _keys_with_entries(connection, keys.c.entry_id.in_(moving))
    arriving = {Key.of(row.kind, new, row.value).digest: row for row in rows}
    if not arriving:
        return
    standing = {row.digest: row for row in _keys_with_entries(connection, keys.c.digest.in_(list(arriving)))}
    winning = {digest: row for digest, row in arriving.items() if _wins(row, standing.get(digest))}
    losing = {(arriving if digest not in winning else standing)[digest].entry_id for digest in standing}
    connection.execute(delete(keys).where(keys.c.digest.in_([row.digest for row in rows])))
    if winning:
        _point(connection, winning)
    remove_unreachable(connection, losing)


def _keys_with_entries(connection: Connection, condition: ColumnElement[bool]) -> list[Row[Any]]:
    columns = (keys.c.digest, keys.c.kind, keys.c.value, keys.c.entry_id, entries.c.uploaded_at, entries.c.retired_at)
    statement = select(*columns).join(entries, entries.c.id == keys.c.entry_id).where(condition)
    return [*connection.execute(statement)]


def _wins(arriving: Row[Any], standing: Row[Any] | None) -> bool:
    if standing is None:
        return True
    mine, theirs = ((row.retired_at is None, row.uploaded_at) for row in (arriving, standing))
    return bool(mine > theirs)


def _point(connection: Connection, winning: dict[bytes, Row[Any]]) -> None:
    statement = upsert(connection, keys)
    rows = [
        {"digest": digest, "entry_id": row.entry_id, "kind": row.kind, "value": row.value}
        for digest, row in sorted(winning.items())
    ]
    connection.execute(
        statement.on_conflict_do_update(index_elements=[keys.c.digest], set_={"entry_id": statement.excluded.entry_id}),
        rows,
    )


def _remove_usage(connection: Connection, before: datetime, scope: str | None, limit: int) -> int:
    statement = select(usage.c.hour, usage.c.scope).where(usage.c.hour <= before - _HOUR)
    if scope is not None:
        statement = statement.where(usage.c.scope == scope)
    some = [tuple(row) for row in connection.execute(statement.order_by(usage.c.hour).limit(limit))]
    if some:
        connection.execute(delete(usage).where(tuple_(usage.c.hour, usage.c.scope).in_(some)))
    return len(some)


def _move_usage(connection: Connection, old: str, new: str, limit: int) -> int:
    rows = connection.execute(select(usage).where(usage.c.scope == old).order_by(usage.c.hour).limit(limit)).all()
    if not rows:
        return 0
    counts = {
        (row.hour, new): usage_counts.Counts(*(getattr(row, name) for name in usage_counts.COUNT_NAMES)) for row in rows
    }
    usage_counts.add(connection, counts, {})
    hours = [row.hour for row in rows]
    connection.execute(delete(usage).where(usage.c.scope == old, usage.c.hour.in_(hours)))
    return len(rows)
