"""Ctrl-C, a cancelled task and a cancelled broadcast: what is out finishes and is written down, nothing more begins."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from gewe_cache import AsyncImageSender, Pace
from gewe_cache.sandbox import Fault
from gewe_cache.store import broadcasts
from gewe_cache.store.engine import open_database
from tests.broadcast.processes.kit import (
    PATIENCE,
    SCOPE,
    begin,
    counted,
    delivered,
    ledger,
    named,
    open_sender,
    recipients_of,
    until,
)
from tests.broadcast.processes.workers import WorkerProcess

if TYPE_CHECKING:
    from gewe_cache.sandbox import Plan, Sandbox

_DEVICES = 4
_RECIPIENTS = recipients_of(12, _DEVICES)
# The last device is kept busy by a single send: what the broadcast has claimed there waits for its call.
_OUT = {to_wxid for app_id, to_wxid in _RECIPIENTS[: _DEVICES - 1]}
_BUSY = f"wx_sandbox_{_DEVICES - 1}"


def _keep_busy(sandbox: Sandbox, worker: WorkerProcess, url: str) -> Plan:
    plan = sandbox.fail(Fault.hold(), to_wxid="wxid_single")
    worker.order("send", to="wxid_single", url=url, device=_BUSY)
    plan.wait_reached(PATIENCE)
    return plan


def _prime(sandbox: Sandbox, database: str, url: str) -> None:
    with open_sender(sandbox, database) as sender:
        sender.send_image("wxid_prime", url, app_id="wx_sandbox_prime")


def _check_left(sandbox: Sandbox, database: str, broadcast_id: int) -> None:
    """Hold that those whose calls were out have the image, and all others wait."""
    rows = ledger(database, broadcast_id)
    assert named(rows, "sent") == _OUT
    assert counted(rows) == {"sent": len(_OUT), "pending": len(_RECIPIENTS) - len(_OUT)}
    assert delivered(sandbox).keys() - {"wxid_prime", "wxid_single"} == _OUT
    assert sandbox.duplicates() == []


def _check_goes_on(sandbox: Sandbox, database: str, broadcast_id: int) -> None:
    with WorkerProcess(sandbox, database) as worker:
        assert worker.do("resume", broadcast_id=broadcast_id)["sent"] == len(_RECIPIENTS)
    assert sandbox.duplicates() == []


def _held(sandbox: Sandbox, *, delivered_first: bool = False) -> Plan:
    return sandbox.fail(Fault.hold(delivered_first=delivered_first), times=_DEVICES - 1)


def test_cancelled_by_another_process(sandbox: Sandbox, url: str, shared_database: str) -> None:
    _prime(sandbox, shared_database, url)
    broadcast_id = begin(sandbox, shared_database, url, _RECIPIENTS)
    with WorkerProcess(sandbox, shared_database) as worker:
        single = _keep_busy(sandbox, worker, url)
        plan = _held(sandbox)
        worker.order("announce")
        worker.order("resume", broadcast_id=broadcast_id)
        plan.wait_reached(PATIENCE, count=_DEVICES - 1)
        until(lambda: counted(ledger(shared_database, broadcast_id)).get("sending") == _DEVICES)
        database = open_database(shared_database)
        with database.writer.begin() as connection:
            assert broadcasts.cancel(connection, broadcast_id)
        database.dispose()
        assert worker.answer() == "stopping"
        plan.release()
        single.release()
        assert worker.answer()["sent"] == len(_OUT)
        assert worker.leave() == ""
    _check_left(sandbox, shared_database, broadcast_id)


@pytest.mark.parametrize("cancels", [1, 2])
async def test_a_cancelled_task(sandbox: Sandbox, url: str, shared_database: str, cancels: int) -> None:
    _prime(sandbox, shared_database, url)
    async with AsyncImageSender(
        sandbox.token, base_url=sandbox.base_url, database=shared_database, scope=SCOPE, timeout=PATIENCE
    ) as sender:
        busy = sandbox.fail(Fault.hold(), to_wxid="wxid_single")
        single = asyncio.create_task(sender.send_image("wxid_single", url, app_id=_BUSY))
        await asyncio.to_thread(busy.wait_reached, PATIENCE)
        plan = _held(sandbox, delivered_first=True)
        working = asyncio.create_task(sender.broadcast(url, _RECIPIENTS, pace=Pace.none()))
        await asyncio.to_thread(plan.wait_reached, PATIENCE, _DEVICES - 1)
        await asyncio.to_thread(until, lambda: counted(ledger(shared_database, 1)).get("sending") == _DEVICES)
        working.cancel()
        await asyncio.wait([working], timeout=0.05)
        assert not working.done()
        if cancels == 2:
            working.cancel()
            await asyncio.wait([working], timeout=PATIENCE)
            assert working.done()
        plan.release()
        busy.release()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert (await single).route == "forward"
    _check_left(sandbox, shared_database, 1)
    _check_goes_on(sandbox, shared_database, 1)


def _check_unknown(sandbox: Sandbox, database: str, broadcast_id: int) -> None:
    """Hold that what was out when its worker ended at once is unknown, and the rest is sent by the next."""
    with WorkerProcess(sandbox, database) as worker:
        answer = worker.do("resume", broadcast_id=broadcast_id)
    rows = ledger(database, broadcast_id)
    assert named(rows, "sent") <= delivered(sandbox).keys()
    assert delivered(sandbox).keys() - {"wxid_prime", "wxid_single"} <= named(rows, "sent", "unknown")
    assert sandbox.duplicates() == []
    assert _DEVICES - 1 <= len(named(rows, "unknown")) <= _DEVICES
    assert answer["sent"] + answer["unknown"] == len(_RECIPIENTS)


if sys.platform != "win32":

    def test_ctrl_c(sandbox: Sandbox, url: str, shared_database: str) -> None:
        _prime(sandbox, shared_database, url)
        with WorkerProcess(sandbox, shared_database) as worker:
            single = _keep_busy(sandbox, worker, url)
            plan = _held(sandbox)
            worker.order("announce")
            worker.order("broadcast", url=url, recipients=_RECIPIENTS)
            plan.wait_reached(PATIENCE, count=_DEVICES - 1)
            until(lambda: counted(ledger(shared_database, 1)).get("sending") == _DEVICES)
            worker.interrupt()
            assert worker.answer() == "stopping"
            plan.release()
            single.release()
            assert worker.answer()["error"] == "KeyboardInterrupt"
            assert worker.leave() == ""
        _check_left(sandbox, shared_database, 1)
        _check_goes_on(sandbox, shared_database, 1)

    @pytest.mark.parametrize("point", ["idle", "answered", "accepted", "noted"])
    def test_ctrl_c_twice(sandbox: Sandbox, url: str, shared_file: str, point: str) -> None:
        """The second one comes while it waits for answers, or right when it deals with one."""
        _prime(sandbox, shared_file, url)
        with WorkerProcess(sandbox, shared_file) as worker:
            first = sandbox.fail(Fault.hold(delivered_first=True), to_wxid=_RECIPIENTS[0][1])
            plan = sandbox.fail(Fault.hold(delivered_first=True), times=_DEVICES - 1)
            worker.order("announce")
            if point != "idle":
                worker.arm(point, 1, "SIGINT")
            worker.order("broadcast", url=url, recipients=_RECIPIENTS)
            first.wait_reached(PATIENCE)
            plan.wait_reached(PATIENCE, count=_DEVICES - 1)
            worker.interrupt()
            assert worker.answer() == "stopping"
            if point == "idle":
                worker.interrupt()
            else:
                first.release()
            assert worker.answer()["error"] == "KeyboardInterrupt"
            assert worker.leave() == ""
        plan.release()
        _check_unknown(sandbox, shared_file, 1)
