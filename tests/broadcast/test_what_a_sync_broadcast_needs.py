"""What the sync sender's broadcasts need to run: no other event loop in the thread, and a way to make calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gewe_cache import AsyncImageSender, ImageSender, Pace
from tests.interruptions.kit import settings

if TYPE_CHECKING:
    from gewe_cache.sandbox import Sandbox

REFUSAL = r"^An event loop runs in this thread already\. Nothing was sent\. Use AsyncImageSender"


def test_calls_that_cannot_be_made_are_refused_before_anything_is_written_down(
    sandbox: Sandbox, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = sandbox.make_image("poster.png", width=8, height=8)
    with ImageSender(**settings(sandbox, sqlite_url)) as sender:
        monkeypatch.setenv("GEWE_CACHE_HTTP", "curl")
        with pytest.raises(ValueError, match=r"^GEWE_CACHE_HTTP.*Nothing was sent\.$"):
            sender.broadcast(image, ["wxid_1"])
        monkeypatch.setenv("GEWE_CACHE_HTTP", "httpcore")
        assert sender.broadcast(image, ["wxid_1"], pace=Pace.none()).id == 1


async def test_they_are_refused_before_anything_is_written_down(sandbox: Sandbox, sqlite_url: str) -> None:
    image = sandbox.make_image("poster.png", width=8, height=8)
    with ImageSender(**settings(sandbox, sqlite_url)) as sender:
        with pytest.raises(RuntimeError, match=REFUSAL):
            sender.broadcast(image, ["wxid_1"])
        with pytest.raises(RuntimeError, match=REFUSAL):
            sender.resume_broadcast(1, resend_unknown=True)
    async with AsyncImageSender(**settings(sandbox, sqlite_url)) as sender:
        found = await sender.broadcast(image, ["wxid_1"], pace=Pace.none())
    assert (found.id, found.sent) == (1, 1)
