"""What the cache saves and how full it is, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from gewe_cache.store import reports
from gewe_cache.store.usage import Counts
from tests.store.rows import EVERY, NOW, add_entry, add_usage, retire

if TYPE_CHECKING:
    from gewe_cache.store.engine import Database

HOUR = timedelta(hours=1)


def test_hours_add_up_over_scopes_and_since(migrated_database: Database) -> None:
    for scope in ("one", "two"):
        for ago in range(3):
            add_usage(migrated_database, NOW - ago * HOUR, scope, uploads=1, forwards=3, bytes_saved=2**40)
    with migrated_database.reader.connect() as connection:
        hours = reports.usage_by_hour(connection)
        assert [hour for hour, _ in hours] == [NOW - 2 * HOUR, NOW - HOUR, NOW]
        assert [savings.counts for _, savings in hours] == [Counts(uploads=2, forwards=6, bytes_saved=2**41)] * 3
        assert reports.usage_totals(connection).counts.forwards == 18
        assert reports.usage_totals(connection, "two").counts.bytes_saved == 3 * 2**40
        since = NOW - HOUR + timedelta(minutes=59)  # in the middle of an hour, which counts whole
        assert [hour for hour, _ in reports.usage_by_hour(connection, "one", since)] == [NOW - HOUR, NOW]
        assert reports.usage_totals(connection, since=NOW + HOUR).counts == Counts()


@pytest.mark.parametrize(
    ("counts", "ratio", "seconds"),
    [
        (Counts(), None, 0.0),
        (Counts(forwards=4, forward_seconds=2.0), 1.0, 0.0),
        (Counts(uploads=2), 0.0, 0.0),
        (Counts(uploads=2, upload_seconds=10.0, forwards=6, forward_seconds=3.0), 0.75, 27.0),
        (Counts(uploads=1, upload_seconds=1.0, forwards=1, forward_seconds=9.0), 0.5, 0.0),
    ],
)
def test_hit_ratio_and_seconds_saved(counts: Counts, ratio: float | None, seconds: float) -> None:
    savings = reports.Savings(counts)
    assert (savings.hit_ratio, savings.seconds_saved) == (ratio, seconds)


def test_tables_are_counted_by_state_and_scope(migrated_database: Database) -> None:
    for number, hours in enumerate((1, 2, 100, 101, 102)):
        add_entry(migrated_database, f"https://a.example/{number}", age=hours * HOUR)
    for hours in (1, 100, 101, 102):
        retire(migrated_database, add_entry(migrated_database, f"https://a.example/gone{hours}", age=hours * HOUR))
    add_entry(migrated_database, "https://a.example/1", scope="two")
    add_usage(migrated_database, NOW, "two", uploads=1)
    with migrated_database.reader.connect() as connection:
        everything = reports.table_counts(connection, EVERY)
        assert everything == reports.TableCounts(fresh=3, expired=3, retired=4, keys=6, leases=0, usage_rows=1)
        assert everything.entries == 10
        one = reports.table_counts(connection, replace(EVERY, scope="one"))
        assert (one.fresh, one.expired, one.retired, one.usage_rows) == (2, 3, 4, 0)
