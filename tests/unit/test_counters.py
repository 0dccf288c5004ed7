"""Counters: nothing counted is lost or written twice, and nothing grows without a bound."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time

from gewe_cache import Stats
from gewe_cache.sending import counters as counters_module
from gewe_cache.sending.counters import Counters
from gewe_cache.store.usage import Counts, Uses
from tests.unit.making import an_entry

HOUR = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCOPE = "scope"


def test_everything_begins_at_zero() -> None:
    counters = Counters(SCOPE)
    assert counters.stats() == Stats(0, 0, 0, 0, 0, 0, 0, 0.0, 0.0)
    assert not counters.waiting
    assert not counters.drain()


def test_counts_are_gathered_by_hour_and_totals_go_on() -> None:
    counters = Counters(SCOPE)
    with freeze_time(HOUR + timedelta(minutes=59, seconds=59)) as clock:
        counters.count(uploads=1, upload_seconds=2.5)
        clock.tick(timedelta(seconds=1))
        counters.count(uploads=1, upload_seconds=0.5)
        counters.count(refusals=2)
    batch = counters.drain()
    assert batch.counts == {
        (HOUR, SCOPE): Counts(uploads=1, upload_seconds=2.5),
        (HOUR + timedelta(hours=1), SCOPE): Counts(uploads=1, upload_seconds=0.5, refusals=2),
    }
    stats = counters.stats()
    assert (stats.uploads, stats.upload_seconds, stats.refusals) == (2, 3.0, 2)


def test_a_forward_counts_the_bytes_and_the_use_of_its_entry() -> None:
    counters = Counters(SCOPE)
    with freeze_time(HOUR) as clock:
        counters.count_forward(an_entry(entry_id=7, length=1000), 0.25)
        clock.tick(timedelta(seconds=5))
        counters.count_forward(an_entry(entry_id=7, length=1000), 0.25)
        counters.count_forward(an_entry(entry_id=8, length=None), 0.25)
        counters.count_forward(an_entry(entry_id=None, length=10), 0.25)
    batch = counters.drain()
    at = HOUR + timedelta(seconds=5)
    assert batch.uses == {7: Uses(2, at), 8: Uses(1, at)}
    assert batch.counts[HOUR, SCOPE] == Counts(forwards=4, forward_seconds=1.0, bytes_saved=2010)


def test_a_batch_that_could_not_be_written_joins_what_came_meanwhile() -> None:
    counters = Counters(SCOPE)
    with freeze_time(HOUR) as clock:
        counters.count_forward(an_entry(entry_id=7, length=1), 1.0)
        counters.count_forward(an_entry(entry_id=8, length=1), 1.0)
        batch = counters.drain()
        clock.tick(timedelta(seconds=5))
        counters.count_forward(an_entry(entry_id=7, length=1), 1.0)
        counters.take_back(batch)
        clock.tick(timedelta(hours=1))
        counters.count(unknowns=1)
    again = counters.drain()
    assert again.uses == {7: Uses(2, HOUR + timedelta(seconds=5)), 8: Uses(1, HOUR)}
    assert again.counts == {
        (HOUR, SCOPE): Counts(forwards=3, bytes_saved=3, forward_seconds=3.0),
        (HOUR + timedelta(hours=1), SCOPE): Counts(unknowns=1),
    }
    assert counters.stats().forwards == 3, "totals are not counted twice"


def test_taking_back_leaves_the_batch_as_it_was() -> None:
    counters = Counters(SCOPE)
    with freeze_time(HOUR):
        counters.count(uploads=1)
        batch = counters.drain()
        counters.take_back(batch)
        counters.take_back(batch)
    assert batch.counts[HOUR, SCOPE] == Counts(uploads=1)
    assert counters.drain().counts[HOUR, SCOPE] == Counts(uploads=2)


def test_while_the_database_is_away_for_long_the_oldest_hours_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters_module, "_MAX_WAITING_HOURS", 3)
    counters = Counters(SCOPE)
    with freeze_time(HOUR) as clock:
        for _ in range(6):
            counters.count(uploads=1)
            counters.take_back(counters.drain())
            clock.tick(timedelta(hours=1))
    kept = sorted(hour for hour, _ in counters.drain().counts)
    assert kept == [HOUR + timedelta(hours=number) for number in (3, 4, 5)]


def test_while_the_database_is_away_for_long_uses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters_module, "_MAX_WAITING_USES", 3)
    counters = Counters(SCOPE)
    for entry_id in range(5):
        counters.count_forward(an_entry(entry_id=entry_id), 0.1)
    batch = counters.drain()
    assert sorted(batch.uses) == [0, 1, 2]
    for entry_id in (2, 8, 9):
        counters.count_forward(an_entry(entry_id=entry_id), 0.1)
    counters.take_back(batch)
    again = counters.drain().uses
    assert {entry_id: use.forwards for entry_id, use in again.items()} == {2: 2, 8: 1, 9: 1}
    assert counters.stats().forwards == 8


def test_every_count_wakes_whoever_writes() -> None:
    counters = Counters(SCOPE)
    calls: list[bool] = []
    counters.on_change = lambda: calls.append(counters.waiting)
    counters.count(uploads=1)
    counters.count_forward(an_entry(), 0.1)
    assert calls == [True, True]


def test_threads_lose_no_count() -> None:
    counters = Counters(SCOPE)
    batches = []

    def work(number: int) -> None:
        for step in range(300):
            counters.count_forward(an_entry(entry_id=step % 5, length=2), 0.5)
            if step % 50 == number:
                batches.append(counters.drain())
            if step % 70 == number:
                counters.take_back(counters.drain())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    batches.append(counters.drain())
    written = sum((counts for batch in batches for counts in batch.counts.values()), Counts())
    assert (written.forwards, written.bytes_saved, written.forward_seconds) == (1200, 2400, 600.0)
    assert sum(use.forwards for batch in batches for use in batch.uses.values()) == 1200
    assert counters.stats().forwards == 1200


@pytest.mark.parametrize(
    ("uploads", "forwards", "upload_seconds", "forward_seconds", "ratio", "saved"),
    [
        (0, 0, 0.0, 0.0, 0.0, 0.0),
        (1, 3, 10.0, 1.5, 0.75, 28.5),
        (0, 4, 0.0, 2.0, 1.0, 0.0),
        (2, 0, 9.0, 0.0, 0.0, 0.0),
        (1, 1, 0.1, 5.0, 0.5, 0.0),
    ],
)
def test_what_was_saved(
    uploads: int, forwards: int, upload_seconds: float, forward_seconds: float, ratio: float, saved: float
) -> None:
    stats = Stats(uploads, forwards, 0, 0, 0, 0, 0, upload_seconds, forward_seconds)
    assert stats.hit_ratio == pytest.approx(ratio)
    assert stats.seconds_saved == pytest.approx(saved)
