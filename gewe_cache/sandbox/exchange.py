"""One HTTP exchange: reading the call's body, and all the ways in which its answer can end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from http import HTTPStatus
from typing import Final

from starlette.types import Receive, Scope, Send

from gewe_cache.sandbox.answers import Answer
from gewe_cache.sandbox.faults import Fault
from gewe_cache.sandbox.plans import Plan
from gewe_cache.sandbox.protocol import transport_of

# struct linger is two ints, on Windows two unsigned shorts.
_LINGER_NOT: Final = struct.pack("HH" if os.name == "nt" else "ii", 1, 0)


class ClientGoneError(Exception):
    """The client went away before its call had arrived."""


class Exchange:
    """An ASGI call and the TCP connection under it."""

    __slots__ = ("_receive", "_scope", "_send")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wrap the three arguments of an ASGI application."""
        self._scope = scope
        self._receive = receive
        self._send = send

    def header(self, name: bytes) -> str:
        """Return the value of a request header (its name in lower case), "" if there is none."""
        for key, value in self._scope["headers"]:
            if key == name:
                return str(value, "latin-1").strip()
        return ""

    async def read_body(self, limit: int) -> bytes | None:
        """Read the request's body; None if it has more than `limit` bytes.

        Raises:
            ClientGoneError: the client left before the end of it.
        """
        message = await self._receive()
        if message["type"] == "http.request" and not message["more_body"]:
            body: bytes = message["body"]
            return body if len(body) <= limit else None
        kept = bytearray()
        size = 0
        while message["type"] == "http.request":
            size += len(message["body"])
            if size <= limit:
                kept += message["body"]
            if not message["more_body"]:
                return bytes(kept) if size <= limit else None
            message = await self._receive()
        raise ClientGoneError

    async def answer(self, answer: Answer) -> None:
        """Answer in full."""
        body = answer.encoded()
        await self._send({"type": "http.response.start", "status": answer.status, "headers": answer.headers(body)})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def end_as(self, plan: Plan, answer: Answer) -> None:
        """Let the answer end as the plan's fault wants it."""
        match plan.fault.ending:
            case "answer":
                await self.answer(answer)
            case "reset":
                await self.reset()
            case "close":
                await self._close()
            case "hang":
                await self._hang(plan)
            case "drip":
                await self._drip(plan, answer)
            case "cut":
                await self._cut(plan.fault, answer)

    async def reset(self) -> None:
        """Reset the connection: the client sees a TCP RST."""
        transport = transport_of(self._scope)
        connection = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.abort()
        await self._gone()

    async def _close(self) -> None:
        transport_of(self._scope).close()
        await self._gone()

    async def _hang(self, plan: Plan) -> None:
        gone = asyncio.ensure_future(self._gone())
        released = asyncio.ensure_future(plan.wait_released())
        try:
            await asyncio.wait((gone, released), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            released.cancel()
            await asyncio.gather(gone, released, return_exceptions=True)
        await self._close()

    async def _drip(self, plan: Plan, answer: Answer) -> None:
        transport = transport_of(self._scope)
        head, body = _raw(answer)
        if not plan.fault.drips_headers:
            transport.write(head)
            head = b""
        await _drip_bytes(transport, head + body, plan)
        await self._close()

    async def _cut(self, fault: Fault, answer: Answer) -> None:
        head, body = _raw(answer)
        transport_of(self._scope).write(head + body[: fault.cut_after])
        await self._close()

    async def _gone(self) -> None:
        """Wait until the connection is no more, so that the server does not answer by itself."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _drip_bytes(transport: asyncio.Transport, data: bytes, plan: Plan) -> None:
    for position in range(len(data)):
        if transport.is_closing():
            return
        transport.write(data[position : position + 1])
        if await plan.wait_released(plan.fault.seconds):
            transport.write(data[position + 1 :])
            return


def _raw(answer: Answer) -> tuple[bytes, bytes]:
    """Return the answer as it looks on the wire: head and body."""
    body = answer.encoded()
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {answer.status} {phrase}".encode()]
    lines += [name + b": " + value for name, value in answer.headers(body)]
    return b"\r\n".join([*lines, b"connection: close", b"", b""]), body
