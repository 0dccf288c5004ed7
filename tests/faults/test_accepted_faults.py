"""After GeWe has accepted a message nothing may make it look failed, whatever breaks in us or in the database."""

from __future__ import annotations

import sqlite3
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from gewe_cache import GeweRefused, SchemaOutdated, SchemaUnknown, StoreError
from gewe_cache.gewe.image_xml import build_image_xml
from gewe_cache.sandbox import Fault
from gewe_cache.sending.counters import Counters
from gewe_cache.sending.front import Front
from gewe_cache.store import entries, leases, migrate
from gewe_cache.store.engine import open_database
from tests.faults.kit import DRIVERS, PATIENCE, SCOPE, send, warnings_of

if TYPE_CHECKING:
    from tests.faults.kit import World

ERRORS = (
    SchemaOutdated("too old"),
    SchemaUnknown("too new"),
    StoreError("broken"),
    sqlite3.OperationalError("disk I/O error"),
    OSError(28, "No space left on device"),
    MemoryError(),
    RecursionError(),
    RuntimeError("generator didn't yield"),
    ValueError("a value"),
    KeyError("a key"),
    AssertionError(),
    TimeoutError(),
    GeweRefused(500, "not GeWe's at all"),
    StopAsyncIteration(),
    ExceptionGroup("several", [ValueError()]),
)


@pytest.fixture(params=DRIVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return f"{request.param} own"


class _Raises:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, *_arguments: object, **_options: object) -> Any:
        raise self.error


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["save", "remove"])
def test_a_save_that_fails_anyhow(
    world: World, kind: str, name: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = world.open(kind)
    with monkeypatch.context() as broken:
        broken.setattr(entries if name == "save" else leases, name, _Raises(error))
        sent = [send(driver, f"wxid_{number}", world.image) for number in range(2)]
    assert [each.route for each in sent] == ["upload", "forward"]
    assert driver.sender._core.parts.counters.stats().store_failures >= 1
    world.check_delivered(*sent)


@pytest.mark.parametrize(
    ("owner", "name"), [(Front, "put"), (Counters, "count"), (Counters, "count_forward"), (leases, "end")]
)
def test_our_own_part_that_fails(
    world: World, kind: str, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = world.open(kind)
    with monkeypatch.context() as broken:
        broken.setattr(owner, name, _Raises(RuntimeError("a fault of our own")))
        sent = [send(driver, f"wxid_{number}", world.image) for number in range(2)]
    world.check_delivered(*sent)


def test_no_more_threads_to_be_had(world: World, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a send nor its outcome needs the thread that writes usage, and a later count starts it."""
    driver = world.open(kind)
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "gewe_cache background":
            message = "can't start new thread"
            raise RuntimeError(message)
        real(thread)

    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", start)
        sent = [send(driver, f"wxid_{number}", world.image) for number in range(2)]
        world.sandbox.fail(Fault.close(delivered=True))
        assert "DeliveryUnknown" in repr(driver.begin("wxid_unknown", world.image).exception(PATIENCE))
    sent.append(send(driver, "wxid_later", world.image))
    assert driver.sender._core.background._thread is not None
    world.check_delivered(*sent)


def test_an_answer_without_cdn_information_leaves_no_lease_behind(world: World, kind: str) -> None:
    driver = world.open(kind)
    world.sandbox.fail(Fault.patch(aesKey=None))
    sent = [send(driver, f"wxid_{number}", world.image) for number in range(2)]
    assert [(each.route, each.image is None) for each in sent] == [("upload", True), ("upload", False)]
    world.check_delivered(*sent)


def test_a_row_that_the_database_refuses_shows_no_key(
    world: World, kind: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL's "Failing row contains …" would name the key; the fixture looks for it in every line."""
    _refuse_all(database_url)
    driver = world.open(kind, database=database_url)
    sent = [send(driver, f"wxid_{number}", world.image) for number in range(2)]
    assert [each.route for each in sent] == ["upload", "forward"]
    line = warnings_of(caplog.records, "the database failed")[0]
    assert "refuses_all" in line
    assert f"(save for {world.image} to wxid_0 from device {world.sandbox.app_id}: " in line
    entry = sent[0].image
    assert entry is not None
    with pytest.raises(StoreError) as caught:
        driver.run(lambda: driver.sender.remember(build_image_xml(entry)))
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert entry.aes_key not in shown
    world.check_delivered(*sent)
    world.drivers.remove(driver)
    driver.close()


def _refuse_all(url: str) -> None:
    """Let a database refuse every entry of the tests' scope."""
    database = open_database(url)
    migrate.upgrade(database)
    with database.writer.begin() as connection:
        connection.execute(text(_REFUSE_ALL[connection.dialect.name]))
    database.dispose()


_REFUSE_ALL = {
    "postgresql": f"ALTER TABLE gewe_cache_entries ADD CONSTRAINT refuses_all CHECK (scope <> '{SCOPE}') NOT VALID",
    "sqlite": (
        "CREATE TRIGGER refuses_all BEFORE INSERT ON gewe_cache_entries BEGIN SELECT RAISE(ABORT, 'refuses_all'); END"
    ),
}
