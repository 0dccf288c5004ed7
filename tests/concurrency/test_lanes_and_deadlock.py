"""One send at a time per device, nobody held up by another device, and no two who wait for each other."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Delays, Fault, Sandbox
from gewe_cache.settings import Tuning
from tests.concurrency.crews import (
    KINDS,
    PATIENCE,
    Crews,
    Tasks,
    delivered,
    is_idle,
    outcomes,
    queued,
    until,
    uploads,
    waiters,
)

if TYPE_CHECKING:
    from tests.concurrency.crews import Crew

_DEVICES = 4
_EACH = 8
_CROWD = 300
_CROWDED = "wx_sandbox_crowded"


def _other(sandbox: Sandbox, number: int = 0) -> str:
    return sandbox.make_image(f"other{number}.png", width=30, height=20 + number)


# --- one at a time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
def test_sends_of_a_device_never_overlap_and_those_of_others_do(kind: str, shared_file: str) -> None:
    with Sandbox(delays=Delays(call_seconds=0.01)) as sandbox, Crews(sandbox, shared_file) as crews:
        crew = crews.make(kind)
        images = [_other(sandbox, number) for number in range(3)]
        sends = [
            crew.send(f"wxid_{turn}_{device}", images[turn % 3], app_id=f"wx_sandbox_{device}")
            for turn in range(_EACH)
            for device in range(_DEVICES)
        ]
        assert Counter(outcomes(sends)) == {"upload": 3, "forward": _DEVICES * _EACH - 3}
        assert sandbox.overlaps() == []
        spans = sorted((call.started_at, call.ended_at or 0.0) for call in sandbox.calls)
        assert any(later < ended for (_, ended), (later, _) in pairwise(spans))


def test_a_busy_device_holds_up_no_other(crew: Crew, sandbox: Sandbox, url: str) -> None:
    plan = sandbox.fail(Fault.hold(), app_id="wx_sandbox_1")
    crew.send("wxid_first", _other(sandbox), app_id="wx_sandbox_1")
    plan.wait_reached()
    behind = [crew.send(f"wxid_behind_{n}", url, app_id="wx_sandbox_1") for n in range(5)]
    until(lambda: queued(crew.parts, "wx_sandbox_1") == 5)
    free = [crew.send(f"wxid_free_{n}", url, app_id=f"wx_sandbox_free_{n}") for n in range(5)]
    assert Counter(outcomes(free)) == {"upload": 1, "forward": 4}
    assert not any(send.done() for send in behind)
    plan.release()
    assert outcomes(behind) == ["forward"] * 5


def test_turns_come_in_the_order_of_entering(crew: Crew, sandbox: Sandbox, url: str) -> None:
    assert outcomes([crew.send("wxid_first", url, app_id=_CROWDED)]) == ["upload"]
    plan = sandbox.fail(Fault.hold(), route="forward", to_wxid="wxid_busy")
    sends = [crew.send("wxid_busy", url, app_id=_CROWDED)]
    plan.wait_reached()
    for number in range(10):
        sends.append(crew.send(f"wxid_{number}", url, app_id=_CROWDED))
        until(lambda place=number: queued(crew.parts, _CROWDED) == place + 1)  # type: ignore[misc]
    plan.release()
    assert outcomes(sends) == ["forward"] * 11
    assert [call.to_wxid for call in sandbox.calls][2:] == [f"wxid_{number}" for number in range(10)]


# --- nobody waits for a flight while holding a lane --------------------------------------------------------


def test_two_sends_that_want_each_others_lane_and_flight_end(crew: Crew, sandbox: Sandbox, url: str) -> None:
    """Device 1 uploads X and device 2 uploads Y; then 1 wants Y and 2 wants X, each behind the other's lane."""
    other = _other(sandbox)
    plans = [sandbox.fail(Fault.hold(), route="upload", app_id=f"wx_sandbox_{n}") for n in (1, 2)]
    sends = [crew.send("wxid_1", url, app_id="wx_sandbox_1"), crew.send("wxid_2", other, app_id="wx_sandbox_2")]
    for plan in plans:
        plan.wait_reached()
    sends += [crew.send("wxid_3", other, app_id="wx_sandbox_1"), crew.send("wxid_4", url, app_id="wx_sandbox_2")]
    until(lambda: waiters(crew.parts) == 2)
    for plan in plans:
        plan.release()
    assert outcomes(sends) == ["upload", "upload", "forward", "forward"]
    assert is_idle(crew.parts)


def test_a_waiter_holds_no_lane(crew: Crew, sandbox: Sandbox, url: str) -> None:
    """The leader's device is wanted by the very sends that wait for its flight."""
    plan = sandbox.fail(Fault.hold(), route="upload", to_wxid="wxid_leader")
    leader = crew.send("wxid_leader", url, app_id="wx_sandbox_1")
    plan.wait_reached()
    sends = [crew.send(f"wxid_{n}", url, app_id=f"wx_sandbox_{1 + n % 2}") for n in range(10)]
    until(lambda: waiters(crew.parts) == 10)
    assert outcomes([crew.send("wxid_free", _other(sandbox), app_id="wx_sandbox_2")]) == ["upload"]
    plan.release()
    assert outcomes([leader, *sends]) == ["upload"] + ["forward"] * 10


def test_a_leader_in_another_process_is_waited_for_without_a_lane(
    sandbox: Sandbox, url: str, shared_database: str
) -> None:
    """Two senders on one database, as two processes are."""
    with Crews(sandbox, shared_database) as crews:
        here, there = crews.make("threads"), crews.make("tasks")
        plan = sandbox.fail(Fault.hold(), route="upload", to_wxid="wxid_leader")
        leader = there.send("wxid_leader", url, app_id="wx_sandbox_1")
        plan.wait_reached()
        followers = [here.send(f"wxid_{n}", url, app_id="wx_sandbox_2") for n in range(3)]
        until(lambda: waiters(here.parts) == 2)
        free = here.send("wxid_free", _other(sandbox), app_id="wx_sandbox_2")
        assert outcomes([free]) == ["upload"]
        plan.release()
        assert outcomes([leader, *followers]) == ["upload", "forward", "forward", "forward"]


def test_many_images_devices_and_recipients_mixed_up_end(crew: Crew, sandbox: Sandbox) -> None:
    images = [_other(sandbox, number) for number in range(6)]
    sends = [
        crew.send(f"wxid_{number}", images[number * 5 % 6], app_id=f"wx_sandbox_{number * 7 % 5}")
        for number in range(180)
    ]
    assert Counter(outcomes(sends)) == {"upload": 6, "forward": 174}
    assert delivered(sandbox) == sorted(f"wxid_{number}" for number in range(180))
    assert is_idle(crew.parts)


# --- a crowd on the leader's device ------------------------------------------------------------------------


def test_300_queued_on_the_leaders_device_do_not_starve_the_waiters_of_others(
    crew: Crew, sandbox: Sandbox, url: str
) -> None:
    plan = sandbox.fail(Fault.hold(), route="upload", to_wxid="wxid_leader")
    leader = crew.send("wxid_leader", url, app_id=_CROWDED)
    plan.wait_reached()
    stop = sandbox.fail(Fault.hold(), app_id=_CROWDED)  # the crowd's first call is the end of its device
    other = _other(sandbox)
    crowd = [crew.send(f"wxid_crowd_{n}", other, app_id=_CROWDED) for n in range(_CROWD)]
    until(lambda: queued(crew.parts, _CROWDED) == _CROWD)
    waiting = [crew.send(f"wxid_{n}", url, app_id=f"wx_sandbox_{n}") for n in range(20)]
    until(lambda: waiters(crew.parts) == 20)
    plan.release()
    assert outcomes([leader, *waiting]) == ["upload"] + ["forward"] * 20
    assert not any(send.done() for send in crowd)
    stop.release()
    assert Counter(outcomes(crowd)) == {"upload": 1, "forward": _CROWD - 1}
    assert sandbox.duplicates() == []


def test_who_queues_behind_300_for_its_lane_is_no_leader_yet(crew: Crew, sandbox: Sandbox, url: str) -> None:
    """The first to want the image cannot upload it for long; a free device does so at once."""
    known, other = _other(sandbox, 1), _other(sandbox, 2)
    assert outcomes([crew.send("wxid_known", known)]) == ["upload"]
    plan = sandbox.fail(Fault.hold(), app_id=_CROWDED)
    crew.send("wxid_busy", other, app_id=_CROWDED)
    plan.wait_reached()
    crowd = [crew.send(f"wxid_crowd_{n}", known, app_id=_CROWDED) for n in range(_CROWD)]
    until(lambda: queued(crew.parts, _CROWDED) == _CROWD)
    first = crew.send("wxid_first", url, app_id=_CROWDED)
    until(lambda: queued(crew.parts, _CROWDED) == _CROWD + 1)
    assert outcomes([crew.send("wxid_free", url, app_id="wx_sandbox_free")]) == ["upload"]
    assert not first.done()
    plan.release()
    assert outcomes([first, *crowd]) == ["forward"] * (_CROWD + 1)
    assert len(uploads(sandbox)) == 3


# --- leaving a queue ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["cancelled", "timed out"])
def test_who_leaves_a_queue_passes_its_turn(crews: Crews, sandbox: Sandbox, url: str, way: str) -> None:
    crew = crews.make("tasks")
    assert isinstance(crew, Tasks)
    plan = sandbox.fail(Fault.hold(), app_id=_CROWDED)
    first = crew.send("wxid_first", url, app_id=_CROWDED)
    plan.wait_reached()
    other = _other(sandbox)
    limit = asyncio.Timeout(None)
    leaving = crew.send_within(limit, "wxid_gone", other, _CROWDED)
    until(lambda: queued(crew.parts, _CROWDED) == 1)
    staying = crew.send("wxid_stays", other, app_id=_CROWDED)
    until(lambda: queued(crew.parts, _CROWDED) == 2)
    if way == "cancelled":
        assert leaving.cancel()
    else:
        crew.run_out(limit)
        assert isinstance(leaving.exception(PATIENCE), TimeoutError)
    until(lambda: queued(crew.parts, _CROWDED) == 1)
    plan.release()
    assert outcomes([first, staying]) == ["upload", "upload"]
    assert delivered(sandbox) == ["wxid_first", "wxid_stays"]
    assert is_idle(crew.parts)


def test_a_full_queue_refuses_the_next_send_and_breaks_nothing(crews: Crews, sandbox: Sandbox, url: str) -> None:
    crew = crews.make("tasks", Tuning(lane_queue=2))
    plan = sandbox.fail(Fault.hold(), app_id=_CROWDED)
    first = crew.send("wxid_first", url, app_id=_CROWDED)
    plan.wait_reached()
    queue = [crew.send(f"wxid_{n}", _other(sandbox), app_id=_CROWDED) for n in range(2)]
    until(lambda: queued(crew.parts, _CROWDED) == 2)
    assert outcomes([crew.send("wxid_too_many", _other(sandbox), app_id=_CROWDED)]) == ["GeweUnreachable"]
    plan.release()
    assert outcomes([first, *queue]) == ["upload", "upload", "forward"]
    assert is_idle(crew.parts)
