"""The async sender's broadcasts, stopped: by ``aclose``, by a cancellation, and by one delivered again and again."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from sqlalchemy import text

from gewe_cache import AsyncImageSender, Broadcast, Delivery, Pace
from gewe_cache.sandbox import Fault
from gewe_cache.store.engine import open_database
from tests.broadcast.processes.kit import SCOPE, begin, count_broadcasts, ledger
from tests.interruptions.kit import PATIENCE, settings, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gewe_cache.sandbox import Plan, Sandbox

_TO = ("wxid_1", "wxid_2", "wxid_3")
_FIRST_IS_SENT = {"wxid_1": "sent", "wxid_2": "pending", "wxid_3": "pending"}


class SlowList:
    """Recipients that are read slowly: after the first, only when it is told to go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __iter__(self) -> Iterator[str]:
        yield _TO[0]
        self.reached.set()
        assert self.go_on.wait(PATIENCE)
        yield from _TO[1:]

    async def wait_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, PATIENCE)


@pytest.fixture
def poster(sandbox: Sandbox) -> str:
    return sandbox.make_image("poster.png", width=8, height=8)


async def test_aclose_stops_a_broadcast_and_waits_for_its_calls(
    sandbox: Sandbox, poster: str, shared_database: str
) -> None:
    told: list[Delivery] = []
    sender = AsyncImageSender(**settings(sandbox, shared_database))
    plan = _hold_first(sandbox)
    working = asyncio.create_task(sender.broadcast(poster, _TO, pace=Pace.none(), on_delivery=told.append))
    await asyncio.to_thread(plan.wait_reached, PATIENCE)
    closing = asyncio.create_task(sender.aclose())
    await _is_waiting(closing)
    plan.release()
    await closing
    assert _states(shared_database) == _FIRST_IS_SENT
    found = await working
    assert (found.sent, found.pending, found.sending) == (1, 2, 0)
    assert [each.to_wxid for each in told] == _reached(sandbox) == ["wxid_1"]


async def test_aclose_while_recipients_are_read(sandbox: Sandbox, poster: str, shared_database: str) -> None:
    sender, slow = AsyncImageSender(**settings(sandbox, shared_database)), SlowList()
    working = asyncio.create_task(sender.broadcast(poster, slow, pace=Pace.none()))
    await slow.wait_reached()
    closing = asyncio.create_task(sender.aclose())
    await _is_waiting(closing)
    slow.go_on.set()
    await closing
    with pytest.raises(RuntimeError, match=r"stopped before it could send\. Nothing was sent"):
        await working
    assert count_broadcasts(shared_database) == 0
    assert _reached(sandbox) == []


@pytest.mark.parametrize("cancels", [1, 2])
async def test_cancelled_while_recipients_are_read(
    sandbox: Sandbox, poster: str, shared_database: str, cancels: int
) -> None:
    async with AsyncImageSender(**settings(sandbox, shared_database)) as sender:
        slow = SlowList()
        working = asyncio.create_task(sender.broadcast(poster, slow, pace=Pace.none()))
        await slow.wait_reached()
        working.cancel()
        if cancels == 1:
            await _is_waiting(working)
            slow.go_on.set()
        else:
            await asyncio.sleep(0)
            working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        slow.go_on.set()
        found = await sender.broadcast(poster, _TO, pace=Pace.none())
        assert found.sent == len(_TO)
    assert count_broadcasts(shared_database) == 1
    assert _reached(sandbox) == [*_TO]


async def test_a_cancelled_reading_leaves_no_connection(sandbox: Sandbox, poster: str, shared_postgres: str) -> None:
    async with AsyncImageSender(**settings(sandbox, shared_postgres)) as sender:
        slow = SlowList()
        working = asyncio.create_task(sender.broadcast(poster, slow, pace=Pace.none()))
        await slow.wait_reached()
        gc.disable()  # it would hide what is left open
        for _ in range(2):
            working.cancel()
            await asyncio.sleep(0)
        slow.go_on.set()
        await asyncio.wait([working])
    try:
        await until(lambda: _connections(shared_postgres) == 0)
    finally:
        gc.enable()


@pytest.mark.parametrize("is_resumed", [False, True], ids=["broadcast", "resume"])
async def test_a_scope_that_cancels_again_and_again(
    sandbox: Sandbox, poster: str, shared_database: str, *, is_resumed: bool
) -> None:
    async with AsyncImageSender(**settings(sandbox, shared_database, scope=SCOPE)) as sender:
        if is_resumed:
            begin(sandbox, shared_database, poster, [("wx_sandbox_1", to_wxid) for to_wxid in _TO])
        plan = _hold_first(sandbox)
        scope = anyio.CancelScope()

        async def work() -> None:
            with scope:
                await _work(sender, poster, is_resumed=is_resumed)

        working = asyncio.create_task(work())
        await asyncio.to_thread(plan.wait_reached, PATIENCE)
        scope.cancel()
        await asyncio.wait_for(working, PATIENCE)
        assert _states(shared_database)["wxid_1"] == "sending"
        plan.release()
    assert scope.cancelled_caught
    assert _states(shared_database) == _FIRST_IS_SENT
    assert _reached(sandbox) == ["wxid_1"]
    async with AsyncImageSender(**settings(sandbox, shared_database, scope=SCOPE)) as sender:
        assert (await sender.resume_broadcast(1, pace=Pace.none())).sent == len(_TO)
    assert _reached(sandbox) == [*_TO]


async def test_an_error_after_the_caller_has_left_is_nobodys(
    sandbox: Sandbox, shared_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The image is refused when the caller has left: asyncio reports no error that was never looked at."""
    async with AsyncImageSender(**settings(sandbox, shared_file)) as sender:
        plan = sandbox.fail(Fault.hold(), route="upload")
        working = asyncio.create_task(sender.broadcast("http://127.0.0.1:1/gone.png", _TO, pace=Pace.none()))
        await asyncio.to_thread(plan.wait_reached, PATIENCE)
        for _ in range(2):
            working.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await working
        plan.release()
    gc.collect()
    assert set(_states(shared_file).values()) == {"pending"}
    assert _reached(sandbox) == []
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_the_loop_ends_while_the_sender_sees_to_a_call(sandbox: Sandbox, poster: str, shared_file: str) -> None:
    """Whoever ends the loop without ``aclose`` cancels the call: it is unknown at once, and the rest is pending."""
    plan = sandbox.fail(Fault.hold(delivered_first=True), to_wxid=_TO[0])

    async def leave() -> None:
        working = asyncio.create_task(sender.broadcast(poster, _TO, pace=Pace.none()))
        await asyncio.to_thread(plan.wait_reached, PATIENCE)
        for _ in range(2):
            working.cancel()
            await asyncio.sleep(0)

    sender = AsyncImageSender(**settings(sandbox, shared_file))
    asyncio.run(leave())
    sender._finalizer()
    plan.release()
    assert _states(shared_file) == {"wxid_1": "unknown", "wxid_2": "pending", "wxid_3": "pending"}
    assert _reached(sandbox) == ["wxid_1"]


def test_the_loop_ends_while_recipients_are_read(sandbox: Sandbox, poster: str, shared_file: str) -> None:
    slow = SlowList()

    async def go_on_when_all_are_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(9):
                await asyncio.sleep(0)
            slow.go_on.set()

    async def leave() -> None:
        tasks.append(asyncio.create_task(go_on_when_all_are_cancelled()))
        tasks.append(asyncio.create_task(sender.broadcast(poster, slow, pace=Pace.none())))
        await slow.wait_reached()

    tasks: list[asyncio.Task[Any]] = []
    sender = AsyncImageSender(**settings(sandbox, shared_file))
    asyncio.run(leave())
    sender._finalizer()
    assert count_broadcasts(shared_file) == 0
    assert _reached(sandbox) == []


async def _work(sender: AsyncImageSender, poster: str, *, is_resumed: bool) -> Broadcast:
    if is_resumed:
        return await sender.resume_broadcast(1, pace=Pace.none())
    return await sender.broadcast(poster, _TO, pace=Pace.none())


def _hold_first(sandbox: Sandbox) -> Plan:
    return sandbox.fail(Fault.hold(), to_wxid=_TO[0])


async def _is_waiting(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task], timeout=0.05)
    assert not task.done()


def _reached(sandbox: Sandbox) -> list[str]:
    return [each.to_wxid for each in sandbox.deliveries]


def _states(url: str) -> dict[str, str]:
    return {row.to_wxid: row.state for row in ledger(url, 1)}


def _connections(url: str) -> int:
    """Count those of others."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    database = open_database(url)
    try:
        with database.reader.connect() as connection:
            return connection.scalar(text(statement)) or 0
    finally:
        database.dispose()
