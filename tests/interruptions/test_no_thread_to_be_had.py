"""An executor that cannot start a thread may have queued the work all the same: it is done once, or not at all."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from gewe_cache import AsyncImageSender, ImageRefused, StoreError
from gewe_cache.sandbox import Fault
from tests.interruptions.kit import PATIENCE, Gate, check_record, is_idle, running_leases, saved_files, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gewe_cache.sandbox import Sandbox


@pytest_asyncio.fixture
async def sender(sandbox: Sandbox, shared_file: str) -> AsyncIterator[AsyncImageSender]:
    """Give a sender with one store thread, which is idle in the end."""
    made = AsyncImageSender(**settings(sandbox, shared_file))
    made._driver.executor._max_workers = 1
    await made.lookup("http://example.com/nothing.png")
    yield made
    async with asyncio.timeout(PATIENCE):
        await made.aclose()
    assert is_idle(made._core.parts)


@pytest_asyncio.fixture
async def gate(
    sender: AsyncImageSender, url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Gate, asyncio.Task[object]]]:
    """Have the one thread held in a step of a send, and let no other be started."""
    gate = Gate(sender, "lease")
    sending = asyncio.create_task(sender.send_image("wxid_first", url))
    await gate.wait_reached()
    sender._driver.executor._max_workers = 2
    while sender._driver.executor._idle_semaphore.acquire(timeout=0):
        pass  # it may not have noticed yet that its thread is busy again
    start = threading.Thread.start

    def start_no_other(thread: threading.Thread) -> None:
        if thread.name.startswith("gewe_cache store"):
            message = "can't start new thread"
            raise RuntimeError(message)
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start_no_other)
        yield gate, sending
    gate.open()


async def test_a_lease_is_not_taken_for_a_send_that_went_on_without(
    sender: AsyncImageSender, gate: tuple[Gate, asyncio.Task[object]], sandbox: Sandbox, shared_file: str
) -> None:
    held, first = gate
    sandbox.fail(Fault.refuse(), to_wxid="wxid_refused")
    with pytest.raises(ImageRefused):
        await sender.send_image("wxid_refused", sandbox.make_image("other.png"), app_id="wx_sandbox_2")
    held.open()
    await first
    await sender.aclose()
    assert running_leases(shared_file) == 0
    check_record(sandbox, "wxid_first")


async def test_what_was_said_to_have_changed_nothing_changes_nothing(
    sender: AsyncImageSender, gate: tuple[Gate, asyncio.Task[object]], shared_file: str
) -> None:
    held, first = gate
    message = f'<msg><img aeskey="{"a" * 32}" cdnmidimgurl="{"b" * 64}" length="70" md5="{"c" * 32}"/></msg>'
    with pytest.raises(StoreError, match="Nothing was changed"):
        await sender.remember(message)
    held.open()
    await first
    await sender.aclose()
    assert "b" * 64 not in saved_files(shared_file)


async def test_the_end_of_an_abandoned_send_is_seen_to_once(
    sender: AsyncImageSender, gate: tuple[Gate, asyncio.Task[object]]
) -> None:
    held, first = gate
    done: list[str] = []
    sender._driver._in_a_thread(done.append, "here")
    assert done == ["here"]
    held.open()
    await first
    await sender.aclose()
    assert done == ["here"]
