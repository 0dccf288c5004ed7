"""One call to GeWe, in its device's lane: posted, retried while nothing went out, counted, read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

from gewe_cache.errors import DeliveryUnknown, GeweUnreachable
from gewe_cache.gewe.transport import has_proxy
from gewe_cache.gewe.wire import Accepted, Outcome, Refused, Reply, Request, Unknown, Unreached, read_reply
from gewe_cache.image import SentImage
from gewe_cache.log import Log
from gewe_cache.sending.parts import name_of
from gewe_cache.sending.steps import Abandoned, Flow, Pause, Post, Wait
from gewe_cache.settings import utc_now
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from gewe_cache.image import CachedImage, Route
    from gewe_cache.sending.lanes import Ticket
    from gewe_cache.sending.parts import Errand, Parts

_log = Log("gewe_cache.sending")

_LONGEST_WAIT = 1e6


@dataclass(frozen=True, slots=True)
class Answer:
    """GeWe's answer to a call, and how long it took in seconds."""

    outcome: Accepted | Refused
    seconds: float


def enter_lane(parts: Parts, ticket: Ticket, *, is_back: bool = False) -> Flow[None]:
    """Wait for a device's turn, inside a ``try`` at whose end ``parts.lanes.leave`` is the caller's to call.

    ``is_back``: it had its turn, and left the lane for a while.

    Raises:
        GeweUnreachable: too many sends wait already; or the turn has not come though every send before it had the
            time for its calls, so that one of them can only be stuck (its event loop stands still, say).
    """
    turn = parts.lanes.enter(ticket, parts.settings.tuning.lane_queue, is_back=is_back)
    if turn is None:
        return
    patience = min(ticket.ahead * longest_call(parts), _LONGEST_WAIT)
    if not (yield Wait(turn, patience, otherwise=False)):
        msg = (
            f"Nothing was sent: the sends of device {ticket.app_id} before this one have not ended within "
            f"{patience:.0f} s. Is one of them on an event loop that stands still? Send again."
        )
        raise GeweUnreachable(msg)


def longest_call(parts: Parts) -> float:
    """Give the seconds after which a call that has not ended can only have been lost."""
    tries = len(parts.settings.tuning.unreached_pauses) + 1
    return tries * parts.settings.upload_timeout + parts.settings.tuning.flight_grace


def call(parts: Parts, errand: Errand, request: Request) -> Flow[Answer]:
    """Make a call that is accepted or refused.

    Raises:
        GeweUnreachable: no call went out, a few tries later.
        DeliveryUnknown: it may have been sent.
    """
    started_at, began = utc_now(), time.monotonic()
    outcome = yield from _post_until_out(parts, errand, request)
    match outcome:
        case Accepted():
            return Answer(outcome, time.monotonic() - began)
        case Refused():
            parts.counters.count(refusals=1)
            return Answer(outcome, time.monotonic() - began)
        case Unreached(reason):
            proxy = ", the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names" if has_proxy() else ""
            msg = (
                f"GeWe could not be reached at {parts.settings.base_url} ({reason}). Nothing was sent to "
                f"{one_line(errand.to_wxid)}. Check base_url (GEWE_BASE_URL){proxy} and the network, then send again."
            )
            raise GeweUnreachable(msg)
        case Unknown(reason):
            _raise_unknown(parts, errand, request, started_at, reason)


def _post_until_out(parts: Parts, errand: Errand, request: Request) -> Flow[Outcome]:
    settings = parts.settings
    timeout = settings.upload_timeout if request.route == "upload" else settings.forward_timeout
    for pause in settings.tuning.unreached_pauses:
        posted = yield from _post(parts, errand, request, timeout)
        if not isinstance(posted, Unreached):
            return _read(parts, request, posted)
        yield Pause(pause)
    return _read(parts, request, (yield from _post(parts, errand, request, timeout)))


def _read(parts: Parts, request: Request, posted: Reply | Unreached | Unknown) -> Outcome:
    return read_reply(request, posted, parts.settings.token) if isinstance(posted, Reply) else posted


def _post(parts: Parts, errand: Errand, request: Request, timeout: float) -> Flow[Reply | Unreached | Unknown]:
    started_at = utc_now()
    try:
        posted: Reply | Unreached | Unknown = yield Post(request, timeout, errand.guard)
    except Abandoned:
        raise
    except BaseException as interruption:
        _note_unknown(parts, errand, request, started_at, f"interrupted by {type(interruption).__name__}")
        raise
    return posted


def _raise_unknown(parts: Parts, errand: Errand, request: Request, started_at: datetime, reason: str) -> NoReturn:
    _note_unknown(parts, errand, request, started_at, reason)
    raise DeliveryUnknown(errand.to_wxid, errand.app_id, request.route, started_at, reason)


def _note_unknown(parts: Parts, errand: Errand, request: Request, started_at: datetime, reason: str) -> None:
    parts.counters.count(unknowns=1)
    _log.warning(
        "unknown: the %s of %s to %s from device %s, begun %s, ended without a clear answer (%s); not sent again",
        request.route,
        named(errand),
        one_line(errand.to_wxid),
        one_line(errand.app_id),
        started_at.isoformat(timespec="seconds"),
        one_line(reason),
    )


def named(errand: Errand) -> str:
    """Name an errand's image in a log line, without what its URL's query may carry."""
    return name_of(errand.image)


def sent_image(errand: Errand, route: Route, accepted: Accepted, image: CachedImage | None) -> SentImage:
    """Say what was sent."""
    return SentImage(
        to_wxid=errand.to_wxid,
        app_id=errand.app_id,
        route=route,
        msg_id=accepted.msg_id,
        new_msg_id=accepted.new_msg_id,
        create_time=accepted.create_time,
        image=image,
        fell_back=errand.refused is not None,
    )
