"""Hourly usage: what was sent, by which route, and what it saved."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, case, update

from gewe_cache.store.entries import upsert
from gewe_cache.store.tables import UtcDateTime, entries, usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection


@dataclass(slots=True)
class Counts:
    """Numbers of one hour of one scope. Seconds are wall time of GeWe's calls; bytes are sizes at GeWe."""

    uploads: int = 0
    forwards: int = 0
    fall_backs: int = 0
    refusals: int = 0
    unknowns: int = 0
    store_failures: int = 0
    bytes_saved: int = 0
    upload_seconds: float = 0.0
    forward_seconds: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        """Add up field by field."""
        return Counts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(slots=True)
class Uses:
    """How often an entry was forwarded, and when last."""

    forwards: int
    last_used_at: datetime


COUNT_NAMES = tuple(field.name for field in fields(Counts))


def add(connection: Connection, counts: Mapping[tuple[datetime, str], Counts], uses: Mapping[int, Uses]) -> None:
    """Add a batch of counts (by hour and scope) and of uses (by entry id), in one transaction."""
    if counts:
        _add_counts(connection, counts)
    if uses:
        _add_uses(connection, uses)


def _add_counts(connection: Connection, counts: Mapping[tuple[datetime, str], Counts]) -> None:
    statement = upsert(connection, usage)
    added = {name: usage.c[name] + statement.excluded[name] for name in COUNT_NAMES}
    rows = [
        {"hour": hour, "scope": scope, **dict(zip(COUNT_NAMES, astuple(numbers), strict=True))}
        for (hour, scope), numbers in sorted(counts.items())
    ]
    connection.execute(statement.on_conflict_do_update(index_elements=[usage.c.hour, usage.c.scope], set_=added), rows)


def _add_uses(connection: Connection, uses: Mapping[int, Uses]) -> None:
    used_at = bindparam("used_at", type_=UtcDateTime())
    latest = case((entries.c.last_used_at < used_at, used_at), else_=entries.c.last_used_at)
    # In the order of their ids, so that two processes writing at once cannot deadlock.
    rows = [
        {"used_id": entry_id, "used": use.forwards, "used_at": use.last_used_at}
        for entry_id, use in sorted(uses.items())
    ]
    connection.execute(
        update(entries)
        .where(entries.c.id == bindparam("used_id"))
        .values(forwards=entries.c.forwards + bindparam("used"), last_used_at=latest),
        rows,
    )
