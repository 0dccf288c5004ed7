"""What each end of a send means: for its delivery, for its lane, and for what is left."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from gewe_cache import Image, ImageRefused, InvalidImage, Pace
from gewe_cache.broadcast.recipients import from_items
from gewe_cache.sandbox import Fault
from gewe_cache.settings import utc_now
from tests.broadcast.kit import NOON
from tests.store.rows import add_entry

if TYPE_CHECKING:
    from gewe_cache import Broadcast, Delivery
    from tests.broadcast.kit import Bench

ONE, TWO = "wx_sandbox_1", "wx_sandbox_2"
OF_ONE = ["wxid_a", "wxid_b", "2@chatroom", "wxid_d", "wxid_e"]
OF_TWO = ["wxid_x", "9@chatroom"]
EVERYBODY = [*((ONE, to) for to in OF_ONE), *((TWO, to) for to in OF_TWO)]

RECIPIENT = {
    "-219": (Fault.refuse(500, "发送失败", {"code": "-219"}), "wxid_b"),
    "-104": (Fault.refuse(500, "发送失败", {"code": "-104"}), "2@chatroom"),
    "-2 of a friend": (Fault.refuse(500, "发送失败", {"code": "-2"}), "wxid_b"),
}
STOPS_THE_LANE = {
    "TokenRefused": Fault.refuse(500, "HTTP HEADER: X-GEWE-TOKEN 不可用或已过期"),
    "TokenRefused: ret 401": Fault.refuse(401, "no", status=401),
    "DeviceUnavailable": Fault.refuse(500, "设备不存在"),
    "DeviceUnavailable: ret 500": Fault.refuse(500, "微信已离线"),
}
UNKNOWN = {
    "reset, delivered": Fault.reset(delivered=True),
    "reset, not delivered": Fault.reset(delivered=False),
    "closed": Fault.close(delivered=True),
    "cut off": Fault.cut(5),
    "garbage": Fault.answer(b"<html>"),
    "a gateway's": Fault.answer(b"bad gateway", 502),
    "a time-out's words": Fault.refuse(500, "请求超时", delivered=True),
    "failed without an id": Fault.refuse(200, "发送失败", delivered=True),
}
TOO_FAST = Fault.refuse(500, "操作过于频繁")
PLAIN = Fault.refuse(500, "系统繁忙")


@pytest.fixture(autouse=True)
def _cached(bench: Bench) -> None:
    bench.cache_poster()


def begun(bench: Bench) -> Broadcast:
    return bench.begin(EVERYBODY)


def calls_to(bench: Bench, to_wxid: str) -> int:
    return sum(call.to_wxid == to_wxid for call in bench.sandbox.calls)


def states_but(states: dict[str, str], *others: str) -> set[str]:
    """Give the states of all recipients but these."""
    return {state for to_wxid, state in states.items() if to_wxid not in others}


def reason_of(bench: Bench, found: Broadcast, to_wxid: str) -> str:
    (row,) = (row for row in bench.rows(found.id) if row.to_wxid == to_wxid)
    return str(row.reason)


def test_all_is_sent(bench: Bench) -> None:
    ended = bench.run(begun(bench).id)
    assert (ended.sent, ended.recipients, ended.stopped) == (7, 7, {})
    assert sorted(bench.reached()) == sorted([*OF_ONE, *OF_TWO])
    for row in bench.rows(ended.id):
        (delivery,) = (each for each in bench.sandbox.deliveries if each.to_wxid == row.to_wxid)
        assert (row.state, row.route, row.new_msg_id) == ("sent", "forward", str(delivery.new_msg_id))
        assert (row.app_id, row.reason) == (delivery.app_id, None)


@pytest.mark.parametrize(("fault", "to_wxid"), RECIPIENT.values(), ids=RECIPIENT.keys())
def test_a_refused_recipient_is_marked_and_the_lane_goes_on(bench: Bench, fault: Fault, to_wxid: str) -> None:
    bench.sandbox.fail(fault, to_wxid=to_wxid, times=None)
    found = begun(bench)
    ended = bench.run(found.id)
    assert (ended.sent, ended.refused, ended.stopped) == (6, 1, {})
    assert bench.states(found.id)[to_wxid] == "refused"
    assert reason_of(bench, found, to_wxid).startswith("RecipientUnavailable: ret 500: 发送失败")
    assert to_wxid not in bench.reached()
    bench.sandbox.heal()
    bench.run(found.id)
    assert calls_to(bench, to_wxid) == 1, "a resume does not try it again"


def test_refused_recipients_in_a_row_stop_nothing(bench: Bench) -> None:
    bench.sandbox.fail(Fault.refuse(500, "发送失败", {"code": "-219"}), times=None)
    ended = bench.run(begun(bench).id)
    assert (ended.refused, ended.pending, ended.stopped) == (7, 0, {})


@pytest.mark.parametrize(("words", "fault"), STOPS_THE_LANE.items(), ids=STOPS_THE_LANE.keys())
def test_a_refused_token_or_device_stops_its_lane_and_marks_nobody(bench: Bench, words: str, fault: Fault) -> None:
    bench.sandbox.fail(fault, to_wxid="wxid_b", times=None)
    found = begun(bench)
    ended = bench.run(found.id)
    assert (ended.sent, ended.pending, ended.refused, ended.unknown) == (3, 4, 0, 0)
    assert ended.stopped.keys() == {ONE}
    assert ended.stopped[ONE].startswith(words)
    assert reason_of(bench, found, "wxid_b") == ended.stopped[ONE]
    assert sorted(bench.reached()) == sorted(["wxid_a", *OF_TWO])
    assert [notice for notice in bench.notices if ONE in notice and "stays pending" in notice]
    bench.sandbox.heal()
    assert bench.run(found.id).sent == 7
    assert bench.sandbox.duplicates() == []


@pytest.mark.parametrize("fault", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_an_unknown_is_marked_never_resent_by_itself_and_resent_at_ones_word(bench: Bench, fault: Fault) -> None:
    bench.sandbox.fail(fault, to_wxid="wxid_b")
    found = begun(bench)
    ended = bench.run(found.id)
    assert (ended.sent, ended.unknown, ended.stopped) == (6, 1, {})
    assert bench.states(found.id)["wxid_b"] == "unknown"
    assert reason_of(bench, found, "wxid_b").startswith("no clear answer: ")
    for _ in range(2):
        assert bench.run(found.id).unknown == 1
    assert calls_to(bench, "wxid_b") == 1
    assert bench.opened.resend_unknown(found.id) == 1
    again = bench.run(found.id)
    assert (again.sent, again.unknown) == (7, 0)
    assert calls_to(bench, "wxid_b") == 2
    assert len(bench.sandbox.calls) == 8, "nobody else got anything again"


def test_unknowns_in_a_row_stop_the_lane_at_the_third(bench: Bench) -> None:
    bench.sandbox.fail(Fault.reset(delivered=True), app_id=ONE, times=None)
    found = begun(bench)
    ended = bench.run(found.id)
    assert (ended.unknown, ended.pending, ended.sent) == (3, 2, 2)
    assert ended.stopped[ONE].startswith("3 failures in a row, the last one: no clear answer: ")
    assert [state for _, state in sorted(bench.states(found.id).items()) if state == "pending"] == ["pending"] * 2
    bench.sandbox.heal()
    ended = bench.run(found.id)
    assert (ended.unknown, ended.pending, ended.sent) == (3, 0, 4)
    assert bench.sandbox.duplicates() == []


def test_unknowns_that_are_not_in_a_row_stop_nothing(bench: Bench) -> None:
    for to_wxid in ("wxid_a", "wxid_b", "wxid_d", "wxid_e"):
        bench.sandbox.fail(Fault.reset(delivered=False), to_wxid=to_wxid)
    ended = bench.run(begun(bench).id)
    assert (ended.unknown, ended.sent, ended.stopped) == (4, 3, {})


def test_three_tries_that_reach_nobody_stop_each_lane_and_mark_nobody(bench: Bench) -> None:
    bench.sandbox.stop()
    found = begun(bench)
    ended = bench.run(found.id)
    assert (ended.pending, ended.recipients) == (7, 7)
    assert ended.stopped.keys() == {ONE, TWO}
    assert all(why.startswith("3 failures in a row, the last one: GeWe could not be") for why in ended.stopped.values())
    assert reason_of(bench, found, "wxid_a").startswith("GeWe could not be reached")
    bench.sandbox.start()
    assert bench.run(found.id).sent == 7
    assert bench.sandbox.duplicates() == []


def test_a_call_that_was_not_made_is_made_again(bench: Bench) -> None:
    """A closed port for two tries, then an open one: the delivery is sent once."""
    bench.sandbox.stop()
    tries = 0

    def start_again(delivery: Delivery) -> None:
        nonlocal tries
        tries += delivery.state == "pending"
        if tries == 2 and not bench.sandbox.is_running:
            bench.sandbox.start()

    found = bench.begin(OF_ONE)
    ended = bench.run(found.id, on_delivery=start_again)
    assert (ended.sent, ended.stopped, tries) == (5, {}, 2)
    assert bench.reached() == OF_ONE


def test_a_refusal_without_a_known_reason_is_marked_and_the_third_in_a_row_stops_the_lane(bench: Bench) -> None:
    bench.sandbox.fail(PLAIN, app_id=ONE, times=None)
    found = begun(bench)
    ended = bench.run(found.id)
    assert (ended.refused, ended.pending, ended.sent) == (3, 2, 2)
    assert ended.stopped == {ONE: "3 failures in a row, the last one: GeweRefused: ret 500: 系统繁忙"}


def test_failures_of_several_kinds_count_together(bench: Bench) -> None:
    bench.sandbox.fail(PLAIN, to_wxid="wxid_a")
    bench.sandbox.fail(Fault.reset(delivered=True), to_wxid="wxid_b")
    bench.sandbox.fail(PLAIN, to_wxid="2@chatroom")
    ended = bench.run(begun(bench).id)
    assert (ended.refused, ended.unknown, ended.pending) == (2, 1, 2)
    assert ended.stopped.keys() == {ONE}


def test_a_too_fast_is_tried_again_later_and_more_slowly(bench: Bench) -> None:
    bench.sandbox.fail(TOO_FAST, to_wxid="wxid_b")
    found = bench.begin(OF_ONE, Pace.every(20))
    told: list[Delivery] = []
    began = bench.clock.now()
    ended = bench.run(found.id, on_delivery=told.append)
    assert (ended.sent, ended.stopped) == (5, {})
    assert [delivery.state for delivery in told] == ["sent", "pending", "sent", "sent", "sent", "sent"]
    assert told[1].reason == "TooFast: ret 500: 操作过于频繁"
    starts = [(row.started_at - began).total_seconds() for row in bench.rows(found.id)]
    assert starts == [0, 20 + 40, 100, 140, 180], "twice as slow from the refusal on"
    assert calls_to(bench, "wxid_b") == 2
    assert bench.sandbox.duplicates() == []


def test_five_too_fast_in_a_row_stop_the_lane(bench: Bench) -> None:
    bench.sandbox.fail(TOO_FAST, app_id=ONE, times=None)
    found = begun(bench)
    ended = bench.run(found.id)
    assert (ended.sent, ended.pending, ended.refused) == (2, 5, 0)
    assert ended.stopped == {ONE: "refused as too fast 5 times in a row: TooFast: ret 500: 操作过于频繁"}
    assert calls_to(bench, "wxid_a") == 5
    assert bench.clock.now() - NOON >= timedelta(seconds=30 + 60 + 120 + 240)
    bench.sandbox.heal()
    assert bench.run(found.id).sent == 7


def test_a_refused_image_stops_all_with_one_call(bench: Bench) -> None:
    recipients = from_items(EVERYBODY, None)
    plan = bench.opened.prepare(Image(url=f"{bench.sandbox.url}/images/none.png"), recipients, Pace.none())
    bench.opened.open(plan)
    with pytest.raises(ImageRefused):
        bench.run(plan.broadcast_id)
    found = bench.opened.find(plan.broadcast_id)
    assert (found.pending, found.recipients) == (7, 7)
    assert len(bench.sandbox.calls) == 1
    assert reason_of(bench, found, "wxid_a").startswith("ImageRefused: ret 500")
    assert {row.reason for row in bench.rows(found.id) if row.to_wxid != "wxid_a"} == {None}
    assert bench.sandbox.deliveries == []
    bench.sandbox.make_image("none.png")
    assert bench.run(found.id).sent == 7
    assert len(bench.sandbox.uploads) == 1


def test_an_image_that_was_forgotten_meanwhile_stops_all_without_a_call(bench: Bench) -> None:
    image = Image(url=bench.poster, md5="0" * 32)
    bench.opened.open(plan := bench.opened.prepare(image, from_items(["wxid_first"], ONE), Pace.none()), again=True)
    bench.run(plan.broadcast_id)
    calls = len(bench.sandbox.calls)
    known = Image(md5="0" * 32)
    bench.opened.open(plan := bench.opened.prepare(known, from_items(EVERYBODY, None), Pace.none()), again=True)
    bench.forget(known)
    with pytest.raises(InvalidImage, match="is not in the cache of this scope"):
        bench.run(plan.broadcast_id)
    assert len(bench.sandbox.calls) == calls
    assert bench.opened.find(plan.broadcast_id).pending == 7


def test_all_lanes_wait_for_one_upload(bench: Bench) -> None:
    other = bench.sandbox.make_image("other.png", seed=2)
    pairs = [(f"wx_sandbox_{number}", f"wxid_{number}") for number in range(10)]
    plan = bench.opened.prepare(Image(url=other), from_items(pairs, None), Pace.none())
    bench.opened.open(plan)
    held = bench.sandbox.fail(Fault.slow(0.1), route="upload")
    assert bench.run(plan.broadcast_id).sent == 10
    assert held.used == 1
    assert (len(bench.sandbox.uploads), len(bench.sandbox.forwards)) == (1, 9)


def test_an_expired_image_is_uploaded_once_for_all(bench: Bench) -> None:
    other = bench.sandbox.make_image("other.png", seed=2)
    add_entry(bench.database, other, scope=bench.opened.core.settings.scope, now=utc_now())  # GeWe knows no such file
    plan = bench.opened.prepare(Image(url=other), from_items(EVERYBODY, None), Pace.none())
    assert plan.is_cached
    bench.opened.open(plan)
    ended = bench.run(plan.broadcast_id)
    assert (ended.sent, ended.stopped) == (7, {})
    assert len(bench.sandbox.uploads) == 1
    assert bench.sandbox.duplicates() == []


def test_nobody_else_is_tried_after_an_error_of_ours(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no rule names may have gone out: it is unknown, and nothing more is tried."""

    def broken(*_: object, **__: object) -> None:
        msg = "a bug"
        raise ZeroDivisionError(msg)

    monkeypatch.setattr("gewe_cache.sending.flow.build_image_xml", broken)
    found = bench.begin(OF_ONE)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        bench.run(found.id)
    assert states_but(bench.states(found.id), "wxid_a") == {"pending"}
    assert bench.states(found.id)["wxid_a"] == "unknown"
    assert reason_of(bench, found, "wxid_a") == "a bug"
