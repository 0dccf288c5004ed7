"""One turn of a worker at the ledger, by the ledger's clock: what it does in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gewe_cache.store import leases, ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from gewe_cache.broadcast.clock import Clock
    from gewe_cache.store.ledger import Ended, Turn, Worker


def take(  # noqa: PLR0913 - what a turn is about
    connection: Connection,
    *,
    worker: Worker,
    clock: Clock,
    ended: Sequence[Ended],
    sending: frozenset[int],
    room: int,
    stopped: Sequence[str],
    busy: frozenset[str],
    is_first: bool,
    is_back: bool,
    tend: bool,
) -> Turn:
    """Take a turn; after one whose answer was lost, what was claimed without our knowing is given back first."""
    now = leases.read_clock(connection) if connection.dialect.name == "postgresql" else clock.now()
    if is_first:
        ledger.make_lanes(connection, worker, now)
    if is_back:
        ledger.take_back(connection, worker, sending.union(each.claim.number for each in ended))
    return ledger.take_turn(connection, worker, now, ended, room=room, stopped=stopped, busy=busy, tend=tend)
