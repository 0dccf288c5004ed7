"""Entries as the operator lists them, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache import Image
from gewe_cache.store import listing
from gewe_cache.store.listing import SORTS, STATES, Filters, ListQuery, find_ids, keys_of_entry, list_entries
from tests.store.rows import AES_KEY, EVERY, NOW, TTL, add_entry, retire

if TYPE_CHECKING:
    from gewe_cache.store.engine import Database
    from gewe_cache.store.listing import ListedEntry, Page, Sort, State

MD5, OTHER_MD5 = "0" * 31 + "a", "0" * 31 + "b"
TICK = timedelta(microseconds=1)


def _list(database: Database, filters: Filters = EVERY, **options: Any) -> Page:
    with database.reader.connect() as connection:
        return list_entries(connection, ListQuery(filters, **options))


def _ids(database: Database, filters: Filters = EVERY, **options: Any) -> list[int]:
    return [entry.id for entry in _list(database, filters, **options).entries]


def _find(
    database: Database, image: Image, scope: str | None = None, ignore: frozenset[str] = frozenset()
) -> list[int]:
    with database.reader.connect() as connection:
        return find_ids(connection, image, scope, ignore)


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("sort", SORTS)
def test_pages_by_key_give_every_entry_once_in_order(
    migrated_database: Database, sort: Sort, *, descending: bool
) -> None:
    for number in range(23):  # many ties in every column
        used_at, forwards = NOW - timedelta(minutes=number % 2), number % 4
        age = timedelta(hours=number % 3)
        add_entry(migrated_database, f"https://a.example/{number}", age=age, last_used_at=used_at, forwards=forwards)

    listed: list[ListedEntry] = []
    token: str | None = None
    while token is not None or not listed:
        page = _list(migrated_database, sort=sort, descending=descending, limit=5, after=token)
        assert len(page.entries) <= 5
        listed.extend(page.entries)
        token = page.next_token

    places = [(getattr(entry, sort), entry.id) for entry in listed]
    assert len(set(places)) == 23
    assert places == sorted(places, reverse=descending)


def test_a_page_that_ends_with_the_table_has_no_next(migrated_database: Database) -> None:
    for number in range(2):
        add_entry(migrated_database, f"https://a.example/{number}")
    assert _list(migrated_database, limit=2).next_token is None
    assert _list(migrated_database, limit=1).next_token is not None


def test_every_row_gives_the_token_of_what_follows(migrated_database: Database) -> None:
    newest, middle, oldest = (
        add_entry(migrated_database, f"https://a.example/{hours}", age=timedelta(hours=hours)) for hours in (1, 2, 3)
    )
    query = ListQuery(EVERY)
    first = _list(migrated_database).entries[0]
    assert first.id == newest
    assert _ids(migrated_database, after=listing.token_of(query, first)) == [middle, oldest]


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "ud1",
        "ud1.2.3",
        "ua1.2",
        "ld1.2",
        "fd1.2",
        "ud-1.2",
        "ud1.x",
        "ud999999999999999999.1",
        "ud１.2",
        "ud1.2 ",
    ],
)
def test_a_malformed_token_is_named(migrated_database: Database, token: str) -> None:
    with pytest.raises(ValueError, match=r"^after: .*page token"):
        _list(migrated_database, after=token)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"sort": "url"}, "sort"), ({"limit": 0}, "limit"), ({"limit": 10_001}, "limit")],
)
def test_an_order_without_an_index_and_a_page_without_a_bound_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}: "):
        ListQuery(EVERY, **options)


@pytest.mark.parametrize(("field", "value"), [("state", "new"), ("url_part", ""), ("url_part", "x" * 8193)])
def test_filters_that_would_match_by_accident_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        replace(EVERY, **{field: value})


def test_state_age_and_time_left_at_the_boundaries(migrated_database: Database) -> None:
    ages = {
        "just fresh": TTL - TICK,
        "just expired": TTL,
        "a little ahead": -timedelta(minutes=5),
        "too far ahead": -timedelta(minutes=5) - TICK,
    }
    named = {add_entry(migrated_database, f"https://a.example/{name}", age=age): name for name, age in ages.items()}
    gone = add_entry(migrated_database, "https://a.example/gone")
    retire(migrated_database, gone)

    def names(state: State) -> set[str]:
        return {named.get(entry_id, "gone") for entry_id in _ids(migrated_database, replace(EVERY, state=state))}

    assert names("fresh") == {"just fresh", "a little ahead"}
    assert names("expired") == {"just expired", "too far ahead"}
    assert names("retired") == {"gone"}
    by_name = {named.get(entry.id, "gone"): entry for entry in _list(migrated_database).entries}
    assert {name: entry.state for name, entry in by_name.items()} == {
        "just fresh": "fresh",
        "just expired": "expired",
        "a little ahead": "fresh",
        "too far ahead": "expired",
        "gone": "retired",
    }
    assert (by_name["just fresh"].age, by_name["just fresh"].time_left) == (TTL - TICK, TICK)
    assert (by_name["just expired"].time_left, by_name["gone"].time_left) == (timedelta(0), None)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("state", STATES)
def test_every_state_can_be_had_in_every_order(migrated_database: Database, sort: Sort, state: State) -> None:
    for number, age in enumerate((1, 2, 80, 90, 5, 6)):
        entry_id = add_entry(migrated_database, f"https://a.example/{number}", age=timedelta(hours=age))
        if number >= 4:
            retire(migrated_database, entry_id)
    filters = replace(EVERY, state=state)
    listed = _list(migrated_database, filters, sort=sort).entries
    assert [entry.state for entry in listed] == [state] * 2
    assert all(getattr(one, sort) >= getattr(other, sort) for one, other in pairwise(listed))
    with migrated_database.reader.connect() as connection:
        assert listing.count_entries(connection, filters) == 2


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("POSTER", {"plain", "percent", "underscore"}),
        ("100%", {"percent"}),
        ("a_b", {"underscore"}),
        ("\\", set()),
        ("%%%", set()),
        ("海报", {"raw", "escaped"}),
        ("%E6%B5%B7", {"raw", "escaped"}),
    ],
)
def test_a_url_part_is_taken_to_the_letter_but_for_case_and_escapes(
    migrated_database: Database, part: str, found: set[str]
) -> None:
    urls = {
        "plain": "https://a.example/Poster.png",
        "percent": "https://a.example/poster-100%",
        "underscore": "https://a.example/poster-a_b",
        "near": "https://a.example/axb",
        "raw": "https://a.example/海报",
        "escaped": "https://a.example/2/%E6%B5%B7%E6%8A%A5",
    }
    named = {add_entry(migrated_database, url): name for name, url in urls.items()}
    add_entry(migrated_database, None, user_md5=MD5)
    assert {named[entry_id] for entry_id in _ids(migrated_database, replace(EVERY, url_part=part))} == found


def test_an_md5_finds_by_the_users_and_by_gewes_and_what_was_retired(migrated_database: Database) -> None:
    mine = add_entry(migrated_database, user_md5=MD5, gewe_md5=OTHER_MD5)
    theirs = add_entry(migrated_database, "https://a.example/2", scope="two", gewe_md5=MD5)
    gone = add_entry(migrated_database, "https://a.example/3", scope="three", gewe_md5=MD5)
    retire(migrated_database, gone)
    add_entry(migrated_database, "https://a.example/4", scope="four", gewe_md5=OTHER_MD5)

    assert set(_ids(migrated_database, replace(EVERY, md5=MD5))) == {mine, theirs, gone}
    assert _ids(migrated_database, replace(EVERY, md5=MD5, scope="two", state="fresh")) == [theirs]
    assert _find(migrated_database, Image(md5=MD5)) == [mine, theirs, gone]
    assert _find(migrated_database, Image(md5=MD5), "three") == [gone]


def test_a_url_finds_its_entries_in_every_scope(migrated_database: Database) -> None:
    url = "https://a.example/1?sign=x"
    one, two = (add_entry(migrated_database, url, scope=scope) for scope in ("one", "two"))
    gone = add_entry(migrated_database, url, scope="three")
    retire(migrated_database, gone)
    unsigned = add_entry(migrated_database, "https://a.example/1", scope="four")

    assert _find(migrated_database, Image(url="https://A.example:443/1?sign=x")) == [one, two, gone]
    assert _find(migrated_database, Image(url=url), "two") == [two]
    assert _find(migrated_database, Image(url=url), "nowhere") == []
    assert _find(migrated_database, Image(url=url), ignore=frozenset({"sign"}))[-1] == unsigned


def test_scope_and_age_narrow_and_keys_are_shown(migrated_database: Database) -> None:
    old = add_entry(migrated_database, "https://a.example/1", age=timedelta(days=9), user_md5=MD5)
    add_entry(migrated_database, "https://a.example/2")
    add_entry(migrated_database, "https://a.example/1", scope="two", age=timedelta(days=9))
    before = NOW - timedelta(days=1)
    assert _ids(migrated_database, replace(EVERY, scope="one", uploaded_before=before)) == [old]
    with migrated_database.reader.connect() as connection:
        assert keys_of_entry(connection, old) == [("md5", MD5), ("url", "https://a.example/1")]


def test_a_row_never_shows_its_key(migrated_database: Database) -> None:
    add_entry(migrated_database)
    page = _list(migrated_database)
    assert AES_KEY not in repr(page)
    assert AES_KEY[:4] in repr(page)


_QUERIES = [
    ListQuery(Filters(ttl=TTL, now=NOW, scope=scope, state=state), sort=sort, descending=descending, after=after)
    for sort in SORTS
    for descending in (True, False)
    for scope in (None, "one")
    for state in (None, *STATES)
    for after in (None, f"{sort[0]}{'d' if descending else 'a'}5.7")
    if state != "retired" or sort == "uploaded_at"  # these few are sorted after they are found
]


def _plan(database: Database, query: ListQuery) -> str:
    sqlite = database.is_sqlite
    with database.reader.connect() as connection:
        if not sqlite:  # on a small table it would rather read all: ask whether an index can serve
            connection.exec_driver_sql("SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off")
        statement = listing._page(connection, query).compile(connection, compile_kwargs={"literal_binds": True})
        explained = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
        rows = connection.exec_driver_sql(f"{explained} {statement}".replace("%%", "%")).all()
        return "\n".join(str(row[-1]) for row in rows)


def test_every_page_is_read_along_an_index_without_a_sort(migrated_database: Database) -> None:
    for query in _QUERIES:
        plan = _plan(migrated_database, query)
        assert "ix_gewe_cache_entries_" in plan, (query, plan)
        assert "TEMP B-TREE" not in plan, (query, plan)
        assert "Sort" not in plan, (query, plan)
        assert "MULTI-INDEX" not in plan, (query, plan)


def test_a_part_of_a_url_is_looked_for_from_the_tables_beginning_to_its_end(migrated_database: Database) -> None:
    """On SQLite: a million rows fetched one by one by an index take ten times as long as a scan."""
    if migrated_database.is_sqlite:
        for query in _QUERIES:
            if query.filters.state != "retired":
                plan = _plan(migrated_database, replace(query, filters=replace(query.filters, url_part="poster")))
                assert plan.splitlines() == ["SCAN gewe_cache_entries", "USE TEMP B-TREE FOR ORDER BY"], (query, plan)


def test_an_md5_is_looked_up_by_index(migrated_database: Database) -> None:
    plan = _plan(migrated_database, ListQuery(replace(EVERY, md5=MD5)))
    assert "ix_gewe_cache_keys_md5" in plan
    assert "ix_gewe_cache_entries_md5" in plan
    assert "SCAN gewe_cache_entries" not in plan
