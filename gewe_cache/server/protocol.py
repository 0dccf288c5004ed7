"""uvicorn's HTTP protocol with what it lacks: bounds on what a client sends ahead, on its silence, and on clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import Scope

    from gewe_cache.server.settings import Limits

_MOST_BYTES_AHEAD: Final = 1_000_000
"""Of requests that a client sends before it has its answer."""

_KEY: Final = "gewe_cache_transport"
_BODY: Final = '{"ret":503,"msg":"Too many connections. Nothing was sent. Send again later."}'
_TOO_MANY: Final = (
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
    f"content-length: {len(_BODY)}\r\nconnection: close\r\n\r\n{_BODY}"
).encode("ascii")


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 whose clients have to say in time what they want."""

    def __init__(self, *, limits: Limits, **arguments: Any) -> None:  # noqa: ANN401 - uvicorn's own
        """Take uvicorn's arguments, and the limits."""
        super().__init__(**arguments)
        self._limits = limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Turn away who is one too many."""
        super().connection_made(transport)
        self.access_log = False
        self.app_state = {_KEY: transport}
        if len(self.connections) > self._limits.connections:
            transport.write(_TOO_MANY)
            transport.close()
            return
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Take what came, unless the connection is being closed."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch_head()
        if len(self.conn.trailing_data[0]) > _MOST_BYTES_AHEAD:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Let go of a client that does not read on in time."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self._limits.client_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that clock: it reads again."""
        super().resume_writing()
        self._stop_write_timer()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; where it cannot be answered, end its connection alone."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:  # another answer has begun, or the request was a HEAD
            self.transport.abort()
        if self.cycle is not None:  # what it is about to answer has nowhere to go
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _watch_head(self) -> None:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering or self.transport.is_closing():
            self._stop_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self._limits.client_seconds, self._give_up_head)

    def _give_up_head(self) -> None:
        self._head_timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def transport_of(scope: Scope) -> asyncio.Transport:
    """Give the transport under a request."""
    transport: asyncio.Transport = scope["state"][_KEY]
    return transport
