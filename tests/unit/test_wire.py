"""GeWe's answers: what each means, and that none of them can raise or make a sent message look failed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gewe_cache.gewe.wire import (
    MAX_ANSWER_BYTES,
    Accepted,
    CdnInfo,
    Refused,
    Reply,
    Unknown,
    forward_request,
    read_reply,
    upload_request,
)
from tests.unit.making import AES_KEY, FILE_ID, MD5

TOKEN = "5f3c-very-secret-token"  # noqa: S105 - made up
SAMPLE_DATA: dict[str, Any] = {
    "toWxid": "34757816141@chatroom",
    "createTime": 0,
    "msgId": 640355969,
    "newMsgId": 8992614056172360000,
    "type": None,
    "aesKey": "7678796e6d70626e6b626c6f7375616b",
    "fileId": "3052020100044b30490201000204e49785f102033d11fd0204136166b4020465966eea0424",
    "length": 1096,
    "width": 400,
    "height": 400,
    "md5": "e6355eab0393facbd6a2cde3f990ef60",
}
UPLOAD = upload_request("wx_1", "wxid_friend", "https://h/a.png")
FORWARD = forward_request("wx_1", "wxid_friend", "<msg/>", AES_KEY)
DEEP = 100_000


def read(body: bytes | str | None, status: int = 200) -> Accepted | Refused | Unknown:
    return read_reply(UPLOAD, Reply(status, body.encode() if isinstance(body, str) else body), TOKEN)


def success(**changes: Any) -> str:
    """Write GeWe's sample answer with some of its data replaced."""
    return json.dumps({"ret": 200, "msg": "操作成功", "data": SAMPLE_DATA | changes}, ensure_ascii=False)


def accepted(body: str | bytes, status: int = 200) -> Accepted:
    found = read(body, status)
    assert isinstance(found, Accepted), found
    return found


def cdn_of(**changes: Any) -> CdnInfo:
    cdn = accepted(success(**changes)).cdn
    assert cdn is not None
    return cdn


def test_the_calls_are_written_as_gewe_documents_them() -> None:
    assert UPLOAD.path == "/message/postImage"
    assert json.loads(UPLOAD.body) == {"appId": "wx_1", "toWxid": "wxid_friend", "imgUrl": "https://h/a.png"}
    assert FORWARD.path == "/message/forwardImage"
    assert json.loads(FORWARD.body) == {"appId": "wx_1", "toWxid": "wxid_friend", "xml": "<msg/>"}


@pytest.mark.parametrize("text", ["'\"&<>]]>", "海报 \U0001f600", "a\\b\nc\u2028", "x" * 10_000])
def test_a_call_carries_any_text_unchanged(text: str) -> None:
    request = upload_request(text, text, text)
    assert json.loads(request.body.decode("utf-8")) == {"appId": text, "toWxid": text, "imgUrl": text}


def test_a_call_shows_no_body_and_no_key() -> None:
    request = forward_request("wx_1", "wxid_friend", f'<img aeskey="{AES_KEY}"/>', AES_KEY)
    assert AES_KEY not in repr(request)
    assert "wxid_friend" in repr(request)
    assert repr(Reply(200, success().encode())) == "Reply(status=200)"


def test_gewes_sample_answer() -> None:
    found = accepted(success())
    assert (found.msg_id, found.new_msg_id, found.create_time) == (640355969, 8992614056172360000, 0)
    assert found.cdn == CdnInfo(
        aes_key="7678796e6d70626e6b626c6f7375616b",
        file_id=SAMPLE_DATA["fileId"],
        length=1096,
        width=400,
        height=400,
        md5="e6355eab0393facbd6a2cde3f990ef60",
    )
    assert SAMPLE_DATA["aesKey"] not in repr(found)


def test_the_null_fields_of_a_forward_are_accepted() -> None:
    found = accepted(success(length=None, width=None, height=None, md5=None, type=None))
    assert found.new_msg_id == 8992614056172360000
    assert found.cdn is not None
    assert (found.cdn.length, found.cdn.width, found.cdn.height, found.cdn.md5) == (None, None, None, None)


@pytest.mark.parametrize("data", [None, "text", "", [], [SAMPLE_DATA], {}, 5, True, 1.5])
def test_ret_200_without_data_is_a_sent_message(data: object) -> None:
    found = accepted(json.dumps({"ret": 200, "msg": "操作成功", "data": data}))
    assert found == Accepted(None, None, None, None)


def test_ret_200_alone_is_a_sent_message() -> None:
    assert accepted('{"ret":200}') == accepted('{"ret":200,"msg":null}') == Accepted(None, None, None, None)


@pytest.mark.parametrize(
    ("value", "read_as"),
    [
        (1, 1),
        (8992614056172360000, 8992614056172360000),
        ("8992614056172360000", 8992614056172360000),
        (2**63 - 1, 2**63 - 1),
        (2**64 - 1, 2**64 - 1),
        (-7335678612325823449, -7335678612325823449),
        ("-5", -5),
        (0, None),
        ("0", None),
        (2**64, None),
        (10**4000, None),
        (-(2**63) - 1, None),
        (True, None),
        (False, None),
        (1.0, None),
        (1e300, None),
        ("", None),
        (" 1", None),
        ("1\n", None),
        ("１２", None),
        ("0x10", None),
        ("9" * 21, None),
        ("9" * 20, None),
        ([1], None),
        ({"id": 1}, None),
        (None, None),
    ],
)
def test_ids_of_any_kind_leave_the_message_sent(value: object, read_as: int | None) -> None:
    found = accepted(success(newMsgId=value, msgId=value))
    assert (found.new_msg_id, found.msg_id) == (read_as, read_as)
    assert found.cdn is not None


@pytest.mark.parametrize("name", sorted(SAMPLE_DATA))
@pytest.mark.parametrize("value", [None, "", "x", "漢", [], {}, True, False, -1, 0, 1.5, 10**4000, [[]]])
def test_a_field_of_the_wrong_type_never_makes_a_sent_message_look_failed(name: str, value: object) -> None:
    assert isinstance(read(success(**{name: value})), Accepted)


@pytest.mark.parametrize("name", sorted(SAMPLE_DATA))
def test_a_missing_field_never_makes_a_sent_message_look_failed(name: str) -> None:
    data = {key: value for key, value in SAMPLE_DATA.items() if key != name}
    found = accepted(json.dumps({"ret": 200, "msg": "ok", "data": data}))
    assert (found.cdn is None) == (name in {"aesKey", "fileId"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("aesKey", value)
            for value in (None, 5, "", "x" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n", "０" * 32, ["0" * 32])
        ),
        *(("fileId", value) for value in (None, 5, "", "305", "zz", "30\n", '30"&<', "30" * 1025, ["30"])),
    ],
)
def test_an_unusable_key_or_file_id_costs_the_entry_only(name: str, value: object) -> None:
    found = accepted(success(**{name: value}))
    assert found.cdn is None
    assert found.new_msg_id == 8992614056172360000


@pytest.mark.parametrize("name", ["length", "width", "height"])
@pytest.mark.parametrize(
    ("value", "read_as"),
    [
        (5, 5),
        ("5", 5),
        (0, None),
        (-5, None),
        (1.5, None),
        (True, None),
        (2**63, None),
        ("x", None),
        (None, None),
        ([], None),
    ],
)
def test_a_size_is_a_positive_integer_or_unknown(name: str, value: object, read_as: int | None) -> None:
    assert getattr(cdn_of(**{name: value}), name) == read_as


def test_the_largest_sizes() -> None:
    cdn = cdn_of(length=2**63 - 1, width=2**31 - 1, height=2**31)
    assert (cdn.length, cdn.width, cdn.height) == (2**63 - 1, 2**31 - 1, None)


@pytest.mark.parametrize("md5", [None, "", "x" * 32, MD5[:-1], MD5 + "\n", 5, [MD5]])
def test_a_malformed_md5_is_unknown(md5: object) -> None:
    assert cdn_of(md5=md5).md5 is None


def test_hex_is_read_in_either_case() -> None:
    cdn = cdn_of(aesKey=AES_KEY.upper(), fileId=FILE_ID.upper(), md5=MD5.upper())
    assert (cdn.aes_key, cdn.file_id, cdn.md5) == (AES_KEY, FILE_ID, MD5)


@pytest.mark.parametrize("msg", ["操作成功", None, "发送图片失败", "超时", "", 5, ["失败"]])
@pytest.mark.parametrize("status", [200, 201, 302, 404, 408, 500, 502, 504])
def test_ret_200_with_a_message_id_is_sent_whatever_else_is_said(msg: object, status: int) -> None:
    body = json.dumps({"ret": 200, "msg": msg, "data": {"newMsgId": 5}}, ensure_ascii=False)
    assert accepted(body, status).new_msg_id == 5


@pytest.mark.parametrize("data", [None, {}, {"newMsgId": 0}, {"newMsgId": None}, {"msgId": 5}, "newMsgId"])
@pytest.mark.parametrize("msg", ["发送图片失败", {"words": "失败"}, ["发送失败"]])
def test_success_in_name_only_may_have_been_sent(data: object, msg: object) -> None:
    found = read(json.dumps({"ret": 200, "msg": msg, "data": data}, ensure_ascii=False))
    assert isinstance(found, Unknown)
    assert "失败" in found.reason


@pytest.mark.parametrize(
    "ret", ['"200"', '"500"', "200.0", "500.0", "true", "false", "null", "[200]", "{}", "NaN", "1e2"]
)
def test_a_ret_that_is_no_integer_tells_nothing(ret: str) -> None:
    assert isinstance(read(f'{{"ret":{ret},"msg":"x","data":{{"newMsgId":5}}}}'), Unknown)


GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \r\n",
    "HTML": b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>",
    "text": "发送成功".encode(),
    "truncated": success().encode()[:-1],
    "cut in the middle": success().encode()[:40],
    "twice": success().encode() * 2,
    "GBK": '{"ret":200,"msg":"操作成功"}'.encode("gbk"),
    "no UTF-8": b'{"ret":200,"msg":"\xff\xfe"}',
    "a list": b'[{"ret":200}]',
    "a number": b"200",
    "a string": b'"ret"',
    "null": b"null",
    "no ret": b'{"msg":"ok","data":{"newMsgId":5}}',
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep inside": b'{"ret":200,"data":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"ret":500,"data":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "a number of 5000 digits": b'{"ret":' + b"2" * 5000 + b"}",
    "single quotes": b"{'ret': 200}",
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("status", [200, 201, 204, 408, 500, 502, 503, 504, 599])
def test_a_garbled_answer_may_have_been_sent(body: bytes, status: int) -> None:
    assert isinstance(read(body, status), Unknown)


@pytest.mark.parametrize("status", [200, 500])
def test_an_over_long_answer_may_have_been_sent(status: int) -> None:
    found = read(None, status)
    assert found == Unknown(f"HTTP {status} with an answer of over 1 MB")
    assert MAX_ANSWER_BYTES == 1_000_000


@pytest.mark.parametrize("status", [300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 413, 429, 431, 499])
@pytest.mark.parametrize("body", [b"", b"<html>nothing here</html>", b'{"error":"x"}', None])
def test_a_redirect_and_a_4xx_are_refusals(status: int, body: bytes | None) -> None:
    found = read(body, status)
    assert isinstance(found, Refused)
    assert found.error.ret == status
    assert f"HTTP {status}" in str(found.error)


@pytest.mark.parametrize("words", ["超时", "upstream timed out", "Request Timeout", "DEADLINE"])
def test_a_4xx_whose_page_tells_of_a_time_out_may_have_been_sent(words: str) -> None:
    assert isinstance(read(f"<html>{words}</html>", 404), Unknown)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_encoding_of_json_is_read(encoding: str) -> None:
    assert accepted(success().encode(encoding)) == accepted(success())


def test_of_two_equal_names_the_last_counts_as_in_every_json_reader() -> None:
    assert isinstance(read('{"ret":500,"ret":200,"data":{"newMsgId":5,"newMsgId":6}}'), Accepted)
    assert accepted('{"ret":200,"data":{"newMsgId":5,"newMsgId":6}}').new_msg_id == 6


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_cost_nothing(value: str) -> None:
    body = f'{{"ret":200,"msg":{value},"data":{{"newMsgId":5,"length":{value},"createTime":{value}}}}}'
    found = accepted(body)
    assert (found.new_msg_id, found.create_time) == (5, None)


def test_nesting_at_the_edge_of_what_can_be_read_never_raises() -> None:
    for depth in range(600, 1100):
        for start in ('{"ret":200,"msg":', '{"ret":200,"data":', '{"ret":500,"msg":', '{"ret":500,"data":'):
            read(start + "[" * depth + "]" * depth + "}")


@pytest.mark.parametrize("msg", [5, True, ["x"], {"a": "漢"}, 1.5])
def test_words_of_another_type_are_kept_as_text(msg: object) -> None:
    found = read(json.dumps({"ret": 500, "msg": msg}))
    assert isinstance(found, Refused)
    assert json.loads(found.error.msg or "") == msg


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_RET = st.one_of(st.sampled_from([200, 500, 401, 408, 504, "200", True, 200.0, None]), _JSON)
_DATA = st.one_of(
    _JSON,
    st.fixed_dictionaries({}, optional={name: st.one_of(st.just(value), _JSON) for name, value in SAMPLE_DATA.items()}),
)
_ANSWERS = st.fixed_dictionaries({}, optional={"ret": _RET, "msg": st.one_of(st.just("失败"), _JSON), "data": _DATA})
_STATUS = st.integers(min_value=100, max_value=999)


@given(st.one_of(st.binary(), _ANSWERS.map(lambda answer: json.dumps(answer).encode()), st.none()), _STATUS)
def test_no_answer_whatever_raises(body: bytes | None, status: int) -> None:
    for request in (UPLOAD, FORWARD):
        found = read_reply(request, Reply(status, body), TOKEN)
        assert isinstance(found, Accepted | Refused | Unknown)
        if isinstance(found, Refused):
            str(found.error)


@given(_ANSWERS, st.integers(min_value=1, max_value=2**63 - 1), _STATUS)
def test_ret_200_with_a_message_id_is_never_anything_but_sent(
    answer: dict[str, Any], new_msg_id: int, status: int
) -> None:
    data = answer["data"] if isinstance(answer.get("data"), dict) else {}
    body = json.dumps(answer | {"ret": 200, "data": data | {"newMsgId": new_msg_id}})
    found = read_reply(FORWARD, Reply(status, body.encode()), TOKEN)
    assert isinstance(found, Accepted)
    assert found.new_msg_id == new_msg_id


@given(_ANSWERS, _STATUS)
def test_only_an_integer_ret_or_a_status_below_500_refuses(answer: dict[str, Any], status: int) -> None:
    found = read(json.dumps(answer), status)
    if isinstance(found, Refused):
        assert type(answer.get("ret")) is int or 300 <= status < 500
