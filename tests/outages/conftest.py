"""A world to send in, for each test of outages: on a SQLite file, or on a PostgreSQL that the test may stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache.sandbox import Sandbox
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
from tests.faults.kit import World
from tests.outages.kit import SqliteWorld
from tests.postgres import PostgresServer, PostgresUnavailable, fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["sync own", "async own"])
def kind(request: pytest.FixtureRequest) -> str:
    """Give each kind of sender."""
    name: str = request.param
    return name


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """GeWe, imitated; nothing that was delivered was delivered twice."""
    with Sandbox() as running:
        yield running
        assert running.duplicates() == []


@pytest.fixture
def world(sandbox: Sandbox, shared_file: str, tmp_path: Path) -> Iterator[SqliteWorld]:
    """Give a world on a SQLite file."""
    made = SqliteWorld(sandbox, shared_file, sandbox.make_image("poster.png", width=8, height=8))
    made.file = tmp_path / "cache.db"
    yield made
    made.close()


@pytest.fixture(scope="session")
def _own_server() -> Iterator[PostgresServer]:
    try:
        server = PostgresServer()
    except PostgresUnavailable as error:
        pytest.fail(str(error), pytrace=False)
    yield server
    server.close()


@pytest.fixture
def server(_own_server: PostgresServer) -> PostgresServer:
    """Give a running server that the test may stop, kill and start; the tests of a process share it."""
    _start_if_ended(_own_server)
    return _own_server


@pytest.fixture
def empty_url(server: PostgresServer) -> Iterator[str]:
    """Give the URL of a database without tables on that server."""
    with fresh_database(server.url) as url:
        yield url
        _start_if_ended(server)  # or the database could not be dropped


@pytest.fixture(scope="session")
def _own_database(_own_server: PostgresServer) -> Iterator[str]:
    """Give the URL of a migrated database on that server, to copy."""
    _start_if_ended(_own_server)
    with fresh_database(_own_server.url) as url:
        database = open_database(url)
        migrate.upgrade(database)
        database.dispose()
        yield url
        _start_if_ended(_own_server)


@pytest.fixture
def pg_url(server: PostgresServer, _own_database: str) -> Iterator[str]:
    """Give the URL of a database with its tables on that server."""
    with fresh_database(server.url, copy_of=_own_database) as url:
        yield url
        _start_if_ended(server)


@pytest.fixture
def pg_world(sandbox: Sandbox, pg_url: str) -> Iterator[World]:
    """Give a world on PostgreSQL."""
    made = World(sandbox, pg_url, sandbox.make_image("poster.png", width=8, height=8))
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgres"])
def any_world(request: pytest.FixtureRequest) -> Any:
    """Give a world on each backend."""
    return request.getfixturevalue("world" if request.param == "sqlite" else "pg_world")


def _start_if_ended(server: PostgresServer) -> None:
    """Start a server that a test has ended; one that runs must not be started again."""
    if server._order("look") != "running":
        server.start()
