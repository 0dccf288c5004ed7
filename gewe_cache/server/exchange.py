"""One HTTP exchange with a client that may be slow, talk too much, or leave."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gewe_cache.server.protocol import transport_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from gewe_cache.gewe.pass_through import Headers
    from gewe_cache.server.answers import Answer
    from gewe_cache.server.settings import Limits


class ClientLeftError(Exception):
    """The client left before its request had arrived, or while it was being answered."""


class BodyTooLongError(Exception):
    """The request's body is longer than is taken."""


class BodyTooSlowError(Exception):
    """The request's body did not come in time."""


@dataclass(slots=True)
class Noted:
    """What the access log tells of an exchange; ``path``: in place of its own."""

    status: int = 0
    received: int = 0
    sent: int = 0
    path: str = ""
    more: dict[str, Any] = field(default_factory=dict)


class Exchange:
    """A request and the way back to its client. Its body can be read once."""

    __slots__ = ("_limits", "_receive", "_scope", "_send", "headers", "method", "noted", "path", "target")

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        """Wrap the three arguments of an ASGI application."""
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limits = limits
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Headers = scope["headers"]
        query: bytes = scope["query_string"]
        self.target: bytes = scope["raw_path"] + (b"?" + query if query else b"")
        self.noted = Noted()

    @property
    def client(self) -> str:
        """The client's address."""
        client = self._scope.get("client")
        return client[0] if client else ""

    @property
    def has_started(self) -> bool:
        """Tell whether an answer has begun to go out."""
        return self.noted.status != 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the body as it comes.

        Raises:
            BodyTooLongError, BodyTooSlowError, ClientLeftError: and the rest is not read.
        """
        for name, value in self.headers:
            if name == b"content-length" and int(value) > self._limits.body_bytes:
                raise BodyTooLongError
        patience, is_more = self._limits.client_seconds, True
        while is_more:
            asked = time.monotonic()
            try:
                async with asyncio.timeout(patience):
                    message = await self._receive()
            except TimeoutError:
                raise BodyTooSlowError from None
            patience -= time.monotonic() - asked
            if message["type"] != "http.request":
                raise ClientLeftError
            chunk, is_more = message.get("body", b""), message.get("more_body", False)
            self.noted.received += len(chunk)
            if self.noted.received > self._limits.body_bytes:
                raise BodyTooLongError
            if chunk:
                yield chunk

    async def gone(self) -> None:
        """Wait until the client leaves; the body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def answer(self, answer: Answer) -> None:
        """Answer in full."""
        await self.start(answer.status, answer.headers())
        await self.write(answer.body, is_last=True)

    async def start(self, status: int, headers: Headers) -> None:
        """Begin an answer.

        Raises:
            ClientLeftError: the client has left.
        """
        self._check_there()
        self.noted.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def write(self, chunk: bytes, *, is_last: bool = False) -> None:
        """Go on answering.

        Raises:
            ClientLeftError: the client has left, or did not read on in time, for which the protocol has cut it off.
        """
        self._check_there()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": not is_last})
        if not is_last:  # after the last one, we may have closed it ourselves
            self._check_there()
        self.noted.sent += len(chunk)

    def _check_there(self) -> None:
        if transport_of(self._scope).is_closing():
            raise ClientLeftError

    async def abort(self) -> None:
        """Break the connection off, so that the client sees that its answer is not whole."""
        transport_of(self._scope).abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.client_seconds):
                await self.gone()
