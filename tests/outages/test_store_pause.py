"""A database that failed is left alone for a while; what is in memory goes on meanwhile, on both backends."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from gewe_cache import StoreError
from gewe_cache.sandbox import Fault
from gewe_cache.store.engine import open_database
from gewe_cache.store.tables import usage
from tests.faults.kit import World, send
from tests.outages.kit import ASKING, LEAVING, ask, failures, pause_over, routes, store_of, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_XML = f'<msg><img aeskey="{"a" * 32}" cdnmidimgurl="{"b" * 64}" length="70" md5="{"c" * 32}"/></msg>'
_TABLES = ("entries", "usage", "leases", "keys")


def _execute(world: World, *statements: str) -> None:
    database = open_database(world.database)
    with database.writer.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    database.dispose()


def _take_away(world: World) -> None:
    _execute(world, *(f"ALTER TABLE gewe_cache_{name} RENAME TO away_{name}" for name in _TABLES))


def _bring_back(world: World) -> None:
    _execute(world, *(f"ALTER TABLE away_{name} RENAME TO gewe_cache_{name}" for name in _TABLES))


def _written(world: World) -> tuple[int, int]:
    """Give the uploads and forwards that the usage counters tell of; none where they cannot be read."""
    database = open_database(world.database)
    rows: Sequence[Any] = ()
    with suppress(Exception), database.reader.connect() as connection:
        rows = connection.execute(select(usage.c.uploads, usage.c.forwards)).all()
    database.dispose()
    return sum(row.uploads for row in rows), sum(row.forwards for row in rows)


def _counting(driver: Any) -> Callable[[], int]:
    """Count the times that a sender really asks its database."""
    store, asked = store_of(driver), 0
    perform = store._perform

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal asked
        asked += 1
        return perform(*arguments, **named)

    store._perform = counted  # type: ignore[method-assign]
    return lambda: asked


def test_it_is_left_alone_and_named_once(any_world: World, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    world = any_world
    driver = world.open(kind, _tuning=LEAVING)
    assert ask(driver, "lookup", world.image) is None
    _take_away(world)
    asked = _counting(driver)
    sent = [send(driver, f"wxid_{number}", world.image) for number in range(10)]
    assert routes(*sent) == ["upload"] + 9 * ["forward"]
    assert asked() == ask(driver, "stats").store_failures == len(failures(caplog.records)) == 1
    world.check_delivered(*sent)


@pytest.mark.parametrize(("table", "purpose"), [("entries", "find"), ("leases", "lease")])
def test_its_warning_says_what_was_being_sent_to_whom(
    any_world: World, kind: str, caplog: pytest.LogCaptureFixture, table: str, purpose: str
) -> None:
    world = any_world
    driver = world.open(kind, _tuning=LEAVING)
    assert ask(driver, "lookup", world.image) is None
    _execute(world, f"ALTER TABLE gewe_cache_{table} RENAME TO away_{table}")
    sent = send(driver, "wxid_1", f"{world.image}?sign=hush", app_id="wx_sandbox_7")
    (line,) = failures(caplog.records)
    assert line.startswith(f"the database failed ({purpose} for {world.image}?… to wxid_1 from device wx_sandbox_7: ")
    assert "hush" not in caplog.text
    world.check_delivered(sent)


def test_it_is_asked_again_after_the_pause(any_world: World, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    world = any_world
    driver = world.open(kind, _tuning=ASKING)
    first = send(driver, "wxid_1", world.image)
    _take_away(world)
    during = send(driver, "wxid_2", world.image)
    assert failures(caplog.records)
    _bring_back(world)
    pause_over(driver)
    caplog.clear()
    other = world.sandbox.make_image("other.png", width=9, height=9)
    after = send(driver, "wxid_3", other)
    elsewhere = send(world.open(kind, _tuning=ASKING), "wxid_4", other)
    assert routes(first, during, after, elsewhere) == ["upload", "forward", "upload", "forward"]
    assert failures(caplog.records) == []
    world.check_delivered(first, during, after, elsewhere)


def test_twenty_at_once_make_one_upload(any_world: World, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    world = any_world
    driver = world.open(kind, _tuning=replace(LEAVING, front_trust=30.0))
    assert ask(driver, "lookup", world.image) is None
    _take_away(world)
    plan = world.sandbox.fail(Fault.hold(), route="upload")
    sending = [driver.begin(f"wxid_{number}", world.image, app_id=f"wx_sandbox_{number}") for number in range(20)]
    assert plan.wait_reached()
    flights = driver.sender._core.parts.flights
    until(lambda: sum(len(flight.waiters) for flight in list(flights._in_the_air.values())) == 19)
    plan.release()
    sent = [each.result(30) for each in sending]
    assert sorted(routes(*sent)) == 19 * ["forward"] + ["upload"]
    assert len(world.sandbox.uploads) == 1
    assert len(world.sandbox.calls) == 20
    assert len(failures(caplog.records)) == 1
    world.check_delivered(*sent)


def test_usage_is_kept_and_written_when_it_is_back(any_world: World, kind: str) -> None:
    world = any_world
    driver = world.open(kind, _tuning=replace(ASKING, usage_interval=0.05))
    assert ask(driver, "lookup", world.image) is None
    _take_away(world)
    sent = [send(driver, f"wxid_{number}", world.image) for number in range(4)]
    _bring_back(world)
    until(lambda: _written(world) == (1, 3))
    assert not driver.sender._core.parts.counters.waiting or _written(world) == (1, 3)
    world.check_delivered(*sent)


def test_closing_within_the_pause_writes_the_usage_all_the_same(any_world: World, kind: str) -> None:
    world = any_world
    driver = world.open(kind, _tuning=LEAVING)
    assert ask(driver, "lookup", world.image) is None
    _take_away(world)
    sent = [send(driver, f"wxid_{number}", world.image) for number in range(4)]
    _bring_back(world)
    world.drivers.remove(driver)
    driver.close()
    assert _written(world) == (1, 3)
    world.check_delivered(*sent)


def test_closing_while_it_is_still_away_ends_all_the_same(any_world: World, kind: str) -> None:
    world = any_world
    driver = world.open(kind, _tuning=LEAVING)
    assert ask(driver, "lookup", world.image) is None
    _take_away(world)
    sent = send(driver, "wxid_1", world.image)
    asked = _counting(driver)
    world.drivers.remove(driver)
    driver.close()
    assert asked() == 1
    _bring_back(world)
    assert _written(world) == (0, 0)
    world.check_delivered(sent)


def test_remember_and_forget_say_that_nothing_was_changed(any_world: World, kind: str) -> None:
    world = any_world
    driver = world.open(kind, _tuning=LEAVING)
    first = send(driver, "wxid_1", world.image)
    _take_away(world)
    with pytest.raises(StoreError, match="Nothing was changed"):
        ask(driver, "forget", world.image)
    with pytest.raises(StoreError, match="Nothing was changed"):
        ask(driver, "remember", _XML)
    again = send(driver, "wxid_2", world.image)
    _bring_back(world)
    assert ask(driver, "remember", _XML).entry_id is not None
    assert ask(driver, "forget", world.image) is True
    assert routes(first, again) == ["upload", "forward"]
    world.check_delivered(first, again)


def test_who_only_remembers_gets_the_tables_of_a_file_back(any_world: World, kind: str) -> None:
    """A failure of theirs is reason enough to look at the schema again; no send need come first."""
    world = any_world
    driver = world.open(kind, _tuning=LEAVING)
    assert ask(driver, "remember", _XML).entry_id is not None
    _take_away(world)
    _execute(world, "ALTER TABLE gewe_cache_schema RENAME TO away_schema")
    with pytest.raises(StoreError, match="Nothing was changed"):
        ask(driver, "remember", _XML)
    if not store_of(driver).database.is_sqlite:
        with pytest.raises(StoreError, match="gewe-cache db upgrade"):
            ask(driver, "remember", _XML)
    assert not store_of(driver)._ready
