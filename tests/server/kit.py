"""What the proxy's tests share: a proxy on an event loop of its own, raw HTTP, and an upstream that keeps bytes."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import httpx

from gewe_cache.server.access_log import JsonLines
from gewe_cache.server.app import ServerApp
from gewe_cache.server.run import listen, serve, url_of
from gewe_cache.server.settings import Limits, ServerSettings
from tests.faults.kit import FAST, PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gewe_cache.sandbox import Sandbox

TUNING = replace(FAST, fall_back_pause=0.0)
SELF = "http://self"
LIMITS = Limits(client_seconds=5.0, grace_seconds=20.0)
_LOGGERS = ("gewe_cache.server", "uvicorn.error")
PATH = "/gewe/v2/api/message/postImage"


class _Errors(logging.Handler):
    """Collects what the server and uvicorn did not foresee."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.getMessage().startswith("Cancel "):  # the grace is over
            self.found.append(logging.Formatter().format(record))


class Proxy:
    """The server as ``gewe-cache serve`` runs it, in a thread; whatever its loop complains of fails the test."""

    def __init__(self, settings: ServerSettings, **tuning: Any) -> None:
        self._listener = listen("127.0.0.1", 0)
        self.url = url_of(self._listener)
        self.settings = replace(settings, public_url=self.url) if settings.public_url == SELF else settings
        self.log = io.StringIO()
        self.complaints: list[dict[str, Any]] = []
        self._errors = _Errors()
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self._errors)
        self._tuning = replace(TUNING, **tuning)
        self._end = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    @property
    def base_url(self) -> str:
        return f"{self.url}/gewe/v2/api"

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def lines(self) -> list[dict[str, Any]]:
        """Give the access log so far."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def line_of(self, to_wxid: str) -> dict[str, Any]:
        """Give the line of the one request for a recipient, once it is written."""
        assert until(lambda: any(line.get("to_wxid") == to_wxid for line in self.lines()))
        (line,) = [line for line in self.lines() if line.get("to_wxid") == to_wxid]
        return line

    def run(self, what: Callable[[], Any]) -> Any:
        """Call on the proxy's loop."""

        async def call() -> Any:
            result = what()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(PATIENCE)

    def begin_end(self) -> None:
        """Tell it to end, as a signal does."""
        self._end.set()

    def close(self) -> None:
        self._end.set()
        self._thread.join(2 * PATIENCE)
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self._errors)
        assert not self._thread.is_alive()
        assert self._errors.found == [], "".join(self._errors.found)
        assert self.complaints == [], self.complaints

    def _run(self) -> None:
        lines = JsonLines(self.log)
        try:
            asyncio.run(self._serve(lines))
        finally:
            lines.close()
            self._ready.set()

    async def _serve(self, lines: JsonLines) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _loop, context: self.complaints.append(context))
        self.app = ServerApp(self.settings, lines, self._tuning)
        await serve(
            self.app, self._listener, self.settings.limits, on_ready=self._ready.set, should_end=self._end.is_set
        )


@dataclass
class World:
    """GeWe, imitated, and proxies before it."""

    sandbox: Sandbox
    database: str
    image: str
    proxies: list[Proxy] = field(default_factory=list)

    def open(self, *, limits: Limits = LIMITS, tuning: dict[str, Any] | None = None, **changes: Any) -> Proxy:
        """Start a proxy; keywords replace its settings."""
        settings: dict[str, Any] = {"upstream": self.sandbox.url, "database": self.database, "timeout": 20.0}
        proxy = Proxy(ServerSettings(**{**settings, **changes}, limits=limits), **(tuning or {}))
        self.proxies.append(proxy)
        return proxy

    def close(self) -> None:
        self.sandbox.heal()
        try:
            while self.proxies:
                self.proxies.pop().close()
        finally:
            self.sandbox.stop()

    def call(self, to_wxid: str, **changes: Any) -> dict[str, Any]:
        """Give the body of a ``postImage``."""
        return {"appId": self.sandbox.app_id, "toWxid": to_wxid, "imgUrl": self.image, **changes}

    def post(
        self, to: Proxy | str, to_wxid: str = "wxid_friend", headers: dict[str, str] | None = None, **changes: Any
    ) -> httpx.Response:
        """Post an image through a proxy, or to GeWe itself."""
        return self.post_body(to, self.call(to_wxid, **changes), headers)

    def post_body(
        self, to: Proxy | str, body: object, headers: dict[str, str] | None = None, *, own_token: bool = True
    ) -> httpx.Response:
        """Post any JSON to ``postImage``."""
        base_url = to if isinstance(to, str) else to.base_url
        token = {self.sandbox.token_header: self.sandbox.token} if own_token else {}
        return httpx.post(
            f"{base_url}/message/postImage",
            json=body,
            headers={**token, **(headers or {})},
            trust_env=False,
            timeout=PATIENCE,
        )

    def deliveries_to(self, to_wxid: str) -> int:
        return sum(delivery.to_wxid == to_wxid for delivery in self.sandbox.deliveries)

    def calls_to(self, to_wxid: str) -> int:
        return sum(call.to_wxid == to_wxid for call in self.sandbox.calls)


class Wire:
    """A connection on which a test writes and reads bytes."""

    def __init__(self, proxy: Proxy) -> None:
        self.socket = socket.create_connection(proxy.address, timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_until(self, end: bytes) -> bytes:
        read = b""
        while not read.endswith(end):
            piece = self.socket.recv(1)
            assert piece, read
            read += piece
        return read

    def read_all(self) -> bytes:
        """Read until the other side closes."""
        read = b""
        with suppress(ConnectionError):
            while piece := self.socket.recv(65_536):
                read += piece
        return read


class RawUpstream:
    """An upstream for one connection at a time that keeps what it gets, and answers what a test tells it."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.closes = False
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for connection in self.connections:
            connection.close()

    def fields(self, number: int = -1) -> list[tuple[str, str]]:
        """Give the header fields of a request, names in lower case."""
        lines = self.heads[number].decode("latin-1").split("\r\n")[1:-2]
        pairs = [line.partition(": ") for line in lines]
        return [(name.lower(), value) for name, _, value in pairs]

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), closing(connection.makefile("rb")) as lines:
            while head := b"".join(_until_blank(lines)):
                self.heads.append(head)
                self.bodies.append(_body(head.lower(), lines))
                if self.closes:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                if self.answers:
                    connection.sendall(self.answers.pop(0))


def _until_blank(lines: Any) -> Iterator[bytes]:
    for line in lines:
        yield line
        if line == b"\r\n":
            return


def _body(head: bytes, lines: Any) -> bytes:
    if b"transfer-encoding: chunked" in head:
        body = b""
        while size := int(lines.readline(), 16):
            body += lines.read(size)
            lines.readline()
        lines.readline()
        return body
    if b"content-length: " not in head:
        return b""
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    read: bytes = lines.read(length)
    return read
