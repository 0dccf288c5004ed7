"""An answer that nobody asked for is never read as that to the next call on its connection."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from gewe_cache.gewe.pass_through import Passed, PassThrough
from gewe_cache.gewe.transport import AsyncTransport, SyncTransport
from gewe_cache.gewe.wire import Reply
from tests.faults.kit import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from gewe_cache.gewe.transport import Posted

_STRAY = b'HTTP/1.1 500 Late\r\ncontent-length: 12\r\n\r\n{"ret": -1 }'
_BODY = re.compile(rb"\{[0-9]+\}")


class Server:
    """Answers each call with its own body, the first one together with ``extra``."""

    def __init__(self, extra: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/message/forwardImage"
        self.connections: list[socket.socket] = []
        self.calls: list[bytes] = []
        self._extra = extra
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        with connection, suppress(OSError):
            while data := connection.recv(65536):
                received += data
                if (body := _BODY.search(received)) is None:
                    continue
                received, extra, self._extra = b"", self._extra, b""
                self.calls.append(body[0])
                head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body[0])
                connection.sendall(head + body[0] + extra)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # Windows says that it is not connected
        self._listener.close()


@contextmanager
def _serving(extra: bytes = b"") -> Iterator[Server]:
    server = Server(extra)
    try:
        yield server
    finally:
        server.close()


def _post_now(transport: SyncTransport, server: Server, body: bytes) -> Posted:
    return transport.post(server.url, {}, body, PATIENCE)


@pytest.mark.parametrize("comes", ["never", "with the answer", "later"])
def test_a_stray_answer_is_not_that_to_the_next_sync_call(comes: str) -> None:
    with _serving(_STRAY if comes == "with the answer" else b"") as server:
        transport = SyncTransport()
        replies = [_post_now(transport, server, b"{1}")]
        if comes == "later":
            server.connections[0].sendall(_STRAY)
        replies.append(_post_now(transport, server, b"{2}"))
        transport.close()
    assert replies == [Reply(200, b"{1}"), Reply(200, b"{2}")]
    assert server.calls == [b"{1}", b"{2}"]
    assert len(server.connections) == (1 if comes == "never" else 2)


@pytest.mark.parametrize("comes", ["never", "with the answer", "later"])
@pytest.mark.parametrize("client", ["httpcore", "aiohttp"])
def test_a_stray_answer_is_not_that_to_the_next_async_call(client: str, comes: str) -> None:
    async def post_two(server: Server, other: Server) -> list[Posted]:
        transport, passing = AsyncTransport(), AsyncTransport()
        replies = [await transport.post(server.url, {}, b"{1}", PATIENCE)]
        if comes == "later":
            server.connections[0].sendall(_STRAY)
            await passing.post(other.url, {}, b"{0}", PATIENCE)  # meanwhile the loop reads it
        replies.append(await transport.post(server.url, {}, b"{2}", PATIENCE))
        await transport.aclose()
        await passing.aclose()
        return replies

    extra = _STRAY if comes == "with the answer" else b""
    with patch.dict(os.environ, {"GEWE_CACHE_HTTP": client}), _serving(extra) as server, _serving() as other:
        replies = asyncio.run(post_two(server, other))
    assert replies == [Reply(200, b"{1}"), Reply(200, b"{2}")]
    assert server.calls == [b"{1}", b"{2}"]
    assert len(server.connections) == (1 if comes == "never" else 2)


def _by(server: Server) -> dict[str, str]:
    return {"http_proxy": server.url.removesuffix("/message/forwardImage"), "no_proxy": ""}


def test_a_stray_answer_is_not_that_to_the_next_call_by_a_proxy() -> None:
    with _serving(_STRAY) as server, patch.dict(os.environ, _by(server)):
        transport = SyncTransport()
        replies = [transport.post("http://gewe.test/", {}, body, PATIENCE) for body in (b"{1}", b"{2}", b"{3}")]
        transport.close()
    assert replies == [Reply(200, b"{1}"), Reply(200, b"{2}"), Reply(200, b"{3}")]
    assert len(server.connections) == 2  # the one that is clean is used again


def test_a_stray_answer_is_not_that_to_the_next_request_passed_on() -> None:
    async def pass_three(server: Server) -> list[bytes]:
        passing, answers = PassThrough(server.url.removesuffix("/message/forwardImage"), PATIENCE), []
        for body in (b"{1}", b"{2}", b"{3}"):
            async with passing.open("POST", b"/", [(b"content-length", b"3")], _pieces(body)) as passed:
                assert isinstance(passed, Passed)
                answers.append(b"".join([chunk async for chunk in passed.chunks]))
        await passing.aclose()
        return answers

    with _serving(_STRAY) as server:
        assert asyncio.run(pass_three(server)) == [b"{1}", b"{2}", b"{3}"]
    assert len(server.connections) == 2  # the one that is clean is used again


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body
