"""A SQLite file that another connection holds locked: while looking, while taking the lease, while saving."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gewe_cache import StoreError
from gewe_cache.sandbox import Fault
from tests.faults.kit import send
from tests.outages.kit import ASKING, LEAVING, SqliteWorld, ask, failures, pause_over, routes, store_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA locking_mode = EXCLUSIVE")
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
connection.close()
"""


@contextmanager
def _held_by_another_process(world: SqliteWorld) -> Iterator[None]:
    command = [sys.executable, "-c", _HOLDER, str(world.file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate()


@pytest.mark.parametrize("holder", ["thread", "process"])
@pytest.mark.parametrize("start", ["warm", "fresh"])
def test_locked_while_looking(
    world: SqliteWorld, kind: str, holder: str, start: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.prime()
    driver = world.open(kind, _tuning=ASKING)
    if start == "warm":
        assert ask(driver, "lookup", world.image) is not None
        world.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store_of(driver).database.dispose()  # or the other connection could not have the file to itself
        driver.sender._core.parts.front._held.clear()
    with world.locked(readers_too=True) if holder == "thread" else _held_by_another_process(world):
        during = send(driver, "wxid_during", world.image)
    pause_over(driver)
    after = send(driver, "wxid_after", world.image)
    assert routes(during, after) == ["upload", "forward"]
    world.check_delivered(during, after)
    assert world.deliveries_to("wxid_during") == world.deliveries_to("wxid_after") == 1
    assert "locked" in failures(caplog.records)[0]


def test_hits_are_forwarded_while_another_connection_writes(world: SqliteWorld, kind: str) -> None:
    """The failed writes of a send that missed must not turn the hits of others into uploads."""
    world.prime()
    other = world.sandbox.make_image("other.png", width=9, height=9)
    driver = world.open(kind, _tuning=LEAVING)
    with world.locked():
        missed = send(driver, "wxid_second", other)
        hit = send(driver, "wxid_second", world.image)
        again = send(driver, "wxid_third", other)
    assert routes(missed, hit, again) == ["upload", "forward", "forward"]
    world.check_delivered(missed, hit, again)
    assert len(world.sandbox.uploads) == 2


def test_locked_while_the_lease_is_taken(world: SqliteWorld, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    world.prime(world.sandbox.make_image("other.png"))
    driver = world.open(kind, _tuning=ASKING)
    with world.locked():
        sent = send(driver, "wxid_a", world.image)
        again = send(driver, "wxid_b", world.image)
    assert routes(sent, again) == ["upload", "forward"]
    world.check_delivered(sent, again)
    line = failures(caplog.records)[0]
    assert line.startswith(f"the database failed (lease for {world.image} to wxid_a from device ")
    assert "OperationalError: database is locked" in line
    assert world.count("leases") == 0


def test_locked_while_the_entry_is_saved(world: SqliteWorld, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    world.prime(world.sandbox.make_image("other.png"))
    driver = world.open(kind, _tuning=replace(ASKING, lease_seconds=0.4, lease_renewal=60.0))
    plan = world.sandbox.fail(Fault.hold(), route="upload")
    sending = driver.begin("wxid_a", world.image)
    assert plan.wait_reached()
    with world.locked():
        plan.release()
        sent = sending.result(30)
    assert sent.image is not None
    assert sent.image.entry_id is None
    line = failures(caplog.records)[0]
    assert line.startswith(f"the database failed (save for {world.image} to wxid_a from device ")
    assert "OperationalError: database is locked" in line
    again = send(driver, "wxid_b", world.image)
    elsewhere = send(world.open(kind, _tuning=ASKING), "wxid_c", world.image)  # the lease left behind has its end
    assert routes(sent, again, elsewhere) == ["upload", "forward", "upload"]
    world.check_delivered(sent, again, elsewhere)


def test_locked_while_it_is_migrated(world: SqliteWorld, kind: str) -> None:
    world.file.unlink()
    world.execute("CREATE TABLE another (id INTEGER)")
    driver = world.open(kind, _tuning=ASKING)
    with world.locked():
        first = send(driver, "wxid_a", world.image)
        second = send(driver, "wxid_b", world.image)
        with pytest.raises(StoreError, match="Nothing was changed"):
            ask(driver, "forget", world.image)
    pause_over(driver)
    third = send(driver, "wxid_c", world.image)
    assert routes(first, second, third) == ["upload", "forward", "forward"]
    world.check_delivered(first, second, third)


def test_forget_and_remember_say_that_it_is_locked(world: SqliteWorld, kind: str) -> None:
    sent = world.prime()
    driver = world.open(kind, _tuning=ASKING)
    assert ask(driver, "lookup", world.image) == sent.image
    with world.locked(), pytest.raises(StoreError, match=r"locked.* Nothing was changed"):
        ask(driver, "forget", world.image)
    assert ask(driver, "lookup", world.image) == sent.image
    assert ask(driver, "forget", world.image) is True
