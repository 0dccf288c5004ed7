"""Forgetting, pruning and renaming scopes in batches, on both databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from gewe_cache.store import leases, reports, tending
from gewe_cache.store import tables as t
from gewe_cache.store.tending import Pace
from tests.store.rows import EVERY, NOW, add_entry, add_usage, keys_by_value, retire, scopes_by_id

if TYPE_CHECKING:
    from gewe_cache.store.engine import Database

MD5 = "0" * 31 + "a"
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def _pace(size: int = 2) -> Pace:
    """Keep to batches of one size, without pauses."""
    return Pace(size=size, least=size, most=size, sleep=lambda _: None)


def _count(database: Database, table: str) -> int:
    with database.reader.connect() as connection:
        return connection.scalar(select(func.count()).select_from(t.metadata.tables[f"gewe_cache_{table}"])) or 0


def test_what_matches_is_forgotten_with_its_keys_batch_by_batch(migrated_database: Database) -> None:
    kept = add_entry(migrated_database, "https://b.example/1", user_md5=MD5)
    for number in range(5):
        add_entry(migrated_database, f"https://a.example/{number}", age=number * HOUR)
    progress = tending.forget_matching(migrated_database, replace(EVERY, url_part="a.example"), _pace())
    assert list(progress) == [2, 4, 5]
    assert list(scopes_by_id(migrated_database)) == [kept]
    assert keys_by_value(migrated_database) == {"https://b.example/1": kept, MD5: kept}


def test_what_is_done_stays_done_when_the_rest_is_broken_off(migrated_database: Database) -> None:
    for number in range(5):
        add_entry(migrated_database, f"https://a.example/{number}")
    progress = tending.forget_matching(migrated_database, EVERY, _pace())
    assert next(progress) == 2
    assert _count(migrated_database, "entries") == _count(migrated_database, "keys") == 3


def test_named_entries_are_forgotten_and_missing_ones_not_counted(migrated_database: Database) -> None:
    first, second = (add_entry(migrated_database, f"https://a.example/{number}") for number in range(2))
    assert list(tending.forget_ids(migrated_database, [first, 99, 100, second], _pace())) == [1, 2]
    assert _count(migrated_database, "keys") == 0


def test_a_prune_takes_what_is_old_and_leaves_the_rest(migrated_database: Database) -> None:
    old = add_entry(migrated_database, "https://a.example/1", age=5 * DAY)
    gone = add_entry(migrated_database, "https://a.example/2", age=6 * DAY)
    retire(migrated_database, gone)
    young = add_entry(migrated_database, "https://a.example/3", age=4 * DAY)
    add_usage(migrated_database, NOW - 6 * DAY, uploads=1)
    add_usage(migrated_database, NOW - 5 * DAY, uploads=1)
    filters = replace(EVERY, uploaded_before=NOW - 5 * DAY + HOUR)

    *_, pruned = tending.prune(migrated_database, replace(filters, state="retired"), pace=_pace())
    assert (pruned.entries, sorted(scopes_by_id(migrated_database))) == (1, [old, young])
    *_, pruned = tending.prune(migrated_database, replace(filters, scope="other"), with_usage=True, pace=_pace())
    assert (pruned.entries, pruned.usage_rows, _count(migrated_database, "usage")) == (0, 0, 2)
    *_, pruned = tending.prune(migrated_database, filters, with_usage=True, pace=_pace(1))
    assert (pruned.entries, pruned.usage_rows) == (1, 2)
    assert list(scopes_by_id(migrated_database)) == [young]


def test_an_hour_of_usage_that_is_not_over_by_then_is_kept(migrated_database: Database) -> None:
    add_usage(migrated_database, NOW - 2 * HOUR, uploads=1)
    filters = replace(EVERY, uploaded_before=NOW - HOUR - timedelta(minutes=1))
    *_, pruned = tending.prune(migrated_database, filters, with_usage=True, pace=_pace())
    assert (pruned.usage_rows, _count(migrated_database, "usage")) == (0, 1)


def test_a_prune_wants_an_age_and_sweeps_leases(migrated_database: Database) -> None:
    with pytest.raises(ValueError, match="explicit age"):
        next(tending.prune(migrated_database, EVERY))
    with migrated_database.writer.begin() as connection:
        leases.acquire(connection, b"o" * 32, "over", timedelta(hours=-1))
        leases.acquire(connection, b"h" * 32, "held", timedelta(seconds=15))
    *_, pruned = tending.prune(migrated_database, replace(EVERY, uploaded_before=NOW), pace=_pace())
    assert (pruned.leases, _count(migrated_database, "leases")) == (1, 1)


def test_a_scope_moves_with_its_keys_and_usage(migrated_database: Database) -> None:
    moved = [add_entry(migrated_database, f"https://a.example/{number}", age=number * HOUR) for number in range(5)]
    other = add_entry(migrated_database, "https://a.example/0", scope="other")
    add_usage(migrated_database, NOW, uploads=2, upload_seconds=1.5)
    add_usage(migrated_database, NOW, "two", uploads=3, upload_seconds=2.0)

    assert max(tending.rescope(migrated_database, "one", "two", _pace())) == 5
    assert scopes_by_id(migrated_database) == {**dict.fromkeys(moved, "two"), other: "other"}
    with migrated_database.reader.connect() as connection:
        assert reports.usage_totals(connection, "one").counts.uploads == 0
        counts = reports.usage_totals(connection, "two").counts
    assert (counts.uploads, counts.upload_seconds) == (5, 3.5)


def test_a_moved_entry_is_found_by_senders_of_the_new_scope(migrated_database: Database) -> None:
    from gewe_cache.keys import Key  # noqa: PLC0415
    from gewe_cache.store import entries  # noqa: PLC0415

    entry_id = add_entry(migrated_database, "https://a.example/1", gewe_md5=MD5)
    list(tending.rescope(migrated_database, "one", "two"))
    with migrated_database.reader.connect() as connection:
        for key in (Key.of("url", "two", "https://a.example/1"), Key.of("md5", "two", MD5)):
            found = entries.find(connection, key.digest, EVERY.ttl)
            assert found is not None
            assert found.entry_id == entry_id
        assert entries.find(connection, Key.of("md5", "one", MD5).digest, EVERY.ttl) is None


@pytest.mark.parametrize("mine_is_newer", [True, False])
def test_where_both_scopes_know_an_image_the_newer_upload_wins(
    migrated_database: Database, *, mine_is_newer: bool
) -> None:
    url = "https://a.example/1"
    mine = add_entry(migrated_database, url, age=1 * HOUR if mine_is_newer else 3 * HOUR)
    theirs = add_entry(migrated_database, url, scope="two", age=2 * HOUR)
    list(tending.rescope(migrated_database, "one", "two"))
    winner = mine if mine_is_newer else theirs
    assert keys_by_value(migrated_database) == {url: winner}
    assert scopes_by_id(migrated_database) == {winner: "two"}


def test_a_loser_that_another_key_leads_to_stays(migrated_database: Database) -> None:
    mine = add_entry(migrated_database, "https://a.example/1", user_md5=MD5, age=3 * HOUR)
    theirs = add_entry(migrated_database, "https://a.example/1", scope="two", age=2 * HOUR)
    list(tending.rescope(migrated_database, "one", "two"))
    assert keys_by_value(migrated_database) == {"https://a.example/1": theirs, MD5: mine}
    assert sorted(scopes_by_id(migrated_database)) == [mine, theirs]


def test_a_retired_entry_loses_to_an_older_good_one_and_is_kept(migrated_database: Database) -> None:
    url = "https://a.example/1"
    mine = add_entry(migrated_database, url, age=3 * HOUR)
    theirs = add_entry(migrated_database, url, scope="two", age=2 * HOUR)
    retire(migrated_database, theirs, keep_keys=True)
    list(tending.rescope(migrated_database, "one", "two"))
    assert keys_by_value(migrated_database) == {url: mine}
    assert sorted(scopes_by_id(migrated_database)) == [mine, theirs]


def test_a_scope_does_not_move_to_itself(migrated_database: Database) -> None:
    with pytest.raises(ValueError, match="the same"):
        next(tending.rescope(migrated_database, "one", "one"))


def test_batches_shrink_when_they_take_long_and_grow_when_they_do_not() -> None:
    sizes = []
    pace = Pace(size=400, least=50, most=500, wanted_seconds=0.05)
    for took in (0.1, 0.1, 1.0, 0.025, 0.001):
        pace.adapt(took)
        sizes.append(pace.size)
    assert sizes == [200, 100, 50, 100, 500]
    assert pace.longest == 1.0


def test_on_sqlite_every_batch_leaves_others_as_long_as_it_took(sqlite_url: str) -> None:
    from gewe_cache.store import migrate  # noqa: PLC0415 - Alembic is slow to import
    from gewe_cache.store.engine import open_database  # noqa: PLC0415

    database = open_database(sqlite_url)
    migrate.upgrade(database)
    for number in range(4):
        add_entry(database, f"https://a.example/{number}")
    path = str(database.url.database)

    pauses = []

    def write_meanwhile(seconds: float) -> None:
        pauses.append(seconds)
        with closing(sqlite3.connect(path, timeout=0)) as other:  # not locked: it would not wait
            other.execute("BEGIN IMMEDIATE")

    pace = Pace(size=2, least=2, most=2, sleep=write_meanwhile)
    assert list(tending.forget_matching(database, EVERY, pace)) == [2, 4]
    assert len(pauses) == 2
    assert max(pauses) == pace.longest > 0
    database.dispose()
