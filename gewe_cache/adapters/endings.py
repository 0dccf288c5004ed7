"""What the adapters share: the calls that a sender can make, and how a send that was not accepted has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict

from cachetools import TTLCache

from gewe_cache.errors import DeliveryUnknown, GeweRefused, GeweUnreachable, StoreError
from gewe_cache.image import Image
from gewe_cache.keys import lookup_key
from gewe_cache.log import Log
from gewe_cache.settings import check_name

PLACEHOLDER_TOKEN = "none-yet"  # noqa: S105 - checks the options of a client that has not logged in

_UNKNOWN_MINUTES = 10
_MOST_UNKNOWN = 10_000
_log = Log("gewe_cache.adapters")

Ending = GeweRefused | GeweUnreachable | DeliveryUnknown


class SenderOptions(TypedDict, total=False):
    """What ``cached`` passes on to the sender."""

    database: str | None
    scope: str | None
    ttl: timedelta | None
    timeout: float | None
    ignore_query: Collection[str]
    http_client: Any


@dataclass(frozen=True, slots=True)
class Call:
    """A ``post_image`` that a sender can make."""

    app_id: str
    to_wxid: str
    image: Image


def read_call(app_id: object, to_wxid: object, img_url: object) -> Call | None:
    """Check a call; None where GeWe is to say itself what it thinks of it."""
    try:
        return Call(check_name("app_id", app_id), check_name("to_wxid", to_wxid), Image(url=img_url))  # type: ignore[arg-type]
    except ValueError:
        return None


class Endings:
    """Tells how sends ended, and remembers those that may have arrived. Safe to share between threads."""

    def __init__(self, ignore_query: Collection[str] = ()) -> None:
        """Remember none yet. ``ignore_query``: by which two URLs are of one image, as the sender takes it."""
        self._ignore_query = frozenset(ignore_query)
        self._unknown: TTLCache[tuple[str, str, bytes], DeliveryUnknown] = TTLCache(
            _MOST_UNKNOWN, _UNKNOWN_MINUTES * 60, timer=time.monotonic
        )
        self._lock = threading.Lock()

    def unknown_of(self, call: Call) -> DeliveryUnknown | None:
        """Give the unknown end of the same call a short while ago: it must not be made again."""
        with self._lock:
            return self._unknown.get(self._key_of(call))

    def ending_of(self, call: Call, error: BaseException, started_at: datetime) -> Ending:
        """Say how a send ended; what was not foreseen may be out."""
        if isinstance(error, GeweRefused | GeweUnreachable):
            return error.with_traceback(None)  # whoever keeps the error must not keep the sender in its frames
        if isinstance(error, StoreError):  # of the schema: raised before anything is sent
            return GeweUnreachable(str(error))
        if isinstance(error, DeliveryUnknown):
            unknown = DeliveryUnknown(*error.args)  # without the frames of its traceback
        else:
            unknown = DeliveryUnknown(call.to_wxid, call.app_id, "send", started_at, type(error).__name__)
            if isinstance(error, Exception):
                _log.exception("a send failed in a way that was not foreseen; it may have been sent")
        with self._lock:
            self._unknown[self._key_of(call)] = unknown
        return unknown

    def _key_of(self, call: Call) -> tuple[str, str, bytes]:
        return call.app_id, call.to_wxid, lookup_key(call.image, "", self._ignore_query).digest


def words_of(ending: Ending) -> str:
    """Say what happened, and of an unknown end that a retry does not help."""
    if isinstance(ending, DeliveryUnknown):
        return f"{ending} For {_UNKNOWN_MINUTES} minutes this client does not make the same call again."
    return str(ending)
