"""Fixtures of the tests of broadcasts in many processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Sandbox
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator


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
def shared_postgres(postgres_url: str) -> str:
    """Give a database on PostgreSQL with its tables."""
    database = open_database(postgres_url)
    migrate.upgrade(database)
    database.dispose()
    return postgres_url
