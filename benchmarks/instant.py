"""A GeWe that answers at once, in a process of its own, so that what is measured is the client's cost.

The sandbox downloads, parses and records, which takes it longer than a fast client takes for a send; this one
reads requests as httpx writes them, checks nothing, counts what it is asked, and answers in the shape of GeWe's
two calls after a pause that may be set.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.children import Child

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
    _child: Child

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.base_url.removesuffix("/gewe/v2/api")

    def asked(self) -> Asked:
        """Tell what it was asked since the last time."""
        return Asked(**self._child.ask("asked"))

    def check(self, *, uploads: int, forwards: int | None = None) -> None:
        """Hold that it was asked for just so much since the last time; any number of forwards where none is given.

        Raises:
            AssertionError: it was not.
        """
        asked = self.asked()
        if asked.uploads != uploads or forwards not in {None, asked.forwards}:
            msg = f"expected {uploads} uploads and {forwards} forwards, and GeWe was asked for {asked}"
            raise AssertionError(msg)


@contextmanager
def running(pause: float = 0.0, *, upload_pause: float = 0.0) -> Iterator[Instant]:
    """Run it; each answer comes ``pause`` seconds after its request, an upload's ``upload_pause`` later."""
    with children.running("instant", {"forwards": pause, "uploads": pause + upload_pause}) as child:
        yield Instant(child.read()["base_url"], child)


class _Connection(asyncio.Protocol):
    """One client's connection: requests of known length, one after the other."""

    def __init__(self, counts: dict[str, int], pauses: dict[str, float]) -> None:
        self._counts = counts
        self._pauses = pauses
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
        if self._pauses[route]:
            asyncio.get_running_loop().call_later(self._pauses[route], self._transport.write, answer)
        else:
            self._transport.write(answer)


async def _serve(pauses: dict[str, float]) -> None:
    loop = asyncio.get_running_loop()
    counts = {"uploads": 0, "forwards": 0}
    server = await loop.create_server(lambda: _Connection(counts, pauses), "127.0.0.1", 0, backlog=2048)
    async with server:
        children.say({"base_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/gewe/v2/api"})
        while await loop.run_in_executor(None, sys.stdin.readline):
            children.say(counts)
            counts.update(uploads=0, forwards=0)


if __name__ == "__main__":
    asyncio.run(_serve(children.given()))
