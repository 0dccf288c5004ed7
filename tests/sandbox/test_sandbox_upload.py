"""The first call: what it answers, what it really does, what it refuses."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Callable

import httpx
import pytest

from gewe_cache.sandbox import Delays, Sandbox

Post = Callable[..., httpx.Response]

FIELDS = [
    "toWxid",
    "createTime",
    "msgId",
    "newMsgId",
    "type",
    "aesKey",
    "fileId",
    "length",
    "width",
    "height",
    "md5",
]


def test_an_upload_answers_every_field_of_the_sample(sandbox: Sandbox, client: httpx.Client, upload: Post) -> None:
    answer = upload().json()
    data = answer["data"]
    image = client.get(sandbox.url + "/images/poster.png").content

    assert (answer["ret"], answer["msg"], list(answer)) == (200, "操作成功", ["ret", "msg", "data"])
    assert list(data) == FIELDS
    assert (data["toWxid"], data["createTime"], data["type"]) == ("34757816141@chatroom", 0, None)
    assert (data["width"], data["height"], data["length"]) == (400, 300, len(image))
    assert data["md5"] == hashlib.md5(image, usedforsecurity=False).hexdigest()
    assert re.fullmatch("[0-9a-f]{32}", data["aesKey"])
    assert re.fullmatch("30[0-9a-f]{158,198}", data["fileId"])
    assert 2**53 < data["newMsgId"] < 2**63
    assert isinstance(data["msgId"], int)


def test_every_upload_issues_new_cdn_information(upload: Post) -> None:
    first, second = upload().json()["data"], upload().json()["data"]

    assert first["md5"] == second["md5"]
    assert all(first[name] != second[name] for name in ("aesKey", "fileId", "newMsgId"))


def test_the_record_says_what_was_delivered(sandbox: Sandbox, upload: Post) -> None:
    data = upload().json()["data"]
    (delivery,) = sandbox.deliveries
    (call,) = sandbox.calls

    assert (delivery.app_id, delivery.to_wxid, delivery.route) == (
        sandbox.app_id,
        "34757816141@chatroom",
        "upload",
    )
    assert (delivery.md5, delivery.file_id, delivery.new_msg_id) == (
        data["md5"],
        data["fileId"],
        data["newMsgId"],
    )
    assert delivery.img_url == sandbox.url + "/images/poster.png"
    assert call.started_at <= delivery.ended_at <= (call.ended_at or 0)
    assert (call.number, call.delivered, call.ret, call.token_ok, call.fault) == (
        delivery.number,
        True,
        200,
        True,
        None,
    )
    assert (sandbox.uploads, sandbox.forwards) == ([delivery], [])


def test_both_addresses_are_served(sandbox: Sandbox, client: httpx.Client, upload: Post) -> None:
    upload()
    body = {"appId": sandbox.app_id, "toWxid": "a", "imgUrl": sandbox.make_image("b.jpg")}
    answer = client.post(sandbox.url + "/v2/api/message/postImage", json=body).json()

    assert answer["ret"] == 200
    assert len(sandbox.uploads) == 2


@pytest.mark.parametrize("name", ["appId", "toWxid", "imgUrl"])
@pytest.mark.parametrize("value", [None, "", 7, ["x"], {"a": 1}])
def test_required_fields_are_required_strings(sandbox: Sandbox, upload: Post, name: str, value: object) -> None:
    answer = upload(**{name: value})

    wanted = f"{name}类型错误" if value else f"{name}不可为空"
    assert (answer.status_code, answer.json()) == (200, {"ret": 500, "msg": wanted})
    assert sandbox.deliveries == []
    assert sandbox.calls[0].ret == 500


def test_opengewe_s_misspelt_field_is_refused(upload: Post) -> None:
    assert upload(imgUrl=None, imageUrl="http://x/").json()["msg"] == "imgUrl不可为空"


def test_the_token_is_checked(sandbox: Sandbox, client: httpx.Client, upload: Post) -> None:
    del client.headers[sandbox.token_header]
    assert upload().json() == {"ret": 500, "msg": "header:X-GEWE-TOKEN 不可为空"}
    client.headers[sandbox.token_header] = "xxx"
    assert upload().json() == {"ret": 500, "msg": "HTTP HEADER: X-GEWE-TOKEN=xxx 不可用或已过期"}
    sandbox.add_tokens("xxx", "yyy")
    assert upload().json()["ret"] == 200

    assert [call.token_ok for call in sandbox.calls] == [False, False, True]
    assert len(sandbox.deliveries) == 1
    assert "xxx" not in repr(sandbox.calls) + repr(sandbox)


def test_another_header_and_any_token() -> None:
    with Sandbox(token_header="VideosApi-token", any_token=True) as sandbox:  # noqa: S106
        body = {"appId": sandbox.app_id, "toWxid": "a", "imgUrl": sandbox.make_image("a.png")}
        url = sandbox.base_url + "/message/postImage"
        refused = httpx.post(url, json=body, headers={"X-GEWE-TOKEN": "t"}, trust_env=False)
        accepted = httpx.post(url, json=body, headers={"videosapi-TOKEN": "whatever"}, trust_env=False)

    assert refused.json()["msg"] == "header:VideosApi-token 不可为空"
    assert accepted.json()["ret"] == 200


def test_unknown_devices_are_refused_until_added(sandbox: Sandbox, upload: Post) -> None:
    assert upload(appId="wx_real").json() == {
        "ret": 500,
        "msg": "发送图片失败",
        "data": {"code": "-1", "msg": "[wx_real]设备不存在"},
    }
    sandbox.add_device("wx_real")
    assert upload(appId="wx_real").json()["ret"] == 200
    assert upload(appId="wx_sandbox_77").json()["ret"] == 200


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("poster.png", "java.net.MalformedURLException: no protocol: poster.png"),
        ("//host/poster.png", "java.net.MalformedURLException: no protocol: //host/poster.png"),
        ("gopher://host/a", "java.net.MalformedURLException: unknown protocol: gopher"),
    ],
)
def test_malformed_urls(upload: Post, url: str, words: str) -> None:
    assert upload(imgUrl=url).json() == {"ret": 500, "msg": words}


@pytest.mark.parametrize("path", ["/images/none.png", "/sandbox/heal", "/"])
def test_an_image_that_cannot_be_fetched(sandbox: Sandbox, upload: Post, path: str) -> None:
    assert upload(imgUrl=sandbox.url + path).json() == {"ret": 500, "msg": "发送图片失败"}
    assert sandbox.deliveries == []


@pytest.mark.parametrize("url", ["http:", "http://", "http://[::1", "http://\x00/", "file:///etc/hostname"])
def test_an_address_that_leads_nowhere(upload: Post, url: str) -> None:
    assert upload(imgUrl=url).json() == {"ret": 500, "msg": "发送图片失败"}


def test_a_host_that_does_not_listen(upload: Post) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        assert upload(imgUrl=f"http://127.0.0.1:{port}/").json() == {"ret": 500, "msg": "发送图片失败"}


def test_a_host_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, Sandbox(download_timeout=0.2) as sandbox:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        answer = httpx.post(
            sandbox.base_url + "/message/postImage",
            json={"appId": sandbox.app_id, "toWxid": "a", "imgUrl": url},
            headers={"X-GEWE-TOKEN": sandbox.token},
            trust_env=False,
        )
    assert answer.json() == {"ret": 500, "msg": "发送图片失败"}


@pytest.mark.parametrize("content", [b"", b"<html>no</html>", b"\x89PNG\r\n\x1a\nbroken", b"GIF89a"])
def test_not_an_image(sandbox: Sandbox, upload: Post, content: bytes) -> None:
    answer = upload(imgUrl=sandbox.add_image("x.png", content)).json()

    assert (answer["ret"], answer["msg"], answer["data"]["msg"]) == (500, "发送图片失败", "图片格式错误")
    assert sandbox.deliveries == []


def test_too_many_bytes_are_not_downloaded(sandbox: Sandbox, upload: Post) -> None:
    url = sandbox.add_image("huge.png", bytes(30_000_001))
    assert upload(imgUrl=url).json() == {"ret": 500, "msg": "发送图片失败"}


def test_a_replaced_image_is_downloaded_anew(sandbox: Sandbox, upload: Post) -> None:
    first = upload().json()["data"]
    sandbox.make_image("poster.png", width=64, height=32, seed=9)
    second = upload().json()["data"]

    assert first["md5"] != second["md5"]
    assert (second["width"], second["height"]) == (64, 32)


def test_a_conversion_changes_the_md5() -> None:
    with Sandbox(converts=True) as sandbox:
        url = sandbox.make_image("a.png", width=50, height=40)
        original = httpx.get(url, trust_env=False).content
        answer = httpx.post(
            sandbox.base_url + "/message/postImage",
            json={"appId": sandbox.app_id, "toWxid": "a", "imgUrl": url},
            headers={"X-GEWE-TOKEN": sandbox.token},
            trust_env=False,
        ).json()["data"]

        assert (answer["width"], answer["height"]) == (50, 40)
        assert answer["md5"] != hashlib.md5(original, usedforsecurity=False).hexdigest()
        assert sandbox.deliveries[0].md5 == answer["md5"]


def test_delays_are_proportional_to_the_bytes() -> None:
    delays = Delays(download_seconds_per_mb=2, convert_seconds_per_mb=3, upload_seconds_per_mb=5)
    assert (delays.of_download(500_000), delays.of_conversion(500_000), delays.of_cdn(500_000)) == (
        1,
        1.5,
        2.5,
    )
    assert delays.scaled(0.1).of_cdn(1_000_000) == pytest.approx(0.5)
    assert Delays.none() == Delays()
    assert Delays.realistic().unfetchable_seconds == 30
    with pytest.raises(ValueError, match="call_seconds"):
        Delays(call_seconds=-1)
    with pytest.raises(ValueError, match="at least 0"):
        Delays(call_seconds=float("nan"))


def test_delays_are_really_taken() -> None:
    with Sandbox(delays=Delays(call_seconds=0.05, upload_seconds_per_mb=1.0)) as sandbox:
        url = sandbox.make_image("a.png", approximate_bytes=100_000)
        httpx.post(
            sandbox.base_url + "/message/postImage",
            json={"appId": sandbox.app_id, "toWxid": "a", "imgUrl": url},
            headers={"X-GEWE-TOKEN": sandbox.token},
            trust_env=False,
        )
        (delivery,) = sandbox.deliveries
    assert delivery.ended_at - delivery.started_at >= 0.12
