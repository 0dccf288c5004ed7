"""How the public senders begin a broadcast, or go on with one, and see it through when their caller leaves."""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from gewe_cache.broadcast.pace import MANY_IN_HALF_AN_HOUR, Pace
from gewe_cache.broadcast.recipients import from_items
from gewe_cache.broadcast.run import Listener
from gewe_cache.broadcast.service import Broadcasts, broadcasts_of
from gewe_cache.gewe.transport import check_async_calls
from gewe_cache.image import as_image
from gewe_cache.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gewe_cache.broadcast.senders import OnDelivery, To
    from gewe_cache.gewe.transport import SyncTransport
    from gewe_cache.image import Image
    from gewe_cache.store.broadcasts import Broadcast

__all__ = ["Broadcasts", "begin", "broadcasts_of", "check_can_run", "find", "in_a_thread", "listener", "see_through"]

T = TypeVar("T")

_log = Log("gewe_cache.broadcast")


def check_can_run(transport: SyncTransport) -> None:
    """See, before anything is written down, that a loop of our own can run in this thread, and make calls.

    Raises:
        RuntimeError: another loop runs.
        ValueError: ``GEWE_CACHE_HTTP`` names something unknown, or not installed.
    """
    if not transport.is_given:
        check_async_calls()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    msg = (
        "An event loop runs in this thread already. Nothing was sent. Use AsyncImageSender, or call this in a thread: "
        "await asyncio.to_thread(…)."
    )
    raise RuntimeError(msg)


def begin(
    opened: Broadcasts,
    image: str | Image,
    recipients: Iterable[To],
    app_id: str | None,
    pace: Pace | None,
    *,
    again: bool,
) -> Broadcast:
    """Write a broadcast down and open it; see ``ImageSender.broadcast``."""
    device = app_id if app_id is not None else opened.core.settings.app_id
    if isinstance(recipients, str):
        msg = "recipients: pass a list of wxids, not one string. Nothing was sent."
        raise TypeError(msg)
    plan = opened.prepare(as_image(image), from_items(recipients, device), pace or Pace.gewe())
    opened.open(plan, again=again)
    _log.log(
        logging.INFO,
        "broadcast %s: %s recipients, %s devices, at least %s",
        plan.broadcast_id,
        plan.recipients,
        len(plan.shares),
        plan.duration,
    )
    if plan.busy_devices:
        _log.warning(
            "broadcast %s: %s devices have over %s recipients; GeWe advises at most about so many in half an hour",
            plan.broadcast_id,
            len(plan.busy_devices),
            MANY_IN_HALF_AN_HOUR,
        )
    return opened.find(plan.broadcast_id)


def find(opened: Broadcasts, broadcast_id: int, image: Image | None, *, resend_unknown: bool) -> Broadcast:
    """Find a broadcast to go on with; see ``ImageSender.resume_broadcast``."""
    found = opened.check_resumable(broadcast_id, image)
    if resend_unknown:
        opened.resend_unknown(broadcast_id)
    return found


def listener(on_delivery: OnDelivery | None) -> Listener:
    """Give a listener that calls this, where there is one to call."""
    return Listener() if on_delivery is None else Listener(on_delivery=on_delivery)


async def in_a_thread(opened: Broadcasts, act: Callable[[], T]) -> T:
    """Do something in a thread; who is cancelled meanwhile leaves once it has ended."""
    return await see_through(opened, asyncio.get_running_loop().run_in_executor(None, copy_context().run, act))


async def see_through(opened: Broadcasts, work: asyncio.Future[T]) -> T:
    """Wait for work; who is cancelled meanwhile stops it and waits on, and leaves it to itself when cancelled again."""
    work.add_done_callback(_read_error)
    try:
        await asyncio.wait([work])
    except asyncio.CancelledError:
        opened.stop()
        await asyncio.wait([work])
        raise
    return work.result()


def _read_error(work: asyncio.Future[Any]) -> None:
    if not work.cancelled():
        work.exception()  # nobody may be left to raise it to
