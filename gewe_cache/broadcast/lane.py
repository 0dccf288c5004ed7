"""One lane of a broadcast as its worker sees it: its pace, what slows it down, and what stops it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from gewe_cache.broadcast.outcomes import Verdict

if TYPE_CHECKING:
    from gewe_cache.broadcast.pace import Pace

FAILURES_IN_A_ROW: Final = 3
TOO_FAST_IN_A_ROW: Final = 5

_AFTER_TOO_FAST = timedelta(seconds=30)
_SLOWEST = 8


class Lane:
    """What a worker remembers of one device."""

    def __init__(self, pace: Pace, app_id: str) -> None:
        """Begin at the pace itself."""
        self._pace = pace
        self._pauses = pace.pauses(app_id)
        self._slowness = 1
        self._failures = 0
        self._too_fast = 0
        self.stopped: str | None = None

    def next(
        self, verdict: Verdict, recent: tuple[datetime, ...], *, is_group: bool
    ) -> tuple[datetime, tuple[datetime, ...]]:
        """Take in how a send ended; give when the next may start, and the ends that count for it.

        ``recent``: when the sends of the lane ended, this one last.
        """
        if verdict.consequence == "drop":
            return recent[-1], recent[:-1]
        self._count(verdict)
        kept = self._pauses.worth_keeping(recent)
        return self._pace.ready_at(kept, self._pause(is_group=is_group)), kept

    def _count(self, verdict: Verdict) -> None:
        consequence = verdict.consequence
        self._failures = self._failures + 1 if consequence == "count" else 0
        self._too_fast = self._too_fast + 1 if consequence == "slow_down" else 0
        if consequence == "slow_down":
            self._slowness = min(_SLOWEST, self._slowness * 2)
        if consequence == "stop_lane":
            self.stopped = verdict.reason
        elif self._failures >= FAILURES_IN_A_ROW:
            self.stopped = f"{self._failures} failures in a row, the last one: {verdict.reason}"
        elif self._too_fast >= TOO_FAST_IN_A_ROW:
            self.stopped = f"refused as too fast {self._too_fast} times in a row: {verdict.reason}"

    def _pause(self, *, is_group: bool) -> timedelta:
        pause = self._pauses.after(is_group=is_group) * self._slowness
        if not self._too_fast:
            return pause
        return max(pause, _AFTER_TOO_FAST * (1 << self._too_fast - 1))


def longest_pause(pace: Pace) -> timedelta:
    """Give the longest that any lane waits, slowed down or not."""
    return max(pace.longest * _SLOWEST, _AFTER_TOO_FAST * 2**TOO_FAST_IN_A_ROW)
