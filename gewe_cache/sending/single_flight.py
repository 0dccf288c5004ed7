"""Uploads in single flight among threads, tasks and processes.

Who wants an image that is not there waits for the flight that brings it, or enters its lane and leads one.
A leader holds its lane, then the flight of this process, then the lease in the database, and waits for none
of them but the lane; where another process holds the lease, it leaves the lane and follows that one instead.
"""

from __future__ import annotations

import math
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from gewe_cache.errors import (
    GeweRefused,
    GeweUnreachable,
    ImageRefused,
    TokenRefused,
)
from gewe_cache.image import CachedImage, SentImage
from gewe_cache.sending.calls import enter_lane
from gewe_cache.sending.flight import Ending, Failures, Flight
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
_SHARED: dict[str, type[GeweRefused]] = {"ImageRefused": ImageRefused, "TokenRefused": TokenRefused}


def upload_once(parts: Parts, errand: Errand) -> Flow[SentImage | CachedImage]:
    """Send by uploading, or give the entry that another upload has brought meanwhile.

    Raises:
        GeweRefused: the upload was refused, or one that this send waited for was, for all.
        GeweUnreachable: nothing was sent for this errand.
        DeliveryUnknown: this errand's own upload may have been sent.
        InvalidImage: there is nothing to upload from.
    """
    digest, lost = errand.key.digest, 0
    before = parts.flights.failures(digest).number
    if errand.refused is not None:
        newer = yield from _find_serving(parts, errand)
        if newer is not None:
            return newer
    while True:
        seen = parts.flights.failures(digest).number
        waiter = parts.flights.watch(digest)
        result: SentImage | CachedImage | Ending | None
        if waiter is not None:
            result = yield Wait(waiter, _longest_flight(parts))
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
        _raise_shared(errand, parts.flights.failures(digest), before, lost)


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
    entry = yield from parts.find(errand.key, ask_database=True)
    return entry if entry is not None and errand.is_served_by(entry) else None


def _find_in_memory(parts: Parts, errand: Errand) -> CachedImage | None:
    """Look for what a flight has brought while this send queued for its lane."""
    held = parts.front.get(errand.key.digest)
    if held is None or not parts.front.is_trusted(held):
        return None
    return held.entry if errand.is_served_by(held.entry) and parts.is_fresh(held.entry) else None


def _longest_flight(parts: Parts) -> float:
    """Give the seconds after which a flight that has not ended can only have been lost."""
    tries = len(parts.settings.tuning.unreached_pauses) + 1
    return tries * parts.settings.upload_timeout + parts.settings.tuning.flight_grace


def _lead_or_follow(parts: Parts, errand: Errand, seen: int) -> Flow[SentImage | CachedImage | Ending]:
    yield from enter_lane(parts, errand.app_id)
    in_lane = True
    try:
        landed = _find_in_memory(parts, errand)
        if landed is not None:
            return landed
        failures = parts.flights.failures(errand.key.digest)
        if failures.number > seen:
            return failures.last
        flight = parts.flights.begin(errand.key.digest)
        if flight is None:
            return Ending("take_over")
        try:
            lease = yield from _acquire(parts, errand, flight)
            if lease is None or lease.owner == flight.owner:
                return (yield from _lead(parts, errand, flight, lease))
            parts.lanes.leave(errand.app_id)
            in_lane = False
            flight.ending = yield from _follow(parts, lease)
            return flight.ending
        finally:
            parts.flights.end(flight)
    finally:
        if in_lane:
            parts.lanes.leave(errand.app_id)


def _acquire(parts: Parts, errand: Errand, flight: Flight) -> Flow[Lease | None]:
    """Try for the lease; None where the database is away, and the flight is this process's alone."""
    operation = partial(_take_lease, parts=parts, errand=errand, flight=flight)
    try:
        lease: Lease | None = yield Ask(operation, None, "lease", write=True)
    except BaseException:
        yield from _release(parts, flight)
        raise
    return lease


def _take_lease(connection: Connection, parts: Parts, errand: Errand, flight: Flight) -> Lease:
    """Take the lease, unless a flight is under way, or one has been refused for all since the errand began."""
    length = timedelta(seconds=parts.settings.tuning.lease_seconds)
    waited = max(timedelta(0), utc_now() - errand.begun_at)
    memory = min(waited, timedelta(seconds=parts.settings.tuning.refusal_memory))
    lease = leases.acquire(connection, flight.digest, flight.owner, length, memory)
    if lease.owner != flight.owner and not lease.running and _ending_of(parts, lease).kind == "take_over":
        return leases.acquire(connection, flight.digest, flight.owner, length)
    return lease


def _follow(parts: Parts, lease: Lease) -> Flow[Ending]:
    """Watch another process's flight until it ends; the one of this process that asks the database."""
    tuning = parts.settings.tuning
    length = timedelta(seconds=tuning.lease_seconds)
    if not lease.running:
        return _ending_of(parts, lease)
    polls = math.ceil(_longest_flight(parts) / tuning.lease_poll)
    for _ in range(polls):
        yield Pause(tuning.lease_poll)
        now: Any = yield Ask(partial(leases.peek, digest=lease.digest, length=length), AWAY, "lease")
        if now is AWAY:
            return Ending("take_over", "the database went away")
        if now is None:
            return Ending("landed")
        if now.owner != lease.owner:
            return Ending("take_over", "another flight has begun")
        if not now.running:
            return _ending_of(parts, now)
    return Ending("failed", "it never ended")


def _ending_of(parts: Parts, lease: Lease) -> Ending:
    if lease.ending is None:
        return Ending("failed", "its process ended without a word")
    if lease.refusal is None:
        return Ending(lease.ending, lease.reason or "")
    refused = lease.refusal
    error = _SHARED.get(refused["error"], GeweRefused)
    if error is TokenRefused and refused["account"] != parts.settings.account:
        return Ending("take_over", "its token was refused, which is not ours")
    return Ending("refused", refusal=error(refused["ret"], refused["msg"], refused["data"]))


def _release(parts: Parts, flight: Flight, *, uploaded: bool = False) -> Flow[None]:
    """Say in the database how the flight ended."""
    ending, refusal = flight.ending, None
    if ending.refusal is not None:
        refused = ending.refusal
        refusal = {
            "error": type(refused).__name__,
            "account": parts.settings.account,
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
        uploaded=uploaded,
    )
    yield Ask(operation, None, "lease", write=True, accepted=True)


def _lead(parts: Parts, errand: Errand, flight: Flight, lease: Lease | None) -> Flow[SentImage | CachedImage]:
    """Upload, holding the lane, the flight and, unless the database is away, the lease."""
    upload = Upload(parts, errand, flight, lease)
    if lease is not None:
        parts.background.hold(flight.owner)
    try:
        entry = yield from _find_serving(parts, errand)
        if entry is not None:
            flight.ending = Ending("landed", entry=entry)
            return entry
        return (yield from upload.send())
    finally:
        parts.background.drop(flight.owner)
        if upload.was_given:
            parts.flights.note_upload(flight.digest, utc_now())
        if lease is not None and not upload.is_lease_removed:
            yield from _release(parts, flight, uploaded=upload.was_given)
