"""Uploads in single flight among threads, tasks and processes.

Who wants an image that is not there waits for the flight that brings it, or enters its lane and leads one.
A leader holds its lane, then the flight of this process, then the lease in the database, and waits for none
of them but the lane; where another process holds the lease, it leaves the lane and follows that one instead.
While a local image is published for it, it leaves the lane as well.
"""

from __future__ import annotations

import hashlib
import math
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from gewe_cache.errors import GeweUnreachable, ImageRefused, TokenRefused
from gewe_cache.image import CachedImage, SentImage
from gewe_cache.sending.calls import enter_lane, longest_call
from gewe_cache.sending.flight import Ending, Failures, Flight
from gewe_cache.sending.lanes import Ticket
from gewe_cache.sending.parts import AWAY
from gewe_cache.sending.steps import Ask, Flow, Pause, Wait
from gewe_cache.sending.upload import Upload
from gewe_cache.settings import utc_now
from gewe_cache.store import leases
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gewe_cache.sending.parts import Errand, Parts
    from gewe_cache.store.leases import Lease

_TRIES_OF_OTHERS = 2


def upload_once(parts: Parts, errand: Errand) -> Flow[SentImage | CachedImage]:
    """Send by uploading, or give the entry that another upload has brought meanwhile.

    Raises:
        GeweRefused: the upload was refused, or one that this send waited for was, for all.
        GeweUnreachable: nothing was sent for this errand.
        DeliveryUnknown: this errand's own upload may have been sent.
        InvalidImage: there is nothing to upload from.
    """
    digest, url, lost = errand.key.digest, errand.image.url, 0
    before = parts.flights.failures(digest, url).number
    if errand.refused is not None:
        newer = yield from _find_serving(parts, errand)
        if newer is not None:
            return newer
    while True:
        seen = parts.flights.failures(digest, url).number
        waiter = parts.flights.watch(digest)
        result: SentImage | CachedImage | Ending | None
        if waiter is not None:
            result = yield Wait(waiter, longest_call(parts))
        else:
            result = yield from _lead_or_follow(parts, errand, seen)
        if result is None:
            lost += 1
        elif not isinstance(result, Ending):
            return result
        elif result.entry is not None and errand.is_served_by(result.entry) and parts.is_fresh(result.entry):
            return result.entry
        elif waiter is None and result.kind == "landed":
            landed = yield from _find_serving(parts, errand)
            if landed is not None:
                return landed
        _raise_shared(errand, parts.flights.failures(digest, url), before, lost)


def _raise_shared(errand: Errand, failures: Failures, before: int, lost: int) -> None:
    """Raise what is shared by all, or that enough others have failed since there were ``before`` failures."""
    number, refusal = failures.number - before, failures.last.refusal
    if number > 0 and refusal is not None:
        raise refusal.again()
    if number + lost >= _TRIES_OF_OTHERS:
        reason = failures.last.reason if number > 0 else "it never ended"
        msg = (
            f"Nothing was sent to {one_line(errand.to_wxid)}: it waited for two uploads of the same image by "
            f"others, and both failed, the last one so: {reason}. Send again."
        )
        raise GeweUnreachable(msg)


def _find_serving(parts: Parts, errand: Errand) -> Flow[CachedImage | None]:
    entry = yield from parts.find(errand.key, ask_database=True, errand=errand)
    return entry if entry is not None and errand.is_served_by(entry) else None


def _find_in_memory(parts: Parts, errand: Errand) -> CachedImage | None:
    """Look for what a flight has brought while this send queued for its lane."""
    held = parts.front.get(errand.key.digest)
    if held is None or not parts.front.is_trusted(held):
        return None
    return held.entry if errand.is_served_by(held.entry) and parts.is_fresh(held.entry) else None


def _lead_or_follow(parts: Parts, errand: Errand, seen: int) -> Flow[SentImage | CachedImage | Ending]:
    ticket, flight = Ticket(errand.app_id), Flight(errand.key.digest)
    try:
        return (yield from _fly(parts, errand, ticket, flight, seen))
    finally:
        try:
            yield from _let_go(parts, errand, ticket, flight)
        except BaseException:  # Ctrl-C at this very moment; to let go twice does no harm
            yield from _let_go(parts, errand, ticket, flight)
            raise


def _let_go(parts: Parts, errand: Errand, ticket: Ticket, flight: Flight) -> Flow[None]:
    try:
        yield from _release_lease(parts, errand, flight)
    finally:
        parts.background.drop(flight.owner)
        parts.flights.end(flight)
        parts.lanes.leave(ticket)


def _fly(
    parts: Parts, errand: Errand, ticket: Ticket, flight: Flight, seen: int
) -> Flow[SentImage | CachedImage | Ending]:
    yield from enter_lane(parts, ticket)
    landed = _find_in_memory(parts, errand)
    if landed is not None:
        return landed
    failures = parts.flights.failures(errand.key.digest, errand.image.url)
    if failures.number > seen:
        return failures.last
    if not parts.flights.begin(flight):
        return Ending("take_over")
    lease = yield from _acquire(parts, errand, flight)
    if lease is None or flight.has_lease:
        return (yield from _lead(parts, errand, flight, lease, ticket))
    parts.lanes.leave(ticket)
    flight.ending = yield from _follow(parts, errand, lease)
    return flight.ending


def _acquire(parts: Parts, errand: Errand, flight: Flight) -> Flow[Lease | None]:
    """Try for the lease; None where the database is away, and the flight is this process's alone."""
    flight.has_lease = True
    operation = partial(_take_lease, parts=parts, errand=errand, flight=flight)
    lease: Lease | None = yield Ask(operation, None, "lease", write=True, about=errand)
    flight.has_lease = lease is not None and lease.owner == flight.owner
    return lease


def _take_lease(connection: Connection, parts: Parts, errand: Errand, flight: Flight) -> Lease:
    """Take the lease, unless a flight is under way, or one has been refused for all since the errand began."""
    length = timedelta(seconds=parts.settings.tuning.lease_seconds)
    waited = max(timedelta(0), utc_now() - errand.begun_at)
    memory = min(waited, timedelta(seconds=parts.settings.tuning.refusal_memory))
    lease = leases.acquire(connection, flight.digest, flight.owner, length, memory)
    if lease.owner != flight.owner and not lease.running and _ending_of(parts, errand, lease).kind != "refused":
        return leases.acquire(connection, flight.digest, flight.owner, length)
    return lease


def _follow(parts: Parts, errand: Errand, lease: Lease) -> Flow[Ending]:
    """Watch another process's flight until it ends; the one of this process that asks the database."""
    tuning = parts.settings.tuning
    length = timedelta(seconds=tuning.lease_seconds)
    if not lease.running:
        return _ending_of(parts, errand, lease)
    polls = math.ceil(longest_call(parts) / tuning.lease_poll)
    for _ in range(polls):
        yield Pause(tuning.lease_poll)
        peek = partial(leases.peek, digest=lease.digest, length=length)
        now: Any = yield Ask(peek, AWAY, "lease", about=errand)
        if now is AWAY:
            return Ending("take_over", "the database went away")
        if now is None:
            return Ending("landed")
        if now.owner != lease.owner:
            return Ending("take_over", "another flight has begun")
        if not now.running:
            return _ending_of(parts, errand, now)
    return Ending("failed", "it never ended")


def _ending_of(parts: Parts, errand: Errand, lease: Lease) -> Ending:
    """Tell how a flight ended for this errand; what this version cannot read is a failure."""
    if lease.refusal is not None:
        return _ending_by_refusal(lease.refusal, parts.settings.account, errand.image.url)
    if lease.ending in {"landed", "take_over"}:
        return Ending(lease.ending, lease.reason or "")
    return Ending("failed", lease.reason or "its process ended without a word")


def _ending_by_refusal(refusal: Any, account: str, url: str | None) -> Ending:  # noqa: ANN401 - any JSON
    match refusal:
        case {"error": "TokenRefused", "account": refused} if refused != account:
            return Ending("take_over", "its token was refused, which is not ours")
        case {"error": "ImageRefused", "url": str(refused)} if refused != _digest_of(url):
            return Ending("take_over", "its URL was refused, which is not ours")
        case {"error": "TokenRefused", "ret": int(ret), "msg": str() | None as msg, "data": data}:
            return Ending("refused", refusal=TokenRefused(ret, msg, data))
        case {"error": "ImageRefused", "ret": int(ret), "msg": str() | None as msg, "data": data}:
            return Ending("refused", refusal=ImageRefused(ret, msg, data), refused_url=url)
        case _:
            return Ending("failed", "it was refused in a way that this version does not know")


def _digest_of(url: str | None) -> str:
    """Give what tells two URLs apart in a row, where a URL with its signature has no place."""
    return hashlib.sha256((url or "").encode()).hexdigest()


def _lead(
    parts: Parts, errand: Errand, flight: Flight, lease: Lease | None, ticket: Ticket
) -> Flow[SentImage | CachedImage]:
    """Upload, holding the lane, the flight and, unless the database is away, the lease."""
    if lease is not None:
        parts.background.hold(flight.owner)
    entry = yield from _find_serving(parts, errand)
    if entry is not None:
        flight.ending = Ending("landed", entry=entry)
        return entry
    return (yield from Upload(parts, errand, flight, lease, ticket).send())


def _release_lease(parts: Parts, errand: Errand, flight: Flight) -> Flow[None]:
    """Say in the database how the flight ended, unless that is known from the entry it has saved."""
    parts.background.drop(flight.owner)
    if not flight.has_lease:
        return
    ending, refusal = flight.ending, None
    if ending.refusal is not None:
        refused = ending.refusal
        refusal = {
            "error": type(refused).__name__,
            "account": parts.settings.account,
            "url": None if ending.refused_url is None else _digest_of(ending.refused_url),
            "ret": refused.ret,
            "msg": refused.msg,
            "data": refused.data,
        }
    operation = partial(
        leases.end,
        digest=flight.digest,
        owner=flight.owner,
        ending=ending.kind,
        reason=ending.reason,
        refusal=refusal,
        uploaded=flight.was_given,
    )
    yield Ask(operation, None, "lease", write=True, accepted=True, about=errand)
    flight.has_lease = False
