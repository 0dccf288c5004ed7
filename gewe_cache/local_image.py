"""An image whose bytes are on this machine: a file, or bytes in memory."""

from __future__ import annotations

import hashlib
import io
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from gewe_cache.errors import InvalidImage

UNKNOWN_TYPE = "application/octet-stream"
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp", "image/bmp": "bmp"}

_HEAD_BYTES = 32
_HEADS = (
    ("image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    ("image/gif", re.compile(rb"GIF8[79]a")),
    ("image/webp", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    ("image/bmp", re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}", re.DOTALL)),
)


@dataclass(frozen=True, slots=True)
class LocalImage:
    """The content of an image that ``publish=`` is to make reachable for GeWe.

    Attributes:
        md5: of its bytes, 32 lower-case hex digits.
        size: in bytes.
        content_type: by its first bytes: PNG, JPEG, GIF, WebP or BMP, else ``application/octet-stream``.
        path: the file; None where it is bytes in memory.
    """

    md5: str
    size: int
    content_type: str
    path: Path | None = None
    _data: bytes = field(default=b"", repr=False)

    @classmethod
    def of_file(cls, path: str | os.PathLike[str]) -> LocalImage:
        """Read a file through once; its bytes are not kept.

        Raises:
            OSError: it cannot be read.
        """
        absolute = Path(path).absolute()
        with absolute.open("rb") as file:
            content_type = sniff(file.read(_HEAD_BYTES))
            file.seek(0)
            md5 = hashlib.file_digest(file, new_md5).hexdigest()
            return cls(md5, file.tell(), content_type, absolute)

    @classmethod
    def of_bytes(cls, data: bytes | bytearray | memoryview) -> LocalImage:
        """Keep bytes as they are now."""
        kept = bytes(data)
        return cls(new_md5(kept).hexdigest(), len(kept), sniff(kept), None, kept)

    @property
    def name(self) -> str:
        """A file name in ASCII: its md5, and the extension of its type."""
        extension = EXTENSIONS.get(self.content_type)
        return self.md5 if extension is None else f"{self.md5}.{extension}"

    def open(self) -> io.BufferedIOBase:
        """Open its content for reading; close it afterwards.

        Raises:
            OSError: the file cannot be read.
        """
        return io.BytesIO(self._data) if self.path is None else self.path.open("rb")

    def read(self) -> bytes:
        """Give its content.

        Raises:
            InvalidImage: the file cannot be read, or has changed since it was named. Nothing was sent.
        """
        try:
            with self.open() as file:
                content = file.read()
        except OSError as error:
            raise self._unreadable(error) from error
        self._check_md5(new_md5(content).hexdigest())
        return content

    def check(self) -> None:
        """See that the file is what it was when it was named; reads it once.

        Raises:
            InvalidImage: it cannot be read, or has changed. Nothing was sent.
        """
        if self.path is None:
            return
        try:
            with self.open() as file:
                md5 = hashlib.file_digest(file, new_md5).hexdigest()
        except OSError as error:
            raise self._unreadable(error) from error
        self._check_md5(md5)

    def _check_md5(self, md5: str) -> None:
        if md5 != self.md5:
            msg = (
                f"image: {self.path} has changed since it was named (its md5 was {self.md5} and is {md5}). Nothing "
                f"was sent. Name it again: Image.from_file(path)."
            )
            raise InvalidImage(msg)

    def _unreadable(self, error: OSError) -> InvalidImage:
        return InvalidImage(f"image: {self.path} cannot be read ({error.strerror or error}). Nothing was sent.")


def sniff(head: bytes) -> str:
    """Tell an image's type by its first bytes; 32 of them are enough."""
    return next((kind for kind, pattern in _HEADS if pattern.match(head)), UNKNOWN_TYPE)


def new_md5(data: bytes = b"") -> hashlib._Hash:
    """Begin an md5: it names a content here, and protects nothing."""
    return hashlib.md5(data, usedforsecurity=False)
