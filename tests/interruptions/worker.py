"""A process with an ``ImageSender``: takes orders as JSON lines on its standard input, and answers each in kind.

Orders are read by a thread of its own, so that the main thread can be interrupted in the middle of ``send``.
"""

from __future__ import annotations

import _thread
import json
import logging
import queue
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gewe_cache import ImageSender
from gewe_cache.settings import Tuning
from tests.concurrency.crews import is_idle, waiters

_PATIENCE = 20.0
_LOOK_AGAIN = 0.002


class Worker(logging.Handler):
    """One sender, its sends and its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.threads = ThreadPoolExecutor(8)
        self.sends: list[Future[str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())

    def open(self, tuning: dict[str, Any], **options: Any) -> None:
        """Make a sender, and have it open its database."""
        self.sender = ImageSender(**options, _tuning=Tuning(**tuning))
        self.sender.lookup("http://example.com/nothing.png")

    def send(self, to: str, url: str, device: str) -> str:
        """Send in the main thread, until it is interrupted."""
        try:
            return self.sender.send_image(to, url, app_id=device).route
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the test wants to know which
            return type(error).__name__

    def begin(self, to: str, url: str, device: str) -> None:
        """Send in another thread."""
        self.sends.append(self.threads.submit(self.send, to, url, device))

    def waiting(self, count: int) -> bool:
        """Wait until so many wait for a flight; tell whether they came to."""
        return _until(lambda: waiters(self.sender._core.parts) == count)

    def results(self) -> list[str]:
        """Wait for the sends of other threads."""
        return [send.result(_PATIENCE) for send in self.sends]

    def log(self) -> list[str]:
        """Give our own warnings."""
        return self.lines

    def idle(self) -> bool:
        """Tell whether no lane and no flight is held."""
        return is_idle(self.sender._core.parts)

    def stop_at(self, place: str) -> None:
        """Have the next upload's save stop for ever: before it, or within its transaction."""
        store = self.sender._core.store
        attempt = store.attempt

        def stopped(operation: Any, otherwise: Any, **options: Any) -> Any:
            def performed(connection: Any) -> None:
                operation(connection)
                _stay("within")

            if options.get("purpose") != "save":
                return attempt(operation, otherwise, **options)
            return attempt(performed, otherwise, **options) if place == "within" else _stay("before")

        store.attempt = stopped  # type: ignore[method-assign]

    def close(self) -> None:
        """Close the sender."""
        self.sender.close()


def _stay(place: str) -> None:
    _answer(f"stopped {place}")
    threading.Event().wait()


def _until(condition: Any) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_AGAIN)
    return True


def _answer(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _read(orders: queue.SimpleQueue[dict[str, Any] | None], worker: Worker) -> None:
    """Read orders; those that are about a main thread which is busy are followed here."""
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "interrupt":
            _thread.interrupt_main()
        elif order["do"] in {"begin", "waiting"}:
            _answer(getattr(worker, order.pop("do"))(**order))
        else:
            orders.put(order)
    orders.put(None)


def _serve() -> None:
    orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    worker = Worker()
    logging.getLogger("gewe_cache").addHandler(worker)
    threading.Thread(target=_read, args=(orders, worker), daemon=True).start()
    while (order := orders.get()) is not None and order["do"] != "leave":
        _answer(getattr(worker, order.pop("do"))(**order))


if __name__ == "__main__":
    _serve()
