"""The public senders: those of ``sending``, and broadcasts, whose parts are loaded when the first one is sent."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from gewe_cache.image import as_image
from gewe_cache.sending import async_sender, sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gewe_cache.broadcast.pace import Pace
    from gewe_cache.broadcast.run import Listener
    from gewe_cache.broadcast.service import Broadcasts
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

        start.check_no_loop()
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

        start.check_no_loop()
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

        ``recipients`` is read in a thread. When the task is cancelled, the calls that are out finish first; when it
        is cancelled again, it ends at once.
        """
        from gewe_cache.broadcast import start  # noqa: PLC0415 - slow to load, and most bots send single images

        core = self._live()
        with start.broadcasts_of(core) as opened:
            begin = partial(start.begin, opened, image, recipients, app_id, pace, again=again)
            found = await asyncio.to_thread(begin)
            return await opened.run(
                found, self._driver, pace=pace, listener=start.listener(on_delivery), given=as_image(image)
            )

    async def resume_broadcast(
        self,
        broadcast_id: int,
        *,
        pace: Pace | None = None,
        resend_unknown: bool = False,
        on_delivery: OnDelivery | None = None,
        image: Image | None = None,
    ) -> Broadcast:
        """Go on with a broadcast; see ``ImageSender.resume_broadcast``."""
        from gewe_cache.broadcast import start  # noqa: PLC0415 - slow to load, and most bots send single images

        core = self._live()
        with start.broadcasts_of(core) as opened:
            found = await asyncio.to_thread(start.find, opened, broadcast_id, image, resend_unknown=resend_unknown)
            return await opened.run(found, self._driver, pace=pace, listener=start.listener(on_delivery), given=image)
