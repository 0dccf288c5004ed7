"""Images that the sandbox makes and hosts, so that there is something to download."""

from __future__ import annotations

import io
import mimetypes
import random
import threading
from dataclasses import dataclass
from urllib.parse import quote

from PIL import Image

_JPEG_SUFFIXES = (".jpg", ".jpeg")
_MIN_NOISE_ROWS = 4


@dataclass(frozen=True, slots=True)
class HostedImage:
    """The bytes behind a hosted name."""

    data: bytes
    content_type: str


class HostedImages:
    """What is served under `/images/`. Safe to use from any thread."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._images: dict[str, HostedImage] = {}

    def put(self, name: str, data: bytes, content_type: str | None) -> str:
        """Host `data` under `name`, in place of what was there; return the path of its URL.

        Raises:
            ValueError: `name` is empty.
        """
        if not name:
            message = "an image needs a name"
            raise ValueError(message)
        guessed = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        with self._lock:
            self._images[name] = HostedImage(bytes(data), guessed)
        return "/images/" + quote(name)

    def get(self, name: str) -> HostedImage | None:
        """Return what is hosted under `name`."""
        with self._lock:
            return self._images.get(name)


def draw(name: str, *, width: int, height: int, seed: int, approximate_bytes: int | None) -> bytes:
    """Make a real image: JPEG if `name` ends in .jpg or .jpeg, else PNG.

    The same arguments give the same bytes, another `seed` other ones. `approximate_bytes` is met by
    rows of noise, as far as the image has rows for it.

    Raises:
        ValueError: a side is less than 1.
    """
    if min(width, height) < 1:
        message = "width and height must be at least 1 pixel"
        raise ValueError(message)
    picture = _Picture(name.lower().endswith(_JPEG_SUFFIXES), width, height, seed)
    if approximate_bytes is None:
        return picture.encoded(_MIN_NOISE_ROWS)
    least, most = len(picture.encoded(0)), len(picture.encoded(height))
    share = (approximate_bytes - least) / max(1, most - least)
    return picture.encoded(max(_MIN_NOISE_ROWS, round(share * height)))


@dataclass(frozen=True, slots=True)
class _Picture:
    is_jpeg: bool
    width: int
    height: int
    seed: int

    def encoded(self, noise_rows: int) -> bytes:
        rows = min(noise_rows, self.height)
        dice = random.Random(self.seed)  # noqa: S311 - a picture, no secret
        colour = (dice.randrange(256), dice.randrange(256), dice.randrange(256))
        with Image.new("RGB", (self.width, self.height), colour) as canvas:
            if rows:
                noise = dice.randbytes(self.width * rows * 3)
                with Image.frombytes("RGB", (self.width, rows), noise) as stripe:
                    canvas.paste(stripe, (0, 0))
            file = io.BytesIO()
            canvas.save(file, "JPEG" if self.is_jpeg else "PNG", **({"quality": 85} if self.is_jpeg else {}))
        return file.getvalue()
