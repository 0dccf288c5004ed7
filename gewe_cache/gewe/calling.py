"""What every way of posting a call has in common: its limits, the guard before its first byte, how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import httpx

from gewe_cache.gewe.wire import MAX_ANSWER_BYTES, Reply, Unknown, Unreached
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Posted = Reply | Unreached | Unknown
Guard = Callable[[], None]

KEEP_ALIVE = 4.0
"""Seconds; shorter than that of usual servers: a connection that the server closes at the very moment of a send
makes its outcome unknown."""

_CONNECT_SHARE = 0.4
_MAX_CONNECT_SECONDS = 10.0
_DECODED_AT_ONCE = 1024
_HTTP_MODULES = frozenset({"httpx", "httpx2", "httpcore"})
_BEFORE_THE_CALL = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "ProxyError",
    }
)
# httpx-aiohttp calls a connection that was lost under way a ConnectTimeout too: there, aiohttp's own error tells.
_BEFORE_THE_CALL_OF_AIOHTTP = frozenset(
    {"ClientConnectorError", "ConnectionTimeoutError", "ClientHttpProxyError", "InvalidURL"}
)
# As httpcore tells it to a request's "trace" extension.
_BEFORE_THE_FIRST_BYTE = "send_request_headers.started"


def connect_seconds(timeout: float) -> float:
    """Give the share of a call's seconds that a connection may take, so that another may be tried."""
    return min(_MAX_CONNECT_SECONDS, timeout * _CONNECT_SHARE)


def time_limits(timeout: float) -> dict[str, Any]:
    """Give httpx's limits of one call of ``timeout`` seconds."""
    connect = connect_seconds(timeout)
    return {"timeout": {"connect": connect, "pool": connect, "read": timeout, "write": timeout}}


class Watch:
    """Sees a call's first byte come, as httpcore tells its "trace" extension; that of a proxy's CONNECT is not it."""

    def __init__(self, guard: Guard | None = None) -> None:
        """Ask ``guard`` right before: connecting may have taken a while. What it raises stops the call."""
        self._guard = guard
        self.has_begun = False

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear of an event of a call."""
        if not event.endswith(_BEFORE_THE_FIRST_BYTE) or info["request"].method == b"CONNECT":
            return
        if self._guard is not None:
            self._guard()
        self.has_begun = True

    async def trace_async(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear of an event on the async side."""
        self.trace(event, info)


def reply_of(status: int, headers: list[tuple[bytes, bytes]], raw: bytes) -> Reply:
    """Make a reply of an answer's bytes; they are decoded where a server compresses though nobody had asked it to.

    Raises:
        httpx.DecodingError: they are not what the headers say.
    """
    named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    if "content-encoding" not in named:
        return Reply(status, raw, named)
    pieces = (raw[at : at + _DECODED_AT_ONCE] for at in range(0, len(raw), _DECODED_AT_ONCE))
    return Reply(status, whole(httpx.Response(status, headers=headers, content=pieces).iter_bytes()), named)


def whole(chunks: Iterable[bytes]) -> bytes | None:
    """Put a body together; None where it is longer than ``MAX_ANSWER_BYTES``."""
    received = bytearray()
    for chunk in chunks:
        received += chunk
        if len(received) > MAX_ANSWER_BYTES:
            return None
    return bytes(received)


def has_left_over(connection: Any) -> bool:  # noqa: ANN401 - httpcore has many kinds, one in another
    """Tell whether something came after an idle connection's last answer: the next call would read it as its own.

    httpcore tells nobody; where a later one keeps it elsewhere, no connection is used twice.
    """
    try:
        while not hasattr(connection, "_h11_state"):
            connection = connection._connection  # noqa: SLF001
        left_over, is_ended = connection._h11_state.trailing_data  # noqa: SLF001
    except (AttributeError, TypeError, ValueError):
        return True
    return bool(left_over or is_ended)


def outcome_of(error: Exception, timeout: float, *, has_begun: bool = False) -> Unreached | Unknown:
    """Tell whether a call that failed had gone out; ``timeout`` in seconds, for the words.

    ``has_begun``: its first byte is known to have come; what was raised after that, such as by a hook of the client's,
    is about something else.
    """
    reason = f"{type(error).__name__}: {one_line(error)}" if str(error) else type(error).__name__
    if _is_before_the_call(error) and not has_begun:
        return Unreached(reason)
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return Unknown(f"no whole answer within {timeout:g} s")
    return Unknown(reason)


def _is_before_the_call(error: Exception) -> bool:
    of_aiohttp = next((each for each in (error, error.__cause__) if _comes_from(type(each), {"aiohttp"})), None)
    if of_aiohttp is not None:
        return any(kind.__name__ in _BEFORE_THE_CALL_OF_AIOHTTP for kind in type(of_aiohttp).__mro__)
    return any(kind.__name__ in _BEFORE_THE_CALL and _comes_from(kind, _HTTP_MODULES) for kind in type(error).__mro__)


def _comes_from(kind: type, packages: Collection[str]) -> bool:
    return kind.__module__.partition(".")[0] in packages
