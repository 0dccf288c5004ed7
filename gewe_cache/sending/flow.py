"""What a send does: the decision, without I/O.

Reads top to bottom like plain code and yields what is to be done (``steps.py``). The rules it keeps, here
and in ``calls``, ``single_flight`` and ``upload``:

* A lane is held only around one call to GeWe. Nobody waits for a flight while holding a lane.
* After GeWe has accepted a message no ``Exception`` is raised: a failing store costs the entry only.
* After an unknown outcome nothing is sent again.
* Whoever begins a flight ends it, and whoever enters a lane leaves it, also when a step raises or Ctrl-C comes
  between two lines.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from gewe_cache.errors import (
    DeviceUnavailable,
    GeweRefused,
    InvalidXml,
    RecipientUnavailable,
    TokenRefused,
    TooFast,
)
from gewe_cache.gewe.image_xml import build_image_xml, read_image_xml
from gewe_cache.gewe.wire import Accepted, Refused, forward_request
from gewe_cache.image import CachedImage, Image, SentImage
from gewe_cache.keys import Key
from gewe_cache.log import Log
from gewe_cache.sending.calls import call, enter_lane, named, sent_image
from gewe_cache.sending.lanes import Ticket
from gewe_cache.sending.parts import Errand, Parts
from gewe_cache.sending.single_flight import upload_once
from gewe_cache.sending.steps import Abandoned, Ask, Demand, Flow
from gewe_cache.settings import utc_now
from gewe_cache.store import entries, leases
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from gewe_cache.gewe.transport import Guard
    from gewe_cache.gewe.wire import CdnInfo

_log = Log("gewe_cache.sending")

_NO_FALL_BACK = (TokenRefused, DeviceUnavailable, RecipientUnavailable, TooFast)


def send(
    parts: Parts, app_id: str, to_wxid: str, image: Image, *, refresh: bool = False, guard: Guard | None = None
) -> Flow[SentImage]:
    """Send an image: forward it where it is known, else upload it."""
    errand = Errand(app_id, to_wxid, image, parts.key_of(image), guard=guard)
    if refresh:
        errand.asked_at = yield Ask(leases.read_clock, utc_now(), "clock", about=errand)
        entry = None
    else:
        entry = yield from parts.find(errand.key, errand=errand)
    while True:
        if entry is not None:
            answer = yield from _forward(parts, errand, entry)
            if isinstance(answer, SentImage):
                return answer
            if errand.refused is not None or isinstance(answer, _NO_FALL_BACK):
                raise answer
            errand.refused = entry, answer
        try:
            brought = yield from upload_once(parts, errand)
        except Abandoned:
            _note_refused_without_caller(errand)
            raise
        if isinstance(brought, SentImage):
            return brought
        entry = brought


def lookup(parts: Parts, image: Image) -> Flow[CachedImage | None]:
    """Give the fresh entry of an image."""
    return (yield from parts.find(parts.key_of(image)))


def remember(parts: Parts, xml: str, image: Image | None, uploaded_at: datetime | None) -> Flow[CachedImage]:
    """Learn an entry from a received message's XML."""
    cdn = read_image_xml(xml)
    moment = utc_now() if uploaded_at is None else _checked_time(uploaded_at, parts)
    entry = parts.entry_of(cdn, moment, moment)
    known_keys = _keys_to_remember(parts, image, cdn)
    url = None if image is None else image.url
    save = partial(entries.save, image=entry, scope=parts.settings.scope, url=url, known_keys=known_keys)
    entry_id: int = yield Demand(save, write=True)
    saved = replace(entry, entry_id=entry_id)
    for key in known_keys:
        parts.front.put(key.digest, saved)
    return saved


def forget(parts: Parts, image: Image) -> Flow[bool]:
    """Remove an image's entry and all its keys."""
    digest = parts.key_of(image).digest
    entry_id: int | None = yield Demand(partial(entries.forget, digest=digest), write=True)
    return parts.front.drop(digest, entry_id) or entry_id is not None


def _forward(parts: Parts, errand: Errand, entry: CachedImage) -> Flow[SentImage | GeweRefused]:
    request = forward_request(errand.app_id, errand.to_wxid, build_image_xml(entry), entry.aes_key)
    ticket = Ticket(errand.app_id)
    try:
        yield from enter_lane(parts, ticket)
        answer = yield from call(parts, errand, request)
    finally:
        try:
            parts.lanes.leave(ticket)
        except BaseException:  # Ctrl-C at this very moment
            parts.lanes.leave(ticket)
            raise
    if isinstance(answer.outcome, Refused):
        return answer.outcome.error
    return _forwarded(parts, errand, entry, answer.outcome, answer.seconds)


def _forwarded(parts: Parts, errand: Errand, entry: CachedImage, accepted: Accepted, seconds: float) -> SentImage:
    try:
        parts.counters.count_forward(entry, seconds)
    except Exception:  # noqa: BLE001 - the message is sent, whatever becomes of the count
        _log.exception("%s was sent to %s, but could not be counted", named(errand), one_line(errand.to_wxid))
    return sent_image(errand, "forward", accepted, entry)


def _note_refused_without_caller(errand: Errand) -> None:
    if errand.refused is None:
        return
    _, error = errand.refused
    _log.warning(
        "a send whose caller has left was refused: forward to %s from device %s (ret %s: %s); nothing was sent",
        one_line(errand.to_wxid),
        one_line(errand.app_id),
        error.ret,
        error.words,
    )


def _checked_time(uploaded_at: datetime, parts: Parts) -> datetime:
    """Refuse a time that could not be stored, or would be read back as another moment."""
    try:
        is_aware = uploaded_at.tzinfo is not None
        moment = uploaded_at.astimezone(UTC)
        is_usable = is_aware and moment + parts.settings.ttl > moment
    except (AttributeError, TypeError, OverflowError):
        is_usable = False
    if not is_usable:
        msg = "uploaded_at: pass an aware datetime, such as datetime.now(UTC). Nothing was kept."
        raise ValueError(msg)
    return moment


def _keys_to_remember(parts: Parts, image: Image | None, cdn: CdnInfo) -> tuple[Key, ...]:
    if image is not None:
        return parts.keys_of(image, cdn.md5)
    if cdn.md5 is None:
        msg = "The XML carries no md5 by which to find the image again: pass image= (its URL or md5) as well."
        raise InvalidXml(msg)
    return parts.keys_of(Image(md5=cdn.md5), None)
