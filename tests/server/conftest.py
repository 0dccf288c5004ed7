"""A world for each test of the proxy; in the end no log of ours may show a token or an ``aes_key``."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Sandbox
from tests.server.kit import Proxy, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def world(shared_file: str, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    caplog.set_level(logging.DEBUG, logger="gewe_cache")
    sandbox = Sandbox()
    sandbox.start()
    made = World(sandbox, shared_file, sandbox.make_image("poster.png", width=8, height=8))
    opened: list[Proxy] = made.proxies
    yield made
    logs = [proxy.log for proxy in opened]
    made.close()
    secrets = [sandbox.token, *(issued.aes_key for issued in sandbox._cdn._issued.values())]
    format_fully = logging.Formatter().format
    lines = [format_fully(record) for when in ("setup", "call") for record in caplog.get_records(when)]
    lines += [line for log in logs for line in log.getvalue().splitlines()]
    assert [line for line in lines if any(secret in line for secret in secrets)] == []


@pytest.fixture
def proxy(world: World) -> Proxy:
    return world.open()


@pytest.fixture
def postgres_world(world: World, shared_postgres: str) -> World:
    world.database = shared_postgres
    return world
