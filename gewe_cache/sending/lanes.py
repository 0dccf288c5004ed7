"""Lanes: GeWe wants one send at a time per device.

All senders of a process that use one GeWe share the lanes of its devices, whatever their kind and token. Who
enters a busy lane gets a ticket, a future that is done when it is their turn; turns come in the order of
entering. A thread waits for a ticket with ``result()``, a task with ``asyncio.wrap_future``. Nothing here
blocks.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future
from weakref import WeakValueDictionary

from gewe_cache.errors import GeweUnreachable

Ticket = Future[None]


class Lanes:
    """The queues of all devices of one GeWe. Safe to share between threads."""

    def __init__(self) -> None:
        """Begin with none; a device that nobody sends from has no queue."""
        self._queues: dict[str, deque[Ticket]] = {}
        self._lock = threading.Lock()

    def enter(self, app_id: str, queue_limit: int) -> Ticket | None:
        """Enter a device's lane: None when it was free and is ours now, else a ticket to wait for.

        Raises:
            GeweUnreachable: too many sends wait already.
        """
        with self._lock:
            queue = self._queues.get(app_id)
            if queue is None:
                self._queues[app_id] = deque()
                return None
            if len(queue) >= queue_limit:
                queue = self._queues[app_id] = deque(ticket for ticket in queue if not ticket.cancelled())
            if len(queue) >= queue_limit:
                msg = f"Nothing was sent: {len(queue)} sends of device {app_id} are waiting already. Send more slowly."
                raise GeweUnreachable(msg)
            ticket: Ticket = Future()
            queue.append(ticket)
            return ticket

    def leave(self, app_id: str) -> None:
        """Leave a lane; the next one that still waits has it."""
        with self._lock:
            queue = self._queues[app_id]
            while queue:
                ticket = queue.popleft()
                if ticket.set_running_or_notify_cancel():
                    ticket.set_result(None)
                    return
            del self._queues[app_id]

    def give_up(self, app_id: str, ticket: Ticket) -> None:
        """Stop waiting; a turn that had come already goes to the next."""
        if not ticket.cancel():
            self.leave(app_id)


class _Registry:
    """The lanes of this process by GeWe's host, for as long as a sender uses them."""

    def __init__(self) -> None:
        self._lanes: WeakValueDictionary[str, Lanes] = WeakValueDictionary()
        self._lock = threading.Lock()

    def at(self, host: str) -> Lanes:
        with self._lock:
            lanes = self._lanes.get(host)
            if lanes is None:
                lanes = self._lanes[host] = Lanes()
            return lanes


_registry = _Registry()


def lanes_at(host: str) -> Lanes:
    """Give the lanes of a GeWe, by its host and port: the same to every sender of this process."""
    return _registry.at(host)


def _begin_anew() -> None:
    global _registry  # noqa: PLW0603 - who is in a lane is the parent's, and so is who holds a lock
    _registry = _Registry()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
