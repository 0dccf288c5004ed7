"""A process that sends: takes orders as JSON lines on its standard input, and answers each in kind.

``open`` makes a sender; ``send`` begins sends and answers when they run; ``waiting`` answers when so many wait
for a flight; ``results`` answers with every route or error; ``close`` closes the sender.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import Any

from gewe_cache import AsyncImageSender, Image
from gewe_cache.settings import Tuning
from tests.concurrency.crews import waiters

_LOOK_AGAIN = 0.002
_PATIENCE = 20


class Worker:
    """One sender and its sends under way."""

    def __init__(self) -> None:
        self.sends: list[asyncio.Task[dict[str, Any]]] = []

    async def open(self, tuning: dict[str, Any], **options: Any) -> None:
        """Make a sender, and have it open its database."""
        self.sender = AsyncImageSender(**options, _tuning=Tuning(**tuning))
        await self.sender.lookup("http://example.com/nothing.png")
        self.sends = []

    async def send(self, url: str, sends: list[list[str]], md5: str | None = None, **options: Any) -> None:
        """Begin sends."""
        image = Image(url=url, md5=md5)
        self.sends += [asyncio.create_task(self._send(to, image, app_id, options)) for app_id, to in sends]

    async def waiting(self, count: int, *, following: bool) -> bool:
        """Wait until so many sends wait in memory for a flight; tell whether they came to.

        ``following``: their flight follows another process's, and so holds no lane.
        """
        parts = self.sender._core.parts
        deadline = time.monotonic() + _PATIENCE
        while waiters(parts) != count or bool(parts.lanes._queues) == following:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_LOOK_AGAIN)
        return True

    async def results(self) -> list[dict[str, Any]]:
        """Wait for all sends."""
        return list(await asyncio.gather(*self.sends))

    async def close(self) -> None:
        """Close the sender."""
        await self.sender.aclose()

    async def _send(self, to_wxid: str, image: Image, app_id: str, options: dict[str, Any]) -> dict[str, Any]:
        try:
            sent = await self.sender.send_image(to_wxid, image, app_id=app_id, **options)
        except Exception as error:  # noqa: BLE001 - the test wants to know which
            return {"outcome": type(error).__name__, "words": str(error)}
        return {"outcome": sent.route}


async def _serve() -> None:
    worker = Worker()
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        answer = await getattr(worker, order.pop("do"))(**order)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    logging.getLogger("gewe_cache").addHandler(logging.NullHandler())
    asyncio.run(_serve())
