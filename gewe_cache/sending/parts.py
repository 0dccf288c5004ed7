"""What the flows of one sender share: its settings, its queues, its memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gewe_cache.image import CachedImage
from gewe_cache.keys import Key, keys_of, lookup_key
from gewe_cache.sending.counters import Counters
from gewe_cache.sending.flight import Flights
from gewe_cache.sending.front import Front
from gewe_cache.sending.lanes import Lanes
from gewe_cache.sending.steps import Ask, Flow
from gewe_cache.settings import Settings, utc_now
from gewe_cache.store import entries
from gewe_cache.text import one_line, without_query

if TYPE_CHECKING:
    from gewe_cache.errors import GeweRefused
    from gewe_cache.gewe.transport import Guard
    from gewe_cache.gewe.wire import CdnInfo
    from gewe_cache.image import Image
    from gewe_cache.local_image import LocalImage
    from gewe_cache.sending.background import Background

AWAY: Final = object()
_FUTURE_TOLERANCE = timedelta(minutes=5)


@dataclass(slots=True)
class Errand:
    """One send: to whom, from which device, which image, and what has happened to it so far.

    Attributes:
        begun_at: when the caller called; what was refused for all since then is refused to this send as well.
        asked_at: by the store's clock, when a refresh was asked for; None for an ordinary send.
        refused: the entry whose forward was refused, with the refusal, once that has happened.
        guard: asked right before a call is written, raises ``Abandoned`` where it may not be.
    """

    app_id: str
    to_wxid: str
    image: Image
    key: Key
    begun_at: datetime = field(default_factory=utc_now)
    asked_at: datetime | None = None
    refused: tuple[CachedImage, GeweRefused] | None = None
    guard: Guard | None = None

    def __str__(self) -> str:
        """Say what is sent to whom, for a log line."""
        return f"{name_of(self.image)} to {one_line(self.to_wxid)} from device {one_line(self.app_id)}"

    def is_served_by(self, entry: CachedImage) -> bool:
        """Tell whether an entry is what this send needs."""
        if self.refused is not None:
            refused_entry, _ = self.refused
            if (entry.file_id, entry.uploaded_at) == (refused_entry.file_id, refused_entry.uploaded_at):
                return False
        return self.asked_at is None or (entry.upload_began_at or entry.uploaded_at) >= self.asked_at


@dataclass(frozen=True, slots=True)
class Parts:
    """The shared state of one sender in one process; nothing in it outlives a fork.

    Attributes:
        lanes: the queues of the devices, shared by all senders of the process that use the same GeWe.
        publish: makes a local image reachable for GeWe, if the user has passed something that does.
    """

    settings: Settings
    lanes: Lanes
    flights: Flights
    front: Front
    counters: Counters
    background: Background
    publish: Callable[[LocalImage], Any] | None = None

    def key_of(self, image: Image) -> Key:
        """Give the key by which an image is found."""
        return lookup_key(image, self.settings.scope, self.settings.ignore_query)

    def keys_of(self, image: Image, gewe_md5: str | None) -> tuple[Key, ...]:
        """Give every key known after an upload."""
        return keys_of(image, gewe_md5, self.settings.scope, self.settings.ignore_query)

    def can_publish(self, image: Image) -> bool:
        """Tell whether an image without a URL can be uploaded all the same."""
        return self.publish is not None and image.local is not None

    def entry_of(self, cdn: CdnInfo, uploaded_at: datetime, began_at: datetime) -> CachedImage:
        """Make an entry, not saved yet, of CDN information."""
        return CachedImage(
            aes_key=cdn.aes_key,
            file_id=cdn.file_id,
            length=cdn.length,
            width=cdn.width,
            height=cdn.height,
            md5=cdn.md5,
            uploaded_at=uploaded_at,
            expires_at=uploaded_at + self.settings.ttl,
            upload_began_at=began_at,
        )

    def is_fresh(self, entry: CachedImage) -> bool:
        """Tell whether an entry may be forwarded; one from more than 5 minutes ahead counts as expired."""
        now = utc_now()
        return entry.uploaded_at <= now + _FUTURE_TOLERANCE and now < entry.expires_at

    def find(self, key: Key, *, ask_database: bool = False, errand: Errand | None = None) -> Flow[CachedImage | None]:
        """Find a fresh entry, for an errand: in memory where that was confirmed lately, else in the database."""
        held = self.front.get(key.digest)
        if held is not None and not ask_database and self.front.is_trusted(held):
            return held.entry if self.is_fresh(held.entry) else None
        version = self.front.version
        operation = partial(entries.find, digest=key.digest, ttl=self.settings.ttl)
        found = yield Ask(operation, AWAY, "find", about=errand)
        if found is AWAY or (found is None and held is not None and held.entry.entry_id is None):
            found = held.entry if held is not None else None
        else:
            self.front.confirm(key.digest, found, version)
        return found if found is not None and self.is_fresh(found) else None


def name_of(image: Image) -> str:
    """Name an image in a log line, without what its URL's query may carry."""
    md5 = f"md5 {image.md5}" if image.md5 is not None else ""
    return " ".join(part for part in (without_query(image.url) if image.url else "", md5) if part)
