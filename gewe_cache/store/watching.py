"""What goes on just now, for who only watches: which broadcasts are being sent, and what went wrong lately."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, func, select

from gewe_cache.store.broadcasts import Delivery, delivery_of
from gewe_cache.store.ledger import is_live
from gewe_cache.store.tables import broadcasts, deliveries, lanes

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

_LATEST = 20


def unfinished_ids(connection: Connection, limit: int) -> list[int]:
    """Give the latest open broadcasts of which something is still to be sent."""
    waits = exists().where(deliveries.c.broadcast_id == broadcasts.c.id, deliveries.c.state.in_(("pending", "sending")))
    statement = select(broadcasts.c.id).where(broadcasts.c.state == "open", waits)
    return [*connection.scalars(statement.order_by(broadcasts.c.id.desc()).limit(limit))]


def is_worked_on(connection: Connection, broadcast_id: int, now: datetime, lane_length: timedelta) -> bool:
    """Tell whether a worker that has sent of a broadcast holds a lane of it."""
    statement = select(
        exists().where(
            is_live(now, lane_length),
            deliveries.c.broadcast_id == broadcast_id,
            deliveries.c.state != "pending",
            deliveries.c.app_id == lanes.c.app_id,
            deliveries.c.worker == lanes.c.worker,
        )
    )
    return bool(connection.scalar(statement))


def latest_troubles(connection: Connection, limit: int) -> list[Delivery]:
    """Give what was refused, or is unknown, of the latest broadcasts, the newest first."""
    latest = [*connection.scalars(select(broadcasts.c.id).order_by(broadcasts.c.id.desc()).limit(_LATEST))]
    statement = (
        select(deliveries, deliveries.c.state.label("shown_state"))
        .where(deliveries.c.broadcast_id.in_(latest), deliveries.c.state.in_(("refused", "unknown")))
        .order_by(func.coalesce(deliveries.c.ended_at, deliveries.c.started_at).desc())
        .limit(limit)
    )
    return [delivery_of(row) for row in connection.execute(statement)]
