"""Turns at the ledger, one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gewe_cache import Pace
from gewe_cache.store.ledger import make_lanes, take_turn

if TYPE_CHECKING:
    from gewe_cache.store.ledger import Turn, Worker
    from tests.broadcast.kit import Bench


def turn_of(bench: Bench, worker: Worker, *, room: int = 1, busy: tuple[str, ...] = (), tend: bool = False) -> Turn:
    with bench.database.writer.begin() as connection:
        return take_turn(connection, worker, bench.clock.now(), [], room=room, stopped=[], busy=busy, tend=tend)


def test_a_worker_gets_no_more_of_a_device_while_a_call_of_its_own_is_out(bench: Bench) -> None:
    """Though that lane has expired, and another worker has settled it."""
    worker = bench.opened._worker(bench.begin(["wxid_a", "wxid_b"]), Pace.none())
    with bench.database.writer.begin() as connection:
        make_lanes(connection, worker, bench.clock.now())
    assert [claim.to_wxid for claim in turn_of(bench, worker).claims] == ["wxid_a"]
    bench.clock.advance(60)
    turn_of(bench, replace(worker, name="another"), room=0, tend=True)
    assert turn_of(bench, worker, busy=(bench.sandbox.app_id,)).claims == ()
    assert [claim.to_wxid for claim in turn_of(bench, worker).claims] == ["wxid_b"]
