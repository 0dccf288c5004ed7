"""Images handed in at the proxy: hosted under a URL that nobody can guess, sent by their md5, and gone after that."""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import select

from gewe_cache.sandbox import Fault
from gewe_cache.sandbox.images import draw
from gewe_cache.server.settings import Limits
from gewe_cache.store.engine import open_database
from gewe_cache.store.tables import entries, keys
from tests.faults.kit import PATIENCE, until
from tests.server.kit import SELF, Proxy, Wire, World

FILES = "/_gewe-cache/files"
PNG = draw("poster.png", width=8, height=8, seed=3, approximate_bytes=None)
MD5 = hashlib.md5(PNG).hexdigest()  # noqa: S324 - a name


@pytest.fixture
def proxy(world: World) -> Proxy:
    return world.open(public_url=SELF)


def _limited(world: World, **limits: Any) -> Proxy:
    return world.open(public_url=SELF, limits=Limits(client_seconds=5.0, grace_seconds=20.0, **limits))


def _hand_in(world: World, proxy: Proxy, content: bytes = PNG, encoding: str | None = None) -> httpx.Response:
    headers = {world.sandbox.token_header: world.sandbox.token}
    if encoding is not None:
        headers["Content-Encoding"] = encoding
    return httpx.post(f"{proxy.url}{FILES}", content=content, headers=headers, trust_env=False, timeout=PATIENCE)


def _url(answer: httpx.Response) -> str:
    assert answer.status_code == 201, answer.text
    url: str = answer.json()["url"]
    return url


def _get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False)


def test_it_is_sent_once_by_upload_then_forwarded_and_gone(world: World, proxy: Proxy) -> None:
    answer = _hand_in(world, proxy)
    told = answer.json()
    assert (told["md5"], told["content_type"], told["size"]) == (MD5, "image/png", len(PNG))
    assert told["expires_in"] == 900
    url = _url(answer)
    assert re.fullmatch(rf"{re.escape(proxy.url)}{FILES}/[A-Za-z0-9_-]{{32}}/{MD5}\.png", url)
    fetched = _get(url)
    assert (fetched.status_code, fetched.content) == (200, PNG)
    assert fetched.headers["content-type"] == "image/png"
    assert fetched.headers["x-content-type-options"] == "nosniff"
    assert httpx.head(url, trust_env=False).headers["content-length"] == str(len(PNG))
    sent = [world.post(proxy, to, imgUrl=url) for to in ("wxid_1", "wxid_2")]
    assert [each.headers["x-gewe-cache"] for each in sent] == ["upload", "forward"]
    assert [each.json()["data"]["toWxid"] for each in sent] == ["wxid_1", "wxid_2"]
    assert _get(url).status_code == 404
    assert world.post(proxy, "wxid_3", imgUrl=_url(_hand_in(world, proxy))).headers["x-gewe-cache"] == "forward"
    assert [delivery.route for delivery in world.sandbox.deliveries] == ["upload", "forward", "forward"]


def test_its_url_becomes_no_key_and_is_not_kept(world: World, proxy: Proxy) -> None:
    world.post(proxy, imgUrl=_url(_hand_in(world, proxy)))
    database = open_database(world.database)
    with database.reader.connect() as connection:
        assert connection.scalars(select(entries.c.url)).all() == [None]
        assert set(connection.scalars(select(keys.c.kind))) == {"md5"}
    database.dispose()


def test_its_url_is_in_no_line_of_the_log(world: World, proxy: Proxy) -> None:
    url = _url(_hand_in(world, proxy))
    world.post(proxy, "wxid_1", imgUrl=url)
    secret = urlsplit(url).path.split("/")[3]
    _get(url)
    _get(url.replace("_gewe-cache", "%5Fgewe-cache"))
    assert until(lambda: len(proxy.lines()) == 5)
    assert secret not in proxy.log.getvalue()
    assert {line["path"] for line in proxy.lines()} == {FILES, f"{FILES}/***", "/gewe/v2/api/message/postImage"}


def test_what_was_refused_may_be_sent_again(world: World, proxy: Proxy) -> None:
    url = _url(_hand_in(world, proxy))
    world.sandbox.fail(Fault.refuse(msg="发送图片失败", data={"code": "-219"}))
    assert world.post(proxy, "wxid_1", imgUrl=url).json()["ret"] == 500
    assert _get(url).status_code == 200
    assert world.post(proxy, "wxid_2", imgUrl=url).headers["x-gewe-cache"] == "upload"
    assert world.deliveries_to("wxid_1") == 0


def test_a_file_is_kept_while_any_send_of_it_is_under_way(world: World, proxy: Proxy) -> None:
    world.post(proxy, "wxid_1", imgUrl=_url(_hand_in(world, proxy)))
    url = _url(_hand_in(world, proxy))
    plan = world.sandbox.fail(Fault.hold(), to_wxid="wxid_slow")
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(world.post, proxy, "wxid_slow", {"X-Gewe-Cache": "refresh"}, imgUrl=url)
        assert plan.wait_reached()
        quick = world.post(proxy, "wxid_quick", imgUrl=url, appId="wx_sandbox_2")
        assert quick.headers["x-gewe-cache"] == "forward"
        assert _get(url).status_code == 200
        plan.release()
        assert slow.result().headers["x-gewe-cache"] == "upload"
    assert _get(url).status_code == 404


def test_it_expires(world: World) -> None:
    proxy = _limited(world, file_seconds=0.0)
    url = _url(_hand_in(world, proxy))
    assert until(lambda: _get(url).status_code == 404)
    answer = world.post(proxy, imgUrl=url)
    assert (answer.status_code, answer.json()["ret"]) == (404, 404)
    assert "Post it to /_gewe-cache/files again. Nothing was sent." in answer.json()["msg"]
    assert world.sandbox.calls == []


def test_a_known_image_needs_no_file(world: World, proxy: Proxy) -> None:
    url = _url(_hand_in(world, proxy))
    world.post(proxy, imgUrl=url)
    elsewhere = world.open(public_url=proxy.url)  # shares the database, and not the files
    assert world.post(elsewhere, imgUrl=url).headers["x-gewe-cache"] == "forward"
    assert world.post(elsewhere, imgUrl=url.replace(MD5, "0" * 32)).status_code == 404


def test_what_waits_in_a_devices_queue_outlives_its_expiry(world: World, proxy: Proxy) -> None:
    plan = world.sandbox.fail(Fault.hold(), to_wxid="wxid_before")
    url = _url(_hand_in(world, proxy))
    files = proxy.app._files
    with ThreadPoolExecutor(2) as threads:
        before = threads.submit(world.post, proxy, "wxid_before")
        assert plan.wait_reached()
        sending = threads.submit(world.post, proxy, "wxid_1", imgUrl=url)
        assert until(lambda: files.is_lending)
        proxy.run(lambda: files._drop(url.partition(f"{FILES}/")[2]))
        assert _get(url).status_code == 404
        plan.release()
        assert before.result().json()["ret"] == 200
        assert sending.result().headers["x-gewe-cache"] == "upload"
    assert _get(url).status_code == 404
    assert files._bytes == 0


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        f"{'A' * 32}/{MD5}.png",
        "../metrics",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd",
        "%00",
        f"{'A' * 32}/../{MD5}.png",
        "\xff",
        "a" * 5000,
    ],
)
def test_only_a_whole_name_leads_to_a_file(world: World, proxy: Proxy, name: str) -> None:
    _hand_in(world, proxy)
    with Wire(proxy) as wire:
        wire.send(f"GET {FILES}/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        status = wire.read_all().split(b" ")[1]
    assert status in {b"404", b"400"}
    assert world.sandbox.calls == []


@pytest.mark.parametrize("change", [lambda url: url + "?x=1", lambda url: url[:-4], lambda url: url.upper()])
def test_a_name_that_is_not_whole_leads_nowhere(world: World, proxy: Proxy, change: Any) -> None:
    url = _url(_hand_in(world, proxy))
    changed = change(urlsplit(url).path)
    assert _get(f"{proxy.url}{changed}").status_code == 404


def test_only_images_are_taken(world: World, proxy: Proxy) -> None:
    for content in (
        b"",
        b"<svg/>",
        b"#!/bin/sh\n",
        b"%PDF-1.7",
        b"--x\r\nContent-Disposition: form-data\r\n\r\n" + PNG,
    ):
        assert _hand_in(world, proxy, content).status_code == 415
    assert _hand_in(world, proxy, PNG, encoding="gzip").status_code == 415


def test_a_token_is_needed_and_which_is_said(proxy: Proxy) -> None:
    answer = httpx.post(f"{proxy.url}{FILES}", content=PNG, trust_env=False)
    assert answer.status_code == 401
    assert "X-GEWE-TOKEN, VideosApi-token, X-finder-TOKEN" in answer.json()["msg"]
    assert httpx.post(f"{proxy.url}{FILES}", content=PNG, headers={"VideosApi-token": "t"}, trust_env=False).is_success


def test_without_a_public_url_it_says_the_option(world: World) -> None:
    proxy = world.open()
    answer = _hand_in(world, proxy)
    assert answer.status_code == 409
    assert "--public-url" in answer.json()["msg"]
    assert _get(f"{proxy.url}{FILES}/x").status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_and_other_sites_get_nothing(world: World, proxy: Proxy, method: str) -> None:
    headers = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": world.sandbox.token_header,
    }
    url = _url(_hand_in(world, proxy))
    for target in (f"{proxy.url}{FILES}", url):
        answer = httpx.request(method, target, headers=headers, trust_env=False)
        assert answer.status_code == (200 if (method, target) == ("GET", url) else 405)
        assert [name for name in answer.headers if name.startswith("access-control")] == []


def test_a_body_that_is_too_long_is_not_taken(world: World) -> None:
    proxy = _limited(world, body_bytes=len(PNG))
    assert _hand_in(world, proxy).status_code == 201
    assert _hand_in(world, proxy, PNG + b"x").status_code == 413


def test_so_many_files_and_no_more(world: World) -> None:
    proxy = _limited(world, files=2)
    first, second = (_url(_hand_in(world, proxy)) for _ in range(2))
    assert first != second
    full = _hand_in(world, proxy)
    assert (full.status_code, full.json()["ret"]) == (503, 503)
    world.post(proxy, imgUrl=first)
    assert _hand_in(world, proxy).status_code == 201


def test_200_at_once_hold_no_more_bytes_than_are_allowed(world: World) -> None:
    size = 100_000
    proxy = _limited(world, files=1000, file_bytes=5 * size)
    content = PNG + b"\0" * (size - len(PNG))
    with ThreadPoolExecutor(50) as threads:
        statuses = [answer.status_code for answer in threads.map(lambda _: _hand_in(world, proxy, content), range(200))]
    assert set(statuses) == {201, 503}
    assert statuses.count(201) <= 5
    files = proxy.app._files
    assert files._bytes == statuses.count(201) * size


def test_what_never_came_whole_takes_no_room(world: World) -> None:
    proxy = _limited(world, file_bytes=len(PNG))
    head = f"POST {FILES} HTTP/1.1\r\nHost: x\r\nX-GEWE-TOKEN: t\r\nContent-Length: {len(PNG)}\r\n\r\n".encode()
    with Wire(proxy) as wire:
        wire.send(head + PNG[:-1])
        assert until(lambda: proxy.app._files._bytes == len(PNG) - 1)
        assert _hand_in(world, proxy).status_code == 503
    assert until(lambda: proxy.app._files._bytes == 0)
    assert _hand_in(world, proxy).status_code == 201


def test_told_to_end_it_hosts_on_until_gewe_has_fetched(world: World, proxy: Proxy) -> None:
    url = _url(_hand_in(world, proxy))
    plan = world.sandbox.fail(Fault.hold())
    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(world.post, proxy, imgUrl=url)
        assert plan.wait_reached()
        proxy.begin_end()
        assert until(lambda: proxy.app._is_ending)
        assert _get(url).status_code == 200
        plan.release()
        answer = sending.result()
    assert (answer.json()["ret"], answer.headers["x-gewe-cache"]) == (200, "upload")


def test_a_health_check_and_the_metrics_are_where_they_were(world: World, proxy: Proxy) -> None:
    _hand_in(world, proxy)
    assert _get(f"{proxy.url}/_gewe-cache/metrics").status_code == 200
    assert _get(f"{proxy.url}/_gewe-cache/filesx").status_code == 404
    assert json.loads(_get(f"{proxy.url}/healthz/live").text) == {"live": True}
