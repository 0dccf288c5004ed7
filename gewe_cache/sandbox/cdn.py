"""The CDN information that the sandbox has issued, and how long it lives."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Issued:
    """CDN information of one upload: sizes in bytes and pixels, `issued_at` on the CDN's clock."""

    aes_key: str = field(repr=False)
    file_id: str
    length: int
    width: int
    height: int
    md5: str
    number: int
    issued_at: float


class Cdn:
    """Issues CDN information and knows what it has issued. Safe to use from any thread."""

    def __init__(self, lifetime: timedelta | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Let what is issued live for `lifetime` (None: for ever) of the seconds that `clock` counts.

        Raises:
            ValueError: `lifetime` is negative.
        """
        if lifetime is not None and lifetime < timedelta(0):
            message = "cdn_lifetime must not be negative"
            raise ValueError(message)
        self._lifetime = None if lifetime is None else lifetime.total_seconds()
        self._clock = clock
        self._lock = threading.Lock()
        self._issued: dict[str, Issued] = {}
        self._last_number = 0
        self._expired_to = 0

    def issue(self, *, length: int, width: int, height: int, md5: str) -> Issued:
        """Issue new CDN information for content of these measures."""
        with self._lock:
            self._last_number += 1
            issued = Issued(
                aes_key=secrets.token_hex(16),
                file_id=_new_file_id(),
                length=length,
                width=width,
                height=height,
                md5=md5,
                number=self._last_number,
                issued_at=self._clock(),
            )
            self._issued[issued.file_id] = issued
        return issued

    def find(self, file_id: str) -> Issued | None:
        """Return what was issued under `file_id`, expired or not."""
        return self._issued.get(file_id)

    def is_expired(self, issued: Issued) -> bool:
        """Tell whether `issued` has outlived its life or was expired on purpose."""
        if issued.number <= self._expired_to:
            return True
        return self._lifetime is not None and self._clock() - issued.issued_at >= self._lifetime

    def expire_all(self) -> None:
        """Expire everything issued so far."""
        with self._lock:
            self._expired_to = self._last_number


def _new_file_id() -> str:
    """Return a file id in the shape of GeWe's own: DER fields in hex, a UUID in ASCII among them."""
    name = str(uuid.uuid4()).encode().hex()
    return (
        "3057020100044b30490201000204"
        + secrets.token_hex(4)
        + "02032f7d6d0204"
        + secrets.token_hex(4)
        + "0204"
        + secrets.token_hex(4)
        + "0424"
        + name
        + "0204051818020201000405004c"
        + secrets.token_hex(2)
        + "00"
    )
