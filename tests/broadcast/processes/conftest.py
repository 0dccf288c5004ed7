"""Fixtures of the tests of broadcasts in many processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Sandbox
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody's proxy stand between a sender and its sandbox."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Give a sandbox without delays."""
    with Sandbox() as running:
        yield running


@pytest.fixture
def url(sandbox: Sandbox) -> str:
    """Give the URL of an image that the sandbox has never seen."""
    return sandbox.make_image("poster.png", width=40, height=30)


@pytest.fixture
def shared_database(database_url: str) -> str:
    """Give a database with its tables that processes can share, once on each backend."""
    return _migrated(database_url)


@pytest.fixture
def shared_file(sqlite_url: str) -> str:
    """Give a SQLite file with its tables."""
    return _migrated(sqlite_url)


@pytest.fixture
def shared_postgres(postgres_url: str) -> str:
    """Give a database on PostgreSQL with its tables."""
    return _migrated(postgres_url)


def _migrated(url: str) -> str:
    database = open_database(url)
    migrate.upgrade(database)
    database.dispose()
    return url
