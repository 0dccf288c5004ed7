"""What the tests of broadcasts in many processes share: how one is begun, its ledger, and what must hold of it."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from gewe_cache import ImageSender, Pace
from gewe_cache.broadcast.recipients import from_items
from gewe_cache.broadcast.service import broadcasts_of
from gewe_cache.image import as_image
from gewe_cache.settings import Tuning
from gewe_cache.store.engine import open_database
from gewe_cache.store.tables import broadcasts, deliveries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Row

    from gewe_cache.sandbox import Sandbox

PATIENCE = 60.0
SCOPE = "broadcasts"
TUNING: dict[str, Any] = {
    "lease_seconds": 1.0,
    "lease_renewal": 0.2,
    "lease_poll": 0.02,
    "unreached_pauses": [0.01],
    "database_timeout": 2.0,
    "usage_interval": 600.0,
}
_LOOK_AGAIN = 0.005


def recipients_of(count: int, devices: int = 10) -> list[tuple[str, str]]:
    """Give friends and groups of several devices, in turn."""
    names = (f"{number}@chatroom" if number % 2 else f"wxid_{number}" for number in range(count))
    return [(f"wx_sandbox_{number % devices}", name) for number, name in enumerate(names)]


def open_sender(sandbox: Sandbox, database: str, **tuning: Any) -> ImageSender:
    """Make a sender of this process."""
    chosen = Tuning(**{**TUNING, **tuning})
    return ImageSender(
        sandbox.token, base_url=sandbox.base_url, database=database, scope=SCOPE, timeout=PATIENCE, _tuning=chosen
    )


def begin(sandbox: Sandbox, database: str, url: str, recipients: Sequence[tuple[str, str]]) -> int:
    """Write a broadcast down and let it be sent; give its id."""
    with open_sender(sandbox, database) as sender, broadcasts_of(sender._core) as opened:
        plan = opened.prepare(as_image(url), from_items(recipients, None), Pace.none())
        opened.open(plan)
        return plan.broadcast_id


def ledger(database: str, broadcast_id: int) -> Sequence[Row[Any]]:
    """Give the ledger's rows."""
    opened = open_database(database)
    try:
        with opened.reader.connect() as connection:
            return connection.execute(select(deliveries).where(deliveries.c.broadcast_id == broadcast_id)).all()
    finally:
        opened.dispose()


def count_broadcasts(database: str) -> int | None:
    """Count the broadcasts, begun or not."""
    opened = open_database(database)
    try:
        with opened.reader.connect() as connection:
            return connection.scalar(select(func.count()).select_from(broadcasts))
    finally:
        opened.dispose()


def named(rows: Sequence[Row[Any]], *states: str) -> set[str]:
    """Give the recipients that are in one of these states."""
    return {row.to_wxid for row in rows if row.state in states}


def counted(rows: Sequence[Row[Any]]) -> dict[str, int]:
    """Count the recipients in each state."""
    return dict(Counter(row.state for row in rows))


def delivered(sandbox: Sandbox) -> Counter[str]:
    """Tell who got the image, and how often."""
    return Counter(delivery.to_wxid for delivery in sandbox.deliveries)


def check_honest(sandbox: Sandbox, rows: Sequence[Row[Any]]) -> None:
    """Hold that the ledger claims no delivery too many and misses none, and that nothing came twice."""
    got = delivered(sandbox)
    assert sandbox.duplicates() == []
    assert named(rows, "sent") <= got.keys()
    assert got.keys() <= named(rows, "sent", "unknown")


def check_done(sandbox: Sandbox, rows: Sequence[Row[Any]]) -> None:
    """Hold that everything has been tried, and the ledger is honest."""
    assert named(rows, "pending", "sending", "refused") == set()
    check_honest(sandbox, rows)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what is certain to come; fail where it does not."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(_LOOK_AGAIN)


def wait_for_the_last(sandbox: Sandbox) -> None:
    """Wait until every call that arrived has been processed."""
    until(lambda: all(call.ended_at is not None for call in sandbox.calls))
