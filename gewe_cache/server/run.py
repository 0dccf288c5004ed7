"""Serving until told to end: then no more is accepted, and what is under way is finished."""

from __future__ import annotations

import os
import socket
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from gewe_cache.server.protocol import GuardedProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from gewe_cache.server.app import ServerApp
    from gewe_cache.server.settings import Limits

_BACKLOG = 2048
# Longer than usual clients keep an idle connection: one that is closed as a request is sent leaves it in doubt.
_KEEP_ALIVE_SECONDS = 75


class _Server(uvicorn.Server):
    """uvicorn's server, ended by a question instead of by signals."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], should_end: Callable[[], bool]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._should_end = should_end

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        return self._should_end() or await super().on_tick(counter)


async def serve(
    app: ServerApp,
    listener: socket.socket,
    limits: Limits,
    *,
    on_ready: Callable[[], None] = lambda: None,
    should_end: Callable[[], bool],
) -> None:
    """Serve until ``should_end`` says so (it is asked ten times a second), then finish what is under way.

    Where GeWe has yet to fetch a file from here for a send under way, that comes first: it needs the port. After
    ``limits.grace_seconds`` what still waits for its turn is dropped; calls that are out are waited for.
    """
    told_at: float | None = None

    def is_to_end() -> bool:
        nonlocal told_at
        if not should_end():
            return False
        app.begin_end()
        told_at = time.monotonic() if told_at is None else told_at
        return not app.is_hosting or time.monotonic() - told_at >= limits.grace_seconds

    protocol: Any = partial(GuardedProtocol, limits=limits)
    config = uvicorn.Config(
        app,
        http=protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(limits.grace_seconds),
    )
    try:
        await _Server(config, on_ready, is_to_end).serve(sockets=[listener])
    finally:
        await app.aclose()


def listen(host: str, port: int) -> socket.socket:
    """Take a port; 0 takes a free one.

    Raises:
        OSError: it cannot be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # on Windows the option would share the port with strangers
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """Give the address at which clients find it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
