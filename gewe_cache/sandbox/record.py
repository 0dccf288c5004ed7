"""What arrived at the sandbox and what it delivered, kept in memory and safe to read from any thread."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from gewe_cache.sandbox.answers import Route

MAX_KEPT: Final = 1_000_000
"""Calls and deliveries that a record keeps, each; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message that really reached the (imagined) phone.

    Attributes:
        number: the number of the call that delivered it.
        app_id: the device it was sent from.
        to_wxid: who got it.
        route: "upload" or "forward".
        img_url: where the image was downloaded from; None on a forward.
        md5: of the delivered content, 32 lower-case hex digits.
        file_id: the CDN's name for the content.
        new_msg_id: the message's id, unique in a sandbox.
        started_at: when the call arrived, in seconds of the server's `time.monotonic()`.
        ended_at: when the message was delivered, on the same clock.
    """

    number: int
    app_id: str
    to_wxid: str
    route: Route
    img_url: str | None
    md5: str
    file_id: str
    new_msg_id: int
    started_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class Call:
    """One call that arrived, whatever became of it.

    Attributes:
        number: 1, 2, 3 … in order of arrival; `Sandbox.clear` does not start again at 1.
        route: "upload" or "forward".
        app_id: the device as the call named it; None if it named none.
        to_wxid: the recipient as the call named it; None if it named none.
        img_url: the image's URL as the call gave it; None on a forward.
        token_ok: whether the call carried an accepted token.
        started_at: when its body had arrived, in seconds of the server's `time.monotonic()`.
        ended_at: when its processing ended, before the answer went out; None while it is under way.
            A hang, drip, reset or close is what becomes of the answer and is not counted as processing.
        delivered: whether a message was delivered, also where the answer says otherwise.
        ret: the `ret` of the answer; None if there was no answer or none in it.
        fault: the kind of the fault it suffered, or None.
    """

    number: int
    route: Route
    app_id: str | None
    to_wxid: str | None
    img_url: str | None
    token_ok: bool
    started_at: float
    ended_at: float | None = None
    delivered: bool = False
    ret: int | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same content delivered to the same recipient more than once."""

    to_wxid: str
    md5: str
    deliveries: tuple[Delivery, ...]


class Record:
    """The calls and deliveries of one sandbox."""

    def __init__(self) -> None:
        """Make an empty record."""
        self._lock = threading.Lock()
        self._last_number = 0
        self._calls: OrderedDict[int, Call] = OrderedDict()
        self._deliveries: deque[Delivery] = deque(maxlen=MAX_KEPT)

    def begin(
        self,
        *,
        route: Route,
        app_id: str | None,
        to_wxid: str | None,
        img_url: str | None,
        token_ok: bool,
    ) -> Call:
        """Note a call that has arrived."""
        with self._lock:
            self._last_number += 1
            number = self._last_number
            call = Call(number, route, app_id, to_wxid, img_url, token_ok, time.monotonic())
            self._calls[number] = call
            if len(self._calls) > MAX_KEPT:
                self._calls.popitem(last=False)
        return call

    def deliver(self, call: Call, *, md5: str, file_id: str, new_msg_id: int) -> None:
        """Note that `call` delivered a message just now."""
        delivery = Delivery(
            number=call.number,
            app_id=call.app_id or "",
            to_wxid=call.to_wxid or "",
            route=call.route,
            img_url=call.img_url,
            md5=md5,
            file_id=file_id,
            new_msg_id=new_msg_id,
            started_at=call.started_at,
            ended_at=time.monotonic(),
        )
        with self._lock:
            self._deliveries.append(delivery)
            self._update(call.number, delivered=True)

    def end(self, call: Call, *, ret: int | None, fault: str | None) -> None:
        """Note that the processing of `call` has ended."""
        with self._lock:
            self._update(call.number, ended_at=time.monotonic(), ret=ret, fault=fault)

    def _update(self, number: int, **changes: object) -> None:
        # A call that `clear` has forgotten meanwhile stays forgotten.
        known = self._calls.get(number)
        if known is not None:
            self._calls[number] = replace(known, **changes)  # type: ignore[arg-type]

    def clear(self) -> None:
        """Forget all calls and deliveries."""
        with self._lock:
            self._calls.clear()
            self._deliveries.clear()

    def calls(self) -> list[Call]:
        """Return the calls in order of arrival."""
        with self._lock:
            return list(self._calls.values())

    def deliveries(self) -> list[Delivery]:
        """Return the deliveries in order of delivery."""
        with self._lock:
            return list(self._deliveries)


def overlapping(calls: Iterable[Call]) -> list[tuple[Call, Call]]:
    """Return the pairs of calls of one `app_id` whose processing overlapped, the earlier first."""
    pairs: list[tuple[Call, Call]] = []
    under_way: defaultdict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda each: (each.started_at, each.number)):
        if call.app_id is None:
            continue
        still = [other for other in under_way[call.app_id] if _runs_beyond(other, call.started_at)]
        pairs.extend((other, call) for other in still)
        under_way[call.app_id] = [*still, call]
    return pairs


def _runs_beyond(call: Call, moment: float) -> bool:
    return call.ended_at is None or call.ended_at > moment


def duplicated(deliveries: Iterable[Delivery]) -> list[Duplicate]:
    """Return what was delivered to one recipient more than once."""
    groups: defaultdict[tuple[str, str], list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        groups[delivery.to_wxid, delivery.md5].append(delivery)
    return [Duplicate(to_wxid, md5, tuple(group)) for (to_wxid, md5), group in groups.items() if len(group) > 1]
