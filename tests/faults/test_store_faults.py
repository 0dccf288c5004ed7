"""What goes wrong with a SQLite file: sends go on by upload and from memory, and recover by themselves."""

from __future__ import annotations

import stat
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gewe_cache import SchemaOutdated, SchemaUnknown, StoreError
from gewe_cache.gewe.image_xml import build_image_xml
from gewe_cache.sandbox import Fault
from tests.faults import spoils
from tests.faults.kit import DRIVERS, FAST, PATIENCE, send, until, warnings_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from gewe_cache import SentImage
    from tests.faults.kit import Driver, World

    Spoil = Callable[[str], AbstractContextManager[None]]

FAILED = "the database failed"
ALONE = replace(FAST, store_pause=600.0, usage_interval=600.0)
SPOILS: dict[str, Spoil] = {
    "read-only": spoils.read_only,
    "deleted": spoils.deleted,
    "without tables": spoils.without_tables,
    "corrupted": spoils.corrupted,
    "no database": spoils.no_database,
    "directory": spoils.directory,
}


@pytest.fixture(params=DRIVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return f"{request.param} own"


@pytest.fixture
def other(world: World) -> str:
    """Give a second image."""
    return world.sandbox.make_image("other.png", width=8, height=8, seed=2)


@pytest.fixture
def first(world: World, other: str) -> list[SentImage]:
    """Send both images from a sender that ends: they are in the database, and in nobody's memory."""
    sender = world.open()
    sent = [send(sender, "wxid_first", world.image), send(sender, "wxid_first", other)]
    world.drivers.remove(sender)
    sender.close()
    return sent


def _lookup(driver: Driver, image: str) -> object:
    return driver.run(lambda: driver.sender.lookup(image))


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_file_spoilt_under_a_running_sender_costs_no_send(
    world: World, kind: str, first: list[SentImage], other: str, spoil: Spoil
) -> None:
    driver = world.open(kind)
    assert _lookup(driver, "http://nobody.test/unknown.png") is None
    with spoil(world.database):
        sent = [send(driver, f"wxid_{number}", world.image) for number in range(3)]
    assert [each.route for each in sent[1:]] == ["forward", "forward"]
    if spoil is not spoils.deleted:
        assert until(lambda: _lookup(driver, other) is not None)
    sent.append(send(driver, "wxid_later", other))
    world.check_delivered(*first, *sent)


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_sender_starts_on_a_spoilt_file(
    world: World, kind: str, first: list[SentImage], other: str, spoil: Spoil
) -> None:
    with spoil(world.database):
        driver = world.open(kind)
        sent = [send(driver, f"wxid_{number}", world.image) for number in range(3)]
    assert [each.route for each in sent[1:]] == ["forward", "forward"]
    if spoil is not spoils.deleted:
        assert until(lambda: _lookup(driver, other) is not None)
    world.check_delivered(*first, *sent)


@pytest.mark.parametrize("spoil", [SPOILS["no database"], SPOILS["directory"], SPOILS["corrupted"]])
def test_who_asks_for_the_database_by_name_is_told(
    world: World, kind: str, first: list[SentImage], spoil: Spoil
) -> None:
    assert first[0].image is not None
    xml = build_image_xml(first[0].image)
    with spoil(world.database):
        driver = world.open(kind)
        with pytest.raises(StoreError, match="The database failed"):
            driver.run(lambda: driver.sender.remember(xml))
        with pytest.raises(StoreError, match="Nothing was changed"):
            driver.run(lambda: driver.sender.forget(world.image))
        assert _lookup(driver, world.image) is None
    assert driver.run(lambda: driver.sender.forget(world.image)) is True


def test_a_file_made_anew_is_its_owners_alone(world: World, kind: str, first: list[SentImage], other: str) -> None:
    driver = world.open(kind, _tuning=replace(FAST, usage_interval=600.0))
    assert _lookup(driver, "http://nobody.test/unknown.png") is None
    with spoils.deleted(world.database):
        driver.sender._core.store.database.dispose()
        sent = [send(driver, f"wxid_{number}", image) for number, image in enumerate([world.image, other])]
        assert until(lambda: spoils.file_of(world.database).exists())
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in spoils.files_of(world.database)}
    assert set(modes.values()) == {0o600}, modes
    world.check_delivered(*first, *sent)


@pytest.mark.parametrize("lock", [spoils.locked, spoils.locked_by_a_connection])
def test_a_file_locked_during_find(
    world: World, kind: str, first: list[SentImage], other: str, lock: Spoil, caplog: pytest.LogCaptureFixture
) -> None:
    spoils.change(world.database, "PRAGMA journal_mode = DELETE")  # in WAL, nobody can keep a reader out
    driver = world.open(kind)
    with lock(world.database):
        began = time.monotonic()
        sent = [send(driver, f"wxid_{number}", world.image) for number in range(3)]
        assert time.monotonic() - began < 10 * FAST.database_timeout
    assert [each.route for each in sent] == ["upload", "forward", "forward"]
    assert "database is locked" in warnings_of(caplog.records, FAILED)[0]
    assert driver.sender._core.parts.counters.stats().store_failures >= 1
    assert until(lambda: _lookup(driver, other) is not None)
    world.check_delivered(*first, *sent)


@pytest.mark.parametrize("lock", [spoils.locked, spoils.locked_by_a_connection])
def test_a_file_locked_before_its_tables_are_made(
    world: World, kind: str, lock: Spoil, caplog: pytest.LogCaptureFixture
) -> None:
    spoils.file_of(world.database).unlink()
    spoils.change(world.database, "PRAGMA journal_mode = WAL", "CREATE TABLE somebody_elses (id INTEGER)")
    driver = world.open(kind)
    with lock(world.database):
        began = time.monotonic()
        sent = [send(driver, f"wxid_{number}", world.image) for number in range(2)]
        assert time.monotonic() - began < 10 * FAST.database_timeout
    assert "held by a long transaction" in warnings_of(caplog.records, FAILED)[0]
    world.check_delivered(*sent)


@pytest.mark.parametrize("lock", [spoils.locked, spoils.locked_by_a_connection])
def test_a_file_locked_during_save(world: World, kind: str, lock: Spoil, caplog: pytest.LogCaptureFixture) -> None:
    driver = world.open(kind, _tuning=replace(FAST, lease_renewal=600.0))
    held = world.sandbox.fail(Fault.hold(delivered_first=True))
    sending = driver.begin("wxid_0", world.image)
    assert held.wait_reached()
    with lock(world.database):
        held.release()
        sent = [sending.result(PATIENCE), send(driver, "wxid_1", world.image)]
    assert [each.route for each in sent] == ["upload", "forward"]
    assert "save" in warnings_of(caplog.records, FAILED)[0]
    assert spoils.read(world.database, "SELECT * FROM gewe_cache_entries") == []
    world.check_delivered(*sent)


def test_a_full_disk_costs_the_entry_only(world: World, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    driver = world.open(kind)
    assert _lookup(driver, world.image) is None
    spoils.fill_up(driver)
    long = f"{world.image}?{'long' * 1000}"
    sent = [send(driver, f"wxid_{number}", long) for number in range(2)]
    assert [each.route for each in sent] == ["upload", "forward"]
    assert "database or disk is full" in warnings_of(caplog.records, FAILED)[0]
    assert spoils.read(world.database, "SELECT * FROM gewe_cache_entries") == []
    world.check_delivered(*sent)


def test_a_file_opened_for_reading_alone_is_read(world: World, kind: str, first: list[SentImage], other: str) -> None:
    file = spoils.file_of(world.database)
    driver = world.open(kind, database=f"sqlite:///file:{file.as_posix()}?mode=ro&uri=true")
    sent = [send(driver, f"wxid_{number}", world.image) for number in range(2)]
    assert [each.route for each in sent] == ["forward", "forward"]
    assert until(lambda: _lookup(driver, other) is not None)
    sent += [send(driver, f"wxid_new_{number}", world.sandbox.make_image("new.png", seed=4)) for number in range(2)]
    assert [each.route for each in sent[2:]] == ["upload", "forward"]
    assert spoils.read(world.database, "SELECT count(*) FROM gewe_cache_entries") == [(2,)]
    world.check_delivered(*first, *sent)


@pytest.mark.parametrize(
    "damage",
    [
        "aes_key = 'zz' || substr(aes_key, 3)",
        "aes_key = substr(aes_key, 2)",
        "aes_key = x'00ff'",
        "file_id = '<img/>'",
        "file_id = NULL",
        "length = 'long'",
        "length = -1",
        "width = 0",
        "md5 = 'short'",
        "uploaded_at = 'yesterday'",
        "uploaded_at = NULL",
        "uploaded_at = 5",
        "uploaded_at = '9999-12-31 23:59:59.000000'",
        "upload_began_at = 'garbage'",
    ],
)
def test_a_corrupt_row_is_a_miss_and_is_replaced(
    world: World, kind: str, first: list[SentImage], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    _allow_anything(world.database)
    spoils.change(world.database, f"UPDATE gewe_cache_entries SET {damage} WHERE id = 1")  # noqa: S608 - a constant of the test
    driver = world.open(kind)
    sent = [send(driver, f"wxid_{number}", world.image) for number in range(2)]
    assert [each.route for each in sent] == ["upload", "forward"]
    later = world.open(kind)
    sent.append(send(later, "wxid_later", world.image))
    assert sent[2].route == "forward"
    assert all("corrupt" in line for line in warnings_of(caplog.records, FAILED))
    world.check_delivered(*first, *sent)


def test_unknown_sizes_are_no_damage(world: World, kind: str, first: list[SentImage]) -> None:
    spoils.change(
        world.database, "UPDATE gewe_cache_entries SET length = NULL, width = NULL, height = NULL, md5 = NULL"
    )
    sent = send(world.open(kind), "wxid_1", world.image)
    assert sent.route == "forward"
    world.check_delivered(*first, sent)


def test_a_key_that_leads_to_no_entry_is_a_miss(world: World, kind: str, first: list[SentImage]) -> None:
    spoils.change(world.database, "DELETE FROM gewe_cache_entries")  # foreign keys are off on this connection
    sent = send(world.open(kind), "wxid_1", world.image)
    assert sent.route == "upload"
    assert _lookup(world.open(kind), world.image) == sent.image
    world.check_delivered(*first, sent)


def test_a_database_from_the_future_is_loud_before_anything_is_sent(
    world: World, kind: str, first: list[SentImage]
) -> None:
    spoils.change(world.database, "UPDATE gewe_cache_schema SET version_num = '9999'")
    driver = world.open(kind)
    for _ in range(2):
        with pytest.raises(SchemaUnknown, match="pip install --upgrade gewe-cache"):
            send(driver, "wxid_1", world.image)
    assert world.calls_to("wxid_1") == 0
    world.check_delivered(*first)


def test_an_old_database_that_cannot_be_migrated_is_loud_before_anything_is_sent(world: World, kind: str) -> None:
    file = spoils.file_of(world.database)
    file.unlink()
    spoils.change(world.database, "CREATE TABLE somebody_elses (id INTEGER)")
    driver = world.open(kind, database=f"sqlite:///file:{file.as_posix()}?mode=ro&uri=true")
    with pytest.raises(SchemaOutdated, match="Run: gewe-cache db upgrade --database"):
        send(driver, "wxid_1", world.image)
    assert world.sandbox.calls == []


def test_a_failed_database_is_left_alone_and_named_once(
    world: World, kind: str, first: list[SentImage], caplog: pytest.LogCaptureFixture
) -> None:
    images = [world.sandbox.make_image(f"{number}.png", seed=10 + number) for number in range(12)]
    devices = [f"wx_sandbox_{number}" for number in range(12)]
    spoils.change(world.database, "PRAGMA journal_mode = DELETE")
    driver = world.open(kind, _tuning=ALONE)
    assert _lookup(driver, "http://nobody.test/unknown.png") is None
    with spoils.locked(world.database):
        began = time.monotonic()
        sending = [driver.begin("wxid_1", image, app_id=device) for image, device in zip(images, devices, strict=True)]
        sent = [each.result(PATIENCE) for each in sending]
        assert time.monotonic() - began < 6 * FAST.database_timeout
        began = time.monotonic()
        sent += [driver.begin("wxid_2", image).result(PATIENCE) for image in images]
        assert time.monotonic() - began < FAST.database_timeout
    assert [each.route for each in sent] == ["upload"] * 12 + ["forward"] * 12
    assert len(warnings_of(caplog.records, FAILED)) == 1
    world.check_delivered(*first, *sent)


def _allow_anything(database: str) -> None:
    """Take away what keeps NULLs and wrong lengths out."""
    spoils.change(
        database,
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA ignore_check_constraints = ON",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(replace(sql, 'NOT NULL', ''), 'CHECK (', 'CHECK (1 OR ')"
        " WHERE name = 'gewe_cache_entries'",
    )
