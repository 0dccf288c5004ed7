"""A long load on the real proxy while GeWe's server and PostgreSQL are killed and come back.

``python -m tests.server.soak [SECONDS] [CLIENTS]``, or ``make soak``. Every client sends one image after the other,
each to a recipient of its own, and sends again only where it is told that nothing was sent (503). In the end the
sandbox's record must agree with what the clients were told.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from gewe_cache.sandbox import Sandbox
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
from tests.cli.running import command
from tests.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEVICES = 50
_SENDS_AN_IMAGE = 40
_PAUSE = 0.05
_DOWN_SECONDS = 2.0
_END_SECONDS = 60.0
_RELAY = Path(__file__).with_name("relay.py")


@dataclass(slots=True)
class Told:
    """What a client was told of one recipient, by the last answer that it got."""

    to_wxid: str
    ret: int
    new_msg_id: int | None
    route: str


@dataclass(slots=True)
class Report:
    """What came of a soak; ``problems`` is empty where all is well."""

    told: list[Told] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    retries: int = 0
    broken: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def summary(self) -> str:
        """Say it in a few lines."""
        outcomes = Counter((each.ret, each.route) for each in self.told)
        worst = quantiles(self.seconds, n=100)[-1] if len(self.seconds) > 1 else 0.0
        lines = [f"{len(self.told)} recipients, {self.retries} sends repeated after a 503"]
        lines += [f"  ret {ret} {route or '-'}: {number}" for (ret, route), number in sorted(outcomes.items())]
        lines.append(f"answers: median {median(self.seconds or [0]) * 1000:.0f} ms, p99 {worst * 1000:.0f} ms")
        lines.append(f"the proxy's memory, MB: {', '.join(str(size // 1000) for size in self.memory) or 'not known'}")
        return "\n".join([*lines, *(f"PROBLEM: {problem}" for problem in self.problems)])


class _Upstream:
    """The relay before the sandbox, killed and started at one port."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._target = sandbox.url.rpartition(":")[2]
        self.port = 0
        self.start()

    def start(self) -> None:
        arguments = [sys.executable, str(_RELAY), str(self.port), self._target]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def _serving(upstream: str, database: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run ``gewe-cache serve``; give the process and its port."""
    options = ("--upstream", upstream, "--port", "0", "--no-access-log", "--grace", "30")
    with (folder / "serve.log").open("w") as problems:
        process = subprocess.Popen(  # noqa: S603 - our own
            command("serve", *options),
            env={**os.environ, "GEWE_CACHE_DATABASE": database},
            stdout=subprocess.PIPE,
            stderr=problems,
            text=True,
        )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield process, int(ready["url"].rpartition(":")[2])
        process.terminate()
        process.communicate(timeout=_END_SECONDS)
    finally:
        process.kill()
        process.communicate()


class _Soak:
    def __init__(self, sandbox: Sandbox, port: int, seconds: float, clients: int) -> None:
        self.report = Report()
        self._sandbox = sandbox
        self._port = port
        self._seconds = seconds
        self._clients = clients
        self._ends = time.monotonic() + seconds
        self._images: dict[int, str] = {}

    async def run(self, faults: list[tuple[float, Any]]) -> None:
        """Send from every client until the time is over, and let things fail at their moments."""
        began = time.monotonic()
        clients = [asyncio.create_task(self._client(number)) for number in range(self._clients)]
        for moment, fault in faults:
            await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
            await asyncio.to_thread(fault)
        await asyncio.gather(*clients)

    async def _client(self, number: int) -> None:
        device = f"{self._sandbox.app_id}{number % _DEVICES}"
        connection = await self._connect()
        sent = 0
        while time.monotonic() < self._ends:
            to_wxid, image = f"wxid_{number}_{sent}", self._image()
            connection = await self._send_until_told(connection, device, to_wxid, image)
            sent += 1
        connection[1].close()

    async def _send_until_told(self, connection: Any, device: str, to_wxid: str, image: str) -> Any:
        while True:
            try:
                status, answer, route = await self._post(connection, device, to_wxid, image)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.report.broken.append(f"{to_wxid}: {type(error).__name__}")
                return await self._connect()
            if status != 503:
                self.report.told.append(Told(to_wxid, answer["ret"], (answer.get("data") or {}).get("newMsgId"), route))
                return connection
            self.report.retries += 1
            await asyncio.sleep(_PAUSE)
            if time.monotonic() > self._ends + _END_SECONDS:
                self.report.told.append(Told(to_wxid, 503, None, ""))
                return connection

    async def _post(self, connection: Any, device: str, to_wxid: str, image: str) -> tuple[int, Any, str]:
        reader, writer = connection
        body = json.dumps({"appId": device, "toWxid": to_wxid, "imgUrl": image}).encode()
        head = (
            f"POST /gewe/v2/api/message/postImage HTTP/1.1\r\nHost: x\r\n{self._sandbox.token_header}: "
            f"{self._sandbox.token}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        began = time.monotonic()
        writer.write(head.encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:-2])
        content = await reader.readexactly(int(fields["content-length"]))
        self.report.seconds.append(time.monotonic() - began)
        return int(lines[0].split()[1]), json.loads(content), fields.get("x-gewe-cache", "")

    async def _connect(self) -> Any:
        return await asyncio.open_connection("127.0.0.1", self._port)

    def _image(self) -> str:
        """Give an image; from time to time a new one, so that there is always something to upload."""
        number = len(self.report.told) // _SENDS_AN_IMAGE
        if number not in self._images:
            self._images[number] = self._sandbox.make_image(f"{number}.png", width=8, height=8, seed=number + 1)
        return self._images[number]


def check(report: Report, sandbox: Sandbox) -> None:
    """Hold what clients were told against what was delivered."""
    delivered: dict[str, list[int]] = {}
    for delivery in sandbox.deliveries:
        delivered.setdefault(delivery.to_wxid, []).append(delivery.new_msg_id)
    doubles = [to_wxid for to_wxid, ids in delivered.items() if len(ids) > 1]
    if doubles:
        report.problems.append(f"{len(doubles)} delivered twice: {doubles[:5]}")
    for told in report.told:
        ids = delivered.get(told.to_wxid, [])
        if told.ret == 200 and ids != [told.new_msg_id]:
            report.problems.append(f"{told} was told to be sent, and delivered were {ids}")
        if told.ret not in {200, 504} and ids:
            report.problems.append(f"{told} was told to have failed, and was delivered")
    report.problems += [f"no answer: {each}" for each in report.broken[:5]]


def soak(seconds: float, clients: int) -> Report:
    """Run it: the upstream is killed twice, PostgreSQL once, and each comes back."""
    postgres = PostgresServer()
    try:
        database = open_database(postgres.url)
        migrate.upgrade(database)
        database.dispose()
        with Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
            upstream = _Upstream(sandbox)
            try:
                return _soak(seconds, clients, sandbox, upstream, postgres, Path(folder))
            finally:
                upstream.kill()
    finally:
        postgres.close()


def _soak(
    seconds: float, clients: int, sandbox: Sandbox, upstream: _Upstream, postgres: PostgresServer, folder: Path
) -> Report:
    with _serving(f"http://127.0.0.1:{upstream.port}", postgres.url, folder) as (process, port):
        load = _Soak(sandbox, port, seconds, clients)
        memory = load.report.memory

        def note_memory() -> None:
            memory.extend(_memory_of(process.pid))

        asyncio.run(
            load.run(
                [
                    (seconds * 0.1, note_memory),
                    (seconds * 0.2, upstream.kill),
                    (seconds * 0.2 + _DOWN_SECONDS, upstream.start),
                    (seconds * 0.4, postgres.kill),
                    (seconds * 0.4 + _DOWN_SECONDS, postgres.start),
                    (seconds * 0.6, upstream.kill),
                    (seconds * 0.6 + _DOWN_SECONDS, upstream.start),
                    (seconds * 0.95, note_memory),
                ]
            )
        )
    check(load.report, sandbox)
    if _entries_since_the_restart(postgres) == 0:
        load.report.problems.append("nothing was saved after PostgreSQL had come back")
    return load.report


def _entries_since_the_restart(postgres: PostgresServer) -> int:
    import psycopg  # noqa: PLC0415 - the driver is an extra

    statement = "SELECT count(*) FROM gewe_cache_entries WHERE uploaded_at > pg_postmaster_start_time() + '6 s'"
    with psycopg.connect(postgres.url) as connection:
        row = connection.execute(statement).fetchone()
    return row[0] if row else 0


def _memory_of(pid: int) -> list[int]:
    """Give a process's resident memory in kB, where the system tells."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return []
    lines = status.read_text(encoding="ascii").splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]


if __name__ == "__main__":
    result = soak(float(sys.argv[1]) if len(sys.argv) > 1 else 600.0, int(sys.argv[2]) if len(sys.argv) > 2 else 200)
    print(result.summary())  # noqa: T201
    sys.exit(1 if result.problems else 0)
