"""Fixtures of the tests of broadcasts in many processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Sandbox

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
