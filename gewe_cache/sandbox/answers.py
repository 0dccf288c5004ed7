"""What GeWe answers, to the letter where its letters are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Route = Literal["upload", "forward"]

JSON_TYPE: Final = "application/json"
_FAILED: Final[Mapping[Route, str]] = {"upload": "发送图片失败", "forward": "转发图片失败"}
_NO_BODY: Final = (204, 304)


@dataclass(slots=True)
class Answer:
    """One HTTP answer: its content (a JSON object, or raw bytes), status and content type."""

    content: Mapping[str, object] | bytes = field(repr=False)
    status: int = 200
    content_type: str = JSON_TYPE

    @property
    def ret(self) -> int | None:
        """The `ret` of a JSON answer; None where there is none."""
        if isinstance(self.content, bytes):
            return None
        ret = self.content.get("ret")
        return ret if isinstance(ret, int) else None

    def encoded(self) -> bytes:
        """Return the body as it goes out."""
        if self.status in _NO_BODY:
            return b""
        if isinstance(self.content, bytes):
            return self.content
        return json.dumps(self.content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")

    def headers(self, body: bytes) -> list[tuple[bytes, bytes]]:
        """Return the HTTP headers for `body`."""
        kind = (b"content-type", self.content_type.encode("latin-1"))
        if self.status in _NO_BODY:
            return [kind]
        return [kind, (b"content-length", b"%d" % len(body))]


def accepted(data: Mapping[str, object]) -> Answer:
    """Return GeWe's answer to a call that succeeded."""
    return Answer({"ret": 200, "msg": "操作成功", "data": data})


def refused(msg: str) -> Answer:
    """Return a refusal that is told in the outer `msg` alone."""
    return Answer({"ret": 500, "msg": msg})


def failed(route: Route) -> Answer:
    """Return the refusal that names only the operation, without any `data`."""
    return refused(_FAILED[route])


def failed_because(route: Route, data: Mapping[str, object]) -> Answer:
    """Return the refusal that names the operation outside and the cause inside `data`."""
    return Answer({"ret": 500, "msg": _FAILED[route], "data": data})


def token_missing(header: str) -> Answer:
    """Return GeWe's words for a missing token."""
    return refused(f"header:{header} 不可为空")


def token_refused(header: str, token: str) -> Answer:
    """Return GeWe's words for a wrong token; like GeWe, they repeat it."""
    return refused(f"HTTP HEADER: {header}={token} 不可用或已过期")


def device_unknown(route: Route, app_id: str) -> Answer:
    """Return GeWe's words for an `app_id` that does not exist."""
    return failed_because(route, {"code": "-1", "msg": f"[{app_id}]设备不存在"})


def not_an_image(detail: str) -> Answer:
    """Return GeWe's words for a file that is no image."""
    return failed_because("upload", {"msg": "图片格式错误", "detail": detail})


def forward_refused(words: str) -> Answer:
    """Return a refusal of the forwarded XML. How GeWe words these is not known."""
    return failed_because("forward", {"code": "-1", "msg": words})
