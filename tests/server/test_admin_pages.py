"""What the admin page shows, on SQLite and on PostgreSQL."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Fault
from gewe_cache.server.admin import overview
from gewe_cache.settings import utc_now
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
from gewe_cache.store.listing import SORTS
from tests.faults.kit import until
from tests.server.admin_operator import PASSWORD, PREFIX, Operator, text_of
from tests.server.admin_rows import HOSTILE, add_broadcast, hold_lane
from tests.store.rows import AES_KEY, add_entry, add_usage, keys_by_value, retire, scopes_by_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gewe_cache.store.engine import Database
    from tests.postgres import PostgresServer
    from tests.server.kit import Proxy, World


@pytest.fixture
def database(world: World, migrated_database: Database) -> Database:
    """Give the database of the proxy's, with its tables."""
    world.database = migrated_database.url.render_as_string(hide_password=False)
    return migrated_database


@pytest.fixture
def admin(world: World, database: Database) -> Proxy:
    assert database.url
    return world.open(admin_password=PASSWORD, tuning={"front_trust": 0.0})


@pytest.fixture
def operator(admin: Proxy) -> Iterator[Operator]:
    with Operator(admin) as operator:
        yield operator.log_in()


def _ids(page: str) -> list[int]:
    """Give the entries of a table, in its order."""
    return [int(found) for found in re.findall(r'<tr data-sa-pk="(\d+)"', page)]


def _link(page: str, rel: str) -> str | None:
    """Give where a page's link to another leads."""
    found = re.search(rf'rel="{rel}" href="([^"]+)"', page)
    return found[1].replace("&amp;", "&") if found else None


def test_an_empty_cache_says_so(operator: Operator) -> None:
    shown = operator.read()
    assert "Nothing was sent in the last 24 hours." in shown
    assert "Nothing was refused." in shown
    assert "The cache is empty: the first image sent" in operator.read("entries/list")
    assert "gewe-cache broadcast start URL --to FILE" in operator.read("broadcasts/list")


def test_the_overview_tells_what_the_cache_saves(operator: Operator, database: Database) -> None:
    hour = utc_now().replace(minute=0, second=0, microsecond=0)
    add_usage(database, hour, uploads=10, forwards=90, bytes_saved=3_500_000, upload_seconds=50.0, forward_seconds=10.0)
    add_usage(database, hour, scope="two", refusals=3, unknowns=2, fall_backs=1)
    add_usage(database, hour - timedelta(days=3), uploads=100)
    add_entry(database, now=utc_now())
    add_entry(database, "https://example.com/old.png", age=timedelta(days=9), now=utc_now())
    shown = operator.read()
    for words in ("90.0 % last 24 hours 45.0 % in 30 days", "1 fresh 1 expired, 0 retired", "3.5 MB", "7m 20s"):
        assert words in shown
    for words in ("90 forwards 10 uploads", "3 refusals, 2 unknown, 1 fall-backs"):
        assert words in shown


def test_what_was_refused_is_shown_with_its_words_and_no_token(world: World, admin: Proxy, operator: Operator) -> None:
    token = world.sandbox.token
    world.sandbox.fail(Fault.refuse(500, f"X-GEWE-TOKEN={token} 不可用", {"code": "-219", "msg": f"<b>{token}"}))
    world.post(admin, "wxid_refused<i>")
    world.sandbox.fail(Fault.reset(delivered=True))
    world.post(admin, "wxid_unknown")
    world.post(admin, "wxid_sent")
    page = operator.get().text
    shown = text_of(page)
    assert "refused wxid_refused<i> " in shown
    assert "ret 500: X-GEWE-TOKEN=*** 不可用 (-219: <b>***)" in shown
    assert "unknown wxid_unknown" in shown
    assert "wxid_sent" not in shown
    assert token not in page
    assert "<b>" not in page


def test_one_pages_there_and_back_by_key(operator: Operator, database: Database) -> None:
    for number in range(115):
        used = utc_now() - timedelta(seconds=number % 7)
        age = timedelta(minutes=number % 5)
        add_entry(database, f"https://h/{number}", age=age, now=utc_now(), forwards=number % 3, last_used_at=used)
    for order in (f"{sort}__{way}" for sort in SORTS for way in ("asc", "desc")):
        first = operator.get(f"entries/list?sort={order}").text
        second = operator.get(_link(first, "next") or "").text
        third = operator.get(_link(second, "next") or "").text
        shown = [_ids(page) for page in (first, second, third)]
        assert [len(each) for each in shown] == [50, 50, 15]
        assert len({entry for each in shown for entry in each}) == 115
        assert (_link(first, "prev"), _link(third, "next")) == (None, None)
        second_again = operator.get(_link(third, "prev") or "").text
        first_again = operator.get(_link(second_again, "prev") or "").text
        assert [_ids(first_again), _ids(second_again)] == shown[:2]
        assert _link(first_again, "prev") is None
        assert _ids(operator.get(_link(first_again, "next") or "").text) == shown[1]


def test_an_address_that_makes_no_sense_is_the_first_page(operator: Operator, database: Database) -> None:
    entry_id = add_entry(database, now=utc_now())
    for page in ("x", "-", "ud1.1", "-ud9.9", "fa1.1", "ud99999999999999999.1", "2", "-1"):
        answer = operator.get(f"entries/list?sort=forwards__desc&page={page}&state=old&scope=a%20b&filter=(&cols=,")
        assert (answer.status_code, _ids(answer.text)) == (200, [entry_id])


def test_the_table_is_searched_and_filtered(operator: Operator, database: Database) -> None:
    md5 = "ab" * 16
    poster = add_entry(database, "https://example.com/Poster%20A.png", now=utc_now(), user_md5=md5)
    other = add_entry(database, "https://example.com/menu.png", scope="two", age=timedelta(days=9), now=utc_now())
    retired = add_entry(database, "https://example.com/old.png", now=utc_now())
    retire(database, retired)
    found = {
        "q=poster+a": [poster],
        f"q={md5.upper()}": [poster],
        "q=100%25_": [],
        "q=%00%F0": [],
        "scope=two": [other],
        "state=expired": [other],
        "state=retired": [retired],
        "state=fresh&q=example": [poster],
    }
    assert {query: _ids(operator.get(f"entries/list?{query}").text) for query in found} == found
    assert "No entry matches." in operator.read("entries/list?q=nothing")
    assert "GeWe refused: cdn信息已失效" in operator.read("entries/list?state=retired")


def test_an_entry_is_shown_with_its_keys_and_its_history(operator: Operator, database: Database) -> None:
    url, now = "https://example.com/poster.png?sign=1", utc_now()
    first = add_entry(database, url, age=timedelta(days=2), now=now, forwards=17)
    retire(database, first, at=now)
    second = add_entry(database, url, now=now, user_md5="ab" * 16, gewe_md5="cd" * 16)
    elsewhere = add_entry(database, url, scope="two", now=now)
    shown = operator.read(f"entries/detail?pk={second}")
    for words in (f"url {url}", f"md5 {'ab' * 16}", f"md5 {'cd' * 16}", "4.1 kB, 370 × 400", "never forwarded"):
        assert words in shown
    assert f"Entry {first}" in shown
    assert f"Entry {elsewhere}" not in shown
    shown = operator.read(f"entries/detail?pk={first}")
    for words in ("forwarded 17 times", "GeWe refused: cdn信息已失效", "No key leads here any more."):
        assert words in shown


def test_a_key_is_masked_wherever_an_entry_is_shown(operator: Operator, database: Database) -> None:
    entry_id = add_entry(database, now=utc_now())
    pages = [operator.get(path).text for path in ("", "entries/list", f"entries/detail?pk={entry_id}")]
    assert f"{AES_KEY[:4]}…" in pages[2]
    assert [page for page in pages if AES_KEY[:5] in page] == []


def test_what_is_not_there_is_not_found(operator: Operator, database: Database) -> None:
    add_entry(database)
    for pk in ("999", "x", "-1", "1e3", "", "9" * 40, "%00"):
        assert "There is no such page" in operator.read(f"entries/detail?pk={pk}", 404)
        assert "There is no such page" in operator.read(f"broadcasts/detail?pk={pk}", 404)


def test_an_entry_is_forgotten_with_its_keys(
    world: World, admin: Proxy, operator: Operator, database: Database
) -> None:
    world.post(admin)
    kept = add_entry(database, now=utc_now())
    (entry_id,) = {*scopes_by_id(database)} - {kept}
    assert operator.forget(entry_id, {"sec-fetch-site": "cross-site"}).status_code == 403
    assert {*scopes_by_id(database)} == {kept, entry_id}
    answer = operator.forget(entry_id, {"sec-fetch-site": "same-origin"})
    assert answer.headers["location"] == f"{PREFIX}entries/list"
    assert f"Entry {entry_id} is forgotten" in operator.read("entries/list")
    assert {*scopes_by_id(database)} == {*keys_by_value(database).values()} == {kept}
    assert world.post(admin).headers["x-gewe-cache"] == "upload"
    for missing in (entry_id, "x", ""):
        operator.forget(missing)
        assert "There is no such entry any more." in operator.read("entries/list")


def test_broadcasts_are_shown_with_how_they_stand(operator: Operator, database: Database) -> None:
    add_broadcast(database, ["sent"] * 3, duplicates=2)
    add_broadcast(database, ["sent", "pending"], state="cancelled")
    paused = add_broadcast(database, ["sent", "sent", "refused", "unknown", "pending"])
    assert re.findall(r"(\w+) \d+ %", operator.read("broadcasts/list")) == ["paused", "cancelled", "done"]
    shown = operator.read(f"broadcasts/detail?pk={paused}")
    for words in ("paused 80 % 2 sent 1 refused 1 unknown 1 pending", f"gewe-cache broadcast resume {paused}"):
        assert words in shown
    assert "1 s after a friend, 2–5 s after a group, at most 40 a minute" in shown
    assert "你已不在群聊中" in operator.read()
    hold_lane(database)
    assert "running 80 %" in operator.read()
    assert "running 80 %" in operator.read(f"broadcasts/detail?pk={paused}")


def test_a_lane_that_nobody_keeps_runs_no_broadcast(operator: Operator, database: Database) -> None:
    add_broadcast(database, ["sending", "pending"])
    hold_lane(database, seconds=-1)
    assert "paused 50 % 1 unknown 1 pending" in operator.read("broadcasts/list")


def test_deliveries_are_filtered_and_paged(operator: Operator, database: Database) -> None:
    broadcast_id = add_broadcast(database, ["sent", "refused"] * 60)
    address = f"broadcasts/detail?pk={broadcast_id}&state=refused"
    first = operator.get(address).text
    following = operator.get(f"broadcasts/detail{_link(first, 'next')}").text
    numbers = [int(found) for page in (first, following) for found in re.findall(r">wxid_(\d+)<", page)]
    assert numbers == [*range(2, 121, 2)]
    assert _link(following, "next") is None
    assert "No delivery is in this state." in operator.read(f"broadcasts/detail?pk={broadcast_id}&state=pending")


def test_many_broadcasts_are_paged(operator: Operator, database: Database) -> None:
    ids = [add_broadcast(database, ["sent"]) for _ in range(45)]
    address, shown = "broadcasts/list", []
    while address:
        page = operator.get(address).text
        shown += _ids(page)
        address = _link(page, "next") or ""
    assert shown == [*reversed(ids)]


def test_a_broadcast_of_another_version_is_shown_all_the_same(operator: Operator, database: Database) -> None:
    broadcast_id = add_broadcast(database, ["sent"], pace='{"after_moon": 1}')
    assert "after_moon" in operator.read(f"broadcasts/detail?pk={broadcast_id}")


def test_hostile_names_are_text_and_nothing_else(
    world: World, admin: Proxy, operator: Operator, database: Database
) -> None:
    entry_id = add_entry(database, HOSTILE, scope="<s>", now=utc_now(), forwards=1)
    retire(database, entry_id, keep_keys=True)
    broadcast_id = add_broadcast(database, ["refused", "unknown"], HOSTILE, scope="<s>", base_url=HOSTILE)
    world.sandbox.fail(Fault.refuse(500, HOSTILE, {"msg": HOSTILE}))
    world.post(admin, "<script>alert(3)</script>")
    details = (f"entries/detail?pk={entry_id}", f"broadcasts/detail?pk={broadcast_id}")
    for path in ("", "entries/list", "broadcasts/list", "entries/list?q=%22%3E%3Cscript%3E", *details):
        page = operator.get(path).text
        assert "alert" in page
        assert "<script>" not in page
        assert "<img" not in page
        assert "\u202e" not in page
        assert str(7919 * 7907) not in page
        assert re.findall(r"<[^>]*\son[a-z]+=", re.sub(r'"[^"]*"', '""', page)) == []


def test_an_escaped_name_is_shown_as_it_is_read(operator: Operator, database: Database) -> None:
    entry_id = add_entry(database, "https://img.example/%E6%B5%B7%E6%8A%A5%3C.png", now=utc_now())
    for path in ("entries/list", f"entries/detail?pk={entry_id}"):
        assert "img.example/海报%3C.png" in operator.read(path)


def test_in_chinese_it_is_chinese(operator: Operator, database: Database) -> None:
    entry_id = add_entry(database, now=utc_now())
    broadcast_id = add_broadcast(database, ["sent", "unknown", "pending"])
    chinese = {"accept-language": "zh-CN,zh;q=0.9,en;q=0.8"}
    assert "命中率" in operator.read(headers=chinese)
    assert "全部状态" in operator.read("entries/list", headers=chinese)
    assert "从未转发" in operator.read(f"entries/detail?pk={entry_id}", headers=chinese)
    shown = operator.read(f"broadcasts/detail?pk={broadcast_id}", headers=chinese)
    assert f"继续待发的部分：gewe-cache broadcast resume {broadcast_id}" in shown
    assert "没有这个页面" in operator.read("none", 404, chinese)
    assert "Overview" in operator.read(headers={"cookie": f"gewe_cache_language=en; {_session(operator)}", **chinese})
    assert 'lang="zh"' in operator.get(headers=chinese).text


def test_a_schema_that_cannot_be_used_is_said_with_its_cure(world: World, postgres_url: str) -> None:
    with Operator(world.open(admin_password=PASSWORD, database=postgres_url)) as operator:
        operator.log_in()
        assert "gewe-cache db upgrade" in operator.read()
        for path in ("entries/list", "entries/detail?pk=1", "broadcasts/list", "broadcasts/detail?pk=1"):
            assert "gewe-cache db upgrade" in operator.read(path, 503)
        assert operator.forget(1).status_code == 503


def test_while_the_database_is_away_the_page_says_so(world: World, postgres_server: PostgresServer) -> None:
    database = open_database(postgres_server.url)
    migrate.upgrade(database)
    entry_id = add_entry(database)
    database.dispose()
    proxy = world.open(admin_password=PASSWORD, database=postgres_server.url)
    with Operator(proxy) as operator:
        operator.log_in()
        assert "Hit ratio" in operator.read()
        postgres_server.stop()
        world.sandbox.fail(Fault.refuse(500, "x", {"code": "-219"}))
        world.post(proxy, "wxid_refused")
        shown = operator.read()
        assert "The database cannot be asked. Sends go on without it, by upload." in shown
        assert "wxid_refused" in shown
        assert operator.get("entries/list").status_code == 503
        assert operator.forget(entry_id).status_code == 503
        postgres_server.start()
        assert until(lambda: operator.get("entries/list").status_code == 200)
        assert "Hit ratio" in operator.read()


def test_a_page_that_fails_is_a_line_in_the_log_and_takes_nothing_with_it(
    world: World, admin: Proxy, operator: Operator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(overview, "read_figures", None)
    assert operator.get().status_code == 500
    assert world.post(admin).json()["ret"] == 200
    assert operator.get("entries/list").status_code == 200
    assert "a page of the admin failed" in caplog.text
    admin._errors.found.clear()


def _session(operator: Operator) -> str:
    return "; ".join(f"{name}={value}" for name, value in operator.client.cookies.items())
