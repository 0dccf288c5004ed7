"""Many who want one image at once: one uploads, the others wait and forward."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Fault
from tests.concurrency.crews import delivered, is_idle, outcomes, queued, until, uploads, waiters
from tests.concurrency.processes import all_do

if TYPE_CHECKING:
    from gewe_cache.sandbox import Plan, Sandbox
    from tests.concurrency.crews import Crew
    from tests.concurrency.processes import Process

_ALL = 50
_EACH = 10


def _device(number: int, devices: int) -> str:
    return f"wx_sandbox_{number % devices}"


def _hold_lane(sandbox: Sandbox, crew: Crew, app_id: str) -> Plan:
    """Have a device busy with another image until the plan is released."""
    plan = sandbox.fail(Fault.hold(), route="upload", to_wxid="wxid_busy")
    other = sandbox.make_image("other.png", width=30, height=20)
    crew.send("wxid_busy", other, app_id=app_id)
    plan.wait_reached()
    return plan


@pytest.mark.parametrize("devices", [1, 7, _ALL])
def test_50_send_an_uncached_image_at_once(crew: Crew, sandbox: Sandbox, url: str, devices: int) -> None:
    sends = [crew.send(f"wxid_{number}", url, app_id=_device(number, devices)) for number in range(_ALL)]
    assert Counter(outcomes(sends)) == {"upload": 1, "forward": _ALL - 1}
    assert len(uploads(sandbox)) == 1
    assert delivered(sandbox) == sorted(f"wxid_{number}" for number in range(_ALL))
    assert is_idle(crew.parts)


@pytest.mark.parametrize("devices", [1, _ALL])
def test_50_arrive_while_the_upload_is_out(crew: Crew, sandbox: Sandbox, url: str, devices: int) -> None:
    plan = sandbox.fail(Fault.hold(), route="upload")
    sends = [crew.send("wxid_leader", url, app_id="wx_sandbox_0")]
    plan.wait_reached()
    sends += [crew.send(f"wxid_{number}", url, app_id=_device(number, devices)) for number in range(_ALL)]
    until(lambda: waiters(crew.parts) == _ALL)
    plan.release()
    assert Counter(outcomes(sends)) == {"upload": 1, "forward": _ALL}
    assert len(sandbox.calls) == len(sandbox.deliveries) == _ALL + 1
    assert sandbox.duplicates() == []


def test_50_that_queued_for_one_lane_before_any_flight_began(crew: Crew, sandbox: Sandbox, url: str) -> None:
    busy = _hold_lane(sandbox, crew, "wx_sandbox_0")
    sends = [crew.send(f"wxid_{number}", url, app_id="wx_sandbox_0") for number in range(_ALL)]
    until(lambda: queued(crew.parts, "wx_sandbox_0") == _ALL)
    busy.release()
    assert Counter(outcomes(sends)) == {"upload": 1, "forward": _ALL - 1}
    assert len(uploads(sandbox)) == 2  # the other image's and this one's


@pytest.mark.parametrize("devices", [1, 4 * _EACH])
def test_4_processes_send_an_uncached_image_at_once(
    processes: list[Process], sandbox: Sandbox, url: str, devices: int
) -> None:
    for place, process in enumerate(processes):
        numbers = range(place * _EACH, (place + 1) * _EACH)
        process.order("send", url=url, sends=[[_device(number, devices), f"wxid_{number}"] for number in numbers])
    for process in processes:
        process.answer()
    routes = [route for process in processes for route in process.results()]
    assert Counter(routes) == {"upload": 1, "forward": 4 * _EACH - 1}
    assert len(uploads(sandbox)) == 1
    assert delivered(sandbox) == sorted(f"wxid_{number}" for number in range(4 * _EACH))


def test_4_processes_follow_one_upload(processes: list[Process], sandbox: Sandbox, url: str) -> None:
    plan = sandbox.fail(Fault.hold(), route="upload")
    processes[0].do("send", url=url, sends=[["wx_sandbox_leader", "wxid_leader"]])
    plan.wait_reached()
    for place, process in enumerate(processes):
        process.do("send", url=url, sends=[[f"wx_sandbox_{n}", f"wxid_{place}_{n}"] for n in range(_EACH)])
    assert processes[0].do("waiting", count=_EACH, following=False)
    assert (
        all_do(processes[1:], "waiting", count=_EACH - 1, following=True) == [True] * 3
    )  # and one that asks the database
    plan.release()
    routes = [route for process in processes for route in process.results()]
    assert Counter(routes) == {"upload": 1, "forward": 4 * _EACH}
    assert len(sandbox.calls) == len(sandbox.deliveries) == 4 * _EACH + 1
    assert sandbox.duplicates() == []


# --- refresh -----------------------------------------------------------------------------------------------


def test_50_refreshes_called_before_the_upload_began_share_it(crew: Crew, sandbox: Sandbox, url: str) -> None:
    crew.send("wxid_first", url).result(10)
    busy = _hold_lane(sandbox, crew, "wx_sandbox_0")
    sends = [crew.send(f"wxid_{n}", url, app_id="wx_sandbox_0", refresh=True) for n in range(_ALL)]
    until(lambda: queued(crew.parts, "wx_sandbox_0") == _ALL)
    busy.release()
    assert Counter(outcomes(sends)) == {"upload": 1, "forward": _ALL - 1}
    assert len(uploads(sandbox)) == 3  # the first, the other image's, and one for all refreshes
    assert sandbox.duplicates() == []


def test_refreshes_called_after_the_upload_began_share_the_next(crew: Crew, sandbox: Sandbox, url: str) -> None:
    first = sandbox.fail(Fault.hold(), route="upload", to_wxid="wxid_leader")
    sends = [crew.send("wxid_leader", url, app_id="wx_sandbox_leader", refresh=True)]
    first.wait_reached()
    sends += [crew.send(f"wxid_{n}", url, app_id=f"wx_sandbox_{n}", refresh=True) for n in range(20)]
    until(lambda: waiters(crew.parts) == 20)
    ordinary = [crew.send(f"wxid_plain_{n}", url, app_id=f"wx_sandbox_plain_{n}") for n in range(5)]
    until(lambda: waiters(crew.parts) == 25)
    first.release()
    assert Counter(outcomes(sends)) == {"upload": 2, "forward": 19}
    assert Counter(outcomes(ordinary)) == {"forward": 5}
    assert len(uploads(sandbox)) == 2
    assert len({delivery.file_id for delivery in sandbox.deliveries}) == 2


def test_a_refresh_is_not_served_by_an_entry_from_before_it(crew: Crew, sandbox: Sandbox, url: str) -> None:
    assert outcomes([crew.send("wxid_1", url)]) == ["upload"]
    assert outcomes([crew.send("wxid_2", url, refresh=True)]) == ["upload"]
    assert outcomes([crew.send("wxid_3", url)]) == ["forward"]
    latest = uploads(sandbox)[-1].number
    by_number = {delivery.number: delivery.file_id for delivery in sandbox.deliveries}
    assert sandbox.forwards[0].file_id == by_number[latest]


def test_4_processes_refresh_at_once(processes: list[Process], sandbox: Sandbox, url: str) -> None:
    processes[0].do("send", url=url, sends=[["wx_sandbox_0", "wxid_0"]])
    processes[0].do("results")
    plan = sandbox.fail(Fault.hold(), route="upload")
    processes[0].do("send", url=url, sends=[["wx_sandbox_leader", "wxid_leader"]], refresh=True)
    plan.wait_reached()
    for place, process in enumerate(processes):
        sends = [[f"wx_sandbox_{n}", f"wxid_{place}_{n}"] for n in range(_EACH)]
        process.do("send", url=url, sends=sends, refresh=True)
    assert processes[0].do("waiting", count=_EACH, following=False)
    assert all_do(processes[1:], "waiting", count=_EACH - 1, following=True) == [True] * 3
    plan.release()
    routes = Counter(route for process in processes for route in process.results())
    # The first, the leader's, and one for all who called after the leader's had begun.
    assert routes == {"upload": 3, "forward": 4 * _EACH - 1}
    assert len(uploads(sandbox)) == 3
    assert sandbox.duplicates() == []


# --- several images ----------------------------------------------------------------------------------------


def test_two_images_do_not_wait_for_each_other(crew: Crew, sandbox: Sandbox, url: str) -> None:
    other = sandbox.make_image("other.png", width=30, height=20)
    plan = sandbox.fail(Fault.hold(), route="upload", app_id="wx_sandbox_1")
    held = [crew.send("wxid_1", url, app_id="wx_sandbox_1")]
    plan.wait_reached()
    held.append(crew.send("wxid_2", url, app_id="wx_sandbox_2"))
    until(lambda: waiters(crew.parts) == 1)
    free = [crew.send("wxid_3", other, app_id="wx_sandbox_3"), crew.send("wxid_4", other, app_id="wx_sandbox_2")]
    assert sorted(outcomes(free)) == ["forward", "upload"]
    assert not any(send.done() for send in held)
    plan.release()
    assert outcomes(held) == ["upload", "forward"]
