"""Lanes: GeWe wants one send at a time per device.

All senders of a process that use one GeWe share the lanes of its devices, whatever their kind and token. Who
wants a lane enters it with a ticket; turns come in the order of entering, and whose ticket is the first has the
lane until it leaves. To leave does no harm to who never entered, or has left, so that Ctrl-C may come at any
moment: make the ticket first, enter it inside a ``try``, and leave in the end. A thread waits for its turn with
``result()``, a task with ``asyncio.wrap_future``. Nothing here blocks.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from weakref import WeakValueDictionary

from gewe_cache.errors import GeweUnreachable

Turn = Future[bool]


@dataclass(slots=True, eq=False)
class Ticket:
    """A send's place in the lane of a device.

    Attributes:
        turn: where it has to wait, a future that is done when it may go.
        ahead: how many were before it when it entered.
    """

    app_id: str
    turn: Turn | None = None
    ahead: int = 0

    @property
    def has_left(self) -> bool:
        """Tell whether its owner has stopped waiting."""
        return self.turn is not None and self.turn.cancelled()

    def call(self) -> bool:
        """Tell its owner that the turn has come, as often as one likes; False where the owner has left."""
        if self.turn is None:
            return True
        try:
            self.turn.set_result(True)
        except InvalidStateError:
            return not self.turn.cancelled()
        return True


class Lanes:
    """The queues of all devices of one GeWe. Safe to share between threads."""

    def __init__(self) -> None:
        """Begin with none; a device that nobody sends from has no queue."""
        self._queues: dict[str, deque[Ticket]] = {}
        self._lock = threading.Lock()

    def enter(self, ticket: Ticket, queue_limit: int, *, is_back: bool = False) -> Turn | None:
        """Enter a device's lane: None when it was free and is ours now, else the turn to wait for.

        ``is_back``: it has had its turn, and left to let others pass; the next turn is its own.

        Raises:
            GeweUnreachable: too many sends wait already.
        """
        with self._lock:
            queue = self._queues.get(ticket.app_id)
            if not queue:
                self._queues[ticket.app_id] = deque([ticket])
                return None
            if is_back:
                ticket.turn, ticket.ahead = Future(), len(queue)
                queue.insert(1, ticket)
                return ticket.turn
            if len(queue) > queue_limit:
                queue = self._queues[ticket.app_id] = deque(each for each in queue if not each.has_left)
            if len(queue) > queue_limit:
                waiting, device = len(queue) - 1, ticket.app_id
                msg = f"Nothing was sent: {waiting} sends of device {device} are waiting already. Send more slowly."
                raise GeweUnreachable(msg)
            ticket.turn, ticket.ahead = Future(), len(queue)
            queue.append(ticket)
            return ticket.turn

    def leave(self, ticket: Ticket) -> None:
        """Leave a lane, or stop waiting for it; the next one that still waits has it. To leave twice does nothing."""
        if ticket.turn is not None and ticket.turn.cancel():
            return  # its turn had not come, and will be passed over
        with self._lock:
            queue = self._queues.get(ticket.app_id)
            while queue and (queue[0] is ticket or not queue[0].call()):
                queue.popleft()
            if not queue:
                self._queues.pop(ticket.app_id, None)


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
