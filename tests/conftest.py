"""Fixtures for every test: a clean environment, and a fresh database on SQLite and on a real PostgreSQL.

What needs tables gets a copy of a database that was migrated once: that is a tenth of the time a migration takes.
Where no PostgreSQL can start, the tests that need one fail and say why: none is skipped.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
from typing import TYPE_CHECKING

import hypothesis
import platformdirs
import pytest

from gewe_cache.store.engine import open_database
from tests.postgres import POSTGRES_SETTING, PostgresServer, PostgresUnavailable, fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gewe_cache.store.engine import Database

_GIVEN_SERVER = os.environ.get(POSTGRES_SETTING)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Let ``-n auto`` begin half as many workers again as there are processors: many tests wait for something."""
    processors = os.cpu_count() or 1
    return processors + (processors + 1) // 2


# A busy machine decides nothing.
hypothesis.settings.register_profile(
    "gewe_cache", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("gewe_cache")


def pytest_configure() -> None:
    """Let Ctrl-C be tried on children: a suite begun in the background ignores it, and so would they."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the developer's own settings, cache file and proxy, from this process and from those it starts."""
    for name in [name for name in os.environ if name.upper().startswith("GEWE_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    data = tmp_path / "user-data"
    monkeypatch.setenv("XDG_DATA_HOME", str(data))
    monkeypatch.setenv("LOCALAPPDATA", str(data))
    monkeypatch.setattr(platformdirs, "user_data_dir", lambda appname="", *_, **__: str(data / appname))


@pytest.fixture(autouse=True)
def _logger_as_it_was() -> Iterator[None]:
    """Undo what the command line does to our logger: it is run in the process of the tests."""
    logger = logging.getLogger("gewe_cache")
    handlers, level = [*logger.handlers], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture(scope="session")
def _server_url() -> Iterator[str]:
    if _GIVEN_SERVER:
        yield _GIVEN_SERVER
        return
    server = _start_server()
    yield server.url
    server.close()


@pytest.fixture
def postgres_url(_server_url: str) -> Iterator[str]:
    """Give the URL of an empty database on a real PostgreSQL, dropped after the test."""
    with fresh_database(_server_url) as url:
        yield url


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """Give a server of the test's own: ``url``, ``stop()``, ``kill()``, ``start()``."""
    server = _start_server()
    yield server
    server.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Give the URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{(tmp_path / 'cache.db').as_posix()}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Give the URL of a fresh database, once on each backend."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(scope="session")
def _file_to_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "cache.db"
    _migrate(f"sqlite:///{file.as_posix()}")
    return file


@pytest.fixture(scope="session")
def _postgres_to_copy(_server_url: str) -> Iterator[str]:
    with fresh_database(_server_url) as url:
        _migrate(url)
        yield url


@pytest.fixture
def shared_file(sqlite_url: str, _file_to_copy: Path) -> str:
    """Give the URL of a SQLite file with its tables."""
    shutil.copy(_file_to_copy, sqlite_url.removeprefix("sqlite:///"))
    return sqlite_url


@pytest.fixture
def shared_postgres(_server_url: str, _postgres_to_copy: str) -> Iterator[str]:
    """Give the URL of a database on PostgreSQL with its tables, dropped after the test."""
    with fresh_database(_server_url, copy_of=_postgres_to_copy) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def shared_database(request: pytest.FixtureRequest) -> str:
    """Give the URL of a database with its tables that processes can share, once on each backend."""
    url: str = request.getfixturevalue("shared_file" if request.param == "sqlite" else "shared_postgres")
    return url


@pytest.fixture
def migrated_database(shared_database: str) -> Iterator[Database]:
    """Give a fresh database with all tables, once on each backend."""
    database = open_database(shared_database)
    yield database
    database.dispose()


def _migrate(url: str) -> None:
    from gewe_cache.store import migrate  # noqa: PLC0415 - Alembic is slow to import

    database = open_database(url)
    try:
        migrate.upgrade(database)
    finally:
        database.dispose()


def _start_server() -> PostgresServer:
    try:
        return PostgresServer()
    except PostgresUnavailable as error:
        pytest.fail(str(error), pytrace=False)
