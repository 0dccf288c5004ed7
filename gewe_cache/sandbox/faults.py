"""Faults on purpose: what can be made to go wrong with a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

from gewe_cache.sandbox.answers import JSON_TYPE, Answer, Route, failed

Ending = Literal["answer", "reset", "close", "hang", "drip", "cut"]

_FINAL_STATUSES: Final = range(200, 600)
_TOP_NAMES: Final = frozenset({"ret", "msg", "data"})


class Missing(Enum):
    """The type of `Fault.MISSING`."""

    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way in which a call goes wrong. Make it with one of the class methods.

    Attributes:
        kind: its name, as the class method is called.
        delivered: whether the call is processed, and so the message delivered, all the same.
            A call that is refused anyway (its token, its image …) delivers nothing.
        ending: what becomes of the answer.
    """

    kind: str
    delivered: bool
    ending: Ending = "answer"
    own_answer: Answer | None = field(default=None, repr=False)
    data_changes: Mapping[str, object] = field(default_factory=dict, repr=False)
    top_changes: Mapping[str, object] = field(default_factory=dict, repr=False)
    seconds: float = 0.0
    drips_headers: bool = False
    cut_after: int = 0
    holds: Literal["before", "after"] | None = None

    MISSING = Missing.MISSING

    @classmethod
    def refuse(
        cls,
        ret: int = 500,
        msg: str | None = "发送图片失败",
        data: object = Missing.MISSING,
        status: int = 200,
        *,
        delivered: bool = False,
    ) -> Fault:
        """Refuse with this `ret`, `msg` and `data` (left out unless given) under this HTTP status.

        Raises:
            ValueError: `status` is not one of 200…599.
        """
        content: dict[str, object] = {"ret": ret, "msg": msg}
        if data is not Missing.MISSING:
            content["data"] = data
        return cls(kind="refuse", delivered=delivered, own_answer=Answer(content, _checked_status(status)))

    @classmethod
    def answer(cls, body: bytes, status: int = 200, content_type: str = JSON_TYPE, *, delivered: bool = True) -> Fault:
        """Answer these raw bytes: garbage, HTML, nothing, ten megabytes.

        Raises:
            ValueError: `status` is not one of 200…599, or `content_type` holds a line break.
        """
        if not content_type.isascii() or not content_type.isprintable():
            message = "content_type must be printable ASCII"
            raise ValueError(message)
        answer = Answer(bytes(body), _checked_status(status), content_type)
        return cls(kind="answer", delivered=delivered, own_answer=answer)

    @classmethod
    def patch(cls, **fields: object) -> Fault:
        """Deliver, and replace these fields of the answer's `data` (`Fault.MISSING` removes one)."""
        return cls(kind="patch", delivered=True, data_changes=fields)

    @classmethod
    def patch_top(cls, **fields: object) -> Fault:
        """Deliver, and replace `ret`, `msg` or `data` of the answer (`Fault.MISSING` removes one).

        Raises:
            ValueError: another field is named.
        """
        strangers = sorted(fields.keys() - _TOP_NAMES)
        if strangers:
            message = f"patch_top knows ret, msg and data, not {', '.join(strangers)}"
            raise ValueError(message)
        return cls(kind="patch_top", delivered=True, top_changes=fields)

    @classmethod
    def reset(cls, delivered: bool) -> Fault:  # noqa: FBT001 - the sandbox's agreed spelling
        """Reset the connection (TCP RST) without an answer.

        On Windows the client may see an orderly close instead: its event loop shuts the socket down first.
        """
        return cls(kind="reset", delivered=delivered, ending="reset")

    @classmethod
    def close(cls, delivered: bool) -> Fault:  # noqa: FBT001
        """Close the connection in good order, without an answer."""
        return cls(kind="close", delivered=delivered, ending="close")

    @classmethod
    def hang(cls, delivered: bool) -> Fault:  # noqa: FBT001
        """Never answer. It ends when the client goes away, or by `Plan.release`, `heal` or `stop`."""
        return cls(kind="hang", delivered=delivered, ending="hang")

    @classmethod
    def drip(cls, interval: float, delivered: bool, headers: bool) -> Fault:  # noqa: FBT001
        """Send the answer byte by byte, `interval` seconds apart; with `headers` those drip as well.

        Not delivered, what drips is a refusal. `Plan.release` and `heal` send the rest at once.

        Raises:
            ValueError: `interval` is negative.
        """
        return cls(
            kind="drip",
            delivered=delivered,
            ending="drip",
            seconds=_checked_seconds(interval),
            drips_headers=headers,
        )

    @classmethod
    def cut(cls, after: int, delivered: bool = True) -> Fault:  # noqa: FBT001, FBT002
        """Announce the whole answer, send `after` bytes of its body, then close the connection.

        Raises:
            ValueError: `after` is negative.
        """
        if after < 0:
            message = "after must be at least 0 bytes"
            raise ValueError(message)
        return cls(kind="cut", delivered=delivered, ending="cut", cut_after=after)

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """Wait this long, then go on as usual.

        Raises:
            ValueError: `seconds` is negative.
        """
        return cls(kind="slow", delivered=True, seconds=_checked_seconds(seconds))

    @classmethod
    def hold(cls, *, delivered_first: bool = False) -> Fault:
        """Wait until `Plan.release`, then go on as usual.

        With `delivered_first` the message is delivered first and its answer held back.
        """
        return cls(kind="hold", delivered=True, holds="after" if delivered_first else "before")

    def shape(self, route: Route, processed: Answer | None) -> Answer:
        """Return the answer that the client is to get; `processed` is None if nothing was processed."""
        if self.own_answer is not None:
            return self.own_answer
        if processed is None:
            return failed(route)
        if isinstance(processed.content, bytes) or not (self.top_changes or self.data_changes):
            return processed
        content = _patched(processed.content, self.top_changes)
        data = content.get("data")
        if self.data_changes and isinstance(data, Mapping):
            content["data"] = _patched(data, self.data_changes)
        return Answer(content, processed.status, processed.content_type)


def _patched(content: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    merged = {**content, **changes}
    return {name: value for name, value in merged.items() if value is not Missing.MISSING}


def _checked_status(status: int) -> int:
    if status not in _FINAL_STATUSES:
        message = "status must be one of 200…599"
        raise ValueError(message)
    return status


def _checked_seconds(seconds: float) -> float:
    if not 0 <= seconds < float("inf"):
        message = "seconds must be a number of at least 0"
        raise ValueError(message)
    return float(seconds)
