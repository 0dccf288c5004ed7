"""The time by which a broadcast runs; tests give it another."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from gewe_cache.settings import utc_now


class Clock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Give the time, aware UTC."""
        return utc_now()

    def monotonic(self) -> float:
        """Give seconds that never go back."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for an event, this long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of both clocks: together they notice a process that was stopped and a machine that slept."""

    wall: datetime
    monotonic: float

    @classmethod
    def read(cls, clock: Clock) -> Moment:
        """Read both."""
        return cls(clock.now(), clock.monotonic())

    def is_within(self, length: timedelta, clock: Clock) -> bool:
        """Tell whether less than ``length`` has gone by since, by either clock."""
        return clock.monotonic() - self.monotonic < length.total_seconds() and clock.now() - self.wall < length
