"""Many devices in one process against a sandbox in another: how fast, and what its record says.

The big one, by hand: ``python -m tests.broadcast.processes.many 1000 20``, and a database's URL if you like.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gewe_cache import AsyncImageSender, Pace
from gewe_cache.sandbox import Sandbox

if TYPE_CHECKING:
    from gewe_cache import Broadcast

_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Outcome:
    """What the sender and the sandbox say of a broadcast."""

    broadcast: Broadcast
    seconds: float
    record: dict[str, int]


def send(database: str, devices: int, each: int) -> Outcome:
    """Broadcast to ``each`` recipients from each of the devices, without a pause."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.broadcast.processes.many"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        settings = json.loads(process.stdout.readline())
        began = time.monotonic()
        ended = asyncio.run(_broadcast(settings, database, devices, each))
        seconds = time.monotonic() - began
        process.stdin.close()
        return Outcome(ended, seconds, json.loads(process.stdout.readline()))


async def _broadcast(settings: dict[str, Any], database: str, devices: int, each: int) -> Broadcast:
    recipients = ((f"wx_sandbox_{number % devices}", f"wxid_{number}") for number in range(devices * each))
    async with AsyncImageSender(settings["token"], base_url=settings["base_url"], database=database) as sender:
        return await sender.broadcast(settings["url"], recipients, pace=Pace.none())


def _serve() -> None:
    """Be the sandbox, until the standard input ends."""
    with Sandbox() as sandbox:
        url = sandbox.make_image("poster.png", width=40, height=30)
        _say({"token": sandbox.token, "base_url": sandbox.base_url, "url": url})
        sys.stdin.read()
        _say(
            {
                "uploads": len(sandbox.uploads),
                "deliveries": len(sandbox.deliveries),
                "calls": len(sandbox.calls),
                "duplicates": len(sandbox.duplicates()),
                "overlaps": len(sandbox.overlaps()),
            }
        )


def _say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _measure(devices: int, each: int, *database: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outcome = send(database[0] if database else f"sqlite:///{folder}/cache.db", devices, each)
    rate = outcome.broadcast.sent / outcome.seconds
    _say({"sent": outcome.broadcast.sent, "seconds": round(outcome.seconds, 1), "rate": round(rate), **outcome.record})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _measure(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
    else:
        _serve()
