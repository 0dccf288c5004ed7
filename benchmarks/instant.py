"""A GeWe that answers at once, in a process of its own, so that what is measured is the client's cost.

The sandbox downloads, parses and records, which takes it longer than a fast client takes for a send; this one
reads requests as httpx writes them, checks nothing, counts what it is asked, and answers in the shape of GeWe's
two calls after a pause that may be set.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[1]
_END_OF_HEAD = b"\r\n\r\n"
_CDN = {"aesKey": "00" * 16, "fileId": "30" + "57" * 90, "length": 4061, "width": 400, "height": 300, "md5": "11" * 16}
_UNSAID = {**_CDN, "length": None, "width": None, "height": None, "md5": None}


@dataclass(frozen=True, slots=True)
class Asked:
    """How often it was asked for what, since it was asked for this last."""

    uploads: int
    forwards: int


@dataclass(frozen=True, slots=True)
class Instant:
    """A running server. Any token and any device will do."""

    base_url: str
    _process: subprocess.Popen[str]

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.base_url.removesuffix("/gewe/v2/api")

    def asked(self) -> Asked:
        """Tell what it was asked since the last time."""
        assert self._process.stdin is not None  # noqa: S101 - it was opened so
        self._process.stdin.write("asked\n")
        self._process.stdin.flush()
        return Asked(**_read(self._process))


@contextmanager
def running(pause: float = 0.0) -> Iterator[Instant]:
    """Run it; each answer comes ``pause`` seconds after its request."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.instant", str(pause)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as process:
        try:
            yield Instant(_read(process)["base_url"], process)
        finally:
            if process.stdin is not None:
                process.stdin.close()  # it ends with its standard input
            process.wait()


class _Connection(asyncio.Protocol):
    """One client's connection: requests of known length, one after the other."""

    def __init__(self, counts: dict[str, int], pause: float) -> None:
        self._counts = counts
        self._pause = pause
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_END_OF_HEAD)) >= 0:
            head = bytes(self._received[:end]).lower()
            whole = end + len(_END_OF_HEAD) + int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            if len(self._received) < whole:
                return
            del self._received[:whole]
            self._answer("uploads" if b"/postimage " in head.split(b"\r\n", 1)[0] else "forwards")

    def _answer(self, route: str) -> None:
        self._counts[route] += 1
        number = 8_992_614_056_172_360_000 + sum(self._counts.values())
        known = {"toWxid": "wxid_any", "createTime": 0, "msgId": 640355969, "newMsgId": number, "type": None}
        cdn = _CDN if route == "uploads" else _UNSAID
        body = json.dumps({"ret": 200, "msg": "操作成功", "data": {**known, **cdn}}, ensure_ascii=False).encode()
        answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )
        if self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._transport.write, answer)
        else:
            self._transport.write(answer)


async def _serve(pause: float) -> None:
    loop = asyncio.get_running_loop()
    counts = {"uploads": 0, "forwards": 0}
    server = await loop.create_server(lambda: _Connection(counts, pause), "127.0.0.1", 0, backlog=2048)
    async with server:
        _say({"base_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/gewe/v2/api"})
        while await loop.run_in_executor(None, sys.stdin.readline):
            _say(counts)
            counts.update(uploads=0, forwards=0)


def _say(what: Any) -> None:  # noqa: ANN401 - any JSON
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _read(process: subprocess.Popen[str]) -> Any:  # noqa: ANN401 - any JSON
    assert process.stdout is not None  # noqa: S101 - it was opened so
    return json.loads(process.stdout.readline())


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
