"""How the upload that many wait for ends, and what each of those who wait gets."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache import GeweUnreachable, Image, ImageRefused
from gewe_cache.sandbox import Fault
from tests.concurrency.crews import (
    PATIENCE,
    QUICK,
    Crews,
    Tasks,
    busy,
    delivered,
    held,
    is_idle,
    outcomes,
    queued,
    until,
    uploads,
    waiters,
)
from tests.concurrency.processes import all_do

if TYPE_CHECKING:
    from gewe_cache.sandbox import Plan, Sandbox
    from tests.concurrency.crews import Crew, Sent
    from tests.concurrency.processes import Process

_WAITERS = 12
_MD5 = "a" * 32

IMAGE_REFUSED = Fault.refuse()
TOKEN_REFUSED = Fault.refuse(msg="HTTP HEADER: X-GEWE-TOKEN=gone 不可用或已过期")
UNLISTED = Fault.refuse(data={"code": "-9", "msg": "系统繁忙"})
DEVICE_GONE = Fault.refuse(data={"code": "-1", "msg": "微信已离线"})
NOT_A_FRIEND = Fault.refuse(data={"code": "-2", "msg": "失败"})
TOO_FAST = Fault.refuse(data={"msg": "发送频率过快请稍后重试"})

_FAILURES = {
    "refused": (UNLISTED, "GeweRefused", "系统繁忙"),
    "unknown": (Fault.reset(delivered=False), "DeliveryUnknown", "unknown whether it was sent"),
    "unknown but sent": (Fault.reset(delivered=True), "DeliveryUnknown", "unknown whether it was sent"),
}


def _send_while_held(crew: Crew, sandbox: Sandbox, url: str, fault: Fault) -> tuple[Plan, Sent, list[Sent]]:
    """Have a leader's upload held, and others from devices of their own wait for it."""
    plan = sandbox.fail(held(fault), route="upload", to_wxid="wxid_leader")
    leader = crew.send("wxid_leader", url, app_id="wx_sandbox_leader")
    plan.wait_reached()
    others = [crew.send(f"wxid_{n}", url, app_id=f"wx_sandbox_{n}") for n in range(_WAITERS)]
    until(lambda: waiters(crew.parts) == _WAITERS)
    return plan, leader, others


@pytest.mark.parametrize(
    ("fault", "error"), [(IMAGE_REFUSED, "ImageRefused"), (TOKEN_REFUSED, "TokenRefused")], ids=["image", "token"]
)
def test_what_concerns_all_is_shared_by_all(crew: Crew, sandbox: Sandbox, url: str, fault: Fault, error: str) -> None:
    plan, leader, others = _send_while_held(crew, sandbox, url, fault)
    plan.release()
    assert set(outcomes([leader, *others])) == {error}
    assert len({id(send.exception()) for send in [leader, *others]}) == _WAITERS + 1  # each its own traceback
    assert len(sandbox.calls) == 1
    assert is_idle(crew.parts)


@pytest.mark.parametrize(
    ("fault", "error"), [(IMAGE_REFUSED, "ImageRefused"), (TOKEN_REFUSED, "TokenRefused")], ids=["image", "token"]
)
def test_those_who_queued_for_the_lane_share_it_too(
    crew: Crew, sandbox: Sandbox, url: str, fault: Fault, error: str
) -> None:
    sends, busy = _queue_for_one_lane(crew, sandbox, url)
    sandbox.fail(fault, route="upload", times=None)
    busy.release()
    assert Counter(outcomes(sends)) == {error: _WAITERS}
    assert len(uploads(sandbox)) == 2  # the other image's, and one
    assert is_idle(crew.parts)


@pytest.mark.parametrize(("fault", "error", "words"), _FAILURES.values(), ids=list(_FAILURES))
def test_those_who_queued_for_the_lane_try_once_more_and_no_more(
    crew: Crew, sandbox: Sandbox, url: str, fault: Fault, error: str, words: str
) -> None:
    sends, busy = _queue_for_one_lane(crew, sandbox, url)
    sandbox.fail(fault, route="upload", times=None)
    busy.release()
    assert Counter(outcomes(sends)) == {error: 2, "GeweUnreachable": _WAITERS - 2}
    assert words in str([send.exception() for send in sends])
    assert len(uploads(sandbox)) == 3


def _queue_for_one_lane(crew: Crew, sandbox: Sandbox, url: str) -> tuple[list[Sent], Plan]:
    """Have sends of one image queue for one device, before any of them is a leader."""
    busy = sandbox.fail(Fault.hold(), route="upload", to_wxid="wxid_busy")
    crew.send("wxid_busy", sandbox.make_image("other.png", width=30, height=20), app_id="wx_sandbox_0")
    busy.wait_reached()
    sends = [crew.send(f"wxid_{n}", url, app_id="wx_sandbox_0") for n in range(_WAITERS)]
    until(lambda: queued(crew.parts, "wx_sandbox_0") == _WAITERS)
    return sends, busy


def test_whose_image_is_elsewhere_does_not_share_what_was_said_of_the_leaders_url(
    crew: Crew, sandbox: Sandbox, url: str
) -> None:
    """An md5 is the key: the leader's URL is dead, which says nothing of another one."""
    dead = f"{url}?dead"
    plan = sandbox.fail(held(IMAGE_REFUSED), route="upload", to_wxid="wxid_leader")
    leader = crew.send("wxid_leader", Image(url=dead, md5=_MD5), app_id="wx_sandbox_leader")
    plan.wait_reached()
    same = [crew.send(f"wxid_s{n}", Image(url=dead, md5=_MD5), app_id=f"wx_sandbox_s{n}") for n in range(3)]
    other = [crew.send(f"wxid_o{n}", Image(url=url, md5=_MD5), app_id=f"wx_sandbox_o{n}") for n in range(3)]
    until(lambda: waiters(crew.parts) == 6)
    plan.release()
    assert outcomes([leader, *same]) == ["ImageRefused"] * 4
    assert Counter(outcomes(other)) == {"upload": 1, "forward": 2}
    assert len(uploads(sandbox)) == 2
    assert delivered(sandbox) == ["wxid_o0", "wxid_o1", "wxid_o2"]


def test_who_calls_afterwards_is_not_refused_for_what_was_before(crew: Crew, sandbox: Sandbox, url: str) -> None:
    sandbox.fail(IMAGE_REFUSED, route="upload")
    assert outcomes([crew.send("wxid_1", url)]) == ["ImageRefused"]
    assert outcomes([crew.send("wxid_1", url)]) == ["upload"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [(DEVICE_GONE, "DeviceUnavailable"), (NOT_A_FRIEND, "RecipientUnavailable"), (TOO_FAST, "TooFast")],
    ids=["device", "recipient", "pace"],
)
def test_after_what_concerns_the_leader_alone_the_next_takes_over(
    crew: Crew, sandbox: Sandbox, url: str, fault: Fault, error: str
) -> None:
    plan, leader, others = _send_while_held(crew, sandbox, url, fault)
    plan.release()
    assert outcomes([leader]) == [error]
    assert Counter(outcomes(others)) == {"upload": 1, "forward": _WAITERS - 1}
    assert len(uploads(sandbox)) == 2


def test_taking_over_has_no_limit_of_two(crew: Crew, sandbox: Sandbox, url: str) -> None:
    plan, leader, others = _send_while_held(crew, sandbox, url, DEVICE_GONE)
    sandbox.fail(DEVICE_GONE, route="upload", times=5)
    plan.release()
    assert outcomes([leader]) == ["DeviceUnavailable"]
    assert Counter(outcomes(others)) == {"DeviceUnavailable": 5, "upload": 1, "forward": _WAITERS - 6}


def test_after_an_upload_without_cdn_information_the_next_takes_over(crew: Crew, sandbox: Sandbox, url: str) -> None:
    plan, leader, others = _send_while_held(crew, sandbox, url, Fault.patch(aesKey=None))
    plan.release()
    assert outcomes([leader]) == ["upload"]
    assert leader.result().image is None
    assert Counter(outcomes(others)) == {"upload": 1, "forward": _WAITERS - 1}
    assert len(sandbox.deliveries) == _WAITERS + 1
    assert sandbox.duplicates() == []


@pytest.mark.parametrize(("fault", "error", "words"), _FAILURES.values(), ids=list(_FAILURES))
def test_after_a_failure_one_other_may_try(
    crew: Crew, sandbox: Sandbox, url: str, fault: Fault, error: str, words: str
) -> None:
    del words
    plan, leader, others = _send_while_held(crew, sandbox, url, fault)
    plan.release()
    assert outcomes([leader]) == [error]
    assert Counter(outcomes(others)) == {"upload": 1, "forward": _WAITERS - 1}
    assert len(uploads(sandbox)) == 2
    assert sandbox.duplicates() == []


@pytest.mark.parametrize(("fault", "error", "words"), _FAILURES.values(), ids=list(_FAILURES))
def test_after_two_failures_the_others_get_an_end_that_says_how(
    crew: Crew, sandbox: Sandbox, url: str, fault: Fault, error: str, words: str
) -> None:
    plan, leader, others = _send_while_held(crew, sandbox, url, fault)
    sandbox.fail(fault, route="upload", times=None)
    plan.release()
    assert outcomes([leader]) == [error]
    assert Counter(outcomes(others)) == {error: 1, "GeweUnreachable": _WAITERS - 1}
    assert len(uploads(sandbox)) == 2
    for other in others:
        if isinstance(ended := other.exception(), GeweUnreachable):
            assert str(ended).startswith("Nothing was sent to wxid_")
            assert words in str(ended)


def test_an_unreached_gewe_is_tried_by_one_other(crew: Crew, sandbox: Sandbox, url: str) -> None:
    """The leader queues for its lane with GeWe up, and finds it gone; so does the one who tries next."""
    sends, busy = _queue_for_one_lane(crew, sandbox, url)
    del busy
    sandbox.stop()  # cuts the held call; its device's lane is free
    try:
        kinds = Counter(outcomes(sends))
    finally:
        sandbox.start()
    assert kinds == {"GeweUnreachable": _WAITERS}
    words = [str(send.exception()) for send in sends]
    assert sum(word.startswith("GeWe could not be reached") for word in words) == 2
    assert sum("GeWe could not be reached. Send again." in word for word in words) == _WAITERS - 2
    assert outcomes([crew.send("wxid_later", url)]) == ["upload"]


def test_a_leader_cancelled_while_its_upload_is_out_brings_the_image_all_the_same(
    crews: Crews, sandbox: Sandbox, url: str
) -> None:
    crew = crews.make("tasks")
    plan, leader, others = _send_while_held(crew, sandbox, url, Fault.hold())
    assert leader.cancel()
    plan.release()
    assert outcomes(others) == ["forward"] * _WAITERS
    assert len(uploads(sandbox)) == 1
    assert delivered(sandbox) == sorted(["wxid_leader", *(f"wxid_{n}" for n in range(_WAITERS))])


def test_waiters_cancelled_take_nobody_along(crews: Crews, sandbox: Sandbox, url: str) -> None:
    crew = crews.make("tasks")
    plan, leader, others = _send_while_held(crew, sandbox, url, Fault.hold())
    assert all(other.cancel() for other in others[::2])
    plan.release()
    assert outcomes([leader, *others[1::2]]) == ["upload"] + ["forward"] * (_WAITERS // 2)
    assert len(sandbox.calls) == 1 + _WAITERS // 2


def test_a_leader_that_runs_out_of_time_waiting_for_gewe_fails_one_flight_only(
    crews: Crews, sandbox: Sandbox, url: str
) -> None:
    crew = crews.make("tasks")
    assert isinstance(crew, Tasks)
    plan = sandbox.fail(Fault.hold(), route="upload", to_wxid="wxid_leader")
    limit = asyncio.Timeout(None)
    leader = crew.send_within(limit, "wxid_leader", url, "wx_sandbox_leader")
    plan.wait_reached()
    others = [crew.send(f"wxid_{n}", url, app_id=f"wx_sandbox_{n}") for n in range(_WAITERS)]
    crew.run_out(limit)
    assert isinstance(leader.exception(PATIENCE), TimeoutError)
    until(lambda: waiters(crew.parts) == _WAITERS)
    plan.release()
    assert outcomes(others) == ["forward"] * _WAITERS
    assert len(sandbox.deliveries) == _WAITERS + 1


def test_one_who_watches_another_process_for_all_may_leave(sandbox: Sandbox, url: str, shared_database: str) -> None:
    """Two senders on one database, as two processes are; one after the other who polls it is cancelled."""
    with Crews(sandbox, shared_database) as crews:
        there, here = crews.make("threads"), crews.make("tasks")
        plan = sandbox.fail(Fault.hold(), route="upload", to_wxid="wxid_leader")
        leader = there.send("wxid_leader", url, app_id="wx_sandbox_leader")
        plan.wait_reached()
        followers = []
        for number in range(4):
            followers.append(here.send(f"wxid_{number}", url, app_id=f"wx_sandbox_{number}"))
            until(lambda others=number: waiters(here.parts) == others and busy(here.parts) == {"wx_sandbox_leader"})  # type: ignore[misc]
        for left in (3, 2, 1):
            assert followers[3 - left].cancel()  # who has waited longest is the one who watches
            until(lambda others=left - 1: waiters(here.parts) == others and busy(here.parts) == {"wx_sandbox_leader"})  # type: ignore[misc]
        plan.release()
        assert outcomes([leader, followers[-1]]) == ["upload", "forward"]
        assert len(sandbox.calls) == 2


# --- between processes: through the lease ------------------------------------------------------------------

_OTHERS = 3


def _hold_between_processes(
    processes: list[Process], sandbox: Sandbox, url: str, fault: Fault, who: int = 2, **options: Any
) -> tuple[Plan, list[Process]]:
    """Have the first process's upload held, and 3 sends of each of the next ``who`` wait for it."""
    plan = sandbox.fail(held(fault), route="upload", to_wxid="wxid_leader")
    processes[0].do("send", url=url, sends=[["wx_sandbox_leader", "wxid_leader"]], **options)
    plan.wait_reached()
    followers = processes[1 : 1 + who]
    for place, process in enumerate(followers):
        sends = [[f"wx_sandbox_{place}_{n}", f"wxid_{place}_{n}"] for n in range(_OTHERS)]
        process.do("send", url=url, sends=sends, **options)
    assert all_do(followers, "waiting", count=_OTHERS - 1, following=True) == [True] * who
    return plan, followers


@pytest.mark.parametrize(
    ("fault", "error"), [(IMAGE_REFUSED, "ImageRefused"), (TOKEN_REFUSED, "TokenRefused")], ids=["image", "token"]
)
def test_what_concerns_all_is_shared_between_processes(
    processes: list[Process], sandbox: Sandbox, url: str, fault: Fault, error: str
) -> None:
    plan, followers = _hold_between_processes(processes, sandbox, url, fault, who=3)
    plan.release()
    assert processes[0].results() == [error]
    assert [outcome for process in followers for outcome in process.results()] == [error] * 3 * _OTHERS
    assert len(sandbox.calls) == 1
    assert processes[1].do("results")[0]["words"] == processes[0].do("results")[0]["words"]


def test_after_the_leaders_own_trouble_another_process_takes_over(
    processes: list[Process], sandbox: Sandbox, url: str
) -> None:
    plan, followers = _hold_between_processes(processes, sandbox, url, NOT_A_FRIEND)
    plan.release()
    assert processes[0].results() == ["RecipientUnavailable"]
    routes = Counter(route for process in followers for route in process.results())
    assert routes == {"upload": 1, "forward": 2 * _OTHERS - 1}
    assert len(uploads(sandbox)) == 2


@pytest.mark.parametrize(("fault", "error", "words"), _FAILURES.values(), ids=list(_FAILURES))
def test_after_a_failure_another_process_may_try_once(
    processes: list[Process], sandbox: Sandbox, url: str, fault: Fault, error: str, words: str
) -> None:
    plan, (follower,) = _hold_between_processes(processes, sandbox, url, fault, who=1)
    sandbox.fail(fault, route="upload", times=None)
    plan.release()
    assert processes[0].results() == [error]
    results = follower.do("results")
    assert Counter(result["outcome"] for result in results) == {error: 1, "GeweUnreachable": _OTHERS - 1}
    assert all(words in result["words"] for result in results if result["outcome"] == "GeweUnreachable")
    assert len(uploads(sandbox)) == 2


def test_a_token_refused_is_not_shared_with_another_token(
    processes: list[Process], sandbox: Sandbox, url: str, shared_database: str
) -> None:
    sandbox.add_tokens("sandbox-token-2")
    for process, token in zip(processes[:2], [sandbox.token, "sandbox-token-2"], strict=True):
        process.do("close")
        process.open(sandbox, shared_database, token=token, scope="both")
        process.answer()
    plan, (follower,) = _hold_between_processes(processes, sandbox, url, TOKEN_REFUSED, who=1)
    plan.release()
    assert processes[0].results() == ["TokenRefused"]
    assert Counter(follower.results()) == {"upload": 1, "forward": _OTHERS - 1}


def test_a_url_refused_is_not_shared_between_processes_with_who_has_another(
    processes: list[Process], sandbox: Sandbox, url: str
) -> None:
    dead = f"{url}?dead"
    plan, (same,) = _hold_between_processes(processes, sandbox, dead, IMAGE_REFUSED, who=1, md5=_MD5)
    other = processes[2]
    other.do("send", url=url, md5=_MD5, sends=[[f"wx_sandbox_o{n}", f"wxid_o{n}"] for n in range(_OTHERS)])
    assert other.do("waiting", count=_OTHERS - 1, following=True)
    plan.release()
    assert processes[0].results() == ["ImageRefused"]
    assert Counter(other.results()) == {"upload": 1, "forward": _OTHERS - 1}
    assert set(same.results()) <= {"ImageRefused", "forward"}  # who asks late finds what the others have brought
    assert len(uploads(sandbox)) == 2
    assert sandbox.duplicates() == []


def test_who_queued_for_a_lane_meanwhile_learns_of_it_from_the_row(
    processes: list[Process], sandbox: Sandbox, url: str, shared_database: str
) -> None:
    """Another process is refused while this one's only send still waits for its device."""
    with Crews(sandbox, shared_database) as crews:
        crew = crews.make("tasks", QUICK)
        sends, busy = _queue_for_one_lane(crew, sandbox, url)
        sandbox.fail(IMAGE_REFUSED, route="upload", times=None)
        processes[0].do("send", url=url, sends=[["wx_sandbox_leader", "wxid_leader"]])
        assert processes[0].results() == ["ImageRefused"]
        busy.release()
        assert set(outcomes(sends)) == {"ImageRefused"}
        assert len(uploads(sandbox)) == 2  # the other image's, and the other process's
        late = crew.send("wxid_late", url, app_id="wx_sandbox_late")
        assert isinstance(late.exception(PATIENCE), ImageRefused)
        assert len(uploads(sandbox)) == 3  # who calls afterwards asks GeWe itself
