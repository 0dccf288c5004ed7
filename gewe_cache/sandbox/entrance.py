"""What GeWe checks before it does anything: token, body, required fields, device."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Final

from gewe_cache.sandbox import answers
from gewe_cache.sandbox.answers import Answer, Route

_TEXT_FIELD: Final[dict[Route, str]] = {"upload": "imgUrl", "forward": "xml"}
_DEVICE_PREFIX: Final = "wx_sandbox"


@dataclass(frozen=True, slots=True)
class Request:
    """A call's body as far as it can be read: `text` is its `imgUrl` or `xml`."""

    app_id: str | None = None
    to_wxid: str | None = None
    text: str | None = field(default=None, repr=False)
    problem: str | None = None


def read_request(route: Route, body: bytes | None) -> Request:
    """Read the body of a call; None stands for one that was too long."""
    if body is None:
        return Request(problem="请求体过大")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return Request(problem="请求体不是合法的JSON")
    if not isinstance(fields, dict):
        return Request(problem="请求体不是JSON对象")
    values = [fields.get(name) for name in ("appId", "toWxid", _TEXT_FIELD[route])]
    app_id, to_wxid, text = map(_text, values)
    return Request(app_id, to_wxid, text, _field_problem(route, values))


def _field_problem(route: Route, values: list[object]) -> str | None:
    for name, value in zip(("appId", "toWxid", _TEXT_FIELD[route]), values, strict=True):
        if value is None or value == "":
            return f"{name}不可为空"
        if _text(value) is None:
            return f"{name}类型错误"
    return None


def _text(value: object) -> str | None:
    """Return `value` if it is text that can be written down: half a surrogate pair cannot."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


class Entrance:
    """Knows the tokens and devices that exist. Safe to use from any thread."""

    def __init__(self, token: str, token_header: str, *, any_token: bool) -> None:
        """Accept `token` (with `any_token` every non-empty one) in the header `token_header`."""
        self.header = token_header
        self.header_key: Final = token_header.lower().encode("latin-1")
        self._any_token = any_token
        self._lock = threading.Lock()
        self._tokens = frozenset({token})
        self._devices: frozenset[str] = frozenset()

    def add_tokens(self, tokens: tuple[str, ...]) -> None:
        """Accept these tokens too."""
        with self._lock:
            self._tokens |= frozenset(tokens)

    def add_device(self, app_id: str) -> None:
        """Let this device exist."""
        with self._lock:
            self._devices |= {app_id}

    def knows_token(self, token: str) -> bool:
        """Tell whether a call with this token is let in."""
        return bool(token) and (self._any_token or token in self._tokens)

    def refusal(self, route: Route, token: str, request: Request) -> Answer | None:
        """Return why a call is turned away; None if it may come in."""
        if not token:
            return answers.token_missing(self.header)
        if not self.knows_token(token):
            return answers.token_refused(self.header, token)
        if request.problem is not None:
            return answers.refused(request.problem)
        app_id = request.app_id or ""
        if not app_id.startswith(_DEVICE_PREFIX) and app_id not in self._devices:
            return answers.device_unknown(route, app_id)
        return None
