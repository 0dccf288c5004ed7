"""``postImage``'s answers as GeWe's clients expect them, whichever route a send took."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gewe_cache.errors import GeweRefused
    from gewe_cache.image import SentImage

_OK = 200
_FIRST_CLIENT_ERROR, _FIRST_SERVER_ERROR = 400, 500


def accepted_answer(sent: SentImage) -> dict[str, Any]:
    """Answer in ``postImage``'s shape, types included.

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
    return {"ret": _OK, "msg": "操作成功", "data": data}


def refused_answer(error: GeweRefused) -> dict[str, Any]:
    """Answer with GeWe's own ``ret``, ``msg`` and ``data``, secrets masked; what it left out is left out."""
    said = {"ret": error.ret, "msg": error.msg, "data": error.data}
    if error.reply is not None and error.reply.body is not None:
        return {name: said[name] for name in json.loads(error.reply.body) if name in said}
    return {name: value for name, value in said.items() if name != "data" or value is not None}


def refused_status(error: GeweRefused) -> int:
    """Give the HTTP status of a refusal; a redirect's is in ``ret`` alone, as nobody is to follow it."""
    if error.reply is not None:
        return error.reply.status
    is_status = error.route is not None and _FIRST_CLIENT_ERROR <= error.ret < _FIRST_SERVER_ERROR
    return error.ret if is_status else _OK


def encode_answer(answer: dict[str, Any]) -> bytes:
    """Write an answer as GeWe writes it."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
