"""Whose call it is: tokens, their headers, their scopes, and a thousand of them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Fault, Sandbox
from gewe_cache.server.settings import Limits
from gewe_cache.store.engine import open_database
from gewe_cache.store.reports import usage_totals
from tests.faults.kit import until
from tests.server.kit import LIMITS, RawUpstream

if TYPE_CHECKING:
    from tests.server.kit import Proxy, World


@pytest.mark.parametrize("header", ["X-GEWE-TOKEN", "VideosApi-token", "X-finder-TOKEN", "X-My-Token"])
def test_each_header_that_carries_a_token_is_known(world: World, header: str) -> None:
    with Sandbox(token_header=header) as other:
        proxy = world.open(
            upstream=other.url, token_headers=("X-GEWE-TOKEN", "VideosApi-token", "X-finder-TOKEN", "X-My-Token")
        )
        image = other.make_image("other.png", width=8, height=8)
        body = {"appId": other.app_id, "toWxid": "wxid_1", "imgUrl": image}
        answers = [
            world.post_body(proxy, {**body, "toWxid": to}, {header.upper(): other.token}, own_token=False)
            for to in ("wxid_1", "wxid_2")
        ]
        assert [answer.headers["x-gewe-cache"] for answer in answers] == ["upload", "forward"]
        proxy.close()
        world.proxies.clear()


def test_two_tokens_share_nothing_unless_the_operator_names_a_scope(world: World) -> None:
    world.sandbox.add_tokens("second")
    second = {world.sandbox.token_header: "second"}
    own = world.open()
    assert [
        world.post(own, "wxid_1").headers["x-gewe-cache"],
        world.post(own, "wxid_2", second).headers["x-gewe-cache"],
    ] == ["upload", "upload"]
    named = world.open(scope="shared")
    routes = [world.post(named, "wxid_3"), world.post(named, "wxid_4", second)]
    assert [answer.headers["x-gewe-cache"] for answer in routes] == ["upload", "forward"]


def test_a_token_that_is_refused_is_refused_to_its_own_sends_alone(world: World) -> None:
    """Both want one image at once in one scope; the one with the wrong token is first."""
    proxy = world.open(scope="shared")
    plan = world.sandbox.fail(Fault.hold(), app_id="wx_sandbox_wrong")
    wrong = {world.sandbox.token_header: "wrong"}
    with ThreadPoolExecutor(2) as threads:
        refused = threads.submit(world.post, proxy, "wxid_1", wrong, appId="wx_sandbox_wrong")
        assert plan.wait_reached()
        accepted = threads.submit(world.post, proxy, "wxid_2")
        assert until(lambda: len(proxy.app._under_way) == 2)
        plan.release()
    assert (refused.result().json()["ret"], accepted.result().json()["ret"]) == (500, 200)


def test_what_gewe_sets_for_one_token_is_not_sent_with_anothers(world: World) -> None:
    body = b'{"ret":200,"msg":"ok","data":{"newMsgId":1}}'
    head = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=first; Path=/\r\nContent-Length: %d\r\n\r\n" % len(body)
    with RawUpstream(head + body, head + body) as upstream:
        proxy = world.open(upstream=upstream.url)
        for token in ("first", "second"):
            assert world.post(proxy, headers={"X-GEWE-TOKEN": token}).json()["ret"] == 200
        names = [name for number in (0, 1) for name, _ in upstream.fields(number)]
    assert names.count("x-gewe-token") == 2
    assert "cookie" not in names


def test_hundreds_of_tokens_are_served_by_few_threads(world: World) -> None:
    with Sandbox(any_token=True) as gewe:
        proxy = world.open(upstream=gewe.url, limits=Limits(senders=20))
        image = gewe.make_image("poster.png", width=8, height=8)

        def post(number: int) -> tuple[int, str]:
            body = {"appId": f"wx_sandbox_{number % 100}", "toWxid": f"wxid_{number}", "imgUrl": image}
            answer = world.post_body(proxy, body, {gewe.token_header: f"token-{number}"}, own_token=False)
            return answer.status_code, answer.headers["x-gewe-cache"]

        with ThreadPoolExecutor(8) as threads:
            answers = set(threads.map(post, range(300)))
        assert answers == {(200, "upload")}
        assert len(proxy.app._senders._held) <= 20
        assert until(lambda: _background_threads() <= 20)
        assert len(gewe.deliveries) == 300
        proxy.close()
        world.proxies.clear()


def _background_threads() -> int:
    return sum(thread.name == "gewe_cache background" for thread in threading.enumerate())


def test_senders_that_nobody_uses_are_closed(world: World) -> None:
    world.sandbox.add_tokens("second", "third")
    proxy = world.open(limits=Limits(sender_seconds=0.0))
    for token in ("second", "third"):
        world.post(proxy, f"wxid_{token}", {world.sandbox.token_header: token})
    assert len(proxy.app._senders._held) == 1


def test_too_many_tokens_at_once_are_told_to_come_again(world: World) -> None:
    world.sandbox.add_tokens("second")
    proxy = world.open(limits=Limits(senders=1, grace_seconds=LIMITS.grace_seconds))
    plan = world.sandbox.fail(Fault.hold())
    second = {world.sandbox.token_header: "second"}
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(world.post, proxy, "wxid_1")
        assert plan.wait_reached()
        answer = world.post(proxy, "wxid_2", second)
        assert (answer.status_code, answer.json()["ret"]) == (503, 503)
        plan.release()
        assert first.result().json()["ret"] == 200
    assert world.post(proxy, "wxid_2", second).json()["ret"] == 200
    assert world.deliveries_to("wxid_2") == 1


def test_counters_of_a_closed_sender_are_written(world: World, proxy: Proxy) -> None:
    for number in range(3):
        world.post(proxy, f"wxid_{number}")
    proxy.close()
    world.proxies.clear()
    database = open_database(world.database)
    with database.reader.connect() as connection:
        counts = usage_totals(connection).counts
    database.dispose()
    assert (counts.uploads, counts.forwards) == (1, 2)
