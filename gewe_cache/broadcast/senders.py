"""The public senders: those of ``sending``, and broadcasts, whose parts are loaded when the first one is sent."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gewe_cache.image import as_image
from gewe_cache.sending import async_sender, sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gewe_cache.broadcast.pace import Pace
    from gewe_cache.broadcast.run import Listener
    from gewe_cache.broadcast.service import Broadcasts
    from gewe_cache.gewe.clients import GivenAsyncClient
    from gewe_cache.image import Image
    from gewe_cache.store.broadcasts import Broadcast, Delivery

    To = str | tuple[str, str]
    OnDelivery = Callable[[Delivery], None]


class ImageSender(sender.ImageSender):
    """Sends images through GeWe: uploads each once, forwards it ever after. May be shared by threads."""

    __doc__ = sender.ImageSender.__doc__

    def broadcast(
        self,
        image: str | Image,
        recipients: Iterable[To],
        *,
        app_id: str | None = None,
        pace: Pace | None = None,
        again: bool = False,
        on_delivery: OnDelivery | None = None,
    ) -> Broadcast:
        """Send an image to many recipients, once to each, and return when nothing more can be sent.

        Every delivery is written down before its send begins and after it ends. Ctrl-C lets the calls that are out
        finish; ``resume_broadcast`` goes on with the rest. Where an event loop runs already, use ``AsyncImageSender``.

        Args:
            image: a URL, or an ``Image``.
            recipients: wxids, and (app_id, wxid) pairs where several devices send. It is read once, and not kept.
            app_id: the device of those that name none; by default the sender's own.
            pace: by default ``Pace.gewe()``: 1 s after a friend, 2 to 5 s after a group, 40 a minute.
            again: send it although it went to some of them within 24 hours.
            on_delivery: called after each try, once its outcome is written down.

        Raises:
            ValueError, TypeError: recipients or an argument are unusable; nothing was sent.
            RuntimeError: the sender is closed, or an event loop runs in this thread; nothing was sent.
            AlreadyBroadcast: the image went, or is going, to some of them; nothing was sent.
            ImageRefused, InvalidImage, PublishFailed: the image cannot be used, or not be made reachable for GeWe;
                what is left stays pending.
            StoreError: the database cannot be used, or was away for too long; what is left stays pending.
        """
        from gewe_cache.broadcast import start  # noqa: PLC0415 - slow to load, and most bots send single images

        start.check_can_run(self._transport)
        with start.broadcasts_of(self._live()) as opened:
            found = start.begin(opened, image, recipients, app_id, pace, again=again)
            return self._work(opened, found, pace, start.listener(on_delivery), as_image(image))

    def resume_broadcast(
        self,
        broadcast_id: int,
        *,
        pace: Pace | None = None,
        resend_unknown: bool = False,
        on_delivery: OnDelivery | None = None,
        image: Image | None = None,
    ) -> Broadcast:
        """Go on with a broadcast; what may have been sent is not sent again.

        Args:
            broadcast_id: ``Broadcast.id``.
            pace: by default the pace with which it was begun.
            resend_unknown: send also to those of whom it is unknown whether they have it. A person should have
                looked: whoever has it gets it twice.
            on_delivery: as in ``broadcast``.
            image: the local image with which it was begun, if it may have to be uploaded: no more than its md5 is
                kept.

        Raises:
            ValueError: there is none of that id, it is cancelled, or was begun with another base URL, scope or image.
            ImageRefused, InvalidImage, PublishFailed, RuntimeError, StoreError: as for ``broadcast``.
        """
        from gewe_cache.broadcast import start  # noqa: PLC0415 - slow to load, and most bots send single images

        start.check_can_run(self._transport)
        with start.broadcasts_of(self._live()) as opened:
            found = start.find(opened, broadcast_id, image, resend_unknown=resend_unknown)
            return self._work(opened, found, pace, start.listener(on_delivery), image)

    def _work(
        self,
        opened: Broadcasts,
        found: Broadcast,
        pace: Pace | None,
        listener: Listener,
        image: Image | None = None,
    ) -> Broadcast:
        def work() -> Broadcast:
            given = self._transport if self._transport.is_given else None
            return opened.run_now(found, pace=pace, listener=listener, given=image, transport=given)

        return self._while_open(work)


class AsyncImageSender(async_sender.AsyncImageSender):
    """Sends images through GeWe, as ``ImageSender`` does, for one event loop."""

    __doc__ = async_sender.AsyncImageSender.__doc__

    async def broadcast(
        self,
        image: str | Image,
        recipients: Iterable[To],
        *,
        app_id: str | None = None,
        pace: Pace | None = None,
        again: bool = False,
        on_delivery: OnDelivery | None = None,
    ) -> Broadcast:
        """Send an image to many recipients; see ``ImageSender.broadcast``.

        ``recipients`` is read in a thread. When the task is cancelled, nothing more begins and the calls that are out
        finish first; a broadcast whose recipients are still being read is not begun at all. When the task is
        cancelled again, it ends at once, and the sender sees to the rest: ``aclose`` waits until the calls that are
        out are written down. ``aclose`` stops a broadcast in the same way: it returns, and what is left stays pending.

        Raises:
            RuntimeError: also where ``aclose`` was called while recipients were read; nothing was sent.
        """
        from gewe_cache.broadcast import start  # noqa: PLC0415 - slow to load, and most bots send single images

        def begin(opened: Broadcasts) -> Broadcast:
            return start.begin(opened, image, recipients, app_id, pace, again=again)

        return await self._see_through(begin, pace, start.listener(on_delivery), image)

    async def resume_broadcast(
        self,
        broadcast_id: int,
        *,
        pace: Pace | None = None,
        resend_unknown: bool = False,
        on_delivery: OnDelivery | None = None,
        image: Image | None = None,
    ) -> Broadcast:
        """Go on with a broadcast; see ``ImageSender.resume_broadcast``, and ``broadcast`` on how it is stopped."""
        from gewe_cache.broadcast import start  # noqa: PLC0415 - slow to load, and most bots send single images

        def find(opened: Broadcasts) -> Broadcast:
            return start.find(opened, broadcast_id, image, resend_unknown=resend_unknown)

        return await self._see_through(find, pace, start.listener(on_delivery), image)

    async def aclose(self) -> None:
        """Stop the broadcasts under way, wait for the calls that are out, and close every connection of our own.

        The ends of the calls are written down before it returns; what is left of the broadcasts stays pending.
        """
        self._closed = True
        if self._core.is_of_this_process:
            for opened in self._at_work:
                opened.stop()
        await super().aclose()

    def _make_live(self, http_client: GivenAsyncClient | None) -> None:
        super()._make_live(http_client)
        self._at_work: set[Broadcasts] = set()

    async def _see_through(
        self,
        find: Callable[[Broadcasts], Broadcast],
        pace: Pace | None,
        listener: Listener,
        image: str | Image | None,
    ) -> Broadcast:
        """Work on a broadcast in a task of the driver's, which ``aclose`` waits for, whoever has left meanwhile."""
        from gewe_cache.broadcast import start  # noqa: PLC0415 - slow to load, and most bots send single images

        opened, driver, at_work = start.Broadcasts(self._live()), self._driver, self._at_work
        given = None if image is None else as_image(image)

        async def work() -> Broadcast:
            try:
                found = await start.in_a_thread(opened, partial(find, opened))
                return await opened.run(found, driver, pace=pace, listener=listener, given=given)
            finally:
                at_work.discard(opened)
                opened.close()

        at_work.add(opened)
        return await start.see_through(opened, driver.own(work()))
