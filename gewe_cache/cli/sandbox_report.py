"""What ``gewe-cache sandbox`` prints: how to reach it, and a line for each call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies

from rich.text import Text

from gewe_cache.cli.output import console, print_json, printable
from gewe_cache.settings import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gewe_cache.sandbox import Call, Delivery, Sandbox

_RECIPIENT: Final = "wxid_friend"
_DATABASE: Final = "sqlite:///gewe-sandbox.db"
_IMITATION: Final = "An imitation of GeWe's image calls. Nothing here reaches WeChat."
_ROUTE_STYLES: Final = {"upload": "yellow", "forward": "green"}
_MAX_NAME: Final = 40
_MAX_URL: Final = 200


@dataclass(frozen=True, slots=True)
class Seen:
    """A call whose processing has ended, when that was noticed, and what it delivered."""

    call: Call
    delivery: Delivery | None
    noticed_at: datetime

    @property
    def seconds(self) -> float:
        """How long the call was processed."""
        return (self.call.ended_at or self.call.started_at) - self.call.started_at

    @property
    def outcome(self) -> str:
        """What became of it."""
        if self.call.delivered:
            said = "delivered"
        elif self.call.ret is None:
            said = "not delivered"
        else:
            said = f"refused, ret {self.call.ret}"
        return said if self.call.fault is None else f"{said} (fault: {self.call.fault})"


class CallWatch:
    """Tells each call of a sandbox once, when its processing has ended."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Begin with the calls that arrive from now on."""
        self._sandbox = sandbox
        self._last_number = 0
        self._under_way: set[int] = set()

    def finished(self) -> list[Seen]:
        """Give what has ended since the last time, in order of arrival."""
        ended = [call for call in self._untold() if call.ended_at is not None]
        if not ended:
            return []
        deliveries = {each.number: each for each in self._sandbox.deliveries}
        now = utc_now()
        return [Seen(call, deliveries.get(call.number), now) for call in ended]

    def _untold(self) -> list[Call]:
        first = min(self._under_way, default=self._last_number + 1)
        recent = list(takewhile(lambda call: call.number >= first, reversed(self._sandbox.calls)))[::-1]
        untold = [call for call in recent if call.number > self._last_number or call.number in self._under_way]
        self._last_number = max([self._last_number, *(call.number for call in recent)])
        self._under_way = {call.number for call in untold if call.ended_at is None}
        return untold


def print_ready(sandbox: Sandbox, image_url: str) -> None:
    """Say where the sandbox is, what it is not, and how to try it."""
    out = console()
    out.print(Text("The sandbox is an imitation, not GeWe: nothing here reaches WeChat.", style="bold"))
    for line in _ready_lines(sandbox, image_url):
        out.print(Text(line), soft_wrap=True)


def print_ready_as_json(sandbox: Sandbox, image_url: str) -> None:
    """Say the same in one JSON line."""
    print_json(
        {
            "event": "ready",
            "what": _IMITATION,
            "base_url": sandbox.base_url,
            "token": sandbox.token,
            "token_header": sandbox.token_header,
            "app_id": sandbox.app_id,
            "image_url": image_url,
            "control_url": sandbox.url + "/sandbox/",
        }
    )


def print_call(seen: Seen) -> None:
    """Print a call in one line; one that delivered nothing stands out."""
    call, delivery = seen.call, seen.delivery
    route_style = _ROUTE_STYLES[call.route] if call.delivered else "red"
    image = "" if delivery is None else f"  md5 {delivery.md5[:8]}"
    url = "" if call.img_url is None else f"  {printable(call.img_url, _MAX_URL)}"
    line = Text.assemble(
        (f"{seen.noticed_at.astimezone():%H:%M:%S}  ", "dim"),
        (f"{call.route:<8}", route_style),
        (seen.outcome, "" if call.delivered else "red"),
        f"  {seen.seconds:.2f} s  {_name(call.app_id)} -> {_name(call.to_wxid)}",
        (image + url, "dim"),
    )
    console().print(line, soft_wrap=True)


def print_call_as_json(seen: Seen) -> None:
    """Print a call as one JSON line."""
    call, delivery = seen.call, seen.delivery
    print_json(
        {
            "event": "call",
            "time": seen.noticed_at,
            "number": call.number,
            "route": call.route,
            "app_id": call.app_id,
            "to_wxid": call.to_wxid,
            "img_url": call.img_url,
            "token_ok": call.token_ok,
            "delivered": call.delivered,
            "ret": call.ret,
            "fault": call.fault,
            "seconds": round(seen.seconds, 6),
            "md5": None if delivery is None else delivery.md5,
            "new_msg_id": None if delivery is None else delivery.new_msg_id,
        }
    )


def print_end(sandbox: Sandbox) -> None:
    """Say that it is over, and what was delivered."""
    routes = f"{len(sandbox.uploads)} by upload, {len(sandbox.forwards)} by forward"
    console().print(Text(f"Stopped. Delivered: {routes}; duplicates: {len(sandbox.duplicates())}."))


def _name(value: str | None) -> str:
    return "?" if value is None else printable(value, _MAX_NAME)


def _ready_lines(sandbox: Sandbox, image_url: str) -> Iterator[str]:
    settings = {
        "GEWE_BASE_URL": sandbox.base_url,
        "GEWE_TOKEN": sandbox.token,
        "GEWE_APP_ID": sandbox.app_id,
        "GEWE_CACHE_DATABASE": _DATABASE,
    }
    if getproxies().keys() - {"no"}:
        settings["NO_PROXY"] = "127.0.0.1"
    send = f"  gewe-cache send {image_url} {_RECIPIENT}"
    yield ""
    yield f"  base URL  {sandbox.base_url}"
    yield f"  token     {sandbox.token}  (header {sandbox.token_header})"
    yield f"  app id    {sandbox.app_id}  (any that begins with wx_sandbox)"
    yield f"  image     {image_url}"
    yield f"  control   {sandbox.url}/sandbox/  (deliveries; faults on purpose)"
    yield ""
    yield "Try it in another terminal, the last line twice: an upload, then a forward."
    yield ""
    yield "POSIX shell:"
    yield from (f"  export {name}={value}" for name, value in settings.items())
    yield send
    yield ""
    yield "PowerShell:"
    yield from (f'  $env:{name} = "{value}"' for name, value in settings.items())
    yield send
    yield ""
    yield "curl:"
    yield f"  curl {sandbox.base_url}/message/postImage \\"
    yield f"    -H '{sandbox.token_header}: {sandbox.token}' \\"
    yield "    -H 'Content-Type: application/json' \\"
    yield f'    -d \'{{"appId": "{sandbox.app_id}", "toWxid": "{_RECIPIENT}",'
    yield f'         "imgUrl": "{image_url}"}}\''
    yield ""
    yield "A line for each call follows. Ctrl-C ends the sandbox."
    yield ""
