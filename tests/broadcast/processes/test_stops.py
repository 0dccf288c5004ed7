"""A worker that is stopped past its lanes' expiry and continued, while another one works on (POSIX only)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Delays, Fault, Sandbox
from tests.broadcast.processes.kit import (
    begin,
    check_done,
    delivered,
    ledger,
    named,
    recipients_of,
    until,
    wait_for_the_last,
)
from tests.broadcast.processes.points import IN_A_CALL, POINTS
from tests.broadcast.processes.workers import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECIPIENTS = 12
# From here on its call is out, or goes out without another look at the lane; GeWe has no way to refuse it.
_OUT = ("after the check", "half out", "out")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Give a sandbox whose calls take a moment, so that two of them at once are seen."""
    with Sandbox(delays=Delays(call_seconds=0.01)) as running:
        yield running


def _check_all_sent(sandbox: Sandbox, database: str, broadcast_id: int) -> None:
    wait_for_the_last(sandbox)
    rows = ledger(database, broadcast_id)
    check_done(sandbox, rows)
    assert named(rows, "unknown") == set()


def _check_stopped_at(point: str, sandbox: Sandbox, database: str, url: str) -> None:
    """Stop a worker at its third passage of a point until another one has nothing left to send."""
    broadcast_id = begin(sandbox, database, url, recipients_of(_RECIPIENTS, devices=2))
    with WorkerProcess(sandbox, database) as stopped, WorkerProcess(sandbox, database) as other:
        stopped.arm(point, 3, "SIGSTOP")
        stopped.order("resume", broadcast_id=broadcast_id)
        stopped.wait_stopped()
        meanwhile = other.do("resume", broadcast_id=broadcast_id)
        assert (meanwhile["pending"], meanwhile["sending"]) == (0, 0)
        assert meanwhile["unknown"] <= 2  # one in each lane
        stopped.signal("SIGCONT")
        assert stopped.answer()["sent"] == _RECIPIENTS
    _check_all_sent(sandbox, database, broadcast_id)
    if point not in _OUT:
        assert sandbox.overlaps() == []


if sys.platform != "win32":

    @pytest.mark.parametrize("point", IN_A_CALL)
    def test_at_each_point_of_a_call(sandbox: Sandbox, url: str, shared_database: str, point: str) -> None:
        _check_stopped_at(point, sandbox, shared_database, url)

    @pytest.mark.parametrize("point", [point for point in POINTS if point not in IN_A_CALL])
    def test_at_each_point_of_a_turn(sandbox: Sandbox, url: str, shared_postgres: str, point: str) -> None:
        """A transaction that is left open must not hold up the others. (One on SQLite holds the whole file.)"""
        _check_stopped_at(point, sandbox, shared_postgres, url)

    @pytest.mark.parametrize("point", ["claim written", "before the check"])
    def test_what_was_resent_meanwhile_is_not_sent_once_more(
        sandbox: Sandbox, url: str, shared_database: str, point: str
    ) -> None:
        """It was unknown while its worker was stopped, and the user had it sent again.

        One device: the call of another could be out at that moment, and would rightly arrive twice.
        """
        broadcast_id = begin(sandbox, shared_database, url, recipients_of(_RECIPIENTS, devices=1))
        with WorkerProcess(sandbox, shared_database) as stopped, WorkerProcess(sandbox, shared_database) as other:
            stopped.arm(point, 3, "SIGSTOP")
            stopped.order("resume", broadcast_id=broadcast_id)
            stopped.wait_stopped()
            assert other.do("resume", broadcast_id=broadcast_id)["unknown"] > 0
            assert other.do("resume", broadcast_id=broadcast_id, resend_unknown=True)["sent"] == _RECIPIENTS
            stopped.signal("SIGCONT")
            assert stopped.answer()["sent"] == _RECIPIENTS
        _check_all_sent(sandbox, shared_database, broadcast_id)

    def test_what_is_still_out_keeps_its_worker_from_the_device(
        sandbox: Sandbox, url: str, shared_database: str
    ) -> None:
        """Its lane is another worker's by now: it must not enter it, or give it up, because of that old call."""
        broadcast_id = begin(sandbox, shared_database, url, recipients_of(40, devices=1))
        with WorkerProcess(sandbox, shared_database) as stopped, WorkerProcess(sandbox, shared_database) as other:
            plan = sandbox.fail(Fault.hold(), to_wxid="wxid_2")
            stopped.order("resume", broadcast_id=broadcast_id, pause=0.03)
            plan.wait_reached(60)
            stopped.signal("SIGSTOP")
            stopped.wait_stopped()
            other.order("resume", broadcast_id=broadcast_id, pause=0.03)
            until(lambda: len(delivered(sandbox)) > 4)
            stopped.signal("SIGCONT")
            assert other.answer()["unknown"] == 1
            plan.release()
            assert stopped.answer()["sent"] == 40
        _check_all_sent(sandbox, shared_database, broadcast_id)
        assert {earlier.to_wxid for earlier, _ in sandbox.overlaps()} == {"wxid_2"}
