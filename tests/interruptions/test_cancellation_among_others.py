"""Sends that are cancelled in a flight, in a lane: nobody else is affected."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gewe_cache.sandbox import Fault
from gewe_cache.sending.lanes import Ticket
from tests.concurrency.crews import queued, waiters
from tests.interruptions.cancelling import begin, cancel, close, reached
from tests.interruptions.kit import Gate, check_record, saved_files, until

if TYPE_CHECKING:
    from gewe_cache import AsyncImageSender
    from gewe_cache.sandbox import Sandbox


async def test_a_leader_takes_no_waiter_along(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, shared_database: str
) -> None:
    plan = sandbox.fail(Fault.hold())
    leader = begin(sender, "leader", url)
    await reached(plan)
    others = [begin(sender, f"{n}", url, 2 + n) for n in range(5)]
    await until(lambda: waiters(sender._core.parts) == 5)
    await cancel(leader, *others[::2])
    plan.release()
    assert [(await other).route for other in others[1::2]] == ["forward"] * 2
    await close(sender)
    assert len(saved_files(shared_database)) == 1
    check_record(sandbox, "wxid_leader", "wxid_1", "wxid_3")


async def test_every_waiter_and_the_leader(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    plan = sandbox.fail(Fault.hold())
    leader = begin(sender, "leader", url)
    await reached(plan)
    others = [begin(sender, f"{n}", url, 2 + n) for n in range(5)]
    await until(lambda: waiters(sender._core.parts) == 5)
    await cancel(*others, leader)
    late = begin(sender, "late", url, 9)
    await until(lambda: waiters(sender._core.parts) == 1)
    plan.release()
    assert (await late).route == "forward"
    await close(sender)
    check_record(sandbox, "wxid_leader", "wxid_late")


async def test_in_a_lane(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    """Those behind it have their turns, in order."""
    plan = sandbox.fail(Fault.hold())
    busy = begin(sender, "busy", sandbox.make_image("other.png"))
    await reached(plan)
    queue = []
    for name in ("gone", "next", "gone_too", "last"):
        queue.append(begin(sender, name, url))
        await until(lambda: queued(sender._core.parts, "wx_sandbox_1") == len(queue))
    gone, next_one, gone_too, last = queue
    await cancel(gone, gone_too)
    plan.release()
    assert [(await send).route for send in (busy, next_one, last)] == ["upload", "upload", "forward"]
    check_record(sandbox, "wxid_busy", "wxid_next", "wxid_last")
    assert sandbox.overlaps() == []


async def test_in_a_lane_whose_turn_has_just_come(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    """The turn is given to a task that is cancelled before it runs again: it passes it on."""
    parts = sender._core.parts
    holder = Ticket("wx_sandbox_1")
    assert parts.lanes.enter(holder, 10) is None
    gone, last = begin(sender, "gone", url), begin(sender, "last", url)
    await until(lambda: queued(parts, "wx_sandbox_1") == 2)
    parts.lanes.leave(holder)
    await cancel(gone)
    assert (await last).route == "upload"
    check_record(sandbox, "wxid_last")


async def test_a_waiter_whose_flight_has_just_landed(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    gate = Gate(sender, "save")
    leader = begin(sender, "leader", url)
    await gate.wait_reached()
    gone, last = begin(sender, "gone", url, 2), begin(sender, "last", url, 3)
    await until(lambda: waiters(sender._core.parts) == 2)
    landed = sender._core.parts.flights.watch(next(iter(sender._core.parts.flights._in_the_air)))
    assert landed is not None
    landed.add_done_callback(lambda _: gone.cancel())
    gate.open()
    assert [(await leader).route, (await last).route] == ["upload", "forward"]
    await asyncio.wait([gone])
    assert gone.cancelled()
    await close(sender)
    check_record(sandbox, "wxid_leader", "wxid_last")
