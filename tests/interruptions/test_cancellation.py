"""A send that is cancelled: the caller goes at once, what is out is finished, nothing more is begun."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from gewe_cache import AsyncImageSender
from gewe_cache.sandbox import Fault
from tests.concurrency.crews import held, waiters
from tests.faults.wires import Names
from tests.interruptions.cancelling import begin, cancel, close, lines, reached
from tests.interruptions.kit import PATIENCE, Gate, check_record, is_idle, saved_files, until
from tests.interruptions.kit import settings as settings_of

if TYPE_CHECKING:
    from gewe_cache import SentImage
    from gewe_cache.sandbox import Sandbox

_REFUSAL = {"msg": "?"}


class SlowNames(Names):
    """Knows it when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answer = threading.Event(), threading.Event()

    def before_answer(self) -> None:
        self.asked.set()
        assert self.answer.wait(PATIENCE)


# --- before, during, after its call ------------------------------------------------------------------------


async def test_before_it_has_begun(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    await cancel(begin(sender, "gone", url))
    await close(sender)
    assert sandbox.calls == []


@pytest.mark.parametrize("http", ["httpcore", "aiohttp"])
async def test_while_its_connection_is_being_made(
    sandbox: Sandbox, url: str, shared_database: str, monkeypatch: pytest.MonkeyPatch, http: str
) -> None:
    """Nothing has been written by then, and nothing is."""
    monkeypatch.setenv("GEWE_CACHE_HTTP", http)
    names = SlowNames()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    settings = {**settings_of(sandbox, shared_database), "base_url": sandbox.base_url.replace("127.0.0.1", names.HOST)}
    async with AsyncImageSender(**settings) as sender:
        leader = begin(sender, "gone", url)
        await asyncio.to_thread(names.asked.wait, PATIENCE)
        waiter = begin(sender, "waiter", url, 2)
        await until(lambda: waiters(sender._core.parts) == 1)
        await cancel(leader)
        names.answer.set()
        assert (await waiter).route == "upload"
        assert is_idle(sender._core.parts)
    check_record(sandbox, "wxid_waiter")
    assert len(sandbox.calls) == 1


@pytest.mark.parametrize("http", ["httpcore", "aiohttp"])
async def test_right_before_its_call_begins(
    sandbox: Sandbox, url: str, shared_database: str, monkeypatch: pytest.MonkeyPatch, http: str
) -> None:
    monkeypatch.setenv("GEWE_CACHE_HTTP", http)
    async with AsyncImageSender(**settings_of(sandbox, shared_database)) as sender:
        await sender.send_image("wxid_first", url)
        send = begin(sender, "gone", url)
        await asyncio.sleep(0)  # it has made its call's task, which has not run yet
        await cancel(send)
    check_record(sandbox, "wxid_first")
    assert len(sandbox.calls) == 1


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
    send = begin(sender, "gone", url)
    await reached(plan)
    await cancel(send)
    closing = asyncio.create_task(close(sender))
    await asyncio.wait([closing], timeout=0.1)
    assert not closing.done()  # it waits for the call that is out
    plan.release()
    await closing
    assert saved_files(shared_database) == [sandbox.uploads[0].file_id]
    (line,) = lines(log, "whose caller has left was accepted: upload to wxid_gone from device wx_sandbox_1")
    assert str(sandbox.uploads[0].new_msg_id) in line
    check_record(sandbox, "wxid_gone")


async def test_during_its_forward(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, log: pytest.LogCaptureFixture
) -> None:
    await begin(sender, "first", url)
    plan = sandbox.fail(Fault.hold())
    send = begin(sender, "gone", url)
    await reached(plan)
    await cancel(send)
    plan.release()
    await close(sender)
    assert lines(log, "whose caller has left was accepted: forward to wxid_gone")
    assert (await sender.stats()).forwards == 1
    check_record(sandbox, "wxid_first", "wxid_gone")


async def test_during_a_call_that_ends_unknown(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, log: pytest.LogCaptureFixture
) -> None:
    plan = sandbox.fail(Fault.hang(delivered=True))
    send = begin(sender, "gone", url)
    await reached(plan)
    await cancel(send)
    plan.release()
    await close(sender)
    assert len(lines(log, "unknown: the upload")) == 1
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
    send = begin(sender, "gone", url)
    await gate.wait_reached()
    await cancel(send)
    gate.open()
    await close(sender)
    assert len(saved_files(shared_database)) == 1
    assert lines(log, "whose caller has left was accepted: upload")
    check_record(sandbox, "wxid_gone")


async def test_after_it_has_ended(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    send = begin(sender, "first", url)
    await send
    assert not send.cancel()
    assert (await begin(sender, "second", url)).route == "forward"
    check_record(sandbox, "wxid_first", "wxid_second")


async def test_in_a_store_step_before_its_call(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    """The leader has its lease by then: it makes no call, lets go of it, and its waiter leads."""
    gate = Gate(sender, "lease")
    leader = begin(sender, "gone", url, 1)
    await gate.wait_reached()
    waiter = begin(sender, "waiter", url, 2)
    await until(lambda: waiters(sender._core.parts) == 1)
    await cancel(leader)
    gate.open()
    assert (await waiter).route == "upload"
    await close(sender)
    check_record(sandbox, "wxid_waiter")


async def test_in_a_pause_before_it_tries_again(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    object.__setattr__(sender._core.settings.tuning, "unreached_pauses", (PATIENCE,))
    sandbox.stop()
    send = begin(sender, "gone", url)
    parts = sender._core.parts
    await until(lambda: bool(parts.flights._in_the_air))
    await asyncio.wait([send], timeout=0.2)
    await cancel(send)
    sandbox.start()
    await close(sender)
    assert sandbox.calls == []


async def test_twice(sender: AsyncImageSender, sandbox: Sandbox, url: str, log: pytest.LogCaptureFixture) -> None:
    plan = sandbox.fail(Fault.hold())
    send = begin(sender, "gone", url)
    await reached(plan)
    send.cancel()
    send.cancel()
    await asyncio.sleep(0)
    send.cancel()
    await asyncio.wait([send])
    assert send.cancelled()
    plan.release()
    await close(sender)
    assert lines(log, "whose caller has left was accepted: upload")
    check_record(sandbox, "wxid_gone")


# --- by a time-out, by a group of tasks --------------------------------------------------------------------


async def test_by_a_time_out(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    plan = sandbox.fail(Fault.hold())
    deadline = asyncio.timeout(None)

    async def expire() -> None:
        await reached(plan)
        deadline.reschedule(0)

    expiring = asyncio.create_task(expire())
    with pytest.raises(TimeoutError):
        async with deadline:
            await sender.send_image("wxid_gone", url)
    await expiring
    plan.release()
    assert (await begin(sender, "second", url)).route == "forward"
    check_record(sandbox, "wxid_gone", "wxid_second")


async def test_by_a_group_of_tasks(sender: AsyncImageSender, sandbox: Sandbox, url: str) -> None:
    """One of the group fails: the leader and its waiters are cancelled, those of others go on."""
    plan = sandbox.fail(Fault.hold())
    others: list[asyncio.Task[SentImage]] = []

    async def fail() -> None:
        await reached(plan)
        others.extend(begin(sender, f"other{n}", url, 10 + n) for n in range(3))
        await until(lambda: waiters(sender._core.parts) == 6)
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group is what raises
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(sender.send_image("wxid_leader", url))
            await reached(plan)
            for n in range(3):
                group.create_task(sender.send_image(f"wxid_{n}", url, app_id=f"wx_sandbox_{2 + n}"))
    assert caught.group_contains(ZeroDivisionError)
    plan.release()
    assert [(await other).route for other in others] == ["forward"] * 3
    await close(sender)
    check_record(sandbox, "wxid_leader", "wxid_other0", "wxid_other1", "wxid_other2")


# --- what is not begun any more ----------------------------------------------------------------------------


async def test_a_refused_forward_goes_on_to_no_upload(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, log: pytest.LogCaptureFixture
) -> None:
    object.__setattr__(sender._core.settings.tuning, "fall_back_pause", 0.0)
    await begin(sender, "first", url)
    plan = sandbox.fail(Fault.hold(), route="forward")
    sandbox.expire_cdn()
    send = begin(sender, "gone", url)
    await reached(plan)
    await cancel(send)
    plan.release()
    await close(sender)
    assert [call.route for call in sandbox.calls] == ["upload", "forward"]
    assert (await sender.stats()).fall_backs == 0
    assert lines(log, "fall-back") == []
    assert lines(log, "whose caller has left was refused: forward to wxid_gone")
    check_record(sandbox, "wxid_first")


async def test_a_refused_upload_is_not_tried_again(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, log: pytest.LogCaptureFixture
) -> None:
    plan = sandbox.fail(Fault.hang(delivered=False))
    send = begin(sender, "gone", url)
    await reached(plan)
    others = [begin(sender, f"{n}", url, 2 + n) for n in range(3)]
    await until(lambda: waiters(sender._core.parts) == 3)
    await cancel(send)
    plan.release()
    routes = sorted([(await other).route for other in others])
    assert routes == ["forward", "forward", "upload"]
    await close(sender)
    assert len(lines(log, "unknown: the upload")) == 1
    check_record(sandbox, "wxid_0", "wxid_1", "wxid_2")


async def test_a_refusal_that_nobody_hears_is_logged(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, log: pytest.LogCaptureFixture
) -> None:
    plan = sandbox.fail(held(Fault.refuse(data=_REFUSAL)))
    send = begin(sender, "gone", url)
    await reached(plan)
    await cancel(send)
    plan.release()
    await close(sender)
    assert lines(log, "a send whose caller has left ended with")
    check_record(sandbox)


async def test_closing_is_cancelled_and_closing_again_waits(
    sender: AsyncImageSender, sandbox: Sandbox, url: str, shared_database: str
) -> None:
    plan = sandbox.fail(Fault.hold())
    send = begin(sender, "gone", url)
    await reached(plan)
    await cancel(send)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await sender.aclose()
    plan.release()
    await close(sender)
    assert len(saved_files(shared_database)) == 1
    check_record(sandbox, "wxid_gone")
