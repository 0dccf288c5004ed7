"""Usage counters in memory, from which batches are written."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from gewe_cache.settings import utc_now
from gewe_cache.store.usage import COUNT_NAMES, Counts, Uses

if TYPE_CHECKING:
    from collections.abc import Callable

    from gewe_cache.image import CachedImage

_MAX_WAITING_USES = 50_000
_MAX_WAITING_HOURS = 1000


@dataclass(frozen=True, slots=True)
class Stats:
    """What a sender has done since it was made.

    Attributes:
        uploads, forwards: messages accepted by each route.
        fall_backs: uploads begun because a forward was refused.
        refusals: calls that GeWe refused.
        unknowns: calls after which it is unknown whether the message was sent.
        store_failures: times that the database failed.
        bytes_saved: bytes that were not uploaded again.
        upload_seconds, forward_seconds: wall time of the accepted calls of each route.
    """

    uploads: int
    forwards: int
    fall_backs: int
    refusals: int
    unknowns: int
    store_failures: int
    bytes_saved: int
    upload_seconds: float
    forward_seconds: float

    @property
    def hit_ratio(self) -> float:
        """Forwards among accepted messages, 0 to 1; 0 before the first."""
        return self.forwards / max(1, self.forwards + self.uploads)

    @property
    def seconds_saved(self) -> float:
        """What the forwards would have taken as uploads, less what they took; 0 without an upload to compare."""
        if not self.uploads:
            return 0.0
        return max(0.0, self.forwards * self.upload_seconds / self.uploads - self.forward_seconds)


@dataclass(slots=True)
class Batch:
    """What is to be written: counts by hour and scope, uses by entry id."""

    counts: dict[tuple[datetime, str], Counts]
    uses: dict[int, Uses]

    def __bool__(self) -> bool:
        """Tell whether there is anything to write."""
        return bool(self.counts or self.uses)


class Counters:
    """Counts of one sender. Safe to share between threads."""

    def __init__(self, scope: str) -> None:
        """Begin at zero."""
        self._scope = scope
        self._totals = Counts()
        self._waiting = Batch({}, {})
        self._lock = threading.Lock()
        self.on_change: Callable[[], None] = lambda: None

    def count(self, **numbers: float) -> None:
        """Add to the counts of this hour."""
        hour = utc_now().replace(minute=0, second=0, microsecond=0)
        with self._lock:
            of_hour = self._waiting.counts.setdefault((hour, self._scope), Counts())
            for counts in (self._totals, of_hour):
                for name, number in numbers.items():
                    setattr(counts, name, getattr(counts, name) + number)
        self.on_change()

    def count_forward(self, entry: CachedImage, seconds: float) -> None:
        """Count a forward, and the use of its entry."""
        if entry.entry_id is not None:
            with self._lock:
                use = self._waiting.uses.get(entry.entry_id)
                if use is not None or len(self._waiting.uses) < _MAX_WAITING_USES:
                    use = use or Uses(0, utc_now())
                    self._waiting.uses[entry.entry_id] = Uses(use.forwards + 1, utc_now())
        self.count(forwards=1, forward_seconds=seconds, bytes_saved=entry.length or 0)

    def stats(self) -> Stats:
        """Give the totals since the sender was made."""
        with self._lock:
            return Stats(**{name: getattr(self._totals, name) for name in COUNT_NAMES})

    def drain(self) -> Batch:
        """Take what is waiting to be written."""
        with self._lock:
            waiting, self._waiting = self._waiting, Batch({}, {})
        return waiting

    def take_back(self, batch: Batch) -> None:
        """Keep a batch that could not be written, for the next time."""
        with self._lock:
            for key, counts in batch.counts.items():
                waiting = self._waiting.counts.get(key)
                self._waiting.counts[key] = counts if waiting is None else counts + waiting
            for entry_id, use in batch.uses.items():
                later = self._waiting.uses.get(entry_id)
                if later is not None:
                    self._waiting.uses[entry_id] = replace(later, forwards=later.forwards + use.forwards)
                elif len(self._waiting.uses) < _MAX_WAITING_USES:
                    self._waiting.uses[entry_id] = use
            while len(self._waiting.counts) > _MAX_WAITING_HOURS:
                del self._waiting.counts[min(self._waiting.counts)]

    @property
    def waiting(self) -> bool:
        """Tell whether anything is waiting to be written."""
        return bool(self._waiting)
