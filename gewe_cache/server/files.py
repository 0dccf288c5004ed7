"""Images that clients have handed in, hosted until GeWe has fetched them. In memory alone; no I/O.

A file has a random name, which is all that leads to it, and the md5 of its content beside it: so its URL, used as
``imgUrl``, is known for what it is also when the content is no longer needed, or was handed in to another server.
What is kept, and what is being read, is bounded in number and in bytes.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gewe_cache.image import Image
from gewe_cache.local_image import EXTENSIONS, LocalImage
from gewe_cache.sending.server_client import FILES_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gewe_cache.server.settings import Limits

_RANDOM_BYTES: Final = 24
_NAME: Final = re.compile(rf"[A-Za-z0-9_-]{{32}}/([0-9a-f]{{32}})\.(?:{'|'.join(EXTENSIONS.values())})")


class NoRoomError(Exception):
    """Too many files, or too many bytes, are kept or being read."""


@dataclass(frozen=True, slots=True)
class HostedImage(LocalImage):
    """A content with the URL under which it is hosted."""

    url: str = field(default="", repr=False)


@dataclass(slots=True)
class _Kept:
    """A file, how many sends use it, and whether one of them was accepted."""

    image: HostedImage
    timer: asyncio.TimerHandle
    users: int = 0
    is_sent: bool = False


@dataclass(slots=True)
class Lent:
    """An image on its way; ``is_sent`` is told by who sends it."""

    image: Image
    is_sent: bool = False


class Files:
    """What is hosted. Belongs to one event loop."""

    def __init__(self, public_url: str | None, limits: Limits) -> None:
        """Host nothing yet; without ``public_url`` nothing ever is."""
        self.public_url = public_url
        self._limits = limits
        self._kept: dict[str, _Kept] = {}
        self._bytes = 0

    @property
    def is_lending(self) -> bool:
        """Tell whether a send of a file is under way."""
        return any(kept.users for kept in self._kept.values())

    def take_room(self, size: int) -> None:
        """Make room for some more bytes of a body that is being read.

        Raises:
            NoRoomError: too many are held already.
        """
        if self._bytes + size > self._limits.file_bytes:
            raise NoRoomError
        self._bytes += size

    def give_room_back(self, size: int) -> None:
        """Hold these bytes no longer."""
        self._bytes -= size

    def host(self, content: bytes) -> HostedImage:
        """Keep an image until it has been sent, or has expired.

        Raises:
            NoRoomError: too much is kept already.
        """
        if len(self._kept) >= self._limits.files:
            raise NoRoomError
        local = LocalImage.of_bytes(content)
        url = f"{self.public_url}{FILES_PATH}/{secrets.token_urlsafe(_RANDOM_BYTES)}/{local.name}"
        hosted = HostedImage(local.md5, local.size, local.content_type, None, content, url)
        self.take_room(hosted.size)
        self._keep(hosted)
        return hosted

    def get(self, name: str) -> HostedImage | None:
        """Give the file of a name: what stands in its URL after ``…/files/``."""
        kept = self._kept.get(name)
        return None if kept is None else kept.image

    @contextmanager
    def lend(self, image: Image) -> Iterator[Lent]:
        """Give an image as it is to be sent: by its md5 and its content where its URL is of a file handed in here.

        Once a send of a file is accepted, and no other is under way, it is dropped.
        """
        name = self._name_of(image.url)
        match = None if name is None else _NAME.fullmatch(name)
        if name is None or match is None:
            yield Lent(image)
            return
        kept = self._kept.get(name)
        if kept is None:
            yield Lent(Image(md5=match[1]))
            return
        lent = Lent(Image.of_local(kept.image))
        kept.users += 1
        try:
            yield lent
        finally:
            kept.users -= 1
            kept.is_sent |= lent.is_sent
            present = self._kept.get(name)  # another one, where it expired meanwhile and was kept anew
            if kept.is_sent and present is not None and not present.users:
                self._drop(name)

    async def publish(self, local: LocalImage) -> str:
        """Give the URL of a file that is about to be uploaded, and keep it for that long."""
        assert isinstance(local, HostedImage)  # noqa: S101 - no other content comes to the server's senders
        name = self._name_of(local.url) or ""
        kept = self._kept.get(name)
        if kept is None:  # expired in its device's queue
            self._bytes += local.size
            self._keep(local)
        else:
            kept.timer.cancel()
            kept.timer = self._begin_to_expire(name)
        return local.url

    def _keep(self, hosted: HostedImage) -> None:
        name = self._name_of(hosted.url) or ""
        self._kept[name] = _Kept(hosted, self._begin_to_expire(name))

    def _begin_to_expire(self, name: str) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._limits.file_seconds, self._drop, name)

    def _drop(self, name: str) -> None:
        kept = self._kept.pop(name, None)
        if kept is not None:
            kept.timer.cancel()
            self._bytes -= kept.image.size

    def _name_of(self, url: str | None) -> str | None:
        prefix = f"{self.public_url}{FILES_PATH}/"
        if self.public_url is None or url is None or not url.startswith(prefix):
            return None
        return url.removeprefix(prefix)
