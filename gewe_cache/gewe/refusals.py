"""Which error a refusal is: the table of answers that are not success, as data.

The rows are those seen in public logs and clients. What no row names stays a plain ``GeweRefused`` that
carries GeWe's words.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gewe_cache.errors import (
    DeviceUnavailable,
    GeweRefused,
    ImageRefused,
    RecipientUnavailable,
    TokenRefused,
    TooFast,
)

if TYPE_CHECKING:
    from gewe_cache.image import Route

TIME_OUT_STATUSES = frozenset({408, 504})

_TIME_OUT_WORDS = re.compile(r"超时|time[\s_-]?out|timed[\s_-]?out|deadline", re.IGNORECASE)
_UPLOAD_FAILED = "发送图片失败"


@dataclass(frozen=True, slots=True)
class _Row:
    """One row: a refusal is this error when its words match, or it carries this code."""

    error: type[GeweRefused]
    words: re.Pattern[str] | None = None
    ret: int | None = None
    code: str | None = None
    chat: str = "any"

    def fits(self, ret: int, words: str, code: str | None, chat: str) -> bool:
        """Tell whether an answer is of this row."""
        if self.chat not in {"any", chat}:
            return False
        if self.ret is not None and ret == self.ret:
            return True
        if self.code is not None and code == self.code:
            return True
        return self.words is not None and self.words.search(words) is not None


def _said(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_TABLE = (
    _Row(TokenRefused, words=_said(r"header\s*[:\uff1a].*(不可用|已过期|不可为空)|认证失败"), ret=401),
    _Row(DeviceUnavailable, words=_said(r"设备不存在|微信已离线")),
    _Row(TooFast, words=_said(r"频率过快|过于频繁"), ret=429),
    _Row(RecipientUnavailable, code="-219"),
    _Row(RecipientUnavailable, code="-104"),
    _Row(RecipientUnavailable, code="-2", chat="private"),
    _Row(ImageRefused, words=_said(r"图片格式错误|MalformedURLException|no protocol|imgUrl\s*不可为空")),
)


def refusal(route: Route, to_wxid: str, ret: int, msg: str | None, data: Any) -> GeweRefused:  # noqa: ANN401 - any JSON
    """Give the typed error of a refusal."""
    error = _kind(route, to_wxid, ret, msg, data)(ret, msg, data)
    error.route = route
    return error


def _kind(route: Route, to_wxid: str, ret: int, msg: str | None, data: Any) -> type[GeweRefused]:  # noqa: ANN401
    words = all_words(msg, data)
    chat = "group" if to_wxid.endswith("@chatroom") else "private"
    for row in _TABLE:
        if row.fits(ret, words, _code(data), chat):
            return row.error
    if route == "upload" and msg == _UPLOAD_FAILED and not data:
        return ImageRefused
    return GeweRefused


def tells_of_time_out(words: str) -> bool:
    """Tell whether a refusal's words mean that GeWe stopped waiting: then the message may have been sent."""
    return _TIME_OUT_WORDS.search(words) is not None


def all_words(msg: str | None, data: Any) -> str:  # noqa: ANN401 - any JSON
    """Give everything that an answer says as one text."""
    return f"{msg or ''} {'' if data is None else json.dumps(data, ensure_ascii=False)}"


def _code(data: Any) -> str | None:  # noqa: ANN401 - any JSON
    code = data.get("code") if isinstance(data, dict) else None
    return None if code is None else str(code)
