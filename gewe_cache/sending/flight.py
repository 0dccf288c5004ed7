"""Flights: of all sends of this process that want one image at once, one uploads and the others wait.

The rules. A flight belongs to a key. Whoever begins it must end it, whatever happens, and says how: then
every waiter is told, each through a future of its own, so that one who stops waiting takes nobody along. To end
one that never began, or has ended, does no harm: make it first, begin it inside a ``try``, end it in the end.
Nobody waits for a flight while holding a lane or a database connection, and a flight begins only when its
leader holds its lane: a leader that queued for its lane would hold up devices that are free. Who queued for a
lane while a flight failed, or woke too late to see it, learns of it from ``failures``.

Other processes know of a flight by its lease (``store/leases.py``), under the flight's ``owner``: the flight
knows whether there is one to let go of, and whether GeWe was given the image.
"""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cachetools import LRUCache

from gewe_cache.settings import utc_now

if TYPE_CHECKING:
    from datetime import datetime

    from gewe_cache.errors import GeweRefused
    from gewe_cache.image import CachedImage
    from gewe_cache.store.leases import Ending as EndingKind

_REMEMBERED_UPLOADS = 4096
_REMEMBERED_FAILURES = 4096


@dataclass(frozen=True, slots=True)
class Ending:
    """How a flight ended.

    ``landed``: there is an entry. ``refused``: all waiters share the refusal. ``take_over``: the reason was
    the leader's own, the next may lead at once. ``failed``: one other may try.

    Attributes:
        refused_url: what GeWe could not use, where it was the image that it refused: who would have it fetched
            from elsewhere (two URLs may share a key, by an md5) does not share the refusal.
    """

    kind: EndingKind
    reason: str = ""
    entry: CachedImage | None = None
    refusal: GeweRefused | None = None
    refused_url: str | None = None


@dataclass(frozen=True, slots=True)
class Failures:
    """The flights of an image that were refused or failed: how many, and how the last one ended (the ``at``-th)."""

    number: int
    last: Ending
    at: int = 0


_NONE = Failures(0, Ending("take_over"))

Waiter = Future[Ending]


@dataclass(slots=True, eq=False)
class Flight:
    """One upload that others wait for.

    Attributes:
        owner: its name in the lease.
        ending: what its waiters, here and elsewhere, are told when it ends.
        has_lease: the lease may be its own, and is to be let go of.
        was_given: GeWe was given the image, and the next fall-back has to wait.
    """

    digest: bytes
    owner: str = field(default_factory=lambda: uuid.uuid4().hex)
    ending: Ending = Ending("take_over", "its leader left before its call")
    has_lease: bool = False
    was_given: bool = False
    waiters: list[Waiter] = field(default_factory=list)


class Flights:
    """The flights of one sender. Safe to share between threads; nothing here blocks."""

    def __init__(self) -> None:
        """Begin with none."""
        self._in_the_air: dict[bytes, Flight] = {}
        self._last_uploads: LRUCache[bytes, datetime] = LRUCache(_REMEMBERED_UPLOADS)
        self._failures: LRUCache[tuple[bytes, str | None], Failures] = LRUCache(_REMEMBERED_FAILURES)
        self._ended_badly = 0
        self._lock = threading.Lock()

    def watch(self, digest: bytes) -> Waiter | None:
        """Give a future of the running flight's ending, or None when there is no flight."""
        with self._lock:
            flight = self._in_the_air.get(digest)
            if flight is None:
                return None
            waiter: Waiter = Future()
            flight.waiters.append(waiter)
            return waiter

    def begin(self, flight: Flight) -> bool:
        """Begin a flight; False when there is one of its image already."""
        with self._lock:
            return self._in_the_air.setdefault(flight.digest, flight) is flight

    def end(self, flight: Flight) -> None:
        """End a flight and tell every waiter; to end it twice does nothing."""
        with self._lock:
            if self._in_the_air.get(flight.digest) is flight:
                self._note_end(flight)
                del self._in_the_air[flight.digest]
        for waiter in flight.waiters:
            _tell(waiter, flight.ending)

    def _note_end(self, flight: Flight) -> None:
        if flight.was_given:
            self._last_uploads[flight.digest] = utc_now()
        if flight.ending.kind in {"refused", "failed"}:
            key = (flight.digest, flight.ending.refused_url)
            self._ended_badly += 1
            number = self._failures.get(key, _NONE).number + 1
            self._failures[key] = Failures(number, flight.ending, self._ended_badly)

    def failures(self, digest: bytes, url: str | None) -> Failures:
        """Tell how many flights of an image that concern who has this URL were refused or failed, and the last."""
        with self._lock:
            of_all = self._failures.get((digest, None), _NONE)
            of_url = self._failures.get((digest, url), _NONE) if url is not None else _NONE
        last = max(of_all, of_url, key=lambda failures: failures.at)
        return Failures(of_all.number + of_url.number, last.last, last.at)

    def last_upload_at(self, digest: bytes) -> datetime | None:
        """Tell when this process last gave the image to GeWe."""
        with self._lock:
            return self._last_uploads.get(digest)


def _tell(waiter: Waiter, ending: Ending) -> None:
    with suppress(InvalidStateError):  # it has been told, or waits no more
        waiter.set_result(ending)
