"""A pytest fixture for bots: `pytest_plugins = ["gewe_cache.sandbox.pytest_plugin"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gewe_cache.sandbox.server import Sandbox


@pytest.fixture
def gewe_sandbox() -> Iterator[Sandbox]:
    """Give each test a sandbox of its own, without delays."""
    with Sandbox() as sandbox:
        yield sandbox
