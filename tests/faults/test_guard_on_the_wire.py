"""The guard of a call, over every HTTP client: what it stops has not sent a byte, however late it says so."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import httpx
import httpx2
import pytest

from gewe_cache.gewe.transport import AsyncTransport, SyncTransport
from gewe_cache.gewe.wire import Reply
from gewe_cache.sending.steps import Abandoned
from tests.faults.kit import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HEADERS = {"X-GEWE-TOKEN": "sandbox-token", "Content-Type": "application/json"}
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
_SYNC: dict[str, Callable[[], Any]] = {"own": lambda: None, "httpx": httpx.Client, "httpx2": httpx2.Client}
_ASYNC: dict[str, Callable[[], Any]] = {
    "own": lambda: None,
    "fast": lambda: None,
    "httpx": httpx.AsyncClient,
    "httpx2": httpx2.AsyncClient,
}
_CASES = [("sync", name) for name in _SYNC] + [("async", name) for name in _ASYNC]


class Server:
    """Answers every request; keeps the bytes of each connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/message/forwardImage"
        self.received: list[bytes] = []
        self.closed = threading.Semaphore(0)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.received.append(b"")
            threading.Thread(target=self._serve, args=(connection, len(self.received) - 1), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection:
            while data := connection.recv(65536):
                self.received[number] += data
                if data.endswith(b"}"):
                    connection.sendall(_ANSWER)
        self.closed.release()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # Windows says that it is not connected
        self._listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


class Guard:
    """Lets the first checks pass, and stops the call at the one after these."""

    def __init__(self, passes: int) -> None:
        self.left = passes

    def __call__(self) -> None:
        if self.left == 0:
            raise Abandoned
        self.left -= 1


@contextmanager
def posting(side: str, name: str) -> Iterator[Callable[[str, Guard | None], Any]]:
    """Give what posts a body over a client of this kind."""
    with patch.dict(os.environ, {"GEWE_CACHE_HTTP": "aiohttp"} if name == "fast" else {}):
        if side == "sync":
            client = _SYNC[name]()
            transport = SyncTransport(client)
            yield lambda url, guard: transport.post(url, _HEADERS, b"{}", PATIENCE, guard)
            transport.close()
            if client is not None:
                client.close()
            return
        with asyncio.Runner() as runner:
            async_client = _ASYNC[name]()
            async_transport = AsyncTransport(async_client)
            yield lambda url, guard: runner.run(async_transport.post(url, _HEADERS, b"{}", PATIENCE, guard))
            runner.run(async_transport.aclose())
            if async_client is not None:
                runner.run(async_client.aclose())


@pytest.mark.parametrize(("side", "name"), _CASES)
def test_a_guard_that_changes_its_mind_while_connecting_stops_the_call(server: Server, side: str, name: str) -> None:
    with posting(side, name) as post:
        with pytest.raises(Abandoned):
            post(server.url, Guard(1 if name != "fast" else 0))
        assert server.closed.acquire(timeout=PATIENCE)
        assert server.received == [b""]
        assert post(server.url, Guard(9)) == Reply(200, b"{}")


@pytest.mark.parametrize(("side", "name"), _CASES)
def test_a_guard_stops_a_call_on_a_connection_that_is_used_again(server: Server, side: str, name: str) -> None:
    with posting(side, name) as post:
        assert post(server.url, None) == Reply(200, b"{}")
        with pytest.raises(Abandoned):
            post(server.url, Guard(1 if name != "fast" else 0))
        assert server.closed.acquire(timeout=PATIENCE)
        assert [received.count(b"POST") for received in server.received] == [1]


def test_aiohttp_asks_once_more_right_before_it_writes(server: Server) -> None:
    """It writes in another task than it makes the call in."""
    with posting("async", "fast") as post:
        with pytest.raises(Abandoned):
            post(server.url, Guard(1))
        assert server.closed.acquire(timeout=PATIENCE)
        assert server.received == [b""]
        assert post(server.url, Guard(2)) == Reply(200, b"{}")
