"""A process that works on broadcasts: takes orders as JSON lines on its standard input, and answers each in kind.

Orders are read by a thread of its own, so that the main thread can be interrupted in the middle of a broadcast.
"""

from __future__ import annotations

import json
import logging
import queue
import signal
import sys
import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gewe_cache import ImageSender, Pace
from gewe_cache.broadcast.clock import Clock
from gewe_cache.broadcast.run import Limits, Listener, Run
from gewe_cache.broadcast.service import broadcasts_of
from gewe_cache.settings import Tuning
from tests.broadcast.processes.points import Trap, watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from gewe_cache import Broadcast


class ShiftedClock(Clock):
    """The machine's clock, set forward or back."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        """Give the time that it shows."""
        return super().now() + self.ahead


class Worker(logging.Handler):
    """One sender and its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.clock = ShiftedClock()
        self.trap = Trap()
        watch(self.trap)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())

    def open(self, limits: dict[str, Any], tuning: dict[str, Any], **options: Any) -> None:
        """Make a sender, and have it open its database."""
        self.sender = ImageSender(**options, _tuning=Tuning(**tuning))
        self.sender.lookup("http://example.com/nothing.png")
        self.limits = Limits(**limits)

    def announce(self) -> None:
        """Answer "stopping" when a run is told to begin nothing more."""
        stop = Run.stop

        def stopped(run: Run) -> None:
            was_stopping = run.is_stopping
            stop(run)
            if not was_stopping:
                _answer("stopping")

        setattr(Run, "stop", stopped)  # noqa: B010 - mypy

    def send(self, to: str, url: str, device: str) -> None:
        """Send in another thread, beside the broadcast."""
        threading.Thread(target=self.sender.send_image, args=(to, url), kwargs={"app_id": device}, daemon=True).start()

    def arm(self, point: str, count: int, signal_name: str) -> None:
        """Set the trap."""
        self.trap.arm(point, count, signal_name)

    def shift(self, seconds: float) -> None:
        """Set the clock."""
        self.clock.ahead = timedelta(seconds=seconds)

    def log(self) -> list[str]:
        """Give our own warnings."""
        return self.lines

    def broadcast(self, url: str, recipients: list[list[str]]) -> dict[str, Any]:
        """Start a broadcast by the public method."""
        pairs = [(app_id, to_wxid) for app_id, to_wxid in recipients]
        return _outcome(lambda: self.sender.broadcast(url, pairs, pace=Pace.none()))

    def resume(self, broadcast_id: int, *, resend_unknown: bool = False, pause: float = 0.0) -> dict[str, Any]:
        """Work on a broadcast, with this worker's limits and clock."""
        with broadcasts_of(self.sender._core, self.limits, self.clock) as opened:

            def resumed() -> Broadcast:
                found = opened.check_resumable(broadcast_id)
                if resend_unknown:
                    opened.resend_unknown(broadcast_id)
                return self.sender._work(opened, found, Pace.every(pause), Listener())

            return _outcome(resumed)

    def close(self) -> None:
        """Close the sender."""
        self.sender.close()


def _outcome(begin: Callable[[], Broadcast]) -> dict[str, Any]:
    try:
        found = begin()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the test wants to know which
        return {"error": type(error).__name__, "words": str(error)}
    return {
        "id": found.id,
        "stopped": dict(found.stopped),
        **{state: getattr(found, state) for state in ("pending", "sending", "sent", "refused", "unknown")},
    }


def _answer(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _read(orders: queue.SimpleQueue[dict[str, Any] | None], worker: Worker) -> None:
    """Read orders; those that are about a main thread which is busy are followed here."""
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] in {"shift", "arm", "announce", "send"}:
            getattr(worker, order.pop("do"))(**order)
        else:
            orders.put(order)
    orders.put(None)


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background has it ignored
    orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    worker = Worker()
    logging.getLogger("gewe_cache").addHandler(worker)
    threading.Thread(target=_read, args=(orders, worker), daemon=True).start()
    while (order := orders.get()) is not None and order["do"] != "leave":
        _answer(getattr(worker, order.pop("do"))(**order))


if __name__ == "__main__":
    _serve()
