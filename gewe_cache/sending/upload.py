"""The leader's upload: whether it may be made, what it means for those who wait, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from gewe_cache.errors import (
    DeliveryUnknown,
    DeviceUnavailable,
    GeweRefused,
    GeweUnreachable,
    ImageRefused,
    InvalidImage,
    RecipientUnavailable,
    TokenRefused,
    TooFast,
)
from gewe_cache.gewe.wire import Accepted, Refused, upload_request
from gewe_cache.image import CachedImage, SentImage
from gewe_cache.log import Log
from gewe_cache.sending.calls import call, named, sent_image
from gewe_cache.sending.flight import Ending, Flight
from gewe_cache.sending.publishing import published_url
from gewe_cache.sending.steps import Abandoned, Ask, Flow
from gewe_cache.settings import utc_now
from gewe_cache.store import entries, leases
from gewe_cache.store.entries import Retirement
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gewe_cache.gewe.wire import Request
    from gewe_cache.keys import Key
    from gewe_cache.sending.lanes import Ticket
    from gewe_cache.sending.parts import Errand, Parts
    from gewe_cache.store.leases import Lease

_log = Log("gewe_cache.sending")

HOW_TO_UPLOAD = (
    "Pass url= (--url), an http(s) address from which GeWe can fetch it; or, of a local image, publish=, a function "
    "that gives such an address; or send through a server that hosts it: gewe-cache serve --public-url URL, and "
    "--server URL (GEWE_CACHE_SERVER)."
)
_OF_ALL = (ImageRefused, TokenRefused)
_OF_THE_SENDER = (DeviceUnavailable, RecipientUnavailable, TooFast)


@dataclass(slots=True)
class Upload:
    """One upload by the leader of a flight; tells the flight how it ended."""

    parts: Parts
    errand: Errand
    flight: Flight
    lease: Lease | None
    ticket: Ticket

    @property
    def clock_ahead(self) -> timedelta:
        """How far the store's clock is ahead of ours."""
        return timedelta(0) if self.lease is None else self.lease.clock_ahead

    def send(self) -> Flow[SentImage]:
        """Upload, and keep what comes back.

        Raises:
            InvalidImage: there is no URL to upload from, or the local file has changed.
            PublishFailed: ``publish=`` failed.
            GeweRefused: the upload was refused; or no fall-back may be made so soon after the last upload.
            GeweUnreachable, DeliveryUnknown: as for every call.
        """
        errand, flight = self.errand, self.flight
        flight.ending = Ending("take_over", "its leader had no URL, or may not upload again so soon")
        self._check_may_upload()
        request = yield from self._request()
        self._count_fall_back()
        began_at = utc_now() + self.clock_ahead
        flight.ending = Ending("failed", "it was interrupted")
        flight.was_given = True
        try:
            answer = yield from call(self.parts, errand, request)
        except Abandoned:
            flight.was_given = False
            flight.ending = Ending("take_over", "its leader left before its call")
            raise
        except GeweUnreachable:
            flight.was_given = False
            flight.ending = Ending("failed", "GeWe could not be reached")
            raise
        except DeliveryUnknown:
            flight.ending = Ending("failed", "it is unknown whether it was sent")
            raise
        outcome = answer.outcome
        if isinstance(outcome, Refused):
            self._raise_refused(outcome.error)
        return (yield from self._accepted(outcome, answer.seconds, began_at))

    def _check_may_upload(self) -> None:
        image, refused = self.errand.image, self.errand.refused
        is_possible = image.url is not None or self.parts.can_publish(image)
        if refused is not None and (not is_possible or self._was_uploaded_lately(refused[0])):
            raise refused[1]
        if not is_possible:
            msg = f"image: md5 {image.md5} is not in the cache of this scope. Nothing was sent. {HOW_TO_UPLOAD}"
            raise InvalidImage(msg)

    def _request(self) -> Flow[Request]:
        """Make the call; the URL of an image that is published for it alone is nobody else's to see."""
        errand = self.errand
        if errand.image.url is not None or errand.image.local is None:
            return upload_request(errand.app_id, errand.to_wxid, errand.image.url or "")
        url = yield from published_url(self.parts, errand, errand.image.local, self.flight, self.ticket)
        return upload_request(errand.app_id, errand.to_wxid, url, secrets=(url,))

    def _was_uploaded_lately(self, refused_entry: CachedImage) -> bool:
        pause = timedelta(seconds=self.parts.settings.tuning.fall_back_pause)
        now = utc_now()
        here = self.parts.flights.last_upload_at(self.flight.digest)
        anywhere = self.lease.last_upload_at if self.lease is not None else None
        return (
            abs(now - refused_entry.uploaded_at) < pause
            or (here is not None and abs(now - here) < pause)
            or (anywhere is not None and abs(now + self.clock_ahead - anywhere) < pause)
        )

    def _count_fall_back(self) -> None:
        if self.errand.refused is None:
            return
        entry, error = self.errand.refused
        self.parts.counters.count(fall_backs=1)
        _log.warning(
            "fall-back: forwarding %s (entry %s) to %s from device %s was refused (ret %s: %s); uploading it",
            named(self.errand),
            entry.entry_id,
            one_line(self.errand.to_wxid),
            one_line(self.errand.app_id),
            error.ret,
            error.words,
        )

    def _raise_refused(self, error: GeweRefused) -> NoReturn:
        if isinstance(error, _OF_ALL):
            url = self.errand.image.url if isinstance(error, ImageRefused) else None
            # Remembered without its traceback, whose frames would keep the sender itself.
            self.flight.ending = Ending("refused", refusal=error.again(), refused_url=url)
        elif isinstance(error, _OF_THE_SENDER):
            self.flight.was_given = False
            self.flight.ending = Ending("take_over", "its leader's device or recipient was refused")
        else:
            self.flight.ending = Ending("failed", f"GeWe refused it with ret {error.ret}: {error.words}")
        if self.errand.refused is not None:
            raise error from self.errand.refused[1]
        raise error

    def _accepted(self, accepted: Accepted, seconds: float, began_at: datetime) -> Flow[SentImage]:
        errand = self.errand
        self.flight.ending = Ending("take_over", "GeWe's answer to it carried no usable CDN information")
        entry = None
        try:
            self.parts.counters.count(uploads=1, upload_seconds=seconds)
            entry = yield from self._keep(accepted, began_at)
        except Exception:  # noqa: BLE001 - the message is sent, whatever becomes of the entry
            _log.exception("%s was sent to %s, but could not be kept", named(errand), one_line(errand.to_wxid))
        except BaseException:
            _log.warning("%s was sent to %s; keeping it was interrupted", named(errand), one_line(errand.to_wxid))
            raise
        if entry is not None:
            self.flight.ending = Ending("landed", entry=entry)
        return sent_image(errand, "upload", accepted, entry)

    def _keep(self, accepted: Accepted, began_at: datetime) -> Flow[CachedImage | None]:
        """Save the entry; where the database is away it is kept in memory."""
        if accepted.cdn is None:
            self.parts.counters.count(store_failures=1)
            _log.warning(
                "%s was sent to %s, but GeWe's answer carried no usable CDN information: it is not cached",
                named(self.errand),
                one_line(self.errand.to_wxid),
            )
            return None
        entry = self.parts.entry_of(accepted.cdn, utc_now(), began_at)
        known_keys = self.parts.keys_of(self.errand.image, entry.md5)
        self.parts.background.settle(self.flight.owner)
        save = partial(self._save, entry=entry, known_keys=known_keys)
        entry_id: int | None = yield Ask(save, None, "save", write=True, accepted=True, about=self.errand)
        if entry_id is not None:
            self.flight.has_lease = False  # it went in the same transaction
            entry = replace(entry, entry_id=entry_id)
        self._retire_in_memory()
        for key in known_keys:
            self.parts.front.put(key.digest, entry)
        return entry

    def _save(self, connection: Connection, entry: CachedImage, known_keys: tuple[Key, ...]) -> int:
        scope, url = self.parts.settings.scope, self.errand.image.url
        entry_id = entries.save(connection, entry, scope, url, known_keys, self._retirement())
        leases.remove(connection, self.flight.digest, self.flight.owner)
        return entry_id

    def _retirement(self) -> Retirement | None:
        if self.errand.refused is None:
            return None
        entry, error = self.errand.refused
        if entry.entry_id is None:
            return None
        return Retirement(entry.entry_id, f"forward refused with ret {error.ret}: {error.words}")

    def _retire_in_memory(self) -> None:
        if self.errand.refused is None:
            return
        entry, error = self.errand.refused
        self.parts.front.drop(self.errand.key.digest, entry.entry_id)
        _log.warning(
            "retired entry %s of %s: its forward to %s was refused (ret %s: %s), and an upload was accepted",
            entry.entry_id,
            named(self.errand),
            one_line(self.errand.to_wxid),
            error.ret,
            error.words,
        )
