"""Leases: how processes know of each other's uploads.

A lease is a row that names the flight which holds it (``owner``) and ends by itself at ``expires_at``, so
that a killed process holds up nobody. On PostgreSQL all times are the database's own; on SQLite, which
serves one machine, they are the machine's. A lease that ends further ahead than its length (the clock was
set back) counts as ended. Only its owner can end or renew one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import (
    ColumnElement,
    Interval,
    and_,
    delete,
    func,
    literal,
    select,
    type_coerce,
    update,
)

from gewe_cache.settings import utc_now
from gewe_cache.store.entries import upsert
from gewe_cache.store.tables import UtcDateTime, leases

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

Ending = Literal["landed", "refused", "take_over", "failed"]

_KEPT_AFTER_END = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Lease:
    """What is known of an image's upload.

    Attributes:
        digest: the key of the image.
        owner: the flight that holds or held it.
        running: True while that flight may still be uploading.
        ending, reason: how it ended, or None.
        refusal: the refusal that all waiters share, as JSON of whichever version wrote it; None where there is none.
        last_upload_at: when the image was last given to GeWe to upload, or None.
        clock_ahead: how far the store's clock was ahead of ours when this was read.
    """

    digest: bytes
    owner: str
    running: bool
    ending: Ending | None
    reason: str | None
    refusal: Any
    last_upload_at: datetime | None
    clock_ahead: timedelta


def acquire(
    connection: Connection, digest: bytes, owner: str, length: timedelta, memory: timedelta = timedelta(0)
) -> Lease:
    """Take the lease for ``owner`` if nobody holds it; ``owner`` in what comes back tells who does.

    A flight that ended less than ``memory`` ago with a refusal that all share keeps it as well: who had
    called by then is to learn of it.
    """
    statement = upsert(connection, leases).values(digest=digest, owner=owner, expires_at=_moment(connection, length))
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[leases.c.digest],
            set_={
                "owner": statement.excluded.owner,
                "expires_at": statement.excluded.expires_at,
                "ended_at": None,
                "ending": None,
                "reason": None,
                "refusal": None,
            },
            where=~(_is_running(connection, length) | _is_remembered(connection, memory)),
        )
    )
    lease = peek(connection, digest, length)
    assert lease is not None  # noqa: S101 - just written, in this transaction
    return lease


def peek(connection: Connection, digest: bytes, length: timedelta) -> Lease | None:
    """Read a lease without touching it."""
    row = connection.execute(
        select(
            leases.c.owner,
            leases.c.expires_at,
            leases.c.ending,
            leases.c.reason,
            leases.c.refusal,
            leases.c.last_upload_at,
            _moment(connection).label("now"),
        ).where(leases.c.digest == digest)
    ).one_or_none()
    if row is None:
        return None
    # On SQLite "now" was passed in, and is earlier than a renewal that another process has committed since.
    now = row.now if _has_a_clock(connection) else utc_now()
    return Lease(
        digest=digest,
        owner=row.owner,
        running=row.ending is None and now < row.expires_at <= now + length,
        ending=row.ending,
        reason=row.reason,
        refusal=None if row.refusal is None else _read_refusal(row.refusal),
        last_upload_at=row.last_upload_at,
        clock_ahead=_ahead_of_ours(connection, row.now),
    )


def renew(connection: Connection, owners: Iterable[str], length: timedelta) -> int:
    """Put off the end of these flights' leases.

    Returns:
        How many were still theirs.
    """
    result = connection.execute(
        update(leases)
        .where(leases.c.owner.in_(list(owners)), leases.c.ended_at.is_(None))
        .values(expires_at=_moment(connection, length))
    )
    return result.rowcount


def end(
    connection: Connection,
    digest: bytes,
    owner: str,
    ending: Ending,
    *,
    reason: str = "",
    refusal: dict[str, Any] | None = None,
    uploaded: bool = False,
) -> None:
    """Say how a flight ended. ``uploaded``: GeWe was given the image, whatever came of it."""
    now = _moment(connection)
    values: dict[str, Any] = {
        "ended_at": now,
        "ending": ending,
        "reason": reason,
        "refusal": None if refusal is None else json.dumps(refusal),
    }
    if uploaded:
        values["last_upload_at"] = now
    connection.execute(update(leases).where(_is_own(digest, owner)).values(values))


def remove(connection: Connection, digest: bytes, owner: str) -> None:
    """Remove a lease whose upload has been saved: the entry itself tells the rest."""
    connection.execute(delete(leases).where(_is_own(digest, owner)))


def sweep(connection: Connection) -> int:
    """Remove what no waiter can still be waiting for.

    Returns:
        How many rows went.
    """
    return connection.execute(
        delete(leases).where(leases.c.expires_at < _moment(connection, -_KEPT_AFTER_END))
    ).rowcount


def read_clock(connection: Connection) -> datetime:
    """Give the clock by which leases and the beginnings of uploads are compared."""
    now: datetime = connection.execute(select(_moment(connection))).scalar_one()
    return now


def _read_refusal(text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}


def _ahead_of_ours(connection: Connection, now: datetime) -> timedelta:
    """Tell how far a moment just read is ahead; on SQLite it came from our own clock."""
    return now - utc_now() if _has_a_clock(connection) else timedelta(0)


def _has_a_clock(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _is_own(digest: bytes, owner: str) -> ColumnElement[bool]:
    return and_(leases.c.digest == digest, leases.c.owner == owner)


def _is_running(connection: Connection, length: timedelta) -> ColumnElement[bool]:
    return and_(
        leases.c.ended_at.is_(None),
        leases.c.expires_at > _moment(connection),
        leases.c.expires_at <= _moment(connection, length),
    )


def _is_remembered(connection: Connection, memory: timedelta) -> ColumnElement[bool]:
    return and_(
        leases.c.refusal.is_not(None),
        leases.c.ended_at > _moment(connection, -memory),
        leases.c.ended_at <= _moment(connection),
    )


def _moment(connection: Connection, ahead: timedelta = timedelta(0)) -> ColumnElement[datetime]:
    if _has_a_clock(connection):
        return type_coerce(func.clock_timestamp() + literal(ahead, Interval()), UtcDateTime())
    return literal(utc_now() + ahead, UtcDateTime())
