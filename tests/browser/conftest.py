"""A real Chromium at the admin page of a real proxy. ``make browser`` runs these; CHROMIUM names another binary.

Whatever the browser complains of fails the test: a violation of the content security policy, an error in the
console, a request to anybody but the proxy, a page wider than its window.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from gewe_cache.sandbox import Sandbox
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
from tests.server.admin_operator import PASSWORD, PREFIX
from tests.server.kit import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gewe_cache.store.engine import Database

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE_MS = 20_000
_LEFT = "net::ERR_ABORTED"  # the page was left meanwhile


class Watched:
    """A browser's window, with all that it complained of."""

    def __init__(self, page: Page, origin: str, pictures: Path) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._origin = origin
        self._pictures = pictures
        page.set_default_timeout(_PATIENCE_MS)
        page.on("console", lambda message: self._note(message.type in {"error", "warning"}, message.text))
        page.on("pageerror", lambda error: self._note(True, str(error)))  # noqa: FBT003
        page.on("request", lambda request: self._note(not self._is_ours(request.url), request.url))
        page.on("requestfailed", lambda request: self._note(request.failure != _LEFT, request.url))

    def open(self, path: str = "") -> Page:
        """Open a page below the prefix."""
        self.page.goto(self._origin + PREFIX + path)
        return self.page

    def log_in(self) -> Page:
        """Open the first page by the password."""
        self.open()
        self.page.fill("#password", PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_selector("[data-live=overview]")
        return self.page

    def take_picture(self, name: str) -> None:
        """Keep what is seen, for who wants to look at it."""
        self._pictures.mkdir(exist_ok=True)
        self.page.screenshot(path=self._pictures / f"{name}.png", full_page=True)
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is too wide"

    def _is_ours(self, url: str) -> bool:
        return url.startswith((self._origin + PREFIX, "data:"))

    def _note(self, is_complaint: object, text: str) -> None:
        if is_complaint:
            self.complaints.append(text)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    named = os.environ.get("CHROMIUM")
    found = [path for path in map(shutil.which, [named] if named else _NAMES) if path]
    if not found:
        pytest.fail(
            f"No Chromium: {named or ', '.join(_NAMES)} is not there. Install it (Debian: apt-get install chromium), "
            "or name its binary in CHROMIUM.",
            pytrace=False,
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=[*_OPTIONS])
        yield browser
        browser.close()


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    sandbox = Sandbox()
    sandbox.start()
    made = World(sandbox, sqlite_url, sandbox.make_image("poster.png", width=8, height=8))
    yield made
    made.close()


@pytest.fixture
def database(world: World) -> Iterator[Database]:
    database = open_database(world.database)
    migrate.upgrade(database)
    yield database
    database.dispose()


@pytest.fixture
def window(
    request: pytest.FixtureRequest, world: World, database: Database, browser: Browser, tmp_path: Path
) -> Iterator[Watched]:
    """Give a window on the page; ``@pytest.mark.parametrize("window", [{…}], indirect=True)`` changes the browser."""
    assert database.url
    proxy = world.open(admin_password=PASSWORD)
    options: dict[str, Any] = {"locale": "en-GB", "timezone_id": "Asia/Shanghai", **getattr(request, "param", {})}
    context = browser.new_context(**options)
    window = Watched(context.new_page(), proxy.url, tmp_path / "pictures")
    yield window
    context.close()
    assert window.complaints == []
