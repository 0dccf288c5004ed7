"""An operator's day at the admin page, in a real browser."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from gewe_cache import Broadcast, ImageSender, Pace
from gewe_cache.sandbox import Fault
from gewe_cache.settings import utc_now
from tests.server.admin_rows import HOSTILE, add_broadcast, hold_lane
from tests.store.rows import add_entry, add_usage, retire, scopes_by_id

if TYPE_CHECKING:
    from gewe_cache.store.engine import Database
    from tests.browser.conftest import Watched
    from tests.server.kit import World

_PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
_PATHS = ("", "entries/list", "entries/list?q=poster&state=retired", "broadcasts/list", "none")


def _fill(database: Database) -> tuple[int, int]:
    """Fill every part of every page; gives an entry and a broadcast."""
    hour = utc_now().replace(minute=0, second=0, microsecond=0)
    for ago in range(24):
        add_usage(database, hour - timedelta(hours=ago), uploads=ago, forwards=10 * ago, bytes_saved=10**6)
    for number in range(60):
        add_entry(
            database, f"https://example.com/{number}/poster.png", now=utc_now(), forwards=number, scope=f"s{number}"
        )
    entry_id = add_entry(database, HOSTILE, now=utc_now())
    retire(database, entry_id, keep_keys=True)
    broadcast_id = add_broadcast(database, ["sent", "refused", "unknown", "sending", "pending"], HOSTILE)
    hold_lane(database)
    return entry_id, broadcast_id


def test_logging_in_and_out(window: Watched) -> None:
    page = window.open("entries/list")
    page.fill("#password", "a wrong one")
    page.keyboard.press("Enter")
    expect(page.locator(".alert-danger")).to_have_text("The password is wrong.")
    window.complaints[:] = [each for each in window.complaints if "403" not in each]  # the browser tells of it too
    page.fill("#password", "correct horse battery")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/entries/list$"))
    page.click("text=Log out")
    page.wait_for_url(re.compile("/login$"))
    window.open()
    expect(page.locator("#password")).to_be_visible()


def test_searching_sorting_and_paging(window: Watched, database: Database) -> None:
    for number in range(120):
        add_entry(database, f"https://example.com/{number:03}.png", now=utc_now(), forwards=number)
    window.log_in()
    page = window.open("entries/list")
    rows = page.locator("tr[data-sa-pk]")
    page.click("text=Forwards")
    expect(rows.first).to_contain_text("000.png")
    page.click("text=Forwards")
    expect(rows.first).to_contain_text("119.png")
    page.click("[rel=next]")
    expect(rows.first).to_contain_text("069.png")
    page.click("[rel=next]")
    expect(rows).to_have_count(20)
    page.click("[rel=prev]")
    expect(rows.first).to_contain_text("069.png")
    page.click("text=First page")
    expect(rows.first).to_contain_text("119.png")
    page.fill("[type=search]", "/007")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    expect(page.locator("mark")).to_have_text("/007")
    page.select_option("[name=state]", "expired")
    expect(page.locator("tbody")).to_contain_text("No entry matches.")
    page.click("text=Clear")
    expect(rows).to_have_count(50)


def test_an_entry_is_forgotten_only_when_that_is_confirmed(window: Watched, database: Database) -> None:
    entry_id = add_entry(database, now=utc_now())
    kept = add_entry(database, "https://example.com/kept.png", now=utc_now())
    window.log_in()
    page = window.open("entries/list")
    page.locator(f"tr[data-sa-pk='{entry_id}'] td").last.click()  # a row leads to its entry, wherever it is clicked
    page.click("[data-sa-name=forget]")
    page.click("text=Cancel")
    expect(page.locator("#modal-action")).to_be_hidden()
    assert {*scopes_by_id(database)} == {entry_id, kept}
    page.click("[data-sa-name=forget]")
    page.click("[data-sa-action=action-submit]")
    expect(page.locator("[role=alert].alert-success")).to_contain_text(f"Entry {entry_id} is forgotten")
    assert {*scopes_by_id(database)} == {kept}


def test_a_broadcast_moves_while_one_looks(world: World, window: Watched) -> None:
    window.log_in()
    holds = [world.sandbox.fail(Fault.hold(), to_wxid=f"wxid_{number}") for number in (2, 3, 4)]
    paths = ("", "broadcasts/list", "broadcasts/detail?pk=1")
    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(_broadcast, world)
        for number, (hold, path) in enumerate(zip(holds, paths, strict=True), 1):
            assert hold.wait_reached()
            progress = window.open(path).locator("[data-live] .ours-counts", has_text="%")
            expect(progress).to_contain_text(f"running {25 * number} %")
            hold.release()
            expect(progress).to_contain_text(f"{25 * (number + 1)} %")
        assert sent.result().sent == 4
    expect(progress).to_contain_text("done")
    expect(window.page.locator("[data-live=deliveries]")).not_to_contain_text("sending")


def _broadcast(world: World) -> Broadcast:
    sandbox = world.sandbox
    with ImageSender(sandbox.token, sandbox.app_id, base_url=sandbox.base_url, database=world.database) as sender:
        return sender.broadcast(world.image, [f"wxid_{number}" for number in (1, 2, 3, 4)], pace=Pace.none())


def test_a_refusal_appears_by_itself(world: World, window: Watched) -> None:
    page = window.log_in()
    expect(page.locator("text=Nothing was refused.")).to_be_visible()
    world.sandbox.fail(Fault.refuse(500, "x", {"code": "-219", "msg": HOSTILE}))
    world.post(world.proxies[0], "wxid_refused")
    expect(page.locator(".ours-problems")).to_contain_text("wxid_refused")


def test_times_are_the_browsers_own(window: Watched, database: Database) -> None:
    entry_id = add_entry(database, age=timedelta(0), now=utc_now().replace(hour=0, minute=0, second=0, microsecond=0))
    window.log_in()
    page = window.open(f"entries/detail?pk={entry_id}")
    expect(page.locator("time").first).to_have_text(f"{utc_now():%Y-%m-%d} 08:00")


def test_a_server_that_is_gone_is_said(world: World, window: Watched) -> None:
    page = window.log_in()
    world.proxies.pop().close()
    expect(page.locator("[data-ours=offline]")).to_contain_text("The server cannot be reached.")
    window.complaints.clear()


@pytest.mark.parametrize(
    "window",
    [{}, {"color_scheme": "dark"}, _PHONE, {**_PHONE, "locale": "zh-CN"}],
    ids=["light", "dark", "phone", "chinese-phone"],
    indirect=True,
)
def test_every_page_fits_and_breaks_no_rule(
    request: pytest.FixtureRequest, window: Watched, database: Database
) -> None:
    entry_id, broadcast_id = _fill(database)
    page = window.open()
    window.take_picture("login")
    window.log_in()
    for number, path in enumerate((*_PATHS, f"entries/detail?pk={entry_id}", f"broadcasts/detail?pk={broadcast_id}")):
        window.open(path)
        window.take_picture(f"page-{number}")
    window.complaints[:] = [each for each in window.complaints if "404" not in each]  # of the page that is not there
    colours = page.evaluate("[document.documentElement.dataset.bsTheme, getComputedStyle(document.body).color]")
    is_dark = "dark" in request.node.name
    assert colours[0] == ("dark" if is_dark else "light")
    assert (int(re.findall(r"\d+", colours[1])[0]) > 128) is is_dark
    assert page.locator("html").get_attribute("lang") == ("zh" if "chinese" in request.node.name else "en")


def test_the_language_can_be_changed(window: Watched) -> None:
    page = window.log_in()
    page.click("text=中文")
    expect(page.locator(".subheader").first).to_have_text("命中率")
    page.click("text=English")
    expect(page.locator(".subheader").first).to_have_text("Hit ratio")
