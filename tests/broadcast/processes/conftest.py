"""Fixtures of the tests of broadcasts in many processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Sandbox

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
