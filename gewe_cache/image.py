"""The nouns that callers hold: what is to be sent, what is cached, and what was sent."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from gewe_cache.errors import InvalidImage
from gewe_cache.local_image import LocalImage
from gewe_cache.text import mask_key

Route = Literal["upload", "forward"]

MAX_URL_LENGTH = 8192
MAX_FILE_ID_LENGTH = 2048
MAX_INT64 = 2**63 - 1
MAX_SIDE = 2**31 - 1

_MD5 = re.compile(r"[0-9a-f]{32}")
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_WHITE_SPACE = re.compile(r"\s")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Image:
    """An image to send: a URL, an md5, or both.

    Where an md5 is given, it alone decides which entry is found; the URL is only where GeWe fetches
    the image from when it must be uploaded.

    Attributes:
        url: http(s) address that GeWe's server can reach, at most 8192 characters, without credentials.
        md5: md5 of the image's bytes, 32 hex digits in either case.

    One made by ``from_file`` or ``from_bytes`` also knows its content, for ``publish=``; that has no part in
    ``==`` and ``hash``.

    Raises:
        InvalidImage: naming the field; nothing was sent.
    """

    url: str | None = None
    md5: str | None = None
    _local: LocalImage | None = field(default=None, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        """Check both fields, so that a malformed image never gets as far as a call."""
        if self.url is None and self.md5 is None:
            msg = "Image: pass url= (where GeWe can fetch it), md5= (to find it in the cache), or both."
            raise InvalidImage(msg)
        if self.url is not None:
            check_url(self.url)
        if self.md5 is not None:
            object.__setattr__(self, "md5", _checked_md5(self.md5))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], url: str | None = None) -> Image:
        """Name an image by the md5 of a local file.

        No URL is needed when that md5 is known to the cache. Where it is not, and no ``url`` is given, the sender's
        ``publish=`` is called with the file, which must not have changed by then. Its bytes are not kept in memory.

        Raises:
            OSError: the file cannot be read.
            InvalidImage: ``url`` is malformed.
        """
        return cls.of_local(LocalImage.of_file(path), url)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview, url: str | None = None) -> Image:
        """Name an image by the md5 of its bytes, which are kept; otherwise as ``from_file``."""
        return cls.of_local(LocalImage.of_bytes(data), url)

    @classmethod
    def of_local(cls, local: LocalImage, url: str | None = None) -> Image:
        """Name an image by a content that is known already."""
        return cls(url=url, md5=local.md5, _local=local)

    @property
    def local(self) -> LocalImage | None:
        """Its content, where it was made from a file or from bytes."""
        return self._local


@dataclass(frozen=True, slots=True)
class CachedImage:
    """A cached image: its CDN information and when it was uploaded.

    Attributes:
        aes_key: 32 lower-case hex digits. Masked in ``repr``.
        file_id: lower-case hex.
        length: size of the image at GeWe in bytes, or None when unknown.
        width, height: in pixels, or None when unknown.
        md5: GeWe's md5 of the image it converted, or None when unknown.
        uploaded_at: aware UTC.
        expires_at: ``uploaded_at`` plus the reader's time to live.
        entry_id: the row in the database, or None while it is in no database.
        upload_began_at: when the upload's call went out, aware UTC; ``uploaded_at`` for a remembered one.

    Raises:
        ValueError: naming the field that is not of that form.
    """

    aes_key: str = field(repr=False)
    file_id: str
    length: int | None
    width: int | None
    height: int | None
    md5: str | None
    uploaded_at: datetime
    expires_at: datetime
    entry_id: int | None = None
    upload_began_at: datetime | None = None

    def __post_init__(self) -> None:
        """Check every field: a corrupt row or answer must not become an XML."""
        _require("aes_key", _fits(_MD5, self.aes_key))
        _require("file_id", _fits(_HEX, self.file_id) and len(self.file_id) <= MAX_FILE_ID_LENGTH)
        _require("length", _is_size(self.length, MAX_INT64))
        _require("width", _is_size(self.width, MAX_SIDE))
        _require("height", _is_size(self.height, MAX_SIDE))
        _require("md5", self.md5 is None or _fits(_MD5, self.md5))
        _require("uploaded_at", _is_aware(self.uploaded_at))
        _require("expires_at", _is_aware(self.expires_at))
        _require("upload_began_at", self.upload_began_at is None or _is_aware(self.upload_began_at))

    def __repr__(self) -> str:
        """Show the entry without the key that decrypts it."""
        return (
            f"CachedImage(aes_key='{mask_key(self.aes_key)}', file_id='{self.file_id[:12]}…', "
            f"length={self.length}, width={self.width}, height={self.height}, md5={self.md5!r}, "
            f"uploaded_at={self.uploaded_at.isoformat()}, expires_at={self.expires_at.isoformat()}, "
            f"entry_id={self.entry_id})"
        )


@dataclass(frozen=True, slots=True)
class SentImage:
    """A message that GeWe accepted.

    Attributes:
        to_wxid: the recipient.
        app_id: the device it was sent from.
        route: ``"upload"`` (postImage) or ``"forward"`` (forwardImage).
        msg_id, new_msg_id: GeWe's ids of the message, or None where its answer had none.
        create_time: GeWe's ``createTime`` in seconds, or None; GeWe's own sample gives 0.
        image: the entry that was uploaded or forwarded; None when GeWe's answer to an upload carried no
            usable CDN information, so that nothing could be kept.
        fell_back: True when a forward was refused first and the image was then uploaded, or forwarded
            from a newer entry.
    """

    to_wxid: str
    app_id: str
    route: Route
    msg_id: int | None
    new_msg_id: int | None
    create_time: int | None
    image: CachedImage | None
    fell_back: bool = False


def as_image(image: object) -> Image:
    """Take a URL string for ``Image(url=…)``."""
    if isinstance(image, Image):
        return image
    if isinstance(image, str):
        return _image_of_url(image)
    msg = f"image: pass a URL string or an Image, not {type(image).__name__}."
    raise InvalidImage(msg)


@lru_cache(maxsize=1024)
def _image_of_url(url: str) -> Image:
    """Check a URL once, not with every send of a broadcast."""
    return Image(url=url)


def check_url(url: str) -> None:
    """Check an address from which GeWe is to fetch an image.

    Raises:
        InvalidImage: it is none.
    """
    problem = _text_problem(url) or _address_problem(url)
    if problem:
        msg = f"url: {problem}. Pass an http(s) address that GeWe's server can reach."
        raise InvalidImage(msg)


def _require(field_name: str, condition: object) -> None:
    if not condition:
        msg = f"{field_name} is malformed"
        raise ValueError(msg)


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_aware(value: object) -> bool:
    return isinstance(value, datetime) and value.tzinfo is not None


def _is_size(value: int | None, maximum: int) -> bool:
    return value is None or (type(value) is int and 0 < value <= maximum)


def _checked_md5(md5: str) -> str:
    lowered = md5.lower() if isinstance(md5, str) else ""
    if not _MD5.fullmatch(lowered):
        msg = "md5: pass the image's md5 as 32 hex digits."
        raise InvalidImage(msg)
    return lowered


def _text_problem(url: str) -> str | None:
    if not isinstance(url, str) or not url.strip():
        return "it is empty or not a string"
    if len(url) > MAX_URL_LENGTH:
        return f"it has {len(url)} characters, at most {MAX_URL_LENGTH} are allowed"
    if _CONTROL.search(url) or url != url.strip():
        return "it has control characters or white space around it"
    return None


def _address_problem(url: str) -> str | None:
    try:
        url.encode("utf-8")
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return "it cannot be parsed"
    if parts.scheme not in {"http", "https"}:
        return "it does not begin with http:// or https://"
    if not host or "\\" in parts.netloc or _WHITE_SPACE.search(parts.netloc):
        return "it names no valid host"
    if "@" in parts.netloc:
        return "it carries credentials, which would be kept in the database"
    return None
