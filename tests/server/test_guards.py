"""Clients that are slow, talk too much or in riddles, or are too many."""

from __future__ import annotations

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gewe_cache.server.settings import Limits
from tests.faults.kit import until
from tests.server.kit import PATH, Proxy, Wire, World

QUICK = Limits(client_seconds=0.5, body_bytes=100_000)
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-GEWE-TOKEN: sandbox-token\r\nContent-Type: application/json\r\n"


def _content(raw: bytes) -> tuple[int, int]:
    """Give an answer's status and ``ret``."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["ret"]


@pytest.mark.parametrize("head", [b"", b"PO", HEAD.encode()])
def test_a_head_that_does_not_come_ends_the_connection(world: World, head: bytes) -> None:
    with Wire(world.open(limits=QUICK)) as wire:
        began = time.monotonic()
        wire.send(head)
        wire.read_all()
        assert time.monotonic() - began < 5


def test_the_next_head_on_a_connection_has_its_end_too(world: World) -> None:
    with Wire(world.open(limits=QUICK)) as wire:
        wire.send(b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n")
        wire.read_until(b"true}")
        began = time.monotonic()
        wire.send(b"GET /")
        wire.read_all()
        assert time.monotonic() - began < 5


def test_a_head_that_drips_ends_too(world: World) -> None:
    with Wire(world.open(limits=QUICK)) as wire, contextlib.suppress(ConnectionError):
        began = time.monotonic()
        for _ in range(200):
            wire.send(b"X")
            time.sleep(0.05)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("target", [PATH, "/gewe/v2/api/message/postText"])
@pytest.mark.parametrize("begun", [b"", b'{"appId":'])
def test_a_body_that_does_not_come_is_408(world: World, target: str, begun: bytes) -> None:
    with Wire(world.open(limits=QUICK)) as wire:
        wire.send(HEAD.replace(PATH, target).encode() + b"Content-Length: 100\r\n\r\n" + begun)
        assert _content(wire.read_all()) == (408, 408)
    assert world.sandbox.calls == []


@pytest.mark.parametrize("target", [PATH, "/gewe/v2/api/message/postText"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_is_too_long_is_413(world: World, target: str, framing: str) -> None:
    with Wire(world.open(limits=QUICK)) as wire:
        head = HEAD.replace(PATH, target).encode()
        if framing == "length":
            wire.send(head + b"Content-Length: 100001\r\n\r\n")
        else:
            wire.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + (b"8000\r\n" + b" " * 32_768 + b"\r\n") * 4)
        assert _content(wire.read_all()) == (413, 413)
    assert world.sandbox.calls == []


@pytest.mark.parametrize(
    "request_line",
    [
        "GET http://evil.example/ HTTP/1.1",
        "POST http://evil.example/gewe/v2/api/message/postImage HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "CONNECT evil.example:80 HTTP/1.1",
        "TRACE / HTTP/1.1",
    ],
)
def test_it_is_no_open_proxy(proxy: Proxy, request_line: str) -> None:
    with Wire(proxy) as wire:
        wire.send(f"{request_line}\r\nHost: evil.example\r\n\r\n".encode())
        status, ret = _content(wire.read_all())
    assert status == ret
    assert status in {400, 405}


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5x\r\n",
        "Transfer-Encoding: gzip\r\n",
        "X-Bad : 1\r\n",
        "X-Bad: a\rb\r\n",
        "X-Bad: a\x00b\r\n",
        "X Bad: a\r\n",
        "X-Long: " + "a" * 2_000_000 + "\r\n",
    ],
)
def test_malformed_heads_go_nowhere(world: World, proxy: Proxy, lines: str) -> None:
    with Wire(proxy) as wire:
        wire.send((HEAD + lines + "\r\n").encode() + b"0\r\n\r\n")
        assert int(wire.read_all().split()[1]) in {400, 431, 501}
    assert world.sandbox.calls == []
    assert world.post(proxy).json()["ret"] == 200


def test_a_token_header_cannot_bring_lines_of_its_own(world: World, proxy: Proxy) -> None:
    with Wire(proxy) as wire:
        body = json.dumps(world.call("wxid_folded")).encode()
        folded = HEAD.replace("sandbox-token", "sandbox-token\r\n X-Injected: 1")
        wire.send(f"{folded}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        wire.read_all()
    assert [call.token_ok for call in world.sandbox.calls] == [False]
    assert world.sandbox.deliveries == []


def test_200_slow_clients_hold_nobody_up(world: World) -> None:
    proxy = world.open(limits=Limits(client_seconds=20.0))
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(Wire(proxy)) for _ in range(200)]
        for number, wire in enumerate(slow):
            wire.send((b"POS", HEAD.encode(), HEAD.encode() + b"Content-Length: 50\r\n\r\n{")[number % 3])
        began = time.monotonic()
        with ThreadPoolExecutor(10) as threads:
            answers = list(threads.map(lambda number: world.post(proxy, f"wxid_{number}"), range(50)))
        assert time.monotonic() - began < 15
    assert {answer.json()["ret"] for answer in answers} == {200}
    assert [answer.headers["x-gewe-cache"] for answer in answers].count("upload") == 1
    assert world.sandbox.duplicates() == []


def test_a_client_too_many_is_told_so_and_may_come_back(world: World) -> None:
    proxy = world.open(limits=Limits(connections=3, client_seconds=5.0))
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Wire(proxy)).send(b"GET")
        assert until(lambda: _is_turned_away(proxy))
        refused = world.post(proxy)
        assert (refused.status_code, refused.json()["ret"]) == (503, 503)
    assert until(lambda: world.post(proxy).status_code == 200)
    assert len(world.sandbox.deliveries) == 1


def _is_turned_away(proxy: Proxy) -> bool:
    with Wire(proxy) as wire:
        wire.socket.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            return wire.socket.recv(12) == b"HTTP/1.1 503"
    return False


def test_who_does_not_read_an_answer_is_let_go(world: World) -> None:
    url = world.sandbox.add_image("big.bin", b"x" * 50_000_000)
    proxy = world.open(limits=QUICK)
    with Wire(proxy) as wire:
        wire.send(f"GET {url.removeprefix(world.sandbox.url)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert until(lambda: any(line["path"] == "/images/big.bin" for line in proxy.lines()))
    (line,) = proxy.lines()
    assert line["sent"] < 50_000_000


@pytest.mark.parametrize("target", ["/_gewe-cache/metrics", "/images/big.bin"])
def test_who_asks_and_asks_and_reads_no_answer_is_let_go(world: World, target: str) -> None:
    world.sandbox.add_image("big.bin", b"x" * 50_000)
    proxy = world.open(limits=QUICK)
    with Wire(proxy) as wire:
        wire.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 5_000)
        assert until(lambda: _is_cut(wire))


def test_who_sends_far_ahead_of_the_answers_is_let_go(proxy: Proxy) -> None:
    many = b"GET /images/none.png HTTP/1.1\r\nHost: x\r\n\r\n" * 500
    with Wire(proxy) as wire:
        assert any(_is_cut(wire, many) for _ in range(10_000))


def _is_cut(wire: Wire, request: bytes = b"G") -> bool:
    """Ask once more, and tell whether the other side has gone."""
    try:
        wire.send(request)
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("answer_first", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("target", ["/healthz/live", PATH, "/sandbox/"])
def test_a_body_that_turns_into_nonsense_ends_the_connection_and_nothing_else(
    world: World, proxy: Proxy, target: str, method: str, *, answer_first: bool
) -> None:
    """Found by the fuzz: uvicorn would answer it within the answer that was already under way."""
    with Wire(proxy) as wire:
        head = HEAD.replace(PATH, target).replace("POST", method).encode()
        wire.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + (b"" if answer_first else b"nonsense\r\n\r\n"))
        if answer_first and (method, target) == ("GET", "/healthz/live"):
            wire.read_until(b"true}")
        wire.send(b"nonsense\r\n\r\n")
        wire.read_all()
    assert world.post(proxy).json()["ret"] == 200
    assert len(world.sandbox.deliveries) == 1
