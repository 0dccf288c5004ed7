"""A send that is cancelled: the caller goes at once, what is out is finished, and nobody else is affected."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from gewe_cache import AsyncImageSender
from gewe_cache.sandbox import Fault
from gewe_cache.sending.lanes import Ticket
from tests.concurrency.crews import held, queued, waiters
from tests.interruptions.kit import (
    PATIENCE,
    Gate,
    check_record,
    is_idle,
    running_leases,
    saved_files,
    settings,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gewe_cache import SentImage
    from gewe_cache.sandbox import Plan, Sandbox

_AT_ONCE = 2.0
_REFUSAL = {"msg": "?"}


@pytest_asyncio.fixture
async def sender(sandbox: Sandbox, shared_database: str) -> AsyncIterator[AsyncImageSender]:
    """Give a sender whose loop has nothing to complain of, and which is idle in the end."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    made = AsyncImageSender(**settings(sandbox, shared_database))
    await made.lookup("http://example.com/nothing.png")
    yield made
    sandbox.heal()
    async with asyncio.timeout(PATIENCE):
        await made.aclose()
    assert is_idle(made._core.parts)
    assert running_leases(shared_database) == 0
    assert complaints == []


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Collect our own warnings."""
    caplog.set_level(logging.WARNING, logger="gewe_cache")
    return caplog


def _begin(sender: AsyncImageSender, to: str, url: str, device: int = 1, **options: Any) -> asyncio.Task[SentImage]:
    sending = sender.send_image(f"wxid_{to}", url, app_id=f"wx_sandbox_{device}", **options)
    return asyncio.get_running_loop().create_task(sending)


async def _reached(plan: Plan) -> None:
    await asyncio.to_thread(plan.wait_reached)


async def _cancel(*sends: asyncio.Task[SentImage]) -> None:
    """Cancel sends, whose callers get ``CancelledError`` at once."""
    began = time.monotonic()
    for send in sends:
        assert send.cancel()
    await asyncio.wait(sends, timeout=PATIENCE)
    assert all(send.cancelled() for send in sends)
    assert time.monotonic() - began < _AT_ONCE


async def _close(sender: AsyncImageSender) -> None:
    async with asyncio.timeout(PATIENCE):
        await sender.aclose()


def _lines(log: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [line for line in log.messages if words in line]


# --- before, during, after its call ------------------------------------------------------------------------


async def test_before_it_has_begun(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    await _cancel(_begin(sender, "gone", url))
    await _close(sender)
    assert sandbox.calls == []


@pytest.mark.parametrize("delivered_first", [False, True])
async def test_during_its_upload(
    sender: AsyncImageSender,
    sandbox: Sandbox,
    url: str,
    shared_database: str,
    log: pytest.LogCaptureFixture,
    *,
    delivered_first: bool,
) -> None:
    plan = sandbox.fail(Fault.hold(delivered_first=delivered_first))
    send = _begin(sender, "gone", url)
    await _reached(plan)
    await _cancel(send)
    closing = asyncio.create_task(_close(sender))
    await asyncio.wait([closing], timeout=0.1)
    assert not closing.done()  # it waits for the call that is out
    plan.release()
    await closing
    assert saved_files(shared_database) == [sandbox.uploads[0].file_id]
    (line,) = _lines(log, "whose caller has left was accepted: upload to wxid_gone from device wx_sandbox_1")
    assert str(sandbox.uploads[0].new_msg_id) in line
    check_record(sandbox, "wxid_gone")


async def test_during_its_forward(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, log: pytest.LogCaptureFixture
) -> None:
    await _begin(sender, "first", url)
    plan = sandbox.fail(Fault.hold())
    send = _begin(sender, "gone", url)
    await _reached(plan)
    await _cancel(send)
    plan.release()
    await _close(sender)
    assert _lines(log, "whose caller has left was accepted: forward to wxid_gone")
    assert (await sender.stats()).forwards == 1
    check_record(sandbox, "wxid_first", "wxid_gone")


async def test_during_a_call_that_ends_unknown(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, log: pytest.LogCaptureFixture
) -> None:
    plan = sandbox.fail(Fault.hang(delivered=True))
    send = _begin(sender, "gone", url)
    await _reached(plan)
    await _cancel(send)
    plan.release()
    await _close(sender)
    assert len(_lines(log, "unknown: the upload")) == 1
    assert (await sender.stats()).unknowns == 1
    check_record(sandbox, "wxid_gone")


@pytest.mark.parametrize("after", [False, True])
async def test_after_its_call_while_it_is_saved(
    sender: AsyncImageSender,
    sandbox: Sandbox,
    url: str,
    shared_database: str,
    log: pytest.LogCaptureFixture,
    *,
    after: bool,
) -> None:
    gate = Gate(sender, "save", after=after)
    send = _begin(sender, "gone", url)
    await gate.wait_reached()
    await _cancel(send)
    gate.open()
    await _close(sender)
    assert len(saved_files(shared_database)) == 1
    assert _lines(log, "whose caller has left was accepted: upload")
    check_record(sandbox, "wxid_gone")


async def test_after_it_has_ended(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    send = _begin(sender, "first", url)
    await send
    assert not send.cancel()
    assert (await _begin(sender, "second", url)).route == "forward"
    check_record(sandbox, "wxid_first", "wxid_second")


async def test_in_a_store_step_before_its_call(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    """The leader has its lease by then: it makes no call, lets go of it, and its waiter leads."""
    gate = Gate(sender, "lease")
    leader = _begin(sender, "gone", url, 1)
    await gate.wait_reached()
    waiter = _begin(sender, "waiter", url, 2)
    await until(lambda: waiters(sender._core.parts) == 1)
    await _cancel(leader)
    gate.open()
    assert (await waiter).route == "upload"
    await _close(sender)
    check_record(sandbox, "wxid_waiter")


async def test_in_a_pause_before_it_tries_again(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    object.__setattr__(sender._core.settings.tuning, "unreached_pauses", (PATIENCE,))
    sandbox.stop()
    send = _begin(sender, "gone", url)
    parts = sender._core.parts
    await until(lambda: bool(parts.flights._in_the_air))
    await asyncio.wait([send], timeout=0.2)
    await _cancel(send)
    sandbox.start()
    await _close(sender)
    assert sandbox.calls == []


async def test_twice(sender: AsyncImageSender, sandbox: Sandbox, url: str, log: pytest.LogCaptureFixture) -> None:
    plan = sandbox.fail(Fault.hold())
    send = _begin(sender, "gone", url)
    await _reached(plan)
    send.cancel()
    send.cancel()
    await asyncio.sleep(0)
    send.cancel()
    await asyncio.wait([send])
    assert send.cancelled()
    plan.release()
    await _close(sender)
    assert _lines(log, "whose caller has left was accepted: upload")
    check_record(sandbox, "wxid_gone")


# --- by a time-out, by a group of tasks --------------------------------------------------------------------


async def test_by_a_time_out(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    plan = sandbox.fail(Fault.hold())
    deadline = asyncio.timeout(None)

    async def expire() -> None:
        await _reached(plan)
        deadline.reschedule(0)

    expiring = asyncio.create_task(expire())
    with pytest.raises(TimeoutError):
        async with deadline:
            await sender.send_image("wxid_gone", url)
    await expiring
    plan.release()
    assert (await _begin(sender, "second", url)).route == "forward"
    check_record(sandbox, "wxid_gone", "wxid_second")


async def test_by_a_group_of_tasks(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    """One of the group fails: the leader and its waiters are cancelled, those of others go on."""
    plan = sandbox.fail(Fault.hold())
    others: list[asyncio.Task[SentImage]] = []

    async def fail() -> None:
        await _reached(plan)
        others.extend(_begin(sender, f"other{n}", url, 10 + n) for n in range(3))
        await until(lambda: waiters(sender._core.parts) == 6)
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group is what raises
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(sender.send_image("wxid_leader", url))
            await _reached(plan)
            for n in range(3):
                group.create_task(sender.send_image(f"wxid_{n}", url, app_id=f"wx_sandbox_{2 + n}"))
    assert caught.group_contains(ZeroDivisionError)
    plan.release()
    assert [(await other).route for other in others] == ["forward"] * 3
    await _close(sender)
    check_record(sandbox, "wxid_leader", "wxid_other0", "wxid_other1", "wxid_other2")


# --- leaders and waiters -----------------------------------------------------------------------------------


async def test_a_leader_takes_no_waiter_along(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, shared_database: str
) -> None:
    plan = sandbox.fail(Fault.hold())
    leader = _begin(sender, "leader", url)
    await _reached(plan)
    others = [_begin(sender, f"{n}", url, 2 + n) for n in range(5)]
    await until(lambda: waiters(sender._core.parts) == 5)
    await _cancel(leader, *others[::2])
    plan.release()
    assert [(await other).route for other in others[1::2]] == ["forward"] * 2
    await _close(sender)
    assert len(saved_files(shared_database)) == 1
    check_record(sandbox, "wxid_leader", "wxid_1", "wxid_3")


async def test_every_waiter_and_the_leader(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    plan = sandbox.fail(Fault.hold())
    leader = _begin(sender, "leader", url)
    await _reached(plan)
    others = [_begin(sender, f"{n}", url, 2 + n) for n in range(5)]
    await until(lambda: waiters(sender._core.parts) == 5)
    await _cancel(*others, leader)
    late = _begin(sender, "late", url, 9)
    await until(lambda: waiters(sender._core.parts) == 1)
    plan.release()
    assert (await late).route == "forward"
    await _close(sender)
    check_record(sandbox, "wxid_leader", "wxid_late")


async def test_in_a_lane(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    """Those behind it have their turns, in order."""
    plan = sandbox.fail(Fault.hold())
    busy = _begin(sender, "busy", sandbox.make_image("other.png"))
    await _reached(plan)
    queue = []
    for name in ("gone", "next", "gone_too", "last"):
        queue.append(_begin(sender, name, url))
        await until(lambda: queued(sender._core.parts, "wx_sandbox_1") == len(queue))
    gone, next_one, gone_too, last = queue
    await _cancel(gone, gone_too)
    plan.release()
    assert [(await send).route for send in (busy, next_one, last)] == ["upload", "upload", "forward"]
    check_record(sandbox, "wxid_busy", "wxid_next", "wxid_last")
    assert sandbox.overlaps() == []


async def test_in_a_lane_whose_turn_has_just_come(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    """The turn is given to a task that is cancelled before it runs again: it passes it on."""
    parts = sender._core.parts
    holder = Ticket("wx_sandbox_1")
    assert parts.lanes.enter(holder, 10) is None
    gone, last = _begin(sender, "gone", url), _begin(sender, "last", url)
    await until(lambda: queued(parts, "wx_sandbox_1") == 2)
    parts.lanes.leave(holder)
    await _cancel(gone)
    assert (await last).route == "upload"
    check_record(sandbox, "wxid_last")


async def test_a_waiter_whose_flight_has_just_landed(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    gate = Gate(sender, "save")
    leader = _begin(sender, "leader", url)
    await gate.wait_reached()
    gone, last = _begin(sender, "gone", url, 2), _begin(sender, "last", url, 3)
    await until(lambda: waiters(sender._core.parts) == 2)
    landed = sender._core.parts.flights.watch(next(iter(sender._core.parts.flights._in_the_air)))
    assert landed is not None
    landed.add_done_callback(lambda _: gone.cancel())
    gate.open()
    assert [(await leader).route, (await last).route] == ["upload", "forward"]
    await asyncio.wait([gone])
    assert gone.cancelled()
    await _close(sender)
    check_record(sandbox, "wxid_leader", "wxid_last")


# --- what is not begun any more ----------------------------------------------------------------------------


async def test_a_refused_forward_goes_on_to_no_upload(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, log: pytest.LogCaptureFixture
) -> None:
    object.__setattr__(sender._core.settings.tuning, "fall_back_pause", 0.0)
    await _begin(sender, "first", url)
    plan = sandbox.fail(Fault.hold(), route="forward")
    sandbox.expire_cdn()
    send = _begin(sender, "gone", url)
    await _reached(plan)
    await _cancel(send)
    plan.release()
    await _close(sender)
    assert [call.route for call in sandbox.calls] == ["upload", "forward"]
    assert (await sender.stats()).fall_backs == 0
    assert _lines(log, "fall-back") == []
    assert _lines(log, "whose caller has left was refused: forward to wxid_gone")
    check_record(sandbox, "wxid_first")


async def test_a_refused_upload_is_not_tried_again(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, log: pytest.LogCaptureFixture
) -> None:
    plan = sandbox.fail(Fault.hang(delivered=False))
    send = _begin(sender, "gone", url)
    await _reached(plan)
    others = [_begin(sender, f"{n}", url, 2 + n) for n in range(3)]
    await until(lambda: waiters(sender._core.parts) == 3)
    await _cancel(send)
    plan.release()
    routes = sorted([(await other).route for other in others])
    assert routes == ["forward", "forward", "upload"]
    await _close(sender)
    assert len(_lines(log, "unknown: the upload")) == 1
    check_record(sandbox, "wxid_0", "wxid_1", "wxid_2")


async def test_a_refusal_that_nobody_hears_is_logged(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, log: pytest.LogCaptureFixture
) -> None:
    plan = sandbox.fail(held(Fault.refuse(data=_REFUSAL)))
    send = _begin(sender, "gone", url)
    await _reached(plan)
    await _cancel(send)
    plan.release()
    await _close(sender)
    assert _lines(log, "a send whose caller has left ended with")
    check_record(sandbox)


async def test_closing_is_cancelled_and_closing_again_waits(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, shared_database: str
) -> None:
    plan = sandbox.fail(Fault.hold())
    send = _begin(sender, "gone", url)
    await _reached(plan)
    await _cancel(send)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await sender.aclose()
    plan.release()
    await _close(sender)
    assert len(saved_files(shared_database)) == 1
    check_record(sandbox, "wxid_gone")
