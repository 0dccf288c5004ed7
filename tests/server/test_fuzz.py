"""Requests that nobody foresaw: no 500, no other host, and a server that goes on serving."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gewe_cache.sandbox import Sandbox
from gewe_cache.server.reading import end_to_end, find_account, find_base_path, read_post_image, read_wish
from gewe_cache.server.settings import TOKEN_HEADERS, Limits
from tests.server.kit import PATH, SELF, Proxy, Wire, World

if TYPE_CHECKING:
    from collections.abc import Iterator

FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

TOKENS = st.sampled_from([b"sandbox-token", b"", b"a b", b"\xff", b"x" * 300])
NAMES = st.sampled_from(
    b"X-GEWE-TOKEN VideosApi-token Content-Type Content-Encoding Connection X-Gewe-Cache Host Expect Upgrade "
    b"Accept-Encoding Transfer-Encoding Content-Length Authorization \xe5".split()
) | st.just(b"")
KNOWN_VALUES = st.sampled_from(
    b"application/json application/json;charset=utf-8 gzip chunked close keep-alive,host 100-continue websocket "
    b"bypass refresh 0 3 99999999999999999999 X-GEWE-TOKEN".split()
)
VALUES = TOKENS | KNOWN_VALUES | st.binary(max_size=20)
METHODS = st.sampled_from(b"POST POST POST GET HEAD OPTIONS PUT CONNECT TRACE PO\tST \x00".split(b" "))
KNOWN_TARGETS = st.sampled_from(
    b"/ * //x/y /../.. http://evil.example/ evil.example:80 /healthz /_gewe-cache/metrics /_gewe-cache/%00 /%ff%fe "
    b"/_gewe-cache/files /_gewe-cache/files/x /_gewe-cache/files/%2e%2e "
    b"/sandbox/ /images/poster.png /message/postImage".split()
)
TARGETS = st.just(PATH.encode()) | KNOWN_TARGETS | st.binary(max_size=30).map(lambda tail: b"/" + tail)
TEXTS = st.text(max_size=20) | st.sampled_from(["wx_sandbox_1", "wxid_1", "http://127.0.0.1:9/x.png", "x" * 9000])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(["appId", "toWxid", "imgUrl", "imageUrl", "x"])
BODIES = (st.binary(max_size=50) | st.just(b"GIF89a")) | (JSON | st.dictionaries(FIELDS, TEXTS | JSON, max_size=5)).map(
    lambda value: json.dumps(value).encode()
)
FRAMINGS = st.sampled_from(["length", "length", "chunked", "none", "short", "long"])


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, World]]:
    sandbox = Sandbox()
    sandbox.start()
    database = f"sqlite:///{(tmp_path_factory.mktemp('fuzz') / 'cache.db').as_posix()}"
    world = World(sandbox, database, sandbox.make_image("poster.png", width=8, height=8))
    yield world.open(limits=Limits(client_seconds=0.2), public_url=SELF), world
    world.close()


def _framed(framing: str, body: bytes) -> bytes:
    match framing:
        case "chunked":
            return b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body) or 1, body or b"x")
        case "none":
            return b"\r\n" + body
        case "short":
            return b"Content-Length: %d\r\n\r\n%s" % (max(0, len(body) - 1), body)
        case "long":
            return b"Content-Length: %d\r\n\r\n%s" % (len(body) + 1, body)
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@FUZZ
@given(METHODS, TARGETS, st.lists(st.tuples(NAMES, VALUES), max_size=5), FRAMINGS, BODIES)
def test_no_request_is_answered_with_500(
    fuzzed: tuple[Proxy, World],
    method: bytes,
    target: bytes,
    headers: list[tuple[bytes, bytes]],
    framing: str,
    body: bytes,
) -> None:
    proxy, world = fuzzed
    lines = b"".join(b"%s: %s\r\n" % pair for pair in headers)
    with Wire(proxy) as wire:
        wire.send(
            b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s%s" % (method, target, lines, _framed(framing, body))
        )
        answer = wire.read_all()
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert not answer or answer.split()[1] not in {b"500", b"501", b"502", b"504"}, answer
    assert b"The proxy failed" not in answer  # what was not foreseen is answered so
    assert world.post(proxy, "wxid_between").json()["ret"] == 200


@FUZZ
@given(st.binary(max_size=200))
def test_no_bytes_at_all_are_answered_with_500(fuzzed: tuple[Proxy, World], data: bytes) -> None:
    proxy, _ = fuzzed
    with Wire(proxy) as wire:
        wire.send(data + b"\r\n\r\n")
        answer = wire.read_all()
    assert not answer or int(answer.split()[1]) in {400, 404, 405}


@given(st.lists(st.tuples(NAMES.map(bytes.lower), VALUES), max_size=6), BODIES, METHODS, TARGETS)
def test_reading_never_fails_and_loses_nothing(
    headers: list[tuple[bytes, bytes]], body: bytes, method: bytes, target: bytes
) -> None:
    read_wish(headers)
    find_account("http://h/v2", headers, TOKEN_HEADERS)
    path = find_base_path(method.decode("latin-1"), target)
    assert path is None or (method == b"POST" and path + b"/message/postImage" == target)
    passed = end_to_end(headers)
    assert not {name for name, _ in passed} & {b"connection", b"transfer-encoding", b"upgrade"}
    typed = [(b"content-type", b"application/json")]
    call = read_post_image(typed, body)
    if call is not None:
        fields = json.loads(body)
        assert {*fields.values()} == {call.app_id, call.to_wxid, call.image.url}
        assert len(fields) == 3


@given(st.lists(st.sampled_from(["appId", "toWxid", "imgUrl", "imageUrl"]), max_size=4), TEXTS)
def test_a_call_is_taken_exactly_when_nothing_is_lost(names: list[str], text: str) -> None:
    values = {"appId": "wx_1", "toWxid": text, "imgUrl": "http://h/x.png", "imageUrl": "http://h/x.png"}
    body = json.dumps({name: values[name] for name in names}).encode()
    call = read_post_image([(b"content-type", b"application/json")], body)
    is_whole = set(names) in ({"appId", "toWxid", "imgUrl"}, {"appId", "toWxid", "imageUrl"})
    is_name = 0 < len(text) <= 256 and text.isprintable() and " " not in text
    assert (call is not None) == (is_whole and is_name)
