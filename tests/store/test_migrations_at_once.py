"""Many who start at once, one that is killed in the middle, and a lock that is never let go."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import inspect, text

from gewe_cache.errors import StoreError
from gewe_cache.store import migrate, schema, tables
from gewe_cache.store.engine import open_database
from tests.postgres import fresh_database
from tests.store import histories

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

_STARTERS = 8
_ROUNDS = 5
_MIDDLE = 'op.create_table("gewe_cache_half", sa.Column("a", sa.Text())); print("middle", flush=True); input()'

_KILLED = """
import sys
from pathlib import Path
from gewe_cache.store import migrate, schema, scripts
from gewe_cache.store.engine import open_database
scripts.migrations_folder = lambda: Path(sys.argv[2])
schema.KNOWN_REVISIONS, schema.HEAD = ("0001", "0002", "0003"), "0003"
migrate.upgrade(open_database(sys.argv[1]))
"""


@pytest.fixture
def starters(request: pytest.FixtureRequest) -> Iterator[list[subprocess.Popen[str]]]:
    """Give 8 processes, ready to do to a database what the test's parameter names."""
    processes = [histories.start_python(histories.STARTER, request.param) for _ in range(_STARTERS)]
    try:
        assert {histories.hear(process) for process in processes} == {"ready"}
        yield processes
    finally:
        complaints = {process.communicate(timeout=histories.PATIENCE)[1] for process in processes}
    assert complaints == {""}


def _all_start(processes: list[subprocess.Popen[str]], url: str) -> None:
    for process in processes:
        histories.tell(process, url)
    assert [histories.hear(process) for process in processes] == ["done"] * _STARTERS
    database = open_database(url)
    assert migrate.check(database) == []
    with database.reader.connect() as connection:
        assert connection.scalar(text(f"SELECT count(*) FROM {tables.VERSION_TABLE}")) == 1  # noqa: S608 - a constant
    database.dispose()


@pytest.mark.parametrize("starters", ["ensure_schema"], indirect=True)
def test_8_senders_start_at_once_on_a_fresh_file(starters: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    for number in range(_ROUNDS):
        _all_start(starters, f"sqlite:///{(tmp_path / 'new' / f'{number}.db').as_posix()}")


@pytest.mark.parametrize("starters", ["upgrade"], indirect=True)
def test_8_upgrades_start_at_once_on_a_fresh_postgresql(
    starters: list[subprocess.Popen[str]], postgres_url: str
) -> None:
    for _ in range(_ROUNDS):
        with fresh_database(postgres_url) as url:
            _all_start(starters, url)


def test_8_threads_migrate_8_databases(tmp_path: Path) -> None:
    barrier = Barrier(_STARTERS)

    def migrate_one(number: int) -> list[str]:
        database = open_database(f"sqlite:///{(tmp_path / f'{number}.db').as_posix()}")
        barrier.wait(histories.PATIENCE)
        migrate.upgrade(database)
        differences = migrate.check(database)
        database.dispose()
        return differences

    with ThreadPoolExecutor(_STARTERS) as pool:
        assert list(pool.map(migrate_one, range(_STARTERS))) == [[]] * _STARTERS


def test_8_threads_start_at_once_on_one_database(database_url: str) -> None:
    barrier = Barrier(_STARTERS)

    def migrate_it(_: int) -> str | None:
        database = open_database(database_url)
        barrier.wait(histories.PATIENCE)
        migrate.upgrade(database)
        found = migrate.current(database)
        database.dispose()
        return found

    with ThreadPoolExecutor(_STARTERS) as pool:
        assert set(pool.map(migrate_it, range(_STARTERS))) == {schema.HEAD}


@pytest.mark.parametrize("begin_with", ["nothing", "0002"])
def test_the_next_start_mends_what_a_killed_migration_left(
    database_url: str, begin_with: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(database_url)
    if begin_with == "0002":
        migrate.upgrade(database)
        with database.writer.begin() as connection:
            histories.insert_rows(connection)
    with monkeypatch.context() as patched:
        longer = histories.lengthen_history(tmp_path, patched, upgrade=_MIDDLE)
    process = histories.start_python(_KILLED, database_url, str(longer))
    assert histories.hear(process) == "middle"
    process.kill()
    process.communicate()

    assert migrate.current(database) == (None if begin_with == "nothing" else begin_with)
    migrate.upgrade(database)
    assert migrate.current(database) == schema.HEAD
    assert migrate.check(database) == []
    assert "gewe_cache_half" not in inspect(database.reader).get_table_names()
    with database.reader.connect() as connection:
        assert histories.count_entries(connection) == (0 if begin_with == "nothing" else 1)
    database.dispose()


def test_a_locked_file_is_given_up_in_the_end(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "LOCK_PATIENCE", 0.2)
    holder, database = open_database(sqlite_url), open_database(sqlite_url)
    migrate.upgrade(holder)
    refused = pytest.raises(StoreError, match=r"waited 0 s for it\. Nothing was changed")
    with holder.writer.begin(), refused:
        migrate.upgrade(database)
    migrate.upgrade(database)
    holder.dispose()
    database.dispose()


def test_a_locked_postgresql_is_given_up_in_the_end(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "LOCK_PATIENCE", 0.2)
    database = open_database(postgres_url)
    with database.writer.connect() as holder:
        holder.execute(text("SELECT pg_advisory_lock(:key)"), {"key": migrate.ADVISORY_LOCK})
        with pytest.raises(StoreError, match=r"waited 0 s for it\. Nothing was changed"):
            migrate.upgrade(database)
        assert migrate.current(database) is None
        holder.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": migrate.ADVISORY_LOCK})
    migrate.upgrade(database)
    database.dispose()


def test_a_process_in_which_another_thread_migrates_for_ever_gives_up(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_PATIENCE", 0.2)
    database = open_database(sqlite_url)
    with migrate.ALEMBIC_LOCK, pytest.raises(StoreError, match="Another thread"):
        migrate.upgrade(database)
    migrate.upgrade(database)
    database.dispose()
