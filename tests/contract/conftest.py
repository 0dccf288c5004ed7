"""What the contract's tests share: GeWe on loopback, a migrated database, and senders of both kinds on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gewe_cache.sandbox import Sandbox
from gewe_cache.settings import Tuning
from gewe_cache.store.engine import Database
from tests.contract.senders import AsyncDriver, Sender, SyncDriver

OpenSender = Callable[..., Sender]

# Waits short, and no pause between fall-backs: the tests that want the pause ask for it.
SHORT = Tuning(fall_back_pause=0.0, unreached_pauses=(0.0,), lease_poll=0.01, usage_interval=0.05, store_pause=0.0)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """GeWe, imitated."""
    with Sandbox() as running:
        yield running


@pytest.fixture
def database(migrated_database: Database) -> Database:
    """Look into the database that the senders use."""
    return migrated_database


@pytest.fixture(params=["sync", "async"])
def open_sender(request: pytest.FixtureRequest, sandbox: Sandbox, shared_database: str) -> Iterator[OpenSender]:
    """Open senders, of either kind; keywords replace their arguments. All are closed in the end."""
    drivers: list[SyncDriver | AsyncDriver] = []

    def open_one(**changes: Any) -> Sender:
        arguments = {
            "token": sandbox.token,
            "app_id": sandbox.app_id,
            "base_url": sandbox.base_url,
            "database": shared_database,
            "_tuning": SHORT,
        } | changes
        driver = SyncDriver(**arguments) if request.param == "sync" else AsyncDriver(**arguments)
        drivers.append(driver)
        return driver

    yield open_one
    for driver in drivers:
        driver.close()
        if isinstance(driver, AsyncDriver):
            driver.end()


@pytest.fixture
def sender(open_sender: OpenSender) -> Sender:
    """Give one sender."""
    return open_sender()
