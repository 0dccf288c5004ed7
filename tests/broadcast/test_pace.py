"""The pace: what may be asked for, and that a whole broadcast keeps it to the microsecond."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import islice, pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache import Pace
from gewe_cache.broadcast.lane import longest_pause
from gewe_cache.broadcast.pace import MINUTE
from gewe_cache.store.ledger import make_lanes, take_turn
from tests.broadcast.kit import NOON, TimedTransport, lanes_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Row

    from gewe_cache import Delivery
    from tests.broadcast.kit import Bench

SEED = 20260310
CALLS = (0.25, 0.0, 1.75, 0.125)
FAST_CALLS = (0.000123, 0.000777)


def test_gewes_advice_is_the_default() -> None:
    assert Pace.gewe() == Pace()
    assert (Pace().after_friend, Pace().after_group, Pace().most_in_a_minute) == ((1.0, 1.0), (2.0, 5.0), 40)
    assert Pace.gewe(seed=3).seed == 3
    assert Pace().seed is None


def test_no_pace_and_an_even_one() -> None:
    assert Pace.none().estimate(1000, 1000) == timedelta(0)
    assert Pace.every(7).estimate(10, 10) == timedelta(seconds=140)
    for pace in (Pace.none(), Pace.every(7)):
        assert pace.most_in_a_minute is None


@pytest.mark.parametrize("pace", [Pace(), Pace.none(), Pace.every(0.5), Pace((1, 2), (3, 4.5), 7, seed=-9)])
def test_a_pace_survives_the_ledger(pace: Pace) -> None:
    assert Pace.from_json(pace.to_json()) == pace
    assert json.loads(pace.to_json()).keys() == {"after_friend", "after_group", "most_in_a_minute", "seed"}


def test_whole_numbers_and_lists_are_taken() -> None:
    pace = Pace([1, 2], (0, 0))  # type: ignore[arg-type]
    assert (pace.after_friend, pace.after_group) == ((1.0, 2.0), (0.0, 0.0))
    assert hash(pace) == hash(Pace((1.0, 2.0), (0.0, 0.0)))


@pytest.mark.parametrize("name", ["after_friend", "after_group"])
@pytest.mark.parametrize(
    "bad",
    [
        (2, 1),
        (-1, 1),
        (0, 86_401),
        (float("nan"), 1),
        (1, float("nan")),
        (0, float("inf")),
        (1,),
        (1, 2, 3),
        3,
        None,
        "12",
        ("1", "2"),
        (True, True),
        {1: 2, 3: 4},
    ],
    ids=repr,
)
def test_an_unusable_range_is_named(name: str, bad: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}: pass two numbers of seconds, the smaller first, from 0 to 86400"):
        Pace(**{name: bad})


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), 86_401, "5", None])
def test_an_unusable_even_pace_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="pass two numbers of seconds"):
        Pace.every(bad)


@pytest.mark.parametrize("bad", [0, -1, 1.5, "40", True])
def test_an_unusable_limit_is_named(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^most_in_a_minute: pass a whole number of at least 1"):
        Pace(most_in_a_minute=bad)


@pytest.mark.parametrize("bad", [1.5, "7", True])
def test_an_unusable_seed_is_named(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^seed: pass a whole number, or None"):
        Pace(seed=bad)


def test_a_seed_repeats_the_pauses_of_a_device_and_gives_others_their_own() -> None:
    def drawn(seed: int | None, app_id: str) -> list[timedelta]:
        pauses = Pace.gewe(seed).pauses(app_id)
        return [pauses.after(is_group=True) for _ in range(20)]

    assert drawn(1, "wx_1") == drawn(1, "wx_1")
    assert len({tuple(drawn(seed, device)) for seed in (1, 2, None) for device in ("wx_1", "wx_2")}) == 6
    assert all(timedelta(seconds=2) <= pause <= timedelta(seconds=5) for pause in drawn(1, "wx_1"))


def test_five_hundred_groups_take_about_half_an_hour() -> None:
    assert Pace.gewe().estimate(0, 500) == timedelta(minutes=29, seconds=10)


def test_friends_are_held_up_by_the_limit_of_a_minute() -> None:
    assert Pace.gewe().estimate(400, 0) == timedelta(minutes=10)
    assert Pace((1, 1), (2, 5), None).estimate(400, 0) == timedelta(seconds=400)


def test_the_longest_wait_covers_every_pause_of_a_lane() -> None:
    assert Pace.gewe().longest == MINUTE
    assert Pace.every(90).longest == timedelta(seconds=90)
    assert longest_pause(Pace.every(3600)) >= timedelta(hours=1)


def mixed(friends: int = 100, groups: int = 100) -> list[str]:
    """Give friends and groups in any order."""
    recipients = [f"wxid_{number}" for number in range(friends)] + [f"{number}@chatroom" for number in range(groups)]
    Random(SEED).shuffle(recipients)  # noqa: S311
    return recipients


def pauses(rows: Sequence[Row[Any]], app_id: str, runs: Sequence[int]) -> Iterator[timedelta]:
    """Draw the pause after each send; ``runs``: how many were sent in each run, which draws anew."""
    sent = iter(rows)
    for sends in runs:
        source = Random(f"{SEED}:{app_id}")  # noqa: S311
        for row in islice(sent, sends):
            yield timedelta(seconds=source.uniform(2, 5) if row.is_group else source.uniform(1, 1))


def check_pace(rows: Sequence[Row[Any]], app_id: str, runs: Sequence[int]) -> int:
    """Hold every start against GeWe's advice; give how many waited for the minute to pass."""
    assert sum(runs) == len(rows)
    waited = 0
    drawn = pauses(rows, app_id, runs)
    for place, (before, row) in enumerate(pairwise(rows), 1):
        due = before.ended_at + next(drawn)
        free = rows[place - 40].ended_at + timedelta(seconds=60) if place >= 40 else due
        waited += free > due
        assert row.started_at == max(due, free), f"send {place}"
    return waited


@pytest.mark.parametrize("calls", [CALLS, FAST_CALLS], ids=["slow calls", "fast calls"])
def test_a_hundred_groups_and_a_hundred_friends_follow_gewes_advice_exactly(
    bench: Bench, calls: tuple[float, ...]
) -> None:
    recipients = mixed()
    found = bench.begin(recipients, Pace.gewe(SEED))
    ended = bench.run(found.id, transport=TimedTransport(bench.clock, *calls))
    rows = bench.rows(found.id)
    assert (ended.sent, ended.pending) == (200, 0)
    assert bench.reached() == recipients
    assert len(bench.sandbox.uploads) == 1
    assert all(row.ended_at >= row.started_at for row in rows)
    check_pace(rows, bench.sandbox.app_id, [200])


def test_friends_alone_wait_for_the_minute(bench: Bench) -> None:
    found = bench.begin([f"wxid_{number}" for number in range(100)], Pace.gewe(SEED))
    bench.run(found.id, transport=TimedTransport(bench.clock, *FAST_CALLS))
    assert check_pace(bench.rows(found.id), bench.sandbox.app_id, [100]) >= 2
    assert bench.clock.now() - NOON < timedelta(minutes=3)


def test_each_device_keeps_its_own_pace(bench: Bench) -> None:
    devices = [f"wx_sandbox_{number}" for number in range(1, 4)]
    found = bench.begin([(device, to) for to in mixed(10, 10) for device in devices if "@" not in to], Pace.gewe(SEED))
    bench.run(found.id)
    for device in devices:
        rows = [row for row in bench.rows(found.id) if row.app_id == device]
        check_pace(rows, device, [10])
    assert bench.clock.now() - NOON < timedelta(seconds=12)


def test_a_resume_keeps_the_pace(bench: Bench) -> None:
    """The minute that began in one run holds in the next, and so does the last pause."""
    found = bench.begin([f"wxid_{number}" for number in range(90)], Pace.gewe(SEED))
    runs = []
    for most in (45, 1, 30, 90):
        stop = StopAfter(bench, most)
        bench.run(found.id, transport=TimedTransport(bench.clock, *FAST_CALLS), on_delivery=stop)
        runs.append(stop.sent)
    assert runs[:3] == [45, 1, 30]
    assert sum(runs) == 90
    assert check_pace(bench.rows(found.id), bench.sandbox.app_id, runs) >= 2


def test_another_broadcast_of_the_device_keeps_the_pace_too(bench: Bench) -> None:
    first = bench.begin([f"{number}@chatroom" for number in range(3)], Pace.gewe(SEED))
    bench.run(first.id)
    second = bench.begin(["wxid_other"], Pace.gewe(SEED))
    bench.run(second.id)
    rows = [*bench.rows(first.id), *bench.rows(second.id)]
    check_pace(rows, bench.sandbox.app_id, [3, 1])


def test_a_worker_that_was_killed_over_a_send_costs_a_whole_pause(bench: Bench) -> None:
    """Nobody knows when that send ended; the next one waits for the longest pause all the same."""
    bench.cache_poster()
    bench.clock.advance(120)
    found = bench.begin(["wxid_a", "wxid_b"], pace := Pace.every(90))
    killed = bench.opened._worker(found, pace)
    with bench.database.writer.begin() as connection:
        make_lanes(connection, killed, bench.clock.now())
        turn = take_turn(connection, killed, bench.clock.now(), [], room=1, stopped=[], busy=[], tend=True)
    assert [claim.to_wxid for claim in turn.claims] == ["wxid_a"]
    bench.run(found.id)
    assert bench.states(found.id) == {"wxid_a": "unknown", "wxid_b": "sent"}
    assert bench.rows(found.id)[1].started_at == turn.now + timedelta(seconds=90)


def test_a_killed_worker_counts_for_the_minute_too(bench: Bench) -> None:
    bench.cache_poster()
    bench.clock.advance(120)
    found = bench.begin([f"wxid_{number}" for number in range(45)], pace := Pace((0, 0), (0, 0), 40))
    stop = StopAfter(bench, 39)
    bench.run(found.id, on_delivery=stop)
    assert stop.sent == 39
    killed = bench.opened._worker(found, pace)
    with bench.database.writer.begin() as connection:
        take_turn(connection, killed, bench.clock.now(), [], room=1, stopped=[], busy=[], tend=True)
    bench.run(found.id)
    rows = bench.rows(found.id)
    assert [row.state for row in rows] == ["sent"] * 39 + ["unknown"] + ["sent"] * 5
    assert rows[40].started_at == rows[0].ended_at + timedelta(seconds=60)


@pytest.mark.parametrize("seconds", [20, 600, 86_400], ids=["20 s", "10 min", "a day"])
def test_a_clock_that_is_set_back_holds_no_lane_for_long(bench: Bench, seconds: int) -> None:
    found = bench.begin([f"{number}@chatroom" for number in range(60)], pace := Pace.gewe(SEED))

    def set_back(delivery: Delivery) -> None:
        if delivery.number == 30:
            bench.clock.wall -= timedelta(seconds=seconds)

    began = bench.clock.monotonic()
    ended = bench.run(found.id, on_delivery=set_back)
    assert ended.sent == 60
    assert bench.sandbox.duplicates() == []
    assert bench.clock.monotonic() - began < 300 + min(seconds, longest_pause(pace).total_seconds())


def test_a_clock_that_is_set_back_between_two_runs_holds_no_lane(bench: Bench) -> None:
    found = bench.begin([f"{number}@chatroom" for number in range(6)], Pace.gewe(SEED))
    bench.run(found.id, on_delivery=StopAfter(bench, 3))
    bench.clock.wall -= timedelta(days=1)
    began = bench.clock.monotonic()
    assert bench.run(found.id).sent == 6
    assert bench.clock.monotonic() - began < 30
    (lane,) = lanes_in(bench.database).values()
    assert lane.ready_at < bench.clock.now() + timedelta(seconds=6)


class StopAfter:
    """Stop the run as Ctrl-C does, once so many are sent."""

    def __init__(self, bench: Bench, most: int) -> None:
        self._bench = bench
        self._most = most
        self.sent = 0

    def __call__(self, delivery: Delivery) -> None:
        self.sent += delivery.state == "sent"
        if self.sent >= self._most:
            self._bench.opened.stop()
