"""What GeWe measures of a downloaded file: md5, bytes, width and height; and its conversion."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass

from PIL import Image


class NotAnImageError(Exception):
    """The file is not an image that can be read."""


@dataclass(frozen=True, slots=True)
class Measures:
    """An image's size in bytes, its sides in pixels, its md5 in lower-case hex."""

    length: int
    width: int
    height: int
    md5: str


def measure(data: bytes, *, converts: bool) -> Measures:
    """Measure an image; with `converts` what it becomes as a JPEG.

    Raises:
        NotAnImageError: Pillow cannot read it, or it has more pixels than Pillow takes for sane.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            content = _as_jpeg(data) if converts else data
            width, height = _sides(content)
    except Exception as error:  # Pillow's readers raise whatever a broken file makes them raise
        raise NotAnImageError(str(error)) from error
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Measures(len(content), width, height, md5)


def _sides(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        size = image.size
        image.verify()
    return size


def _as_jpeg(data: bytes) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image, image.convert("RGB") as flat:
        flat.save(file, "JPEG", quality=80)
    return file.getvalue()
