"""What is passed on: unchanged, streamed both ways, to the one upstream and to nobody else."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.faults.kit import until
from tests.server.kit import PATH, Proxy, RawUpstream, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.kit import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream(OK, OK, OK) as raw:
        yield raw


@pytest.fixture
def proxy(world: World, upstream: RawUpstream) -> Proxy:
    return world.open(upstream=upstream.url, pass_timeout=10.0)


def _sent(proxy: Proxy, request: bytes) -> bytes:
    with Wire(proxy) as wire:
        wire.send(request)
        return wire.read_until(b"ok")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a/b?c=d&c=%20+",
        "/a/../../b/./c",
        "/a%2Fb%2e%2e/%E5%9B%BE",
        "//evil.example/x",
        "/@evil.example/",
        "/a;b=c?d?e",
    ],
)
def test_the_target_is_passed_on_byte_for_byte(proxy: Proxy, upstream: RawUpstream, target: str) -> None:
    _sent(proxy, f"GET {target} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
    assert upstream.heads[0].startswith(f"GET {target} HTTP/1.1\r\n".encode())
    assert dict(upstream.fields())["host"] == upstream.url.removeprefix("http://")


def test_headers_are_passed_on_but_for_those_of_the_connection(proxy: Proxy, upstream: RawUpstream) -> None:
    head = (
        "POST /gewe/v2/api/message/postText HTTP/1.1\r\nHost: x\r\nX-GEWE-TOKEN: secret\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
        "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\n"
        "Expect: 100-continue\r\nProxy-Authorization: Basic x\r\nX-Gewe-Cache: bypass\r\nX-Obs: \xe5\x9b\xbe\r\n"
        "Cookie: a=b\r\nContent-Length: 4\r\n\r\n"
    )
    _sent(proxy, head.encode("latin-1") + b"body")
    fields = upstream.fields()
    assert fields[0][0] == "host"
    assert sorted(fields[1:]) == [
        ("content-length", "4"),
        ("cookie", "a=b"),
        ("x-gewe-token", "secret"),
        ("x-obs", "\xe5\x9b\xbe"),
        ("x-twice", "1"),
        ("x-twice", "2"),
    ]
    assert upstream.bodies == [b"body"]


def test_the_answer_is_passed_back_unchanged(proxy: Proxy, upstream: RawUpstream) -> None:
    body = gzip.compress(b"x" * 1000)
    upstream.answers[0] = (
        b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Content-Encoding: gzip\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-Gewe-Cache: theirs\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    with Wire(proxy) as wire:
        wire.send(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head, _, received = wire.read_all().partition(b"\r\n\r\n")
    assert received == body
    lines = head.lower().split(b"\r\n")
    assert lines[0].startswith(b"http/1.1 302")
    assert sorted(lines[1:]) == [
        b"connection: close",
        b"content-encoding: gzip",
        b"content-length: %d" % len(body),
        b"location: http://evil.example/",
        b"set-cookie: a=1",
        b"set-cookie: b=2",
        b"x-gewe-cache: theirs",
    ]
    assert len(upstream.heads) == 1


def test_a_cookie_of_one_client_is_not_sent_with_anothers_request(proxy: Proxy, upstream: RawUpstream) -> None:
    upstream.answers[0] = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: session=mine; Path=/\r\n\r\n")
    for _ in range(2):
        _sent(proxy, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [name for number in (0, 1) for name, _ in upstream.fields(number)] == ["host", "host"]


def test_a_body_in_chunks_is_streamed(proxy: Proxy, upstream: RawUpstream) -> None:
    with Wire(proxy) as wire:
        wire.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        assert until(lambda: upstream.heads)  # before the rest is there
        wire.send(b"6\r\nsecond\r\n0\r\n\r\n")
        wire.read_until(b"ok")
    assert upstream.bodies == [b"firstsecond"]
    assert dict(upstream.fields())["transfer-encoding"] == "chunked"


def test_an_answer_is_streamed(proxy: Proxy, upstream: RawUpstream) -> None:
    upstream.answers[0] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    with Wire(proxy) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wire.read_until(b"first\r\n")
        upstream.connections[0].sendall(b"4\r\nlast\r\n0\r\n\r\n")
        wire.read_until(b"last\r\n0\r\n\r\n")


def test_an_answer_that_breaks_off_is_seen_to(proxy: Proxy, upstream: RawUpstream) -> None:
    upstream.answers[0] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly"
    with Wire(proxy) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wire.read_until(b"only")
        upstream.connections[0].shutdown(2)
        assert wire.read_all() == b""
    upstream.answers[:] = [OK]
    _sent(proxy, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


def test_a_server_that_ends_tls_may_stand_before_it(proxy: Proxy, upstream: RawUpstream) -> None:
    """nginx speaks HTTP/1.0 to what is behind it unless told otherwise: no chunks in the answer."""
    upstream.answers[0] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n4\r\nlast\r\n0\r\n\r\n"
    forwarded = {"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.1", "x-real-ip": "192.0.2.1"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in forwarded.items())
    with Wire(proxy) as wire:
        wire.send(f"GET /x HTTP/1.0\r\nHost: bot.example.com\r\nConnection: close\r\n{lines}\r\n".encode())
        head, _, body = wire.read_all().partition(b"\r\n\r\n")
    assert (head.split()[1], body) == (b"200", b"firstlast")
    assert b"transfer-encoding" not in head.lower()
    assert forwarded.items() <= dict(upstream.fields()).items()


def test_head_and_empty_answers(proxy: Proxy, upstream: RawUpstream) -> None:
    upstream.answers[:] = [b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", OK]
    with Wire(proxy) as wire:
        wire.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"content-length: 7" in wire.read_until(b"\r\n\r\n").lower()
        wire.send(b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 204 " in wire.read_until(b"\r\n\r\n")
        wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wire.read_until(b"ok")


@pytest.mark.parametrize(("method", "status"), [("POST", 200), ("PUT", 200), ("GET", 504)])
@pytest.mark.parametrize("what", ["hang", "close", "garbage"])
def test_an_answer_that_does_not_come(world: World, method: str, status: int, what: str) -> None:
    """What changes something is not to be sent again by middleware."""
    with RawUpstream(*([b"\x00\r\n\r\n"] if what == "garbage" else [])) as upstream:
        proxy = world.open(upstream=upstream.url, pass_timeout=0.3 if what == "hang" else 10.0)
        upstream.closes = what == "close"
        url = f"{proxy.url}/gewe/v2/api/message/postText"
        answer = httpx.request(method, url, content=b"{}", trust_env=False)
    assert (answer.status_code, answer.json()["ret"]) == (status, 504)
    assert "may have been carried out" in answer.json()["msg"]
    assert len(upstream.heads) == 1


def test_a_redirect_that_no_client_can_read_is_no_reason_to_send_again(world: World) -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: mailto:ops@example.com\r\nContent-Length: 0\r\n\r\n"
    with RawUpstream(answer) as upstream:
        proxy = world.open(upstream=upstream.url)
        answered = httpx.post(f"{proxy.base_url}/message/postText", json={}, trust_env=False)
        assert (answered.status_code, answered.json()["ret"]) == (200, 504)
        assert len(upstream.heads) == 1


def test_an_upstream_that_is_down(world: World) -> None:
    world.sandbox.stop()
    proxy = world.open()
    answer = httpx.post(f"{proxy.base_url}/message/postText", json={}, trust_env=False)
    assert (answer.status_code, answer.json()["ret"]) == (503, 503)
    assert "Nothing was sent" in answer.json()["msg"]


NOT_TAKEN = {
    "not JSON": (b"no", {}),
    "no object": (b"[]", {}),
    "nothing": (b"", {}),
    "a field is missing": (b'{"appId":"a","toWxid":"b"}', {}),
    "a field more": (b'{"appId":"a","toWxid":"b","imgUrl":"http://x/y","at":"c"}', {}),
    "a field twice": (b'{"appId":"a","appId":"a","toWxid":"b","imgUrl":"http://x/y"}', {}),
    "both spellings": (b'{"appId":"a","toWxid":"b","imgUrl":"http://x/y","imageUrl":"http://x/y"}', {}),
    "a number": (b'{"appId":1,"toWxid":"b","imgUrl":"http://x/y"}', {}),
    "null": (b'{"appId":"a","toWxid":null,"imgUrl":"http://x/y"}', {}),
    "blanks": (b'{"appId":"a","toWxid":"b c","imgUrl":"http://x/y"}', {}),
    "no URL": (b'{"appId":"a","toWxid":"b","imgUrl":"poster.png"}', {}),
    "half a pair": (b'{"appId":"a","toWxid":"b","imgUrl":"http://x/\\ud800"}', {}),
    "UTF-16": ('{"appId":"a","toWxid":"b","imgUrl":"http://x/y"}'.encode("utf-16"), {}),
    "deep": (b"[" * 50_000, {}),
    "long": (b'{"appId":"a","toWxid":"b","imgUrl":"http://x/y","pad":"' + b" " * 200_000 + b'"}', {}),
    "a form": (b"appId=a", {"Content-Type": "application/x-www-form-urlencoded"}),
    "another charset": (None, {"Content-Type": "application/json; charset=gbk"}),
    "encoded": (None, {"Content-Encoding": "gzip"}),
    "no token": (None, {"X-GEWE-TOKEN": ""}),
    "a token that is none": (None, {"X-GEWE-TOKEN": "a b"}),
    "two tokens": (None, {"VideosApi-token": "other"}),
    "more credentials": (None, {"Authorization": "Basic eDp5"}),
}


@pytest.mark.parametrize(("body", "headers"), NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_a_call_that_a_sender_cannot_send_whole_is_passed_on(
    proxy: Proxy, upstream: RawUpstream, body: bytes | None, headers: dict[str, str]
) -> None:
    well_formed = json.dumps({"appId": "a", "toWxid": "b", "imgUrl": "http://x/y"}).encode()
    content = well_formed if body is None else body
    named = {"Content-Type": "application/json", "X-GEWE-TOKEN": "t", **headers}
    answer = httpx.post(proxy.url + PATH, content=content, headers=named, trust_env=False)
    assert (answer.text, answer.headers["x-gewe-cache"]) == ("ok", "bypass")
    assert upstream.bodies == [content]
    fields = dict(upstream.fields())
    assert {name: fields[name.lower()] for name in named} == named


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PATH),
        ("POST", PATH + "?a=b"),
        ("POST", PATH + "/"),
        ("POST", "/a/../gewe/v2/api/message/postImage"),
        ("POST", "/a/./message/postImage"),
        ("POST", "/gewe%2Fv2/message/postImage"),
        ("POST", "/x//message/postImage"),
        ("POST", "/message/postImages"),
    ],
)
def test_what_only_resembles_the_call_is_passed_on(proxy: Proxy, upstream: RawUpstream, method: str, path: str) -> None:
    body = b'{"appId":"a","toWxid":"b","imgUrl":"http://x/y"}'
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-GEWE-TOKEN: t\r\nContent-Type: application/json\r\n"
    _sent(proxy, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert upstream.heads[0].startswith(f"{method} {path} ".encode())
    assert upstream.bodies == [body]
