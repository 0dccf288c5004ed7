"""The front cache: entries in memory, trusted for two seconds.

After that the database is asked again, so that another process's forget or retirement is seen; while the
database is away, what is in memory is still used.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from gewe_cache.image import CachedImage


@dataclass(frozen=True, slots=True)
class Held:
    """An entry in memory, and when the database last confirmed it (monotonic seconds)."""

    entry: CachedImage
    confirmed: float


class Front:
    """A bounded map from a key's digest to an entry. Safe to share between threads."""

    def __init__(self, size: int, trust_seconds: float) -> None:
        """Hold at most ``size`` entries, the least recently used ones go first."""
        self._held: LRUCache[bytes, Held] = LRUCache(size)
        self._trust_seconds = trust_seconds
        self._lock = threading.Lock()
        self.version = 0

    def get(self, digest: bytes) -> Held | None:
        """Give what is held, trusted or not."""
        with self._lock:
            return self._held.get(digest)

    def is_trusted(self, held: Held) -> bool:
        """Tell whether an entry may be used without asking the database."""
        return 0 <= time.monotonic() - held.confirmed < self._trust_seconds

    def put(self, digest: bytes, entry: CachedImage) -> None:
        """Hold an entry that was just saved, or learnt while the database is away."""
        with self._lock:
            self.version += 1
            self._held[digest] = Held(entry, time.monotonic())

    def confirm(self, digest: bytes, entry: CachedImage | None, version: int) -> None:
        """Take over what the database says, unless the front changed since ``version`` was read."""
        with self._lock:
            if version != self.version:
                return
            if entry is None:
                self._held.pop(digest, None)
            else:
                self._held[digest] = Held(entry, time.monotonic())

    def drop(self, digest: bytes, entry_id: int | None) -> bool:
        """Drop what a key leads to, and every key that leads to that entry.

        Returns:
            True when the key led to something.
        """
        with self._lock:
            self.version += 1
            dropped = self._held.pop(digest, None)
            if entry_id is not None:
                for other in [key for key, held in self._held.items() if held.entry.entry_id == entry_id]:
                    del self._held[other]
        return dropped is not None
