"""Clients that leave, and a server that is told to end."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Fault
from gewe_cache.server.settings import Limits
from tests.faults.kit import until
from tests.server.kit import PATH, Wire

if TYPE_CHECKING:
    from tests.server.kit import Proxy, World


def _begin(world: World, proxy: Proxy, to_wxid: str) -> Wire:
    """Post an image and do not wait for the answer."""
    body = json.dumps(world.call(to_wxid)).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-GEWE-TOKEN: {world.sandbox.token}\r\nContent-Type: application/json\r\n"
    )
    wire = Wire(proxy)
    wire.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return wire


def test_who_leaves_before_the_call_is_dropped_from_the_queue(world: World, proxy: Proxy) -> None:
    world.post(proxy, "wxid_first")
    plan = world.sandbox.fail(Fault.hold())
    with _begin(world, proxy, "wxid_1") as first:
        assert plan.wait_reached()
        _begin(world, proxy, "wxid_2").socket.close()
        assert until(lambda: any(line.get("outcome") == "left" for line in proxy.lines()))
        plan.release()
        assert b"200 OK" in first.read_until(b"}}")
    assert world.post(proxy, "wxid_3").json()["ret"] == 200
    assert [world.calls_to(each) for each in ("wxid_1", "wxid_2", "wxid_3")] == [1, 0, 1]
    assert proxy.line_of("wxid_2")["status"] == 499


@pytest.mark.parametrize("delivered_first", [False, True], ids=["before", "after"])
def test_who_leaves_during_the_call_gets_the_image_sent_and_recorded(
    world: World, proxy: Proxy, delivered_first: object
) -> None:
    plan = world.sandbox.fail(Fault.hold(delivered_first=bool(delivered_first)))
    with _begin(world, proxy, "wxid_1"):
        assert plan.wait_reached()
    assert until(lambda: any(line.get("outcome") == "left" for line in proxy.lines()))
    plan.release()
    assert world.post(proxy, "wxid_2").headers["x-gewe-cache"] == "forward"
    assert [world.calls_to(each) for each in ("wxid_1", "wxid_2")] == [1, 1]
    assert [world.deliveries_to(each) for each in ("wxid_1", "wxid_2")] == [1, 1]


def test_a_waiter_that_leaves_takes_nobody_along(world: World, proxy: Proxy) -> None:
    """Several want one image at once; the one that uploads it and one that waits both leave."""
    devices = [f"{world.sandbox.app_id}{number}" for number in range(5)]
    plan = world.sandbox.fail(Fault.hold(), route="upload")
    with _begin(world, proxy, "wxid_leader"), ThreadPoolExecutor(5) as threads:
        assert plan.wait_reached()
        waiting = [
            threads.submit(world.post, proxy, f"wxid_{number}", appId=device) for number, device in enumerate(devices)
        ]
        _begin(world, proxy, "wxid_leaves").socket.close()
        assert until(lambda: any(line.get("to_wxid") == "wxid_leaves" for line in proxy.lines()))
        plan.release()
        routes = [each.result().headers["x-gewe-cache"] for each in waiting]
    assert routes == ["forward"] * 5
    assert (world.deliveries_to("wxid_leader"), world.calls_to("wxid_leaves")) == (1, 0)


def test_who_leaves_in_the_middle_of_a_body_sends_nothing(world: World, proxy: Proxy) -> None:
    for target in (PATH, "/gewe/v2/api/message/postText"):
        with Wire(proxy) as wire:
            wire.send(f"POST {target} HTTP/1.1\r\nHost: x\r\nX-GEWE-TOKEN: t\r\nContent-Length: 90\r\n\r\n{{".encode())
    assert until(lambda: [line["status"] for line in proxy.lines()] == [499, 499])
    assert world.sandbox.calls == []


def test_told_to_end_it_finishes_what_is_under_way(world: World) -> None:
    proxy = world.open()
    plan = world.sandbox.fail(Fault.hold())
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(_begin(world, proxy, "wxid_out"))
        assert plan.wait_reached()
        queued = stack.enter_context(_begin(world, proxy, "wxid_queued"))
        assert until(lambda: len(proxy.app._under_way) == 2)
        proxy.begin_end()
        assert until(lambda: _is_refused(proxy))
        plan.release()
        assert b'"ret":200' in out.read_all()
        assert b'"ret":200' in queued.read_all()
    assert [world.deliveries_to(each) for each in ("wxid_out", "wxid_queued")] == [1, 1]


def test_after_the_grace_what_waits_is_dropped_and_what_is_out_is_recorded(world: World) -> None:
    proxy = world.open(limits=Limits(grace_seconds=0.6))
    plan = world.sandbox.fail(Fault.hold(delivered_first=True))
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(_begin(world, proxy, "wxid_out"))
        assert plan.wait_reached()
        queued = stack.enter_context(_begin(world, proxy, "wxid_queued"))
        assert until(lambda: len(proxy.app._under_way) == 2)
        proxy.begin_end()
        for answer in (out.read_all(), queued.read_all()):
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b'"ret":504' in answer
        proxy._thread.join(1.0)
        assert proxy._thread.is_alive()  # the call that is out is waited for
        plan.release()
        proxy.close()
    assert [world.calls_to(each) for each in ("wxid_out", "wxid_queued")] == [1, 0]
    assert world.post(world.open(), "wxid_next").headers["x-gewe-cache"] == "forward"  # the upload was recorded


def _is_refused(proxy: Proxy) -> bool:
    try:
        Wire(proxy).socket.close()
    except ConnectionRefusedError:
        return True
    return False
