"""Control over HTTP."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from gewe_cache.sandbox import Sandbox

Post = Callable[..., httpx.Response]
Control = Callable[..., httpx.Response]


@pytest.fixture
def control(sandbox: Sandbox, client: httpx.Client) -> Control:
    def post(path: str, content: object = None) -> httpx.Response:
        return client.post(f"{sandbox.url}/sandbox/{path}", json=content)

    return post


def test_it_describes_itself(sandbox: Sandbox, client: httpx.Client) -> None:
    answer = client.get(sandbox.url + "/sandbox/").json()
    assert answer["base_urls"] == [sandbox.base_url, sandbox.url + "/v2/api"]
    assert sandbox.token not in str(answer)


def test_the_record_over_http(sandbox: Sandbox, client: httpx.Client, upload: Post) -> None:
    data = upload().json()["data"]
    upload(appId="wx_real")
    deliveries = client.get(sandbox.url + "/sandbox/deliveries").json()["deliveries"]
    calls = client.get(sandbox.url + "/sandbox/calls").json()["calls"]
    later = client.get(sandbox.url + "/sandbox/calls?after=1").json()["calls"]

    assert [each["new_msg_id"] for each in deliveries] == [data["newMsgId"]]
    assert [(each["number"], each["ret"]) for each in calls] == [(1, 200), (2, 500)]
    assert later == calls[1:]
    assert sandbox.token not in str(calls)
    assert data["aesKey"] not in str(calls) + str(deliveries)


FAULTS: list[tuple[Mapping[str, object], tuple[int, bytes]]] = [
    ({"kind": "refuse", "ret": 400, "msg": None, "data": {"code": "-219"}}, (200, b'{"ret":400,"msg":null')),
    ({"kind": "refuse", "status": 502}, (502, b'{"ret":500')),
    ({"kind": "answer", "body": "<html>", "status": 502, "content_type": "text/html"}, (502, b"<html>")),
    (
        {"kind": "answer", "body_base64": base64.b64encode(b"\xff").decode(), "delivered": False},
        (200, b"\xff"),
    ),
    ({"kind": "patch", "fields": {"toWxid": 5}, "remove": ["aesKey"]}, (200, b'{"ret":200')),
    ({"kind": "patch_top", "fields": {"ret": 201}, "remove": ["data"]}, (200, b'{"ret":201')),
    ({"kind": "drip", "interval": 0, "delivered": False, "headers": True}, (200, b'{"ret":500')),
    ({"kind": "slow", "seconds": 0.01}, (200, b'{"ret":200')),
]


@pytest.mark.parametrize(("fault", "seen"), FAULTS)
def test_faults_over_http(control: Control, upload: Post, fault: Mapping[str, object], seen: tuple[int, bytes]) -> None:
    planned = control("faults", fault)
    answer = upload()

    assert (planned.status_code, planned.json()["kind"], planned.json()["left"]) == (201, fault["kind"], 1)
    assert answer.status_code == seen[0]
    assert answer.content.startswith(seen[1])


@pytest.mark.parametrize("kind", ["reset", "close", "hang"])
def test_faults_without_an_answer_over_http(
    sandbox: Sandbox, client: httpx.Client, control: Control, upload: Post, kind: str
) -> None:
    control("faults", {"kind": kind, "delivered": True})
    client.timeout = httpx.Timeout(20, read=0.5)
    with pytest.raises(httpx.TransportError):
        upload()
    assert len(sandbox.deliveries) == 1


def test_cut_over_http(control: Control, upload: Post) -> None:
    control("faults", {"kind": "cut", "after": 3})
    with pytest.raises(httpx.RemoteProtocolError):
        upload()


@pytest.mark.parametrize("way", ["faults/1/release", "heal", "clear"])
def test_hold_and_release_over_http(
    sandbox: Sandbox, client: httpx.Client, control: Control, upload: Post, way: str
) -> None:
    assert control("faults", {"kind": "hold", "times": None}).json()["left"] is None
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(upload)
        (plan,) = sandbox.plans
        plan.wait_reached()
        assert client.get(sandbox.url + "/sandbox/faults").json()["faults"][0]["reached"]
        assert control(way).status_code == 200
        assert held.result(20).json()["ret"] == 200


def test_aim_over_http(control: Control, upload: Post) -> None:
    control("faults", {"kind": "refuse", "route": "upload", "to_wxid": "b", "app_id": "wx_sandbox_1", "times": 2})
    control("faults", {"kind": "refuse", "route": "forward", "times": None})
    assert [upload(toWxid=to).json()["ret"] for to in "abbb"] == [200, 500, 500, 200]


def test_expire_and_clear_over_http(
    sandbox: Sandbox, control: Control, upload: Post, forward: Post, xml_of: Callable[..., str]
) -> None:
    data = upload().json()["data"]
    assert control("expire-cdn").json() == {"ok": True}
    assert forward(xml_of(data)).json()["data"]["msg"] == "cdn信息已失效"
    control("clear")
    assert (sandbox.calls, sandbox.deliveries) == ([], [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "JSON object"),
        ({}, "kind must be one of refuse"),
        ({"kind": "explode"}, "kind must be one of refuse"),
        ({"kind": ["refuse"]}, "kind must be one of refuse"),
        ({"kind": "refuse", "rett": 1}, "rett is not known"),
        ({"kind": "refuse", "ret": "1"}, "ret is of the wrong type"),
        ({"kind": "refuse", "ret": True}, "ret is of the wrong type"),
        ({"kind": "refuse", "status": 42}, "status must be"),
        ({"kind": "refuse", "times": 0}, "times must be"),
        ({"kind": "refuse", "times": 1.5}, "times is of the wrong type"),
        ({"kind": "refuse", "route": "postImage"}, "route must be"),
        ({"kind": "refuse", "route": []}, "route is of the wrong type"),
        ({"kind": "refuse", "app_id": 5}, "app_id is of the wrong type"),
        ({"kind": "hang"}, "delivered is missing"),
        ({"kind": "slow", "seconds": -1}, "seconds must be"),
        ({"kind": "slow", "seconds": 10**400}, "too large"),
        ({"kind": "drip", "interval": 1, "delivered": True}, "headers is missing"),
        ({"kind": "answer"}, "either body or body_base64"),
        ({"kind": "answer", "body": "a", "body_base64": "YQ=="}, "either body or body_base64"),
        ({"kind": "answer", "body_base64": "!"}, "not base64"),
        ({"kind": "answer", "body": "a", "content_type": "a\nb"}, "content_type"),
        ({"kind": "patch", "remove": [1]}, "remove must be"),
        ({"kind": "patch_top", "fields": {"aesKey": 1}}, "patch_top knows"),
    ],
)
def test_bad_control_input_is_told(sandbox: Sandbox, control: Control, content: object, words: str) -> None:
    answer = control("faults", content)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert sandbox.plans == []


def test_other_bad_control_input(sandbox: Sandbox, client: httpx.Client, control: Control) -> None:
    for body in (b"{", b'{"kind":"hold","to_wxid":"\\ud800"}', b"[" * 100_000):
        assert client.post(sandbox.url + "/sandbox/faults", content=body).status_code == 400
    assert client.post(sandbox.url + "/sandbox/faults", content=bytes(20_000_001)).status_code == 400
    assert client.get(sandbox.url + "/sandbox/calls?after=x").status_code == 400
    assert client.get(sandbox.url + "/sandbox/deliveries?after=-1").status_code == 400
    assert control("faults/7/release").status_code == 404
    assert client.get(sandbox.url + "/sandbox/heal").status_code == 405
