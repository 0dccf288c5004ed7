"""A world to send in, for each test of faults."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Sandbox
from tests.faults.kit import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world(shared_file: str, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    """Give a running sandbox, an image, and an empty cache.

    In the end no line of ours, and no traceback in one, may show an ``aes_key`` or the token.
    """
    caplog.set_level(logging.DEBUG, logger="gewe_cache")
    sandbox = Sandbox()
    sandbox.start()
    made = World(sandbox, shared_file, sandbox.make_image("poster.png", width=8, height=8))
    yield made
    made.close()
    secrets = [sandbox.token, *(issued.aes_key for issued in sandbox._cdn._issued.values())]
    format_fully = logging.Formatter().format
    lines = [format_fully(record) for when in ("setup", "call") for record in caplog.get_records(when)]
    assert [line for line in lines if any(secret in line for secret in secrets)] == []
