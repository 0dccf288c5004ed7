"""uvicorn's HTTP protocol, with a way from a call down to its TCP connection."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_KEY: Final = "gewe_sandbox_transport"


class SandboxProtocol(H11Protocol):
    """HTTP/1.1 that puts its transport into the scope's state and keeps no access log."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the transport for the calls that come over it."""
        super().connection_made(transport)
        self.access_log = False
        self.app_state = {_KEY: transport}


def transport_of(scope: Scope) -> asyncio.Transport:
    """Return the transport under a call."""
    transport: asyncio.Transport = scope["state"][_KEY]
    return transport
