"""The table of refusals: every row of ``gewe/README.md``, as the JSON in which it was seen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gewe_cache import (
    DeviceUnavailable,
    GeweRefused,
    ImageRefused,
    RecipientUnavailable,
    TokenRefused,
    TooFast,
)
from gewe_cache.gewe.wire import Refused, Reply, Unknown, forward_request, read_reply, upload_request
from tests.unit.making import AES_KEY

TOKEN = "5f3c-very-secret-token"  # noqa: S105 - made up
FRIEND, GROUP = "wxid_friend", "34757816141@chatroom"
ANYWHERE = [(route, to_wxid) for route in ("upload", "forward") for to_wxid in (FRIEND, GROUP)]


def outcome(body: object, route: str = "upload", to_wxid: str = FRIEND, status: int = 200) -> object:
    """Read an answer to a call."""
    request = (
        upload_request("wx_1", to_wxid, "https://h/a.png")
        if route == "upload"
        else forward_request("wx_1", to_wxid, "<msg/>", AES_KEY)
    )
    encoded = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
    return read_reply(request, Reply(status, encoded), TOKEN)


def refused(body: object, route: str = "upload", to_wxid: str = FRIEND, status: int = 200) -> GeweRefused:
    """Read an answer that must be a refusal."""
    found = outcome(body, route, to_wxid, status)
    assert isinstance(found, Refused), found
    return found.error


# What GeWe says, and which error it is, whatever the route and the recipient.
ROWS: list[tuple[str, type[GeweRefused]]] = [
    ('{"ret":500,"msg":"HTTP HEADER: X-GEWE-TOKEN=xxx 不可用或已过期"}', TokenRefused),
    ('{"ret":500,"msg":"HTTP HEADER: VideosApi-token=xxx 不可用或已过期"}', TokenRefused),
    ('{"ret":500,"msg":"header:X-GEWE-TOKEN 不可为空"}', TokenRefused),
    ('{"ret":500,"msg":"header：X-GEWE-TOKEN 不可为空"}', TokenRefused),
    ('{"ret":401,"msg":"请求访问：/gewe/v2/api，认证失败，无法访问系统资源"}', TokenRefused),
    ('{"ret":401,"msg":null}', TokenRefused),
    ('{"ret":500,"msg":"发送图片失败","data":{"code":"-1","msg":"[wx_abc]设备不存在"}}', DeviceUnavailable),
    ('{"ret":500,"msg":"转发图片失败","data":{"code":"-1","msg":"[wx_abc]设备不存在"}}', DeviceUnavailable),
    ('{"ret":500,"msg":"发送图片失败","data":{"code":"-1","msg":"微信已离线"}}', DeviceUnavailable),
    ('{"ret":500,"msg":"发送图片失败","data":{"code":-1,"msg":"微信已离线"}}', DeviceUnavailable),
    ('{"ret":500,"msg":"发送图片失败","data":{"code":"-219","msg":null}}', RecipientUnavailable),
    ('{"ret":500,"msg":"发送图片失败","data":{"code":-219}}', RecipientUnavailable),
    ('{"ret":500,"msg":"发送图片失败","data":{"code":"-104","msg":""}}', RecipientUnavailable),
    ('{"ret":500,"msg":"转发图片失败","data":{"code":-104}}', RecipientUnavailable),
    ('{"ret":500,"msg":"发送图片失败","data":{"msg":"图片格式错误","detail":"not an image"}}', ImageRefused),
    ('{"ret":500,"msg":"java.net.MalformedURLException: no protocol: example.com/a.png"}', ImageRefused),
    ('{"ret":500,"msg":"发送图片失败","data":{"msg":"java.net.MalformedURLException: no protocol"}}', ImageRefused),
    ('{"ret":500,"msg":"imgUrl不可为空"}', ImageRefused),
    ('{"ret":500,"msg":"imgUrl 不可为空"}', ImageRefused),
    ('{"ret":500,"msg":"发送图片失败","data":{"code":"-1","msg":"发送频率过快请稍后重试"}}', TooFast),
    ('{"ret":500,"msg":"发送消息过于频繁"}', TooFast),
    ('{"ret":500,"msg":null}', GeweRefused),
    ('{"ret":500}', GeweRefused),
    ('{"ret":500,"msg":"","data":null}', GeweRefused),
    ('{"ret":500,"msg":"转发图片失败","data":{"code":"-1","msg":"something new"}}', GeweRefused),
    ('{"ret":500,"msg":"转发图片失败"}', GeweRefused),
    ('{"ret":500,"msg":"toWxid不可为空"}', GeweRefused),
    ('{"ret":500,"msg":"发送图片失败","data":{"code":"-21","msg":""}}', GeweRefused),
    ('{"ret":-2,"msg":"发送图片失败","data":{"code":"-1"}}', GeweRefused),
    ('{"ret":0,"msg":"ok"}', GeweRefused),
    ('{"ret":201,"msg":"created"}', GeweRefused),
    ('{"ret":404,"msg":"not found"}', GeweRefused),
]


@pytest.mark.parametrize(("route", "to_wxid"), ANYWHERE)
@pytest.mark.parametrize(("body", "kind"), ROWS)
def test_a_row_of_the_table(body: str, kind: type[GeweRefused], route: str, to_wxid: str) -> None:
    error = refused(body, route, to_wxid)
    assert type(error) is kind
    said = json.loads(body)
    assert (error.ret, error.msg, error.data) == (said["ret"], said.get("msg"), said.get("data")), "GeWe's own words"


@pytest.mark.parametrize(("body", "kind"), ROWS)
@pytest.mark.parametrize("status", [201, 302, 400, 401, 404, 500, 502, 503])
def test_gewes_json_counts_under_any_http_status(body: str, kind: type[GeweRefused], status: int) -> None:
    assert type(refused(body, status=status)) is kind


@pytest.mark.parametrize(
    ("route", "to_wxid", "kind"),
    [
        ("upload", FRIEND, RecipientUnavailable),
        ("forward", FRIEND, RecipientUnavailable),
        ("upload", GROUP, GeweRefused),
        ("forward", GROUP, GeweRefused),
    ],
)
@pytest.mark.parametrize("code", ["-2", -2])
def test_minus_two_is_a_stranger_in_a_private_chat_only(
    route: str, to_wxid: str, kind: type[GeweRefused], code: str | int
) -> None:
    assert type(refused({"ret": 500, "msg": "发送图片失败", "data": {"code": code}}, route, to_wxid)) is kind


@pytest.mark.parametrize(
    ("route", "body", "kind"),
    [
        ("upload", {"ret": 500, "msg": "发送图片失败"}, ImageRefused),
        ("upload", {"ret": 500, "msg": "发送图片失败", "data": None}, ImageRefused),
        ("forward", {"ret": 500, "msg": "发送图片失败"}, GeweRefused),
        ("upload", {"ret": 500, "msg": "发送图片失败", "data": {"code": "-1", "msg": None}}, GeweRefused),
        ("upload", {"ret": 500, "msg": "发送图片失败", "data": "原因不明"}, GeweRefused),
    ],
)
def test_an_upload_that_failed_without_a_reason_could_not_fetch_the_image(
    route: str, body: object, kind: type[GeweRefused]
) -> None:
    assert type(refused(body, route)) is kind


@pytest.mark.parametrize(
    "data", ["微信已离线", ["微信已离线"], {"detail": {"deep": ["微信已离线"]}}, {"msg": ["微信已离线"], "code": None}]
)
def test_words_count_wherever_they_stand(data: object) -> None:
    assert type(refused({"ret": 500, "msg": "发送图片失败", "data": data})) is DeviceUnavailable


@pytest.mark.parametrize(
    "data", ["-219", ["-219"], {"code": True}, {"code": ["-219"]}, {"msg": "-219"}, {"code": -219.5}]
)
def test_a_code_counts_only_where_codes_stand(data: object) -> None:
    assert type(refused({"ret": 500, "msg": "x", "data": data})) is GeweRefused


TIME_OUT_WORDS = [
    "超时",
    "请求超时，请稍后",
    "Timeout",
    "connect timed out",
    "Read TIMED OUT",
    "java.net.SocketTimeoutException",
    "DEADLINE_EXCEEDED",
    "context deadline exceeded",
    "time-out",
    "time out",
]


@pytest.mark.parametrize("words", TIME_OUT_WORDS)
@pytest.mark.parametrize("route", ["upload", "forward"])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_refusal_that_tells_of_a_time_out_may_have_been_sent(words: str, route: str, status: int) -> None:
    for body in (
        {"ret": 500, "msg": words},
        {"ret": 500, "msg": "发送图片失败", "data": {"code": "-1", "msg": words}},
        {"ret": 500, "msg": "发送图片失败", "data": {"detail": [{"cause": words}]}},
        {"ret": 500, "msg": "发送图片失败", "data": words},
        {"ret": 500, "msg": {"words": words}},
        {"ret": 401, "msg": words},
    ):
        assert isinstance(outcome(body, route, status=status), Unknown)


@pytest.mark.parametrize("ret", [408, 504])
def test_a_code_that_tells_of_a_time_out_may_have_been_sent(ret: int) -> None:
    assert isinstance(outcome({"ret": ret, "msg": "发送图片失败"}), Unknown)
    assert isinstance(outcome({"ret": 500, "msg": "发送图片失败"}, status=ret), Unknown)


ECHOES: list[Any] = [
    {"ret": 500, "msg": f"HTTP HEADER: X-GEWE-TOKEN={TOKEN} 不可用或已过期"},
    {"ret": 500, "msg": "失败", "data": {"msg": TOKEN, "deep": [{TOKEN: f"a{TOKEN}b{TOKEN}"}], "code": TOKEN}},
    {"ret": 500, "msg": {"token": TOKEN}, "data": TOKEN},
    {"ret": 500, "msg": f"{TOKEN.upper()} {AES_KEY.upper()}"},
    {"ret": 500, "msg": "转发图片失败", "data": {"xml": f'<img aeskey="{AES_KEY}" cdnthumbaeskey="{AES_KEY}"/>'}},
    {"ret": 500, "msg": f"超时 {TOKEN} {AES_KEY}"},
    {"ret": 504, "msg": f"{TOKEN} {AES_KEY}"},
    {"ret": 200, "msg": f"失败 {TOKEN} {AES_KEY}"},
    {"ret": "500", "msg": f"{TOKEN} {AES_KEY}"},
]


@pytest.mark.parametrize("body", ECHOES)
@pytest.mark.parametrize("status", [200, 404, 500])
def test_no_secret_that_gewe_repeats_gets_through(body: object, status: int) -> None:
    found = outcome(body, "forward", status=status)
    shown = repr(found)
    if isinstance(found, Refused):
        error = found.error
        shown += f"{error} {error!r} {error.args} {error.msg} {error.data} {error.words}"
    assert TOKEN not in shown.lower()
    assert AES_KEY not in shown.lower()


def test_an_echoed_token_is_masked_in_place() -> None:
    error = refused(ECHOES[0])
    assert error.msg == "HTTP HEADER: X-GEWE-TOKEN=*** 不可用或已过期"
    assert type(error) is TokenRefused


def test_refusals_without_json_name_the_status_and_what_to_check() -> None:
    error = refused("<html>not here</html>", status=404)
    assert type(error) is GeweRefused
    assert error.ret == 404
    assert "HTTP 404" in str(error)
    assert "base_url" in str(error)
