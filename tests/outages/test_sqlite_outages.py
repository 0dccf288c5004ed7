"""A SQLite file that is read-only, full, deleted, damaged, replaced or not to be made: a send works all the same."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from gewe_cache import SchemaUnknown, StoreError
from gewe_cache.store import tables
from tests.faults.kit import send
from tests.outages.kit import ASKING, SqliteWorld, ask, failures, pause_over, routes, store_of, until

if TYPE_CHECKING:
    from collections.abc import Callable

_NULLABLE = (
    "PRAGMA writable_schema = ON",
    "UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'gewe_cache_entries'",
)
_CORRUPT = {
    "short aes_key": "aes_key = 'nope'",
    "aes_key of no hex": "aes_key = '" + 32 * "z" + "'",
    "aes_key NULL": "aes_key = NULL",
    "aes_key a blob": "aes_key = x'00ff'",
    "file_id NULL": "file_id = NULL",
    "file_id XML": "file_id = '\"/><x>'",
    "uploaded_at garbage": "uploaded_at = 'yesterday'",
    "uploaded_at NULL": "uploaded_at = NULL",
    "uploaded_at a number": "uploaded_at = 17",
    "upload_began_at garbage": "upload_began_at = '2026-99-99'",
    "length negative": "length = -1",
    "width words": "width = 'wide'",
    "md5 short": "md5 = 'abc'",
}


def _overwrite(world: SqliteWorld) -> None:
    for path in world.file.parent.glob("cache.db*"):
        with path.open("r+b") as file:  # in place: the sender has it open
            file.write(os.urandom(path.stat().st_size or 1))


def _delete(world: SqliteWorld) -> None:
    for path in world.file.parent.glob("cache.db*"):
        path.unlink()


def _put_a_folder(world: SqliteWorld) -> None:
    _delete(world)
    world.file.mkdir()


_OURS = [*(table.name for table in reversed(tables.metadata.sorted_tables)), tables.VERSION_TABLE]
_ALL_TABLES = [name.removeprefix("gewe_cache_") for name in _OURS]


def _drop(*tables: str) -> Callable[[SqliteWorld], None]:
    def drop(world: SqliteWorld) -> None:
        world.execute(*(f"DROP TABLE gewe_cache_{name}" for name in tables))

    return drop


_SPOIL: dict[str, Callable[[SqliteWorld], None]] = {
    "overwritten": _overwrite,
    "deleted": _delete,
    "a folder": _put_a_folder,
    "no entries": _drop("keys", "entries"),
    "no leases": _drop("leases"),
    "no usage": _drop("usage"),
    "no tables": _drop(*_ALL_TABLES),
}


@pytest.mark.parametrize("spoil", _SPOIL)
@pytest.mark.parametrize("when", ["running", "before"])
def test_a_spoilt_file_costs_no_send(world: SqliteWorld, kind: str, spoil: str, when: str) -> None:
    world.prime()
    driver = world.open(kind, _tuning=replace(ASKING, usage_interval=0.05))
    if when == "running":
        assert ask(driver, "lookup", world.image) is not None
    _SPOIL[spoil](world)
    other = world.sandbox.make_image("other.png", width=9, height=9)
    sent = []
    for number in range(3):
        sent += [send(driver, f"wxid_{number}", each) for each in (world.image, other)]
        pause_over(driver)
    assert routes(*sent).count("upload") <= 2  # each image once, then from memory
    world.check_delivered(*sent)
    assert len(world.sandbox.calls) == 7


@pytest.mark.parametrize("spoil", ["no tables", "deleted"])
def test_a_file_without_tables_is_made_anew(world: SqliteWorld, kind: str, spoil: str) -> None:
    world.prime()
    driver = world.open(kind, _tuning=ASKING)
    _SPOIL[spoil](world)
    sent = send(driver, "wxid_1", world.image)
    elsewhere = send(world.open(kind, _tuning=ASKING), "wxid_2", world.image)
    assert routes(sent, elsewhere) == ["upload", "forward"]
    world.check_delivered(sent, elsewhere)


def test_a_damaged_file_that_is_deleted_is_made_anew(
    world: SqliteWorld, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections to the file that was there must not be used again."""
    world.prime()
    driver = world.open(kind, _tuning=ASKING)
    assert ask(driver, "lookup", world.image) is not None
    _overwrite(world)
    during = send(driver, "wxid_1", world.sandbox.make_image("other.png", width=9, height=9))
    assert failures(caplog.records)
    _delete(world)
    pause_over(driver)
    late = world.sandbox.make_image("late.png", width=7, height=7)
    after = send(driver, "wxid_1", late)
    elsewhere = send(world.open(kind, _tuning=ASKING), "wxid_2", late)
    assert routes(during, after, elsewhere) == ["upload", "upload", "forward"]
    world.check_delivered(during, after, elsewhere)


@pytest.mark.parametrize("place", ["folder", "below a file"])
def test_a_place_where_no_file_can_be_made(world: SqliteWorld, kind: str, place: str) -> None:
    world.file.parent.joinpath("file").write_text("here")
    name = world.file.parent if place == "folder" else world.file.parent / "file" / "cache.db"
    driver = world.open(kind, database=f"sqlite:///{name.as_posix()}", _tuning=ASKING)
    with pytest.raises(StoreError, match="Nothing was changed"):
        ask(driver, "forget", world.image)
    sent = send(driver, "wxid_1", world.image), send(driver, "wxid_2", world.image)
    assert routes(*sent) == ["upload", "forward"]
    world.check_delivered(*sent)


@pytest.mark.parametrize("field", _CORRUPT)
def test_a_corrupt_row_is_a_miss_that_heals(
    world: SqliteWorld, kind: str, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.prime()
    world.execute(*_NULLABLE)
    world.execute("PRAGMA ignore_check_constraints = ON", f"UPDATE gewe_cache_entries SET {_CORRUPT[field]}")  # noqa: S608
    driver = world.open(kind, _tuning=ASKING)
    sent = send(driver, "wxid_1", world.image)
    assert all("an entry in the database is corrupt" in line for line in failures(caplog.records))
    assert failures(caplog.records)
    elsewhere = send(world.open(kind, _tuning=ASKING), "wxid_2", world.image)
    assert routes(sent, elsewhere) == ["upload", "forward"]
    assert world.count("entries") == 1
    world.check_delivered(sent, elsewhere)


def test_a_read_only_file_is_read_for_ever(world: SqliteWorld, kind: str) -> None:
    """What cannot be written, usage above all, must not cost the hits."""
    world.prime()
    known = world.sandbox.make_image("known.png", width=7, height=7)
    world.prime(known)
    url = f"sqlite:///file:{world.file.as_posix()}?mode=ro&uri=true"
    driver = world.open(kind, database=url, _tuning=replace(ASKING, usage_interval=0.02, store_pause=600.0))
    sent = [send(driver, "wxid_1", world.image)]
    until(lambda: ask(driver, "stats").store_failures > 0)
    sent += [send(driver, "wxid_2", known)]
    other = world.sandbox.make_image("other.png", width=9, height=9)
    sent += [send(driver, "wxid_1", other), send(driver, "wxid_2", other)]
    assert routes(*sent) == ["forward", "forward", "upload", "forward"]
    with pytest.raises(StoreError, match="readonly"):
        ask(driver, "forget", world.image)
    world.check_delivered(*sent)


@pytest.mark.parametrize("start", ["primed", "fresh"])
def test_a_full_file(world: SqliteWorld, kind: str, start: str, caplog: pytest.LogCaptureFixture) -> None:
    if start == "primed":
        world.prime()
    driver = world.open(kind, _tuning=ASKING)

    def fill(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # as many as it has

    for engine in (store_of(driver).database.reader, store_of(driver).database.writer):
        event.listen(engine, "connect", fill)
    image = f"{world.sandbox.make_image('other.png', width=9, height=9)}?{7000 * 'x'}"
    sent = send(driver, "wxid_1", image), send(driver, "wxid_2", image)
    assert routes(*sent) == ["upload", "forward"]
    assert "full" in failures(caplog.records)[0]
    world.check_delivered(*sent)


def test_replaced_by_a_newer_schema_while_running(world: SqliteWorld, kind: str) -> None:
    world.prime()
    driver = world.open(kind, _tuning=ASKING)
    assert ask(driver, "lookup", world.image) is not None
    world.execute(
        "UPDATE gewe_cache_schema SET version_num = '9999'", "ALTER TABLE gewe_cache_entries RENAME TO gewe_cache_new"
    )
    sent = send(driver, "wxid_1", world.image)  # from memory: the database has just failed
    pause_over(driver)
    with pytest.raises(SchemaUnknown, match="pip install --upgrade gewe-cache"):
        send(driver, "wxid_2", world.image)
    assert len(world.sandbox.calls) == 2
    world.check_delivered(sent)


def test_replaced_by_an_older_schema_while_running(world: SqliteWorld, kind: str) -> None:
    world.prime()
    driver = world.open(kind, _tuning=ASKING)
    assert ask(driver, "lookup", world.image) is not None
    _drop(*_ALL_TABLES)(world)
    other = world.sandbox.make_image("other.png", width=9, height=9)
    during = send(driver, "wxid_1", other)
    pause_over(driver)
    late = world.sandbox.make_image("late.png", width=7, height=7)
    after = send(driver, "wxid_1", late)
    elsewhere = send(world.open(kind, _tuning=ASKING), "wxid_2", late)
    assert routes(during, after, elsewhere) == ["upload", "upload", "forward"]
    world.check_delivered(during, after, elsewhere)
