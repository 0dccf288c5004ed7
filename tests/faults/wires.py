"""Addresses at which things go wrong below HTTP, and a gate before the sandbox that tampers with its answers."""

from __future__ import annotations

import http.client
import socket
import socketserver
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATH = "/gewe/v2/api"


class Names:
    """Stands in for the system's resolver: knows ``HOST``, which is this machine; the rest it asks the real one."""

    HOST = "gewe.test"

    def __init__(self) -> None:
        self._real: Callable[..., Any] = socket.getaddrinfo

    def __call__(self, host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in {self.HOST, self.HOST.encode()}:
            return self._real(host, *arguments, **options)
        self.before_answer()
        return self._real("127.0.0.1", *arguments, **options)

    def before_answer(self) -> None:
        """Do what a test wants to happen first."""


@contextmanager
def refusing_address() -> Iterator[str]:
    """Give a base URL at which nobody listens, and nobody else can begin to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}{_PATH}"


@contextmanager
def full_address() -> Iterator[str]:
    """Give a base URL whose listener's backlog is full: a connection to it is never made."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting: list[socket.socket] = []
        try:
            while _is_taken(listener.getsockname(), waiting):
                pass
            yield f"http://127.0.0.1:{listener.getsockname()[1]}{_PATH}"
        finally:
            for each in waiting:
                each.close()


def _is_taken(address: tuple[str, int], waiting: list[socket.socket]) -> bool:
    attempt = socket.socket()
    waiting.append(attempt)
    attempt.settimeout(0.2)
    try:
        attempt.connect(address)
    except TimeoutError:
        return False
    return True


class Gate(socketserver.ThreadingTCPServer):
    """Passes calls on to a sandbox; ``tamper`` makes raw bytes of its answer (status, body).

    Attributes:
        passes: False where it answers by itself.
        calls: how many calls have come to it.
        closes_idle: it closes each connection after an answer that has promised to keep it.
        closed: counts the connections that it has closed.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, base_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        self.behind = urlsplit(base_url)
        self.tamper: Callable[[int, bytes], bytes] = plain_answer
        self.passes = True
        self.calls = 0
        self.closes_idle = False
        self.closed = threading.Semaphore(0)
        self.base_url = f"http://127.0.0.1:{self.server_address[1]}{_PATH}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client may go whenever it likes."""


class _Passage(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gate

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.calls += 1
        self.wfile.write(self.server.tamper(*(self._ask(body) if self.server.passes else (200, b""))))
        if self.server.closes_idle:
            self.close_connection = True

    def _ask(self, body: bytes) -> tuple[int, bytes]:
        behind = http.client.HTTPConnection(self.server.behind.hostname or "", self.server.behind.port)
        try:
            behind.request("POST", self.path, body, {"X-GEWE-TOKEN": self.headers["X-GEWE-TOKEN"]})
            answer = behind.getresponse()
            return answer.status, answer.read()
        finally:
            behind.close()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        if self.server.closes_idle:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            self.server.closed.release()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
        """Write nothing to standard error."""


def plain_answer(status: int, body: bytes) -> bytes:
    """Give the raw bytes of an answer that keeps the connection."""
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        status,
        len(body),
        body,
    )


def encoded_answer(encoding: bytes, body: bytes) -> bytes:
    """Give the raw bytes of an answer whose body claims to be compressed."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n"
    return head % (encoding, len(body)) + body
