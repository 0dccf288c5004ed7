"""Lanes: GeWe wants one send at a time per device.

Who enters a busy lane gets a ticket, a future that is done when it is their turn; turns come in the order
of entering. A thread waits for a ticket with ``result()``, a task with ``asyncio.wrap_future``. Nothing
here blocks.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future

from gewe_cache.errors import GeweUnreachable

Ticket = Future[None]


class Lanes:
    """The queues of all devices of one sender. Safe to share between threads."""

    def __init__(self, queue_limit: int) -> None:
        """Bound each queue."""
        self._queue_limit = queue_limit
        self._queues: dict[str, deque[Ticket]] = {}
        self._lock = threading.Lock()

    def enter(self, app_id: str) -> Ticket | None:
        """Enter a device's lane: None when it was free and is ours now, else a ticket to wait for.

        Raises:
            GeweUnreachable: too many sends wait already.
        """
        with self._lock:
            queue = self._queues.get(app_id)
            if queue is None:
                self._queues[app_id] = deque()
                return None
            if len(queue) >= self._queue_limit:
                queue = self._queues[app_id] = deque(ticket for ticket in queue if not ticket.cancelled())
            if len(queue) >= self._queue_limit:
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
