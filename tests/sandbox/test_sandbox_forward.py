"""The second call: what it accepts and answers, and everything it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from gewe_cache.sandbox import Sandbox

Post = Callable[..., httpx.Response]
Write = Callable[..., str]


def test_a_forward_delivers_and_answers_nulls(sandbox: Sandbox, upload: Post, forward: Post, xml_of: Write) -> None:
    uploaded = upload().json()["data"]
    answer = forward(xml_of(uploaded), appId="wx_sandbox_other").json()
    data = answer["data"]

    assert (answer["ret"], answer["msg"]) == (200, "操作成功")
    assert list(data) == list(uploaded)
    assert [data[name] for name in ("length", "width", "height", "md5", "type")] == [None] * 5
    assert (data["aesKey"], data["fileId"]) == (uploaded["aesKey"], uploaded["fileId"])
    assert (data["toWxid"], data["createTime"]) == ("wxid_friend", 0)
    assert data["newMsgId"] != uploaded["newMsgId"]
    (delivery,) = sandbox.forwards
    assert (delivery.md5, delivery.file_id, delivery.img_url, delivery.app_id) == (
        uploaded["md5"],
        uploaded["fileId"],
        None,
        "wx_sandbox_other",
    )


@pytest.mark.parametrize("changes", [{"length": 0}, {"md5": ""}, {"length": 0, "md5": ""}])
def test_unknown_length_and_md5_pass(upload: Post, forward: Post, xml_of: Write, changes: dict[str, object]) -> None:
    assert forward(xml_of(upload().json()["data"], **changes)).json()["ret"] == 200


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aeskey": "0" * 32}, "aeskey与cdnthumbaeskey不一致"),
        ({"aeskey": "0" * 32, "cdnthumbaeskey": "0" * 32}, "aeskey错误"),
        ({"cdnthumburl": "30"}, "cdnmidimgurl与cdnthumburl不一致"),
        ({"cdnthumburl": "30", "cdnmidimgurl": "30"}, "cdn信息不存在"),
        ({"length": 1}, "length或md5与cdn信息不符"),
        ({"length": "9" * 5000}, "length或md5与cdn信息不符"),
        ({"md5": "0" * 32}, "length或md5与cdn信息不符"),
        ({"length": "-1"}, "xml属性不是数字: length"),
        ({"length": "None"}, "xml属性不是数字: length"),
        ({"length": "²"}, "xml属性不是数字: length"),
        ({"cdnthumbheight": 0}, "cdnthumbheight超出范围"),
        ({"cdnthumbheight": 1001}, "cdnthumbheight超出范围"),
    ],
)
def test_what_does_not_fit_is_refused(
    sandbox: Sandbox, upload: Post, forward: Post, xml_of: Write, changes: dict[str, object], words: str
) -> None:
    answer = forward(xml_of(upload().json()["data"], **changes)).json()

    assert answer == {"ret": 500, "msg": "转发图片失败", "data": {"code": "-1", "msg": words}}
    assert sandbox.forwards == []


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("no xml", "xml格式错误"),
        ("<msg><img a='&'/></msg>", "xml格式错误"),
        ("<msg><img/></msg><msg/>", "xml格式错误"),
        ("wxid_a:\n<msg><img/></msg>", "xml格式错误"),
        ("<msg>\x00</msg>", "xml格式错误"),
        ("<!DOCTYPE m [<!ENTITY a 'a'>]><msg>&a;</msg>", "xml格式错误"),
        ("<message><img/></message>", "xml根节点不是msg"),
        ("<msg><video/></msg>", "xml缺少img节点"),
        ("<msg><a><img/></a></msg>", "xml缺少img节点"),
    ],
)
def test_bad_xml_is_refused(forward: Post, xml: str, words: str) -> None:
    assert forward(xml).json()["data"] == {"code": "-1", "msg": words}


def test_every_attribute_of_the_sample_is_wanted(upload: Post, forward: Post, xml_of: Write) -> None:
    xml = xml_of(upload().json()["data"])
    for name in ("encryver", "cdnthumblength", "cdnthumbwidth", "cdnhdheight", "md5", "cdnmidwidth"):
        answer = forward(xml.replace(f"{name}=", "x=")).json()
        assert answer["data"]["msg"] == f"xml缺少属性: {name}"


def test_xml_is_required(forward: Post) -> None:
    assert forward(None).json() == {"ret": 500, "msg": "xml不可为空"}
    assert forward(5).json() == {"ret": 500, "msg": "xml类型错误"}


def test_an_unknown_device_is_refused_in_the_forward_s_words(forward: Post) -> None:
    assert forward("<msg/>", appId="wx_real").json() == {
        "ret": 500,
        "msg": "转发图片失败",
        "data": {"code": "-1", "msg": "[wx_real]设备不存在"},
    }


def test_expiry_on_purpose(sandbox: Sandbox, upload: Post, forward: Post, xml_of: Write) -> None:
    old = xml_of(upload().json()["data"])
    sandbox.expire_cdn()
    new = xml_of(upload().json()["data"])

    assert forward(old).json() == {
        "ret": 500,
        "msg": "转发图片失败",
        "data": {"code": "-1", "msg": "cdn信息已失效"},
    }
    assert forward(new).json()["ret"] == 200


def test_expiry_by_age(xml_of: Write) -> None:
    moments = itertools.chain([100.0, 109.9, 110.0])
    expired = {"ret": 501, "msg": None}
    with (
        Sandbox(cdn_lifetime=timedelta(seconds=10), clock=lambda: next(moments), expired_answer=expired) as sandbox,
        httpx.Client(base_url=sandbox.base_url, headers={"X-GEWE-TOKEN": sandbox.token}, trust_env=False) as client,
    ):
        body = {"appId": sandbox.app_id, "toWxid": "a", "imgUrl": sandbox.make_image("a.png")}
        data = client.post("/message/postImage", json=body).json()["data"]
        body = {"appId": sandbox.app_id, "toWxid": "a", "xml": xml_of(data)}
        answers = [client.post("/message/forwardImage", json=body).json() for _ in range(2)]

    assert answers[0]["ret"] == 200
    assert answers[1] == expired


def test_a_life_is_not_negative() -> None:
    with pytest.raises(ValueError, match="cdn_lifetime"):
        Sandbox(cdn_lifetime=timedelta(seconds=-1))
