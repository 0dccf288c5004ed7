"""What the unit tests share: a cached image and GeWe's own sample values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gewe_cache import CachedImage

AES_KEY = "294774c8ac2ca8f8114e4d58d2ba78a5"
FILE_ID = (
    "3057020100044b304902010002043904752002032f7d6d02046bb5bade020465937656042436626431373937632d613430642d"
    "346137662d626230352d3832613335353935333130630204051818020201000405004c543d00"
)
MD5 = "799ee4beed51720525232aef6a0d2ec4"
UPLOADED_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

_ENTRY = CachedImage(
    aes_key=AES_KEY,
    file_id=FILE_ID,
    length=4061,
    width=370,
    height=400,
    md5=MD5,
    uploaded_at=UPLOADED_AT,
    expires_at=UPLOADED_AT + timedelta(days=3),
    entry_id=7,
    upload_began_at=UPLOADED_AT - timedelta(seconds=2),
)


def an_entry(**changes: Any) -> CachedImage:
    """Make an entry out of the values of GeWe's sample XML."""
    return replace(_ENTRY, **changes)
