"""One lane as its worker sees it: what slows it down, and what stops it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from gewe_cache import Pace
from gewe_cache.broadcast.lane import TOO_FAST_IN_A_ROW, Lane, longest_pause
from gewe_cache.broadcast.outcomes import Verdict
from tests.broadcast.kit import NOON

if TYPE_CHECKING:
    from datetime import datetime

    from gewe_cache.broadcast.outcomes import Consequence

SENT = Verdict("sent", "go_on")
COUNTED = Verdict("unknown", "count", "no clear answer: reset")
TOO_FAST = Verdict("pending", "slow_down", "TooFast: ret 429: 频率过快")
DROPPED = Verdict("pending", "drop")


def pause_after(lane: Lane, verdict: Verdict, *, is_group: bool = False) -> float:
    """Give the seconds for which the lane rests."""
    ready_at, recent = lane.next(verdict, (NOON,), is_group=is_group)
    assert recent == (NOON,)
    return (ready_at - NOON).total_seconds()


def a_lane(pace: Pace | None = None) -> Lane:
    return Lane(pace or Pace((1, 1), (3, 3), None), "wx_1")


def test_it_rests_after_a_friend_and_after_a_group() -> None:
    lane = a_lane()
    assert pause_after(lane, SENT) == 1
    assert pause_after(lane, SENT, is_group=True) == 3
    assert lane.stopped is None


def test_a_send_that_was_dropped_before_its_call_counts_for_nothing() -> None:
    lane = a_lane()
    pause_after(lane, COUNTED)
    pause_after(lane, COUNTED)
    earlier, now = NOON - timedelta(seconds=3), NOON
    for _ in range(5):
        assert lane.next(DROPPED, (earlier, now), is_group=True) == (now, (earlier,))
        assert lane.next(DROPPED, (now,), is_group=True) == (now, ())
    assert lane.stopped is None
    pause_after(lane, COUNTED)
    assert lane.stopped is not None, "what was dropped does not interrupt a row of failures either"


def test_each_too_fast_doubles_the_pauses_up_to_eight_times() -> None:
    lane = a_lane(Pace((20, 20), (20, 20), None))
    slowed = []
    for _ in range(4):
        pause_after(lane, TOO_FAST)
        slowed.append(pause_after(lane, SENT))
    assert slowed == [40, 80, 160, 160]
    assert lane.stopped is None


def test_too_fast_in_a_row_waits_twice_as_long_each_time_and_stops_at_the_fifth() -> None:
    lane = a_lane()
    pauses = []
    for _ in range(4):
        pauses.append(pause_after(lane, TOO_FAST))
        assert lane.stopped is None
    assert pauses == [30, 60, 120, 240]
    pause_after(lane, TOO_FAST)
    assert lane.stopped == "refused as too fast 5 times in a row: TooFast: ret 429: 频率过快"


@pytest.mark.parametrize("between", [SENT, Verdict("refused", "go_on", "x"), COUNTED], ids=lambda each: each.state)
def test_anything_else_ends_a_row_of_too_fast(between: Verdict) -> None:
    lane = a_lane()
    for _ in range(3):
        for _ in range(4):
            pause_after(lane, TOO_FAST)
        pause_after(lane, between)
        pause_after(lane, SENT)
    assert lane.stopped is None
    assert pause_after(lane, TOO_FAST) == 30


def test_three_failures_in_a_row_stop_it_with_the_last_reason() -> None:
    lane = a_lane()
    for verdict in (Verdict("refused", "count", "first"), Verdict("pending", "count", "second")):
        pause_after(lane, verdict)
        assert lane.stopped is None
    pause_after(lane, COUNTED)
    assert lane.stopped == "3 failures in a row, the last one: no clear answer: reset"


@pytest.mark.parametrize("consequence", ["go_on", "slow_down"])
def test_anything_else_ends_a_row_of_failures(consequence: Consequence) -> None:
    lane = a_lane()
    for _ in range(4):
        pause_after(lane, COUNTED)
        pause_after(lane, COUNTED)
        pause_after(lane, Verdict("sent", consequence))
    assert lane.stopped is None


def test_a_refused_token_or_device_stops_it_at_once() -> None:
    lane = a_lane()
    pause_after(lane, Verdict("pending", "stop_lane", "DeviceUnavailable: ret 500: 微信已离线"))
    assert lane.stopped == "DeviceUnavailable: ret 500: 微信已离线"


@pytest.mark.parametrize("pace", [Pace(), Pace.none(), Pace.every(0.1), Pace.every(3600), Pace.every(86_400)])
def test_no_lane_ever_rests_longer_than_the_longest_pause(pace: Pace) -> None:
    lane, longest = a_lane(pace), longest_pause(pace).total_seconds()
    for _ in range(7):
        assert pause_after(lane, TOO_FAST, is_group=True) <= longest
        assert pause_after(lane, SENT, is_group=True) <= longest
    for _ in range(TOO_FAST_IN_A_ROW):
        assert pause_after(lane, TOO_FAST, is_group=True) <= longest


def test_it_keeps_the_ends_of_the_last_minute_and_of_forty_sends() -> None:
    lane = a_lane(Pace((0, 0), (0, 0), 3))
    ends: tuple[datetime, ...] = (NOON - timedelta(hours=1), NOON - timedelta(seconds=60), NOON + timedelta(days=1))
    ready_at, kept = lane.next(SENT, (*ends, NOON), is_group=False)
    assert (ready_at, kept) == (NOON, (NOON,))
    for second in range(1, 6):
        ready_at, kept = lane.next(SENT, (*kept, NOON + timedelta(seconds=second)), is_group=False)
    assert kept == tuple(NOON + timedelta(seconds=second) for second in (3, 4, 5))
    assert ready_at == NOON + timedelta(seconds=63)
