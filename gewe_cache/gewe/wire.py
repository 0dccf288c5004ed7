"""GeWe's two calls and what their answers mean, without I/O.

The calls: https://doc.geweapi.com, ``postImage`` and ``forwardImage``. An answer is one of four outcomes:
``Accepted`` (nothing may make it look failed any more), ``Refused`` (taken as "nothing was sent"),
``Unreached`` (no call went out) and ``Unknown`` (it may have been sent).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gewe_cache.gewe.refusals import (
    TIME_OUT_STATUSES,
    all_words,
    refusal,
    tells_of_time_out,
)
from gewe_cache.image import MAX_FILE_ID_LENGTH, MAX_INT64, MAX_SIDE
from gewe_cache.text import mask_key, one_line, redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gewe_cache.errors import GeweRefused
    from gewe_cache.image import Route

MAX_ANSWER_BYTES = 1_000_000

_OK = 200
_FIRST_REDIRECT, _FIRST_CLIENT_ERROR, _FIRST_SERVER_ERROR = 300, 400, 500
_AES_KEY = re.compile(r"[0-9a-fA-F]{32}")
_FILE_ID = re.compile(r"(?:[0-9a-fA-F]{2})+")
_DIGITS = re.compile(r"-?[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Request:
    """A call, ready to be posted to ``{base_url}{path}``. ``secrets``: what no error of it may show."""

    route: Route
    path: str
    app_id: str
    to_wxid: str
    body: bytes = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back over HTTP. ``body`` is None when it was longer than ``MAX_ANSWER_BYTES``."""

    status: int
    body: bytes | None = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class CdnInfo:
    """CDN information of an upload, checked: hex in lower case, sizes positive or None."""

    aes_key: str = field(repr=False)
    file_id: str
    length: int | None
    width: int | None
    height: int | None
    md5: str | None

    def __repr__(self) -> str:
        """Show it without the key."""
        return f"CdnInfo(aes_key='{mask_key(self.aes_key)}', file_id='{self.file_id[:12]}…', length={self.length})"


@dataclass(frozen=True, slots=True)
class Accepted:
    """GeWe has taken the message. ``cdn`` is None when the answer carried no usable CDN information."""

    msg_id: int | None
    new_msg_id: int | None
    create_time: int | None
    cdn: CdnInfo | None


@dataclass(frozen=True, slots=True)
class Refused:
    """GeWe said no."""

    error: GeweRefused


@dataclass(frozen=True, slots=True)
class Unreached:
    """No call went out."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A call went out, and what came back does not tell whether the message was sent."""

    reason: str


Outcome = Accepted | Refused | Unreached | Unknown


def upload_request(app_id: str, to_wxid: str, img_url: str, secrets: tuple[str, ...] = ()) -> Request:
    """Make a ``postImage`` call."""
    body = {"appId": app_id, "toWxid": to_wxid, "imgUrl": img_url}
    return Request("upload", "/message/postImage", app_id, to_wxid, _encode(body), secrets)


def forward_request(app_id: str, to_wxid: str, xml: str, aes_key: str) -> Request:
    """Make a ``forwardImage`` call."""
    body = {"appId": app_id, "toWxid": to_wxid, "xml": xml}
    return Request("forward", "/message/forwardImage", app_id, to_wxid, _encode(body), (aes_key,))


def read_reply(request: Request, reply: Reply, token: str) -> Accepted | Refused | Unknown:
    """Give the outcome that a reply means; secrets in GeWe's words are masked."""
    answer = _parse(reply.body, (token, *request.secrets))
    if answer is None:
        return _read_status(request, reply)
    ret, msg, data = answer["ret"], _as_text(answer.get("msg")), answer.get("data")
    if ret == _OK:
        return _read_success(msg, data, (token, *request.secrets))
    if reply.status in TIME_OUT_STATUSES or ret in TIME_OUT_STATUSES or tells_of_time_out(all_words(msg, data)):
        return Unknown(f"GeWe answered with ret {ret}: {one_line(msg)}")
    if isinstance(data, dict) and _identifier(data.get("newMsgId")) is not None:
        return Unknown(f"GeWe answered with ret {ret}, and yet with a newMsgId")
    error = refusal(request.route, request.to_wxid, ret, msg, data)
    error.reply = reply
    return Refused(error)


def _encode(body: dict[str, str]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _parse(body: bytes | None, secrets: tuple[str, ...]) -> dict[str, Any] | None:
    """Give the JSON object with an integer ``ret`` that every answer of GeWe's is, or None."""
    if body is None:
        return None
    try:
        answer = json.loads(body)
        is_answer = isinstance(answer, dict) and type(answer.get("ret")) is int
        if is_answer and answer["ret"] != _OK:
            answer = {**answer, "msg": redact(answer.get("msg"), secrets), "data": redact(answer.get("data"), secrets)}
    except (ValueError, RecursionError):
        return None
    return answer if is_answer else None


def _read_status(request: Request, reply: Reply) -> Refused | Unknown:
    status = reply.status
    if not _FIRST_REDIRECT <= status < _FIRST_SERVER_ERROR or status in TIME_OUT_STATUSES:
        return Unknown(f"HTTP {status} with {_describe(reply.body)}")
    if tells_of_time_out((reply.body or b"").decode("utf-8", "replace")):
        return Unknown(f"HTTP {status} with words of a time-out")
    what = "a redirect, which is not followed" if status < _FIRST_CLIENT_ERROR else "an error without GeWe's JSON"
    return Refused(refusal(request.route, request.to_wxid, status, f"HTTP {status}: {what}; check base_url", None))


def _describe(body: bytes | None) -> str:
    if body is None:
        return "an answer of over 1 MB"
    return "an answer that is not GeWe's JSON" if body else "an empty answer"


def _read_success(msg: str | None, data: Any, secrets: tuple[str, ...]) -> Accepted | Unknown:  # noqa: ANN401
    fields = data if isinstance(data, dict) else {}
    new_msg_id = _identifier(fields.get("newMsgId"))
    if new_msg_id is None and msg is not None and "失败" in msg:
        return Unknown(f"GeWe answered ret 200 but said: {one_line(redact(msg, secrets))}")
    return Accepted(
        msg_id=_identifier(fields.get("msgId")),
        new_msg_id=new_msg_id,
        create_time=_whole(fields.get("createTime")),
        cdn=_read_cdn(fields),
    )


def _read_cdn(fields: dict[str, Any]) -> CdnInfo | None:
    aes_key, file_id, md5 = fields.get("aesKey"), fields.get("fileId"), fields.get("md5")
    if not isinstance(aes_key, str) or not _AES_KEY.fullmatch(aes_key):
        return None
    if not isinstance(file_id, str) or not _FILE_ID.fullmatch(file_id) or len(file_id) > MAX_FILE_ID_LENGTH:
        return None
    return CdnInfo(
        aes_key=aes_key.lower(),
        file_id=file_id.lower(),
        length=_size(fields.get("length"), MAX_INT64),
        width=_size(fields.get("width"), MAX_SIDE),
        height=_size(fields.get("height"), MAX_SIDE),
        md5=md5.lower() if isinstance(md5, str) and _AES_KEY.fullmatch(md5) else None,
    )


def _whole(value: Any) -> int | None:  # noqa: ANN401 - any JSON
    """Read an integer, also one written as a string; anything else, or over 64 bits, is None."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if type(value) is not int or not -(2**63) <= value < 2**64:
        return None
    return value


def _identifier(value: Any) -> int | None:  # noqa: ANN401 - any JSON
    return _whole(value) or None


def _size(value: Any, maximum: int) -> int | None:  # noqa: ANN401 - any JSON
    size = _whole(value)
    return size if size is not None and 0 < size <= maximum else None


def _as_text(value: Any) -> str | None:  # noqa: ANN401 - any JSON
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
