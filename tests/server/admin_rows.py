"""Rows for the tests of the admin page."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from gewe_cache.broadcast.pace import Pace
from gewe_cache.store.leases import read_clock
from gewe_cache.store.tables import broadcasts, deliveries, lanes

if TYPE_CHECKING:
    from gewe_cache.store.engine import Database

WORKER = "worker-1"
HOSTILE = """https://h/"><script>alert('1')</script><img src=x onerror="alert(2)">'&lt;\u202e{{ 7919*7907 }}"""


def add_broadcast(
    database: Database, states: list[str], url: str = "https://example.com/poster.png", **about: Any
) -> int:
    """Make a broadcast with a delivery for each state; what is not pending was begun by ``WORKER``."""
    with database.writer.begin() as connection:
        now = read_clock(connection)
        row = {"state": "open", "created_at": now, "base_url": "http://h/v2/api", "scope": "one", "url": url}
        made = connection.execute(
            insert(broadcasts).values({**row, "pace": Pace.gewe().to_json(), "url_digest": b"x" * 32, **about})
        )
        assert made.inserted_primary_key is not None
        broadcast_id = int(made.inserted_primary_key[0])
        for number, state in enumerate(states, 1):
            connection.execute(insert(deliveries).values(_delivery(broadcast_id, number, state, now)))
    return broadcast_id


def hold_lane(database: Database, app_id: str = "wx_1", seconds: float = 15) -> None:
    """Hold a device's lane, as a worker does that sends."""
    with database.writer.begin() as connection:
        now = read_clock(connection)
        held = {"worker": WORKER, "expires_at": now + timedelta(seconds=seconds), "ready_at": now, "recent": "[]"}
        connection.execute(insert(lanes).values({"host": "h", "app_id": app_id, **held}))


def _delivery(broadcast_id: int, number: int, state: str, now: Any) -> dict[str, Any]:
    begun = {} if state == "pending" else {"worker": WORKER, "started_at": now, "ended_at": now}
    return {
        "broadcast_id": broadcast_id,
        "number": number,
        "app_id": "wx_1",
        "to_wxid": f"wxid_{number}",
        "is_group": False,
        "state": state,
        "reason": "refused: 你已不在群聊中" if state == "refused" else None,
        "route": "forward" if state == "sent" else None,
        **begun,
    }
