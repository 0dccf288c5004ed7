"""What the cache saves, by hour and in total, and how full its tables are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from gewe_cache.store.listing import Filters, is_in_time
from gewe_cache.store.tables import entries, keys, leases, usage
from gewe_cache.store.usage import COUNT_NAMES, Counts

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row


@dataclass(frozen=True, slots=True)
class Savings:
    """What was sent, and what that saved."""

    counts: Counts

    @property
    def hit_ratio(self) -> float | None:
        """Forwards among accepted messages, 0 to 1; None before the first."""
        accepted = self.counts.forwards + self.counts.uploads
        return self.counts.forwards / accepted if accepted else None

    @property
    def seconds_saved(self) -> float:
        """What the forwards would have taken as uploads, less what they took; 0 without an upload to compare."""
        if not self.counts.uploads:
            return 0.0
        as_uploads = self.counts.forwards * self.counts.upload_seconds / self.counts.uploads
        return max(0.0, as_uploads - self.counts.forward_seconds)


@dataclass(frozen=True, slots=True)
class TableCounts:
    """How many rows there are of each kind."""

    fresh: int
    expired: int
    retired: int
    keys: int
    leases: int
    usage_rows: int

    @property
    def entries(self) -> int:
        """All entries."""
        return self.fresh + self.expired + self.retired


def usage_totals(connection: Connection, scope: str | None = None, since: datetime | None = None) -> Savings:
    """Add up the hours since a moment, that one's own hour included."""
    row = connection.execute(select(*_sums()).where(*_which(scope, since))).one()
    return Savings(_counts(row))


def usage_by_hour(
    connection: Connection, scope: str | None = None, since: datetime | None = None
) -> list[tuple[datetime, Savings]]:
    """Give each hour in which something was sent, oldest first, all scopes together unless one is named."""
    statement = (
        select(usage.c.hour, *_sums()).where(*_which(scope, since)).group_by(usage.c.hour).order_by(usage.c.hour)
    )
    return [(row.hour, Savings(_counts(row))) for row in connection.execute(statement)]


def table_counts(connection: Connection, filters: Filters) -> TableCounts:
    """Count rows from indexes alone; ``filters`` gives the time to live, and a scope for entries and usage."""
    scoped = [] if filters.scope is None else [entries.c.scope == filters.scope]
    fresh = is_in_time(entries.c.uploaded_at, filters)
    is_retired = entries.c.retired_at.is_not(None)
    retired = _count(connection, entries.c.id, *scoped, is_retired)
    in_time = _count(connection, entries.c.id, *scoped, fresh)
    retired_in_time = _count(connection, entries.c.id, *scoped, is_retired, fresh)
    total = _count(connection, entries.c.id, *scoped)
    return TableCounts(
        fresh=in_time - retired_in_time,
        expired=total - in_time - (retired - retired_in_time),
        retired=retired,
        keys=_count(connection, keys.c.digest),
        leases=_count(connection, leases.c.digest),
        usage_rows=_count(connection, usage.c.hour, *_which(filters.scope, None)),
    )


def _count(connection: Connection, column: ColumnElement[Any], *conditions: ColumnElement[bool]) -> int:
    statement = select(func.count()).select_from(column.table).where(*conditions)
    return connection.scalar(statement) or 0


def _which(scope: str | None, since: datetime | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if scope is not None:
        conditions.append(usage.c.scope == scope)
    if since is not None:
        conditions.append(usage.c.hour > since - timedelta(hours=1))
    return conditions


def _sums() -> list[ColumnElement[Any]]:
    return [func.coalesce(func.sum(usage.c[name]), 0).label(name) for name in COUNT_NAMES]


def _counts(row: Row[Any]) -> Counts:
    counts = Counts()
    for name in COUNT_NAMES:  # PostgreSQL sums integers to Decimal
        setattr(counts, name, type(getattr(counts, name))(getattr(row, name)))
    return counts
