"""Flights: one per key, and every waiter learns of the end, whoever else has left."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from gewe_cache import ImageRefused
from gewe_cache.sending.flight import Ending, Flight, Flights, Waiter
from tests.unit.making import an_entry

KEY, OTHER = b"k" * 32, b"o" * 32
LANDED = Ending("landed", entry=an_entry())


def begun(flights: Flights, digest: bytes = KEY) -> Flight:
    """Begin a flight that must be the first."""
    flight = Flight(digest)
    assert flights.begin(flight)
    return flight


def watching(flights: Flights, digest: bytes = KEY) -> Waiter:
    """Watch a flight that must be in the air."""
    waiter = flights.watch(digest)
    assert waiter is not None
    return waiter


def test_there_is_nothing_to_watch_before_a_flight_and_after_it() -> None:
    flights = Flights()
    assert flights.watch(KEY) is None
    flights.end(begun(flights))
    assert flights.watch(KEY) is None
    assert flights._in_the_air == {}


def test_a_key_has_one_flight_at_a_time() -> None:
    flights = Flights()
    first = begun(flights)
    assert not flights.begin(Flight(KEY))
    begun(flights, OTHER)
    flights.end(first)
    assert begun(flights).owner != first.owner


@pytest.mark.parametrize(
    "ending", [LANDED, Ending("refused", refusal=ImageRefused(500, "x")), Ending("take_over"), Ending("failed", "why")]
)
def test_the_end_tells_every_waiter(ending: Ending) -> None:
    flights = Flights()
    flight = begun(flights)
    waiters = [watching(flights) for _ in range(5)]
    begun(flights, OTHER)
    other = watching(flights, OTHER)
    assert not any(waiter.done() for waiter in waiters)
    flight.ending = ending
    flights.end(flight)
    assert [waiter.result(0) for waiter in waiters] == [ending] * 5
    assert not other.done()


def test_a_leader_that_leaves_without_a_word_fails_nobody() -> None:
    flights = Flights()
    flight = begun(flights)
    waiter = watching(flights)
    flights.end(flight)
    assert waiter.result(0).kind == "take_over"


def test_ending_twice_does_nothing_to_the_next_flight() -> None:
    flights = Flights()
    first = begun(flights)
    first.ending = LANDED
    flights.end(first)
    flights.end(first)
    second = begun(flights)
    waiter = watching(flights)
    flights.end(first)
    assert not waiter.done()
    assert not flights.begin(Flight(KEY))
    flights.end(second)
    assert waiter.done()


def test_a_waiter_that_left_takes_nobody_along() -> None:
    flights = Flights()
    flight = begun(flights)
    first, left, last = watching(flights), watching(flights), watching(flights)
    assert left.cancel()
    flight.ending = LANDED
    flights.end(flight)
    assert left.cancelled()
    assert first.result(0) is last.result(0) is LANDED


async def test_a_cancelled_task_takes_nobody_along() -> None:
    flights = Flights()
    flight = begun(flights)
    left, stays = watching(flights), watching(flights)
    task = asyncio.wrap_future(left)
    task.cancel()
    await asyncio.sleep(0)
    flight.ending = LANDED
    flights.end(flight)
    async with asyncio.timeout(10):
        assert await asyncio.wrap_future(stays) is LANDED
    assert left.cancelled()


def test_of_many_threads_exactly_one_begins() -> None:
    flights = Flights()
    start = threading.Barrier(8)

    def want() -> str:
        start.wait(10)
        flight = Flight(KEY)
        if flights.begin(flight):
            flight.ending = LANDED
            while len(flight.waiters) < 7:  # ends once all others wait; the test's time-out is the bound
                pass
            flights.end(flight)
            return "led"
        return watching(flights).result(30).kind

    with ThreadPoolExecutor(8) as pool:
        results = [future.result() for future in [pool.submit(want) for _ in range(8)]]
    assert sorted(results) == ["landed"] * 7 + ["led"]


def test_what_was_refused_of_one_url_concerns_who_has_that_url() -> None:
    flights = Flights()

    def fly(ending: Ending) -> None:
        flight = begun(flights)
        flight.ending = ending
        flights.end(flight)

    dead = [Ending("refused", refusal=ImageRefused(500), refused_url=f"http://dead/{n}") for n in range(3)]
    failed = Ending("failed", "why")
    fly(dead[0])
    fly(dead[1])
    fly(failed)
    fly(dead[2])
    numbers = {
        url: flights.failures(KEY, url).number for url in (None, "http://good", "http://dead/0", "http://dead/2")
    }
    assert numbers == {None: 1, "http://good": 1, "http://dead/0": 2, "http://dead/2": 2}
    assert flights.failures(KEY, "http://good").last is flights.failures(KEY, "http://dead/0").last is failed
    assert flights.failures(KEY, "http://dead/2").last is dead[2]


def test_to_end_one_that_never_began_does_nothing() -> None:
    flights = Flights()
    never = Flight(KEY, ending=Ending("failed"), was_given=True)
    first = begun(flights)
    waiter = watching(flights)
    assert not flights.begin(never)
    flights.end(never)
    assert not waiter.done()
    assert flights.failures(KEY, None).number == 0
    assert flights.last_upload_at(KEY) is None
    flights.end(first)
    assert waiter.done()


def test_the_last_upload_is_remembered_by_key_and_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    flights = Flights()
    at = datetime(2026, 3, 1, tzinfo=UTC)
    monkeypatch.setattr("gewe_cache.sending.flight.utc_now", lambda: at)
    flights.end(begun(flights))
    assert flights.last_upload_at(KEY) is None

    def fly(digest: bytes) -> None:
        flight = begun(flights, digest)
        flight.was_given = True
        flights.end(flight)

    fly(KEY)
    assert flights.last_upload_at(KEY) == at
    assert flights.last_upload_at(OTHER) is None
    for number in range(5000):
        fly(number.to_bytes(32, "big"))
    assert len(flights._last_uploads) == 4096
    assert flights.last_upload_at(KEY) is None
