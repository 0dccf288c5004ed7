"""The async sender: the public methods, its loop, its end. ``async_driver`` performs the steps."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar

from gewe_cache.gewe.transport import AsyncTransport
from gewe_cache.image import as_image
from gewe_cache.sending import flow
from gewe_cache.sending.async_driver import AsyncDriver
from gewe_cache.sending.core import Core
from gewe_cache.sending.publishing import check_publisher
from gewe_cache.settings import DEFAULT_TOKEN_HEADER, Tuning, make_settings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import ThreadPoolExecutor
    from datetime import datetime, timedelta
    from types import TracebackType

    from gewe_cache.gewe.clients import GivenAsyncClient
    from gewe_cache.image import CachedImage, Image, SentImage
    from gewe_cache.sending.counters import Stats
    from gewe_cache.sending.publishing import AsyncPublisher
    from gewe_cache.sending.shared import Shared
    from gewe_cache.sending.steps import Flow

T = TypeVar("T")


class AsyncImageSender:
    """Sends images through GeWe, as ``ImageSender`` does, for one event loop.

    The arguments are those of ``ImageSender``; ``http_client`` is an ``httpx.AsyncClient`` or an
    ``httpx2.AsyncClient``, and ``publish`` may be async: one that is not runs in a thread. When a send is cancelled,
    ``CancelledError`` is raised at once; a call that has gone out is finished, saved and logged all the same, and
    ``aclose`` waits for it. A broadcast that is cancelled waits for its calls itself, unless it is cancelled again.
    ``aclose`` stops broadcasts under way: their calls finish and are written down, what is left stays pending.
    """

    def __init__(  # noqa: PLR0913 - the design's public signature
        self,
        token: str,
        app_id: str | None = None,
        *,
        base_url: str | None = None,
        token_header: str = DEFAULT_TOKEN_HEADER,
        database: str | None = None,
        scope: str | None = None,
        ttl: timedelta | None = None,
        timeout: float | None = None,
        ignore_query: Iterable[str] = (),
        http_client: GivenAsyncClient | None = None,
        publish: AsyncPublisher | None = None,
        _tuning: Tuning | None = None,
        _shared: Shared | None = None,
    ) -> None:
        """Check the settings; connects to nothing yet, and needs no running loop."""
        self._settings = make_settings(
            token,
            app_id,
            base_url=base_url,
            token_header=token_header,
            database=database,
            scope=scope,
            ttl=ttl,
            timeout=timeout,
            ignore_query=ignore_query,
            tuning=_tuning,
        )
        check_publisher(publish, may_be_async=True)
        self._publish = publish
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._shared = _shared
        self._make_live(http_client)

    async def send_image(
        self, to_wxid: str, image: str | Image, *, app_id: str | None = None, refresh: bool = False
    ) -> SentImage:
        """Send an image; see ``ImageSender.send_image``."""
        return await self._run(self._live().send(to_wxid, image, app_id, refresh=refresh))

    async def lookup(self, image: str | Image) -> CachedImage | None:
        """Give the fresh entry of an image; see ``ImageSender.lookup``."""
        return await self._run(flow.lookup(self._live().parts, as_image(image)))

    async def remember(
        self, xml: str, *, image: str | Image | None = None, uploaded_at: datetime | None = None
    ) -> CachedImage:
        """Learn an entry from a received image message; see ``ImageSender.remember``."""
        known = None if image is None else as_image(image)
        return await self._run(flow.remember(self._live().parts, xml, known, uploaded_at))

    async def forget(self, image: str | Image) -> bool:
        """Remove an image's entry with all its keys; see ``ImageSender.forget``."""
        return await self._run(flow.forget(self._live().parts, as_image(image)))

    async def stats(self) -> Stats:
        """Give what this sender has done since it was made; see ``ImageSender.stats``."""
        return self._core.parts.counters.stats()

    async def aclose(self) -> None:
        """Wait for the calls that are out, write the counters and close every connection of our own."""
        self._closed = True
        if not self._core.is_of_this_process:  # what is under way and connected is the parent's
            self._leave_to_parent()
            return
        await self._driver.settle()
        if self._shared is None:
            await self._transport.aclose()
        await asyncio.to_thread(self._finalizer)

    async def __aenter__(self) -> Self:
        """Use the sender as a context manager."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()

    def __repr__(self) -> str:
        """Show what it sends from and where its cache is, without a secret."""
        return f"AsyncImageSender({self._settings.describe()}, {self._core.store.database})"

    async def _run(self, steps: Flow[T]) -> T:
        return await self._driver.drive(steps)

    def _make_live(self, http_client: GivenAsyncClient | None) -> None:
        shared = self._shared
        self._core = Core.make(self._settings, None if shared is None else shared.store, self._publish)
        self._transport = AsyncTransport(http_client) if shared is None else shared.transport
        self._driver = AsyncDriver(self._core, self._transport, None if shared is None else shared.executor)
        # Of the driver: it outlives a sender that is dropped while a call is out.
        own_executor = self._driver.executor if shared is None else None
        self._finalizer = weakref.finalize(self._driver, _shut_down, self._core, own_executor)

    def _live(self) -> Core:
        """Give the parts of this process and loop; a fork makes its own."""
        if self._closed:
            msg = "This AsyncImageSender is closed. Nothing was sent. Make a new one."
            raise RuntimeError(msg)
        if not self._core.is_of_this_process:
            self._after_fork()
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            msg = "This AsyncImageSender belongs to another event loop. Nothing was sent. Make one per loop."
            raise RuntimeError(msg)
        self._loop = loop
        return self._core

    def _after_fork(self) -> None:
        if self._transport.is_given:
            msg = "The http_client passed in belongs to the parent process. Nothing was sent. Make a new sender here."
            raise RuntimeError(msg)
        self._leave_to_parent()
        self._loop = None
        self._make_live(None)

    def _leave_to_parent(self) -> None:
        self._finalizer.detach()
        self._core.leave_to_parent(self._transport, self._driver)


def _shut_down(core: Core, executor: ThreadPoolExecutor | None) -> None:
    if core.is_of_this_process:
        with suppress(RuntimeError):  # collected in a thread of the executor, which cannot wait for itself
            if executor is not None:
                executor.shutdown()
        core.shut_down()
