"""Every fault: what the client sees, and what the record says."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from gewe_cache.sandbox import Fault, Sandbox

Post = Callable[..., httpx.Response]


def test_refuse(sandbox: Sandbox, upload: Post) -> None:
    sandbox.fail(Fault.refuse())
    sandbox.fail(Fault.refuse(ret=400, msg=None, data={"code": -219}, status=503, delivered=True))
    sandbox.fail(Fault.refuse(data=None))

    assert upload().json() == {"ret": 500, "msg": "发送图片失败"}
    assert sandbox.deliveries == []
    second = upload()
    assert (second.status_code, second.json()) == (503, {"ret": 400, "msg": None, "data": {"code": -219}})
    assert len(sandbox.deliveries) == 1
    assert upload().json() == {"ret": 500, "msg": "发送图片失败", "data": None}
    assert upload().json()["ret"] == 200
    assert [(c.ret, c.delivered, c.fault) for c in sandbox.calls] == [
        (500, False, "refuse"),
        (400, True, "refuse"),
        (500, False, "refuse"),
        (200, True, None),
    ]


@pytest.mark.parametrize("delivered", [True, False])
@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b'{"ret":200,"ms', b"\xff\x00", bytes(10_000_000)])
def test_answer_raw_bytes(sandbox: Sandbox, upload: Post, body: bytes, delivered: bool) -> None:  # noqa: FBT001
    sandbox.fail(Fault.answer(body, status=502, content_type="text/html", delivered=delivered))
    answer = upload()

    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (502, body, "text/html")
    assert (len(sandbox.deliveries), sandbox.calls[0].delivered) == (int(delivered), delivered)
    assert sandbox.calls[0].ret is None


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500, 599])
def test_answer_under_any_status(sandbox: Sandbox, upload: Post, status: int) -> None:
    sandbox.fail(Fault.answer(b"{}", status=status))
    assert upload().status_code == status


def test_patch(sandbox: Sandbox, upload: Post) -> None:
    sandbox.fail(Fault.patch(aesKey=None, newMsgId="17", length=Fault.MISSING))
    data = upload().json()["data"]

    assert (data["aesKey"], data["newMsgId"], "length" in data) == (None, "17", False)
    assert data["width"] == 400
    assert sandbox.calls[0].delivered


def test_patch_top(sandbox: Sandbox, upload: Post) -> None:
    sandbox.fail(Fault.patch_top(msg="发送失败", data=Fault.MISSING))
    sandbox.fail(Fault.patch_top(ret="200", data="text"))

    assert upload().json() == {"ret": 200, "msg": "发送失败"}
    assert upload().json() == {"ret": "200", "msg": "操作成功", "data": "text"}
    assert [call.ret for call in sandbox.calls] == [200, None]
    assert len(sandbox.deliveries) == 2


def test_a_call_that_is_refused_anyway_delivers_nothing(sandbox: Sandbox, upload: Post) -> None:
    sandbox.fail(Fault.patch(aesKey=None), times=None)
    assert upload(appId="wx_real").json()["data"]["msg"] == "[wx_real]设备不存在"
    assert (sandbox.deliveries, sandbox.calls[0].delivered) == ([], False)


@pytest.mark.parametrize("delivered", [True, False])
@pytest.mark.parametrize(("fault", "error"), [(Fault.reset, httpx.ReadError), (Fault.close, httpx.RemoteProtocolError)])
def test_no_answer_at_all(
    sandbox: Sandbox,
    upload: Post,
    fault: Callable[[bool], Fault],
    error: type[Exception],
    delivered: bool,  # noqa: FBT001
) -> None:
    sandbox.fail(fault(delivered))
    # Windows shuts the socket down before it resets it.
    with pytest.raises((error, httpx.RemoteProtocolError)):
        upload()

    (call,) = sandbox.calls
    assert (call.delivered, call.ret, call.fault) == (delivered, None, fault(delivered).kind)
    assert len(sandbox.deliveries) == int(delivered)
    assert upload().json()["ret"] == 200


@pytest.mark.parametrize("delivered", [True, False])
def test_hang(sandbox: Sandbox, client: httpx.Client, upload: Post, delivered: bool) -> None:  # noqa: FBT001
    plan = sandbox.fail(Fault.hang(delivered))
    client.timeout = httpx.Timeout(20, read=0.3)
    with pytest.raises(httpx.ReadTimeout):
        upload()

    assert plan.wait_reached()
    assert (sandbox.calls[0].delivered, len(sandbox.deliveries)) == (delivered, int(delivered))
    client.timeout = httpx.Timeout(20)
    assert upload().json()["ret"] == 200
    assert sandbox.overlaps() == []


@pytest.mark.parametrize("how", ["heal", "clear", "release"])
def test_a_hang_ends_without_an_answer(sandbox: Sandbox, upload: Post, how: str) -> None:
    plan = sandbox.fail(Fault.hang(delivered=False))
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(upload)
        plan.wait_reached()
        (plan.release if how == "release" else getattr(sandbox, how))()
        with pytest.raises(httpx.RemoteProtocolError):
            hanging.result(20)


@pytest.mark.parametrize("headers", [True, False])
@pytest.mark.parametrize("delivered", [True, False])
def test_drip(sandbox: Sandbox, upload: Post, delivered: bool, headers: bool) -> None:  # noqa: FBT001
    sandbox.fail(Fault.drip(0.0001, delivered, headers))
    answer = upload()

    assert answer.json()["ret"] == (200 if delivered else 500)
    assert len(sandbox.deliveries) == int(delivered)
    assert sandbox.calls[0].fault == "drip"


@pytest.mark.parametrize("headers", [True, False])
def test_what_drips(sandbox: Sandbox, headers: bool) -> None:  # noqa: FBT001
    plan = sandbox.fail(Fault.drip(3600, delivered=False, headers=headers))
    body = json.dumps({"appId": "a"}).encode()
    head = (
        "POST /v2/api/message/postImage HTTP/1.1\r\nhost: x\r\n"
        f"x-gewe-token: {sandbox.token}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    address = ("127.0.0.1", int(sandbox.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(head.encode() + body)
        plan.wait_reached()
        seen = connection.recv(1)
        if not headers:
            while not seen.endswith(b"\r\n\r\n{"):
                seen += connection.recv(1)
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(20)
        plan.release()
        while more := connection.recv(65536):
            seen += more
    assert seen.endswith('{"ret":500,"msg":"发送图片失败"}'.encode())


def test_a_drip_ends_when_its_client_goes_away(sandbox: Sandbox, client: httpx.Client, upload: Post) -> None:
    plan = sandbox.fail(Fault.drip(0.01, delivered=True, headers=True))
    client.timeout = httpx.Timeout(20, read=0.001)
    with pytest.raises(httpx.ReadTimeout):
        upload()
    assert plan.wait_reached()
    assert len(sandbox.deliveries) == 1


def test_cut(sandbox: Sandbox, upload: Post) -> None:
    sandbox.fail(Fault.cut(after=10))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        upload()
    assert len(sandbox.deliveries) == 1


def test_slow(sandbox: Sandbox, upload: Post) -> None:
    sandbox.fail(Fault.slow(0.1))
    assert upload().json()["ret"] == 200
    (call,) = sandbox.calls
    assert (call.ended_at or 0) - call.started_at >= 0.09
    assert call.fault == "slow"


def test_a_slow_call_delivers_though_its_client_has_gone(sandbox: Sandbox, client: httpx.Client, upload: Post) -> None:
    plan = sandbox.fail(Fault.hold(delivered_first=False))
    client.timeout = httpx.Timeout(20, read=0.05)
    with pytest.raises(httpx.ReadTimeout):
        upload()
    plan.wait_reached()
    assert sandbox.deliveries == []
    plan.release()
    client.timeout = httpx.Timeout(20)
    wait_for(lambda: len(sandbox.deliveries) == 1)


def test_slow_calls_hurry_when_healed(sandbox: Sandbox, upload: Post) -> None:
    sandbox.fail(Fault.slow(3600))
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(upload)
        wait_for(lambda: bool(sandbox.calls))
        sandbox.heal()
        assert slow.result(20).json()["ret"] == 200


@pytest.mark.parametrize("delivered_first", [True, False])
def test_hold(sandbox: Sandbox, upload: Post, delivered_first: bool) -> None:  # noqa: FBT001
    plan = sandbox.fail(Fault.hold(delivered_first=delivered_first), times=3)
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(upload) for _ in range(3)]
        assert plan.wait_reached(count=3)
        assert plan.reached.is_set()
        assert not any(each.done() for each in held)
        assert len(sandbox.deliveries) == (3 if delivered_first else 0)
        assert [call.ended_at for call in sandbox.calls] == [None] * 3
        plan.release()
        assert [each.result(20).json()["ret"] for each in held] == [200] * 3
    assert len(sandbox.deliveries) == 3
    assert len(sandbox.overlaps()) == 3


def test_a_released_plan_holds_no_more(sandbox: Sandbox, upload: Post) -> None:
    plan = sandbox.fail(Fault.hold(), times=None)
    plan.release()
    assert upload().json()["ret"] == 200
    assert (plan.used, plan.left) == (1, None)


def test_wait_reached_gives_up(sandbox: Sandbox) -> None:
    plan = sandbox.fail(Fault.hold())
    with pytest.raises(TimeoutError, match="0 of 1"):
        plan.wait_reached(timeout=0.01)


def test_the_first_plan_that_fits_and_has_uses_left_wins(sandbox: Sandbox, upload: Post) -> None:
    sandbox.fail(Fault.refuse(ret=1), route="forward", times=None)
    sandbox.fail(Fault.refuse(ret=2), to_wxid="b", times=2)
    sandbox.fail(Fault.refuse(ret=3), app_id="wx_sandbox_9")
    sandbox.fail(Fault.refuse(ret=4), times=None)

    assert [upload(toWxid="b").json()["ret"] for _ in range(3)] == [2, 2, 4]
    assert [upload(appId="wx_sandbox_9").json()["ret"] for _ in range(2)] == [3, 4]
    sandbox.heal()
    assert upload().json()["ret"] == 200
    assert sandbox.plans == []


def test_a_plan_is_used_exactly_as_often_as_it_says(sandbox: Sandbox, upload: Post) -> None:
    plan = sandbox.fail(Fault.refuse(), times=7)
    with ThreadPoolExecutor(16) as pool:
        answers = [each.result() for each in [pool.submit(upload) for _ in range(40)]]
    assert sum(answer.json()["ret"] == 500 for answer in answers) == 7
    assert (plan.used, plan.left) == (7, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fault.refuse(status=99),
        lambda: Fault.answer(b"", status=100),
        lambda: Fault.answer(b"", content_type="a\r\nb: c"),
        lambda: Fault.patch_top(aesKey=1),
        lambda: Fault.slow(-1),
        lambda: Fault.slow(float("nan")),
        lambda: Fault.drip(-1, delivered=True, headers=True),
        lambda: Fault.cut(-1),
    ],
)
def test_faults_that_make_no_sense(make: Callable[[], Fault]) -> None:
    with pytest.raises(ValueError, match=r"must be|knows"):
        make()


def test_plans_that_make_no_sense() -> None:
    sandbox = Sandbox()
    with pytest.raises(ValueError, match="times"):
        sandbox.fail(Fault.hold(), times=0)
    with pytest.raises(ValueError, match="route"):
        sandbox.fail(Fault.hold(), route="uploads")  # type: ignore[arg-type]


def test_representations_show_no_keys() -> None:
    sandbox = Sandbox(token="very-secret")  # noqa: S106
    key = "294774c8ac2ca8f8114e4d58d2ba78a5"
    plan = sandbox.fail(Fault.patch(aesKey=key))
    other = sandbox.fail(Fault.answer(key.encode()))
    assert "very-secret" not in repr(sandbox)
    assert key[5:] not in repr(plan) + repr(other)


def wait_for(reached: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do, at most 20 s."""
    end = time.monotonic() + 20
    pause = threading.Event()
    while not reached():
        assert time.monotonic() < end
        pause.wait(0.005)
