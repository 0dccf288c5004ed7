"""One daemon thread per sender that renews leases and writes usage, off every event loop.

It sleeps until there is something to do, and touches nothing but the store and the counters.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from gewe_cache.log import Log
from gewe_cache.store import leases, usage

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gewe_cache.sending.counters import Batch, Counters
    from gewe_cache.settings import Tuning
    from gewe_cache.store.guard import Store

_log = Log("gewe_cache.sending")


class Background:
    """Renews the leases that are held, and writes the counters in batches."""

    def __init__(self, store: Store, counters: Counters, tuning: Tuning) -> None:
        """Start no thread yet."""
        self._store = store
        self._counters = counters
        self._tuning = tuning
        self._held: set[str] = set()
        self._settling: set[str] = set()
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        counters.on_change = self._wake

    def hold(self, owner: str) -> None:
        """Renew this flight's lease until it is dropped."""
        with self._lock:
            self._held.add(owner)
        self._wake()

    def settle(self, owner: str) -> None:
        """Go on renewing it, but do not miss it: its flight is about to remove or end it by itself."""
        with self._lock:
            self._settling.add(owner)

    def drop(self, owner: str) -> None:
        """Renew it no longer."""
        with self._lock:
            self._held.discard(owner)
            self._settling.discard(owner)

    def stop(self) -> None:
        """End the thread and write what is left; called once, by whoever closes the sender."""
        self._stopping.set()
        self._work.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2 * self._tuning.database_timeout)
        self.flush(is_last=True)

    def flush(self, *, is_last: bool = False) -> None:
        """Write the counters now; what cannot be written is kept for the next time.

        Args:
            is_last: there is no next time; a database that is being left alone is asked all the same.
        """
        batch = self._counters.drain()
        if batch and not self._store.attempt(
            partial(_write, batch=batch),
            otherwise=False,
            write=True,
            purpose="usage",
            accepted=True,
            in_pause=is_last,
        ):
            self._counters.take_back(batch)

    def _wake(self) -> None:
        if self._work.is_set():
            return
        self._work.set()
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                thread = threading.Thread(target=self._run, name="gewe_cache background", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # none to be had, or the interpreter is ending: the next change tries again
                    self._work.clear()
                else:
                    self._thread = thread

    def _run(self) -> None:
        interval = min(self._tuning.lease_renewal, self._tuning.usage_interval)
        last_flush = time.monotonic()
        while self._work.wait() and not self._stopping.wait(interval):
            self._work.clear()
            if self._stopping.is_set():  # since the wait: to be woken for it has just been cleared away
                return
            self._renew()
            if time.monotonic() - last_flush >= self._tuning.usage_interval * 0.9:
                self.flush()
                last_flush = time.monotonic()
            if self._held or self._counters.waiting:
                self._work.set()

    def _renew(self) -> None:
        with self._lock:
            owners = sorted(self._held)
        if not owners:
            return
        length = timedelta(seconds=self._tuning.lease_seconds)
        renewed = self._store.attempt(
            partial(leases.renew, owners=owners, length=length),
            otherwise=len(owners),
            write=True,
            purpose="lease renewal",
            accepted=True,
        )
        with self._lock:
            missed = len(self._held.intersection(owners) - self._settling) - renewed
        if missed > 0:
            _log.warning("%d lease(s) were lost while their uploads are out; the uploads go on", missed)


def _write(connection: Connection, batch: Batch) -> bool:
    usage.add(connection, batch.counts, batch.uses)
    leases.sweep(connection)
    return True
