"""Clocks that are set back or forward, single sends beside a broadcast, and many workers with a cold cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from gewe_cache import Pace
from gewe_cache.sandbox import Delays, Sandbox
from tests.broadcast.processes.kit import (
    begin,
    check_done,
    counted,
    delivered,
    ledger,
    open_sender,
    recipients_of,
    until,
    wait_for_the_last,
)
from tests.broadcast.processes.workers import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOUR = 3600.0
_DEVICES = 3
_RECIPIENTS = 60
_SINGLES = 40


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Give a sandbox whose calls take a moment, so that two of them at once are seen."""
    with Sandbox(delays=Delays(call_seconds=0.01)) as running:
        yield running


def _check_all(sandbox: Sandbox, database: str, broadcast_id: int, *, unknown: int) -> None:
    wait_for_the_last(sandbox)
    rows = ledger(database, broadcast_id)
    check_done(sandbox, rows)
    assert counted(rows).get("unknown", 0) <= unknown


@pytest.mark.parametrize("ahead", [(_HOUR, 0.0), (0.0, _HOUR)], ids=["back", "forward"])
def test_set_between_a_kill_and_the_resume(
    sandbox: Sandbox, url: str, shared_database: str, ahead: tuple[float, float]
) -> None:
    broadcast_id = begin(sandbox, shared_database, url, recipients_of(_RECIPIENTS, _DEVICES))
    before, after = ahead
    with WorkerProcess(sandbox, shared_database, lane_seconds=15.0) as killed:
        killed.order("shift", seconds=before)
        killed.arm("out", 10)
        killed.order("resume", broadcast_id=broadcast_id, pause=0.02)
        killed.wait_killed()
    with WorkerProcess(sandbox, shared_database) as worker:
        worker.order("shift", seconds=after)
        assert worker.do("resume", broadcast_id=broadcast_id)["pending"] == 0
    _check_all(sandbox, shared_database, broadcast_id, unknown=_DEVICES)


def test_set_again_and_again_under_two_workers(sandbox: Sandbox, url: str, shared_database: str) -> None:
    broadcast_id = begin(sandbox, shared_database, url, recipients_of(_RECIPIENTS, _DEVICES))
    with WorkerProcess(sandbox, shared_database) as one, WorkerProcess(sandbox, shared_database) as other:
        for worker in (one, other):
            worker.order("resume", broadcast_id=broadcast_id, pause=0.02)
        for step, seconds in enumerate((_HOUR, -_HOUR, 0.0, _HOUR, -_HOUR), 1):
            until(lambda enough=8 * step: len(delivered(sandbox)) >= enough)  # type: ignore[misc]
            for worker in (one, other):
                worker.order("shift", seconds=seconds)
        assert [worker.answer()["pending"] for worker in (one, other)] == [0, 0]
    _check_all(sandbox, shared_database, broadcast_id, unknown=0)


def test_clocks_that_differ_by_an_hour(sandbox: Sandbox, url: str, shared_database: str) -> None:
    """On SQLite each takes the other for lost; still nobody gets the image twice, and both come to an end."""
    broadcast_id = begin(sandbox, shared_database, url, recipients_of(_RECIPIENTS, _DEVICES))
    with WorkerProcess(sandbox, shared_database) as one, WorkerProcess(sandbox, shared_database) as ahead:
        ahead.order("shift", seconds=_HOUR)
        for worker in (one, ahead):
            worker.order("resume", broadcast_id=broadcast_id)
        assert [worker.answer()["pending"] for worker in (one, ahead)] == [0, 0]
    _check_all(sandbox, shared_database, broadcast_id, unknown=0)


def test_single_sends_queue_in_the_same_lane(sandbox: Sandbox, url: str, shared_database: str) -> None:
    recipients = recipients_of(_RECIPIENTS, _DEVICES)
    with open_sender(sandbox, shared_database) as sender, ThreadPoolExecutor(8) as threads:
        working = threads.submit(sender.broadcast, url, recipients, pace=Pace.none())
        singles = [
            threads.submit(sender.send_image, f"wxid_single_{number}", url, app_id=f"wx_sandbox_{number % _DEVICES}")
            for number in range(_SINGLES)
        ]
        assert working.result().sent == _RECIPIENTS
        assert len({single.result().new_msg_id for single in singles}) == _SINGLES
    assert sandbox.overlaps() == []
    assert sandbox.duplicates() == []
    assert len(delivered(sandbox)) == _RECIPIENTS + _SINGLES
    assert len(sandbox.uploads) == 1


def test_four_workers_with_a_cold_cache_upload_once(sandbox: Sandbox, url: str, shared_postgres: str) -> None:
    broadcast_id = begin(sandbox, shared_postgres, url, recipients_of(200, devices=20))
    with ExitStack() as stack:
        workers = [stack.enter_context(WorkerProcess(sandbox, shared_postgres)) for _ in range(4)]
        for worker in workers:
            worker.order("resume", broadcast_id=broadcast_id)
        assert [worker.answer()["sent"] for worker in workers] == [200] * 4
    assert len(sandbox.uploads) == 1
    assert sandbox.overlaps() == []
    _check_all(sandbox, shared_postgres, broadcast_id, unknown=0)
