"""A bench for broadcasts in one process: GeWe on loopback, a SQLite file, a clock that goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gewe_cache import ImageSender
from gewe_cache.broadcast.run import Limits
from gewe_cache.broadcast.service import broadcasts_of
from gewe_cache.sandbox import Sandbox
from gewe_cache.settings import Tuning
from gewe_cache.store.engine import open_database
from tests.broadcast.kit import Bench, FakeClock

SHORT = Tuning(unreached_pauses=(0.0,), lease_poll=0.01, usage_interval=60.0, store_pause=0.0)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """GeWe, imitated."""
    with Sandbox() as running:
        yield running


@pytest.fixture
def bench(sandbox: Sandbox, shared_file: str) -> Iterator[Bench]:
    """Give the broadcasts of one sender, on a fake clock."""
    clock, database = FakeClock(), open_database(shared_file)
    sender = ImageSender(
        sandbox.token, sandbox.app_id, base_url=sandbox.base_url, database=shared_file, timeout=20, _tuning=SHORT
    )
    with sender, broadcasts_of(sender._live(), Limits(), clock) as opened:
        clock.of = opened
        yield Bench(sandbox, opened, clock, database, sandbox.make_image("poster.png"))
    database.dispose()
