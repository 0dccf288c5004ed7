"""What the proxy answers by itself. Every answer is GeWe's JSON: ``ret``, ``msg`` and, where there is some, ``data``.

502, 503 and 504 are sent again by much of the world's middleware. So 503 is used where nothing was sent, and a
send that may have arrived is answered with HTTP 200 and ``ret`` 504.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gewe_cache.errors import GeweRefused
    from gewe_cache.image import SentImage

_FIRST_CLIENT_ERROR, _FIRST_SERVER_ERROR = 400, 500
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, ready to go out; ``cache`` is the value of its ``X-Gewe-Cache``."""

    status: int
    body: bytes = field(repr=False)
    cache: str = ""
    closes: bool = False

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Give its headers."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self.body))]
        if self.cache:
            headers.append((b"x-gewe-cache", self.cache.encode("ascii")))
        if self.closes:
            headers.append((b"connection", b"close"))
        return headers


def accepted(sent: SentImage) -> Answer:
    """Answer in ``postImage``'s shape, types included, whichever route was taken.

    Where a value is not known it is ``""`` or 0, as GeWe's own sample has it for ``createTime``: a client that
    checks types must not take a message that was sent for a failure.
    """
    image = sent.image
    data = {
        "toWxid": sent.to_wxid,
        "createTime": sent.create_time or 0,
        "msgId": sent.msg_id or 0,
        "newMsgId": sent.new_msg_id or 0,
        "type": None,
        "aesKey": "" if image is None else image.aes_key,
        "fileId": "" if image is None else image.file_id,
        "length": (image and image.length) or 0,
        "width": (image and image.width) or 0,
        "height": (image and image.height) or 0,
        "md5": (image and image.md5) or "",
    }
    body = _encode({"ret": 200, "msg": "操作成功", "data": data})
    return Answer(200, body, "fell-back" if sent.fell_back else sent.route)


def refused(error: GeweRefused) -> Answer:
    """Answer as GeWe did, byte for byte where its answer was JSON and our own call's.

    Without JSON its HTTP status is all that it said; a redirect's goes out in ``ret`` alone, as nobody is to
    follow it. A refusal learnt from another process has its secrets masked.
    """
    cache = error.route or ""
    if error.reply is not None and error.reply.body is not None:
        return Answer(error.reply.status, error.reply.body, cache)
    content = {"ret": error.ret, "msg": error.msg, **({} if error.data is None else {"data": error.data})}
    is_status = error.route is not None and _FIRST_CLIENT_ERROR <= error.ret < _FIRST_SERVER_ERROR
    return Answer(error.ret if is_status else 200, _encode(content), cache)


def unreached(why: str, cache: str = "") -> Answer:
    """Say that nothing was sent, so that it may be sent again."""
    return Answer(503, _encode({"ret": 503, "msg": why}), cache)


def unknown(why: str, cache: str = "") -> Answer:
    """Say that a message may have been sent, in a way that no middleware sends again."""
    return Answer(200, _encode({"ret": 504, "msg": why}), cache)


def no_answer(method: str, why: str, cache: str = "") -> Answer:
    """Say that a request passed on came to no answer; one that changes nothing may well be sent again."""
    if method in _SAFE_METHODS:
        return Answer(504, _encode({"ret": 504, "msg": why}), cache)
    return unknown(why, cache)


def bad_request(status: int, why: str, *, closes: bool = True) -> Answer:
    """Turn a request away; nothing was sent."""
    return Answer(status, _encode({"ret": status, "msg": f"{why} Nothing was sent."}), closes=closes)


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
