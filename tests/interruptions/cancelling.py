"""What the tests of cancelled sends do: begin a send, wait until its call is out, cancel it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from tests.interruptions.kit import PATIENCE

if TYPE_CHECKING:
    import pytest

    from gewe_cache import AsyncImageSender, SentImage
    from gewe_cache.sandbox import Plan

_AT_ONCE = 2.0


def begin(sender: AsyncImageSender, to: str, url: str, device: int = 1, **options: Any) -> asyncio.Task[SentImage]:
    """Begin a send in a task."""
    sending = sender.send_image(f"wxid_{to}", url, app_id=f"wx_sandbox_{device}", **options)
    return asyncio.get_running_loop().create_task(sending)


async def reached(plan: Plan) -> None:
    """Wait until a call suffers its fault."""
    await asyncio.to_thread(plan.wait_reached)


async def cancel(*sends: asyncio.Task[SentImage]) -> None:
    """Cancel sends, whose callers get ``CancelledError`` at once."""
    began = time.monotonic()
    for send in sends:
        assert send.cancel()
    await asyncio.wait(sends, timeout=PATIENCE)
    assert all(send.cancelled() for send in sends)
    assert time.monotonic() - began < _AT_ONCE


async def close(sender: AsyncImageSender) -> None:
    """Close a sender, which must come to its end."""
    async with asyncio.timeout(PATIENCE):
        await sender.aclose()


def lines(log: pytest.LogCaptureFixture, words: str) -> list[str]:
    """Give our own warnings with these words."""
    return [line for line in log.messages if words in line]
