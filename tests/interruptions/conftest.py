"""Fixtures of the tests of interruptions."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from gewe_cache import AsyncImageSender
from gewe_cache.sandbox import Sandbox
from tests.interruptions.kit import PATIENCE, is_idle, running_leases, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Give a sandbox without delays."""
    with Sandbox() as running:
        yield running


@pytest.fixture
def url(sandbox: Sandbox) -> str:
    """Give the URL of an image that the sandbox has never seen."""
    return sandbox.make_image("poster.png", width=40, height=30)


@pytest_asyncio.fixture
async def sender(sandbox: Sandbox, shared_database: str) -> AsyncIterator[AsyncImageSender]:
    """Give a sender whose loop has nothing to complain of, and which is idle in the end."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    made = AsyncImageSender(**settings(sandbox, shared_database))
    await made.lookup("http://example.com/nothing.png")
    yield made
    sandbox.heal()
    async with asyncio.timeout(PATIENCE):
        await made.aclose()
    assert is_idle(made._core.parts)
    assert running_leases(shared_database) == 0
    assert complaints == []


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Collect our own warnings."""
    caplog.set_level(logging.WARNING, logger="gewe_cache")
    return caplog
