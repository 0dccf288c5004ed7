"""Fixtures of the tests of broadcasts in many processes."""

from __future__ import annotations

import pytest

from gewe_cache.sandbox import Sandbox


@pytest.fixture
def url(sandbox: Sandbox) -> str:
    """Give the URL of an image that the sandbox has never seen."""
    return sandbox.make_image("poster.png", width=40, height=30)
