"""Both senders behind one face, so that one contract is held against both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gewe_cache import AsyncImageSender, ImageSender

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from datetime import datetime

    from gewe_cache import CachedImage, Image, SentImage, Stats

T = TypeVar("T")


class Sender(Protocol):
    """The public API, blocking."""

    @property
    def raw(self) -> ImageSender | AsyncImageSender: ...

    def send_image(
        self, to_wxid: str, image: str | Image, *, app_id: str | None = None, refresh: bool = False
    ) -> SentImage: ...

    def lookup(self, image: str | Image) -> CachedImage | None: ...

    def remember(
        self, xml: str, *, image: str | Image | None = None, uploaded_at: datetime | None = None
    ) -> CachedImage: ...

    def forget(self, image: str | Image) -> bool: ...

    def stats(self) -> Stats: ...

    def close(self) -> None: ...


class SyncDriver:
    """An ``ImageSender`` as it is."""

    def __init__(self, **arguments: Any) -> None:
        self.raw = ImageSender(**arguments)
        self.send_image = self.raw.send_image
        self.lookup = self.raw.lookup
        self.remember = self.raw.remember
        self.forget = self.raw.forget
        self.stats = self.raw.stats
        self.close = self.raw.close


class AsyncDriver:
    """An ``AsyncImageSender`` with a loop of its own."""

    def __init__(self, **arguments: Any) -> None:
        self.raw = AsyncImageSender(**arguments)
        self._runner = asyncio.Runner()

    def send_image(
        self, to_wxid: str, image: str | Image, *, app_id: str | None = None, refresh: bool = False
    ) -> SentImage:
        return self._run(self.raw.send_image(to_wxid, image, app_id=app_id, refresh=refresh))

    def lookup(self, image: str | Image) -> CachedImage | None:
        return self._run(self.raw.lookup(image))

    def remember(
        self, xml: str, *, image: str | Image | None = None, uploaded_at: datetime | None = None
    ) -> CachedImage:
        return self._run(self.raw.remember(xml, image=image, uploaded_at=uploaded_at))

    def forget(self, image: str | Image) -> bool:
        return self._run(self.raw.forget(image))

    def stats(self) -> Stats:
        return self._run(self.raw.stats())

    def close(self) -> None:
        self._run(self.raw.aclose())

    def end(self) -> None:
        """End the loop; nothing can be called any more."""
        self._runner.close()

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)
