"""Time: how old an entry may be, and what becomes of it when a clock is set back. freezegun moves this process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from freezegun import freeze_time

from gewe_cache import AsyncImageSender, CachedImage, Image, ImageSender
from gewe_cache.gewe.image_xml import build_image_xml
from gewe_cache.sandbox import Sandbox
from gewe_cache.sending.core import Core
from gewe_cache.sending.parts import Parts
from tests.unit.making import an_entry
from tests.unit.test_settings import settings

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TOMORROW = NOON + timedelta(days=1)
TTL = timedelta(days=3)
TICK = timedelta(microseconds=1)
FRIEND = "wxid_friend"


@pytest.fixture
def parts() -> Parts:
    return Core.make(settings(database="sqlite://", ttl=TTL)).parts


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


def open_sender(sandbox: Sandbox, database: str, ttl: timedelta = TTL) -> ImageSender:
    return ImageSender(sandbox.token, sandbox.app_id, base_url=sandbox.base_url, database=database, ttl=ttl)


def send_at(moment: datetime, sandbox: Sandbox, database: str, image: str) -> tuple[str, CachedImage]:
    """Send from a new sender, as a process started at that moment would; give the route and the entry."""
    with freeze_time(moment, real_asyncio=True), open_sender(sandbox, database) as sender:
        sent = sender.send_image(FRIEND, image)
        assert sent.image is not None
        return sent.route, sent.image


@pytest.mark.parametrize(
    ("age", "is_fresh"),
    [
        (timedelta(0), True),
        (TTL - TICK, True),
        (TTL, False),
        (TTL + TICK, False),
        (timedelta(days=400), False),
        (-TICK, True),
        (-timedelta(minutes=5), True),
        (-timedelta(minutes=5) - TICK, False),
        (-timedelta(days=1), False),
    ],
)
def test_the_boundaries_of_freshness(parts: Parts, age: timedelta, is_fresh: bool) -> None:  # noqa: FBT001
    entry = an_entry(uploaded_at=NOON, expires_at=NOON + TTL)
    with freeze_time(NOON + age):
        assert parts.is_fresh(entry) == is_fresh


def test_an_entry_expires_exactly_at_its_time_to_live(sandbox: Sandbox, sqlite_url: str) -> None:
    image = sandbox.make_image("poster.png")
    assert send_at(NOON, sandbox, sqlite_url, image)[0] == "upload"
    assert send_at(NOON + TTL - TICK, sandbox, sqlite_url, image)[0] == "forward"
    route, entry = send_at(NOON + TTL, sandbox, sqlite_url, image)
    assert route == "upload"
    assert (entry.uploaded_at, entry.expires_at) == (NOON + TTL, NOON + 2 * TTL)
    assert [call.route for call in sandbox.calls] == ["upload", "forward", "upload"]


def test_in_memory_an_entry_expires_too(sandbox: Sandbox, sqlite_url: str) -> None:
    image = sandbox.make_image("poster.png")
    with (
        freeze_time(NOON, real_asyncio=True) as clock,
        open_sender(sandbox, sqlite_url, ttl=timedelta(seconds=1)) as sender,
    ):
        routes = [sender.send_image(FRIEND, image).route]
        clock.tick(timedelta(seconds=0.5))
        routes.append(sender.send_image(FRIEND, image).route)
        clock.tick(timedelta(seconds=0.5))
        routes.append(sender.send_image(FRIEND, image).route)
    assert routes == ["upload", "forward", "upload"]


def test_the_reader_decides_how_long_an_entry_lives(sandbox: Sandbox, sqlite_url: str) -> None:
    image = sandbox.make_image("poster.png")
    send_at(NOON, sandbox, sqlite_url, image)
    with freeze_time(NOON + timedelta(hours=2), real_asyncio=True):
        with open_sender(sandbox, sqlite_url, ttl=timedelta(hours=1)) as impatient:
            assert impatient.lookup(image) is None
        with open_sender(sandbox, sqlite_url, ttl=timedelta(days=30)) as patient:
            found = patient.lookup(image)
            assert found is not None
            assert found.expires_at == NOON + timedelta(days=30)


def test_after_the_clock_was_set_back_an_entry_of_tomorrow_is_uploaded_again(sandbox: Sandbox, sqlite_url: str) -> None:
    image = sandbox.make_image("poster.png")
    assert send_at(TOMORROW, sandbox, sqlite_url, image)[0] == "upload"
    route, entry = send_at(NOON, sandbox, sqlite_url, image)
    assert (route, entry.uploaded_at) == ("upload", NOON)
    assert send_at(NOON + timedelta(seconds=1), sandbox, sqlite_url, image)[0] == "forward"
    assert [call.route for call in sandbox.calls] == ["upload", "upload", "forward"]


def test_a_clock_that_is_a_little_behind_does_no_harm(sandbox: Sandbox, sqlite_url: str) -> None:
    image = sandbox.make_image("poster.png")
    send_at(NOON, sandbox, sqlite_url, image)
    assert send_at(NOON - timedelta(minutes=5), sandbox, sqlite_url, image)[0] == "forward"
    assert send_at(NOON - timedelta(minutes=5) - TICK, sandbox, sqlite_url, image)[0] == "upload"


def test_a_clock_set_back_under_an_open_sender(sandbox: Sandbox, sqlite_url: str) -> None:
    image = sandbox.make_image("poster.png")
    with freeze_time(TOMORROW, real_asyncio=True) as clock, open_sender(sandbox, sqlite_url) as sender:
        routes = [sender.send_image(FRIEND, image).route for _ in range(2)]
        clock.move_to(NOON)
        routes += [sender.send_image(FRIEND, image).route for _ in range(2)]
        clock.move_to(TOMORROW)
        routes.append(sender.send_image(FRIEND, image).route)
    assert routes == ["upload", "forward", "upload", "forward", "forward"]


def test_a_clock_set_back_under_an_open_async_sender(sandbox: Sandbox, sqlite_url: str) -> None:
    image = sandbox.make_image("poster.png")

    async def routes() -> Sequence[str]:
        with freeze_time(TOMORROW, real_asyncio=True) as clock:
            async with AsyncImageSender(
                sandbox.token, sandbox.app_id, base_url=sandbox.base_url, database=sqlite_url
            ) as sender:
                first = [(await sender.send_image(FRIEND, image)).route for _ in range(2)]
                clock.move_to(NOON)
                return first + [(await sender.send_image(FRIEND, image)).route for _ in range(2)]

    assert asyncio.run(routes()) == ["upload", "forward", "upload", "forward"]


def test_a_lease_of_tomorrow_holds_up_nobody(sandbox: Sandbox, sqlite_url: str) -> None:
    """A process was killed in mid-upload, and then the clock was set back."""
    image = sandbox.make_image("poster.png")
    with freeze_time(TOMORROW, real_asyncio=True), open_sender(sandbox, sqlite_url) as sender:
        assert sender.send_image(FRIEND, image).route == "upload"
        assert sender.forget(image)
        digest = sender._core.parts.key_of(Image(url=image)).digest
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
        connection.execute(
            "INSERT INTO gewe_cache_leases (digest, owner, expires_at) VALUES (?, 'killed', ?)",
            (digest, "2026-03-02 12:00:15.000000"),
        )
    connection.close()
    assert send_at(NOON, sandbox, sqlite_url, image)[0] == "upload"


UNUSABLE_TIMES: list[object] = [
    datetime(2026, 3, 1, 12, 0),  # noqa: DTZ001 - naive, which is the point
    datetime.max.replace(tzinfo=UTC),
    "2026-03-01",
    1772366400,
]


@pytest.mark.parametrize("uploaded_at", UNUSABLE_TIMES)
def test_a_time_that_cannot_be_kept_is_refused(tmp_path: Path, uploaded_at: object) -> None:
    xml = build_image_xml(an_entry())
    database = f"sqlite:///{(tmp_path / 'cache.db').as_posix()}"
    with ImageSender("sandbox-token", "wx_1", base_url="http://127.0.0.1:1", database=database) as sender:
        with pytest.raises(ValueError, match=r"^uploaded_at: pass an aware datetime.* Nothing was kept"):
            sender.remember(xml, uploaded_at=uploaded_at)  # type: ignore[arg-type]
        assert sender.remember(xml, uploaded_at=datetime.now(UTC)).md5 == an_entry().md5


def test_a_remembered_time_may_come_from_any_zone(sandbox: Sandbox, sqlite_url: str) -> None:
    with freeze_time(NOON, real_asyncio=True), open_sender(sandbox, sqlite_url) as sender:
        beijing = timezone(timedelta(hours=8))
        entry = sender.remember(build_image_xml(an_entry()), uploaded_at=datetime(2026, 3, 1, 19, 0, tzinfo=beijing))
        assert entry.uploaded_at == NOON - timedelta(hours=1)
        assert entry.uploaded_at.tzinfo is UTC
