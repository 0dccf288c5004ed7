"""``postImage`` through the proxy: what a bot sees, and what was delivered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache.sandbox import Fault

if TYPE_CHECKING:
    from tests.server.kit import Proxy, World

UNKNOWN = {
    "reset before": (Fault.reset(delivered=False), 0),
    "reset after": (Fault.reset(delivered=True), 1),
    "closed after": (Fault.close(delivered=True), 1),
    "garbage": (Fault.answer(b"\xff<html>"), 1),
    "gateway": (Fault.answer(b"<html>Bad Gateway</html>", 502, "text/html"), 1),
    "over-long": (Fault.answer(b" " * 1_100_000), 1),
    "cut": (Fault.cut(20), 1),
    "time-out in words": (Fault.refuse(500, "请求超时", delivered=True), 1),
    "success in name only": (Fault.answer(b'{"ret":200,"msg":"\xe5\xa4\xb1\xe8\xb4\xa5"}'), 1),
}
REFUSALS = {
    "no data": Fault.refuse(500, "发送图片失败"),
    "nothing said": Fault.refuse(500, None),
    "null data": Fault.refuse(500, "发送图片失败", None),
    "offline": Fault.refuse(500, "发送图片失败", {"code": "-1", "msg": "微信已离线"}),
    "integer code": Fault.refuse(500, "发送图片失败", {"code": -219, "msg": "x", "more": [1.50, {"a": None}]}),
    "another status": Fault.refuse(500, "发送图片失败", {"code": "-1"}, status=500),
    "a client's error": Fault.refuse(401, "认证失败", status=401),
    "spaced": Fault.answer(b'{ "ret" : 500,\n "msg": "\\u53d1", "extra": 1.0}\n', delivered=False),
    "msg is no text": Fault.answer(b'{"ret":500,"msg":{"a":1}}', delivered=False),
}


def test_the_first_is_an_upload_and_the_next_a_forward_in_the_same_shape(world: World, proxy: Proxy) -> None:
    direct = world.post(world.sandbox.base_url, "wxid_direct")
    first, second = world.post(proxy, "wxid_1"), world.post(proxy, "wxid_2")
    assert [answer.headers["x-gewe-cache"] for answer in (first, second)] == ["upload", "forward"]
    delivered = world.sandbox.deliveries[1:]
    assert [(each.to_wxid, each.route) for each in delivered] == [("wxid_1", "upload"), ("wxid_2", "forward")]
    for answer, delivery in zip((first, second), delivered, strict=True):
        content = answer.json()
        assert (answer.status_code, content["ret"], content["msg"]) == (200, 200, "操作成功")
        assert answer.headers["content-type"] == direct.headers["content-type"]
        assert list(content["data"]) == list(direct.json()["data"])
        assert content["data"]["toWxid"] == delivery.to_wxid
        assert content["data"]["newMsgId"] == delivery.new_msg_id
        assert content["data"]["newMsgId"] > 2**53
    cdn = ("aesKey", "fileId", "length", "width", "height", "md5")
    assert [first.json()["data"][name] for name in cdn] == [second.json()["data"][name] for name in cdn]
    assert [type(value) for value in second.json()["data"].values()] == [
        type(value) for value in direct.json()["data"].values()
    ]


def test_other_base_paths_are_served_too(world: World, proxy: Proxy) -> None:
    world.post(f"{proxy.url}/v2/api", "wxid_1")
    assert world.post(proxy, "wxid_2").headers["x-gewe-cache"] == "forward"
    elsewhere = world.post(f"{proxy.url}/finder/v2/api", "wxid_3")
    assert elsewhere.status_code == 404
    assert world.calls_to("wxid_3") == 0


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("route", ["upload", "forward"])
def test_a_refusal_comes_back_as_gewe_gave_it(world: World, proxy: Proxy, fault: Fault, route: str) -> None:
    if route == "forward":
        world.post(proxy, "wxid_first")
    world.sandbox.fail(fault)
    direct = world.post(world.sandbox.base_url, "wxid_direct")
    world.sandbox.fail(fault, times=2)  # a refused forward falls back to an upload
    refused = world.post(proxy, "wxid_refused")
    assert (refused.status_code, refused.content) == (direct.status_code, direct.content)
    assert refused.headers["x-gewe-cache"] in {"upload", "forward"}
    assert world.deliveries_to("wxid_refused") == 0
    assert proxy.line_of("wxid_refused")["outcome"] == "refused"


def test_a_token_that_is_refused_comes_back_in_gewes_own_words(world: World, proxy: Proxy) -> None:
    wrong = {world.sandbox.token_header: "tok-of-a-stranger"}
    direct = world.post(world.sandbox.base_url, headers=wrong)
    refused = world.post(proxy, headers=wrong)
    assert refused.content == direct.content
    assert "tok-of-a-stranger" in refused.text
    assert "tok-of-a-stranger" not in json.dumps(proxy.line_of("wxid_friend"))


@pytest.mark.parametrize(("status", "seen"), [(404, 404), (403, 403), (302, 200)])
def test_a_refusal_without_json_keeps_its_status(world: World, proxy: Proxy, status: int, seen: int) -> None:
    world.sandbox.fail(Fault.answer(b"<html>no</html>", status, "text/html", delivered=False))
    refused = world.post(proxy)
    assert (refused.status_code, refused.json()["ret"]) == (seen, status)
    assert world.sandbox.deliveries == []


def test_unreached_is_503_and_may_be_sent_again(world: World, proxy: Proxy) -> None:
    world.sandbox.stop()
    answer = world.post(proxy)
    assert (answer.status_code, answer.json()["ret"]) == (503, 503)
    assert "Nothing was sent" in answer.json()["msg"]
    assert "x-gewe-cache" not in answer.headers
    world.sandbox.start()
    assert world.post(proxy).json()["ret"] == 200
    assert world.deliveries_to("wxid_friend") == 1


@pytest.mark.parametrize(("fault", "delivered"), UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("route", ["upload", "forward"])
def test_unknown_is_200_with_ret_504_and_never_sent_again(
    world: World, proxy: Proxy, fault: Fault, delivered: int, route: str
) -> None:
    if route == "forward":
        world.post(proxy, "wxid_first")
    world.sandbox.fail(fault)
    answer = world.post(proxy)
    assert (answer.status_code, answer.json()["ret"]) == (200, 504)
    assert "unknown whether" in answer.json()["msg"]
    assert answer.headers["x-gewe-cache"] == route
    assert (world.calls_to("wxid_friend"), world.deliveries_to("wxid_friend")) == (1, delivered)


def test_a_hanging_gewe_is_unknown_in_time(world: World) -> None:
    proxy = world.open(timeout=0.3)
    world.sandbox.fail(Fault.hang(delivered=True))
    answer = world.post(proxy)
    assert (answer.status_code, answer.json()["ret"]) == (200, 504)
    assert world.calls_to("wxid_friend") == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault.patch_top(data=None),
        Fault.patch_top(data=Fault.MISSING, msg=None),
        Fault.patch(aesKey=None, fileId=None, length=None, width=None, height=None, md5=None, msgId=None),
        Fault.patch(aesKey="odd", createTime="now"),
    ],
)
def test_what_was_sent_keeps_its_shape_where_gewe_gave_no_cdn_information(
    world: World, proxy: Proxy, fault: Fault
) -> None:
    world.sandbox.fail(fault)
    answer = world.post(proxy)
    data: dict[str, Any] = answer.json()["data"]
    assert (answer.status_code, answer.json()["ret"]) == (200, 200)
    assert [type(data[name]) for name in ("aesKey", "fileId", "md5")] == [str] * 3
    assert [type(data[name]) for name in ("length", "width", "height", "msgId", "newMsgId", "createTime")] == [int] * 6
    assert world.deliveries_to("wxid_friend") == 1


def test_a_forward_that_is_refused_falls_back_and_says_so(world: World, proxy: Proxy) -> None:
    world.post(proxy, "wxid_1")
    world.sandbox.expire_cdn()
    answer = world.post(proxy, "wxid_2")
    assert (answer.headers["x-gewe-cache"], answer.json()["ret"]) == ("fell-back", 200)
    assert world.post(proxy, "wxid_3").headers["x-gewe-cache"] == "forward"
    assert [world.deliveries_to(each) for each in ("wxid_1", "wxid_2", "wxid_3")] == [1, 1, 1]


def test_a_client_may_ask_for_a_fresh_upload_or_none_of_the_cache(world: World, proxy: Proxy) -> None:
    world.post(proxy, "wxid_1")
    refreshed = world.post(proxy, "wxid_2", {"X-Gewe-Cache": "Refresh"})
    bypassed = world.post(proxy, "wxid_3", {"X-Gewe-Cache": "bypass"})
    wrong = world.post(proxy, "wxid_4", {"X-Gewe-Cache": "soon"})
    assert [each.headers.get("x-gewe-cache") for each in (refreshed, bypassed, wrong)] == ["upload", "bypass", None]
    assert (wrong.status_code, wrong.json()["ret"]) == (400, 400)
    assert [each.route for each in world.sandbox.deliveries] == ["upload", "upload", "upload"]
    assert world.calls_to("wxid_4") == 0


def test_the_spelling_of_opengewe_is_understood(world: World, proxy: Proxy) -> None:
    world.post(proxy, "wxid_1")
    body = world.call("wxid_2")
    body["imageUrl"] = body.pop("imgUrl")
    assert world.post(world.sandbox.base_url, "wxid_2", imgUrl=None, imageUrl=world.image).json()["ret"] == 500
    answer = world.post_body(proxy, body)
    assert (answer.headers["x-gewe-cache"], answer.json()["ret"]) == ("forward", 200)
