"""Senders of one process queue together for a device, whatever their kind and their token."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache import AsyncImageSender, GeweUnreachable, ImageSender
from gewe_cache.sandbox import Delays, Fault, Sandbox
from gewe_cache.settings import Tuning
from tests.concurrency.crews import KINDS, Crews, busy, delivered, is_idle, outcomes, queued, until

if TYPE_CHECKING:
    from gewe_cache.sandbox import Plan
    from tests.concurrency.crews import Crew, Sent

_DEVICE = "wx_sandbox_1"
_OTHER_TOKEN = "sandbox-token-2"  # noqa: S105 - the sandbox's
_EACH = 20
_PAIRS = list(combinations_with_replacement(KINDS, 2))


@pytest.fixture(params=_PAIRS, ids=["+".join(pair) for pair in _PAIRS])
def pair(request: pytest.FixtureRequest, crews: Crews, sandbox: Sandbox) -> tuple[Crew, Crew]:
    """Give two senders of one process, each with a token of its own."""
    one, two = request.param
    sandbox.add_tokens(_OTHER_TOKEN)
    return crews.make(one), crews.make(two, token=_OTHER_TOKEN)


def _hold(crew: Crew, sandbox: Sandbox, url: str) -> tuple[Sent, Plan]:
    """Have a sender's call held, and so its device's lane."""
    plan = sandbox.fail(Fault.hold(), to_wxid="wxid_held")
    sending = crew.send("wxid_held", url, app_id=_DEVICE)
    plan.wait_reached()
    return sending, plan


def test_they_never_send_at_the_same_time(pair: tuple[Crew, Crew], sandbox: Sandbox, url: str) -> None:
    first, second = pair
    holding, plan = _hold(first, sandbox, url)
    behind = second.send("wxid_behind", url, app_id=_DEVICE)
    until(lambda: queued(second.parts, _DEVICE) == 1)
    assert [call.to_wxid for call in sandbox.calls] == ["wxid_held"]
    plan.release()
    assert outcomes([holding, behind]) == ["upload", "upload"]  # each token has a scope of its own
    assert sandbox.overlaps() == []
    assert delivered(sandbox) == ["wxid_behind", "wxid_held"]
    assert is_idle(first.parts)


def test_many_of_both_take_turns(shared_file: str) -> None:
    with Sandbox(delays=Delays(call_seconds=0.005)) as sandbox, Crews(sandbox, shared_file) as crews:
        pair = [crews.make(kind) for kind in KINDS]
        url = sandbox.make_image("poster.png", width=60, height=40)
        sends = [crew.send(f"wxid_{turn}_{n}", url) for turn in range(_EACH) for n, crew in enumerate(pair)]
        assert Counter(outcomes(sends)) == {"upload": 1, "forward": 2 * _EACH - 1}
        assert sandbox.overlaps() == []
        assert sandbox.duplicates() == []


def test_a_device_that_is_busy_elsewhere_holds_up_no_other(pair: tuple[Crew, Crew], sandbox: Sandbox, url: str) -> None:
    first, second = pair
    holding, plan = _hold(first, sandbox, url)
    assert outcomes([second.send("wxid_free", url, app_id="wx_sandbox_2")]) == ["upload"]
    assert busy(second.parts) == {_DEVICE}
    assert not holding.done()
    plan.release()
    assert outcomes([holding]) == ["upload"]


def test_a_device_of_the_same_name_at_another_gewe_is_another(
    crew: Crew, sandbox: Sandbox, url: str, shared_file: str
) -> None:
    holding, plan = _hold(crew, sandbox, url)
    with Sandbox() as elsewhere, Crews(elsewhere, shared_file) as crews:
        image = elsewhere.make_image("poster.png", width=60, height=40)
        assert outcomes([crews.make("threads").send("wxid_free", image, app_id=_DEVICE)]) == ["upload"]
        assert delivered(elsewhere) == ["wxid_free"]
    assert not holding.done()
    plan.release()
    assert outcomes([holding]) == ["upload"]


def test_who_leaves_the_queue_of_two_senders_passes_its_turn(crews: Crews, sandbox: Sandbox, url: str) -> None:
    first, second = crews.make("threads"), crews.make("tasks")
    holding, plan = _hold(first, sandbox, url)
    other = sandbox.make_image("other.png", width=30, height=20)
    leaving = second.send("wxid_gone", other, app_id=_DEVICE)
    until(lambda: queued(second.parts, _DEVICE) == 1)
    staying = first.send("wxid_stays", other, app_id=_DEVICE)
    until(lambda: queued(second.parts, _DEVICE) == 2)
    assert leaving.cancel()
    plan.release()
    assert outcomes([holding, staying]) == ["upload", "upload"]
    assert delivered(sandbox) == ["wxid_held", "wxid_stays"]


async def test_a_blocked_event_loop_blocks_no_sender_for_ever(sandbox: Sandbox, url: str, shared_file: str) -> None:
    """A sync send on the loop itself waits for a task that cannot go on: the wait has an end, and says so."""
    given: dict[str, Any] = {
        "token": sandbox.token,
        "base_url": sandbox.base_url,
        "database": shared_file,
        "app_id": _DEVICE,
    }
    impatient = Tuning(unreached_pauses=(), flight_grace=0.1)
    async with AsyncImageSender(**given) as sender:
        with ImageSender(**given, timeout=0.2, _tuning=impatient) as blocking:
            plan = sandbox.fail(Fault.hold())
            holding = asyncio.create_task(sender.send_image("wxid_held", url))
            await asyncio.to_thread(plan.wait_reached)
            with pytest.raises(GeweUnreachable, match="Nothing was sent: the sends of device wx_sandbox_1 before"):
                blocking.send_image("wxid_blocking", sandbox.make_image("other.png", width=30, height=20))
            plan.release()
            assert (await holding).route == "upload"
            assert blocking.send_image("wxid_again", url).route == "forward"
    assert delivered(sandbox) == ["wxid_again", "wxid_held"]


def test_when_the_senders_are_gone_nothing_of_their_lanes_is_left(sandbox: Sandbox, url: str, shared_file: str) -> None:
    sender = ImageSender(sandbox.token, base_url=sandbox.base_url, database=shared_file)
    sender.send_image("wxid_1", url, app_id=_DEVICE)
    lanes = sender._core.parts.lanes
    left = weakref.ref(lanes)
    assert lanes._queues == {}
    sender.close()
    del sender, lanes
    gc.collect()
    assert left() is None
