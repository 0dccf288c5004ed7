"""The access log: a JSON line for each request, without queries, bodies and tokens.

Lines are written by a thread: a reader that does not read on must hold up nobody. It writes those of a moment
together, because to wake it costs the requests under way more than a line does. Where too many wait, the next are
dropped, and the one after them says how many.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from queue import Full, Queue
from typing import TYPE_CHECKING, Any, TextIO

from gewe_cache.text import one_line, redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gewe_cache.server.exchange import Exchange

_WAITING_LINES = 10_000
_END_SECONDS = 2.0
_MOMENT_SECONDS = 0.02


class JsonLines:
    """Writes JSON lines to a stream, in a thread of its own."""

    def __init__(self, stream: TextIO) -> None:
        """Begin to write."""
        self._stream = stream
        self._queue: Queue[str | None] = Queue(_WAITING_LINES)
        self._dropped = 0
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gewe_cache lines", daemon=True)
        self._thread.start()

    def write(self, event: Mapping[str, Any]) -> None:
        """Write an event soon."""
        dropped = {"dropped_lines": self._dropped} if self._dropped else {}
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            self._queue.put_nowait(json.dumps({"time": now, **event, **dropped}))
        except Full:
            self._dropped += 1
        else:
            self._dropped = 0

    def close(self) -> None:
        """Write what waits; a stream that takes nothing is not waited for."""
        deadline = time.monotonic() + _END_SECONDS
        self._is_ending.set()
        try:
            self._queue.put(None, timeout=_END_SECONDS)
        except Full:
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            self._is_ending.wait(_MOMENT_SECONDS)
            lines = [line, *(self._queue.get() for _ in range(self._queue.qsize()))]
            try:
                self._stream.write("".join(f"{each}\n" for each in lines if each is not None))
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads it any more
                pass
            if lines[-1] is None:
                return


def line_of(exchange: Exchange, seconds: float, token_headers: Sequence[str]) -> dict[str, Any]:
    """Give what the access log says of an exchange."""
    secrets = secrets_of(exchange, token_headers)
    noted = exchange.noted
    return {
        "event": "request",
        "client": exchange.client,
        "method": exchange.method,
        "path": one_line(redact(noted.path or exchange.target.partition(b"?")[0].decode("latin-1"), secrets)),
        "status": noted.status,
        "seconds": round(seconds, 4),
        "received": noted.received,
        "sent": noted.sent,
        **{name: _told(value, secrets) for name, value in noted.more.items()},
    }


def secrets_of(exchange: Exchange, token_headers: Sequence[str]) -> tuple[str, ...]:
    """Give the tokens of a request."""
    named = {name.lower().encode("ascii") for name in token_headers}
    return tuple(value.decode("latin-1") for name, value in exchange.headers if name in named and value)


def _told(value: object, secrets: tuple[str, ...]) -> object:
    return one_line(redact(value, secrets)) if isinstance(value, str) else value
