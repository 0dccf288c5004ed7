"""``publish=``: making a local image reachable for GeWe, right before its upload.

The leader of a flight calls it, once an upload, without its device's lane: other sends of the device go on
meanwhile, and when it is done the leader has the next turn. The file is read through before and after, so that
what is uploaded is what was named. The URL is used for this one upload: it becomes no key and is not kept.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gewe_cache.errors import InvalidImage, PublishFailed
from gewe_cache.image import check_url
from gewe_cache.sending.calls import enter_lane
from gewe_cache.sending.flight import Ending
from gewe_cache.sending.steps import Abandoned, Flow, Publish
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from gewe_cache.local_image import LocalImage
    from gewe_cache.sending.flight import Flight
    from gewe_cache.sending.lanes import Ticket
    from gewe_cache.sending.parts import Errand, Parts

Publisher = Callable[["LocalImage"], str]
AsyncPublisher = Callable[["LocalImage"], str | Awaitable[str]]


def check_publisher(publish: object, *, may_be_async: bool) -> None:
    """Check the argument ``publish``.

    Raises:
        ValueError: it is no function that this sender can call.
    """
    if publish is not None and not callable(publish):
        msg = "publish: pass a function that takes a LocalImage and returns a URL."
        raise ValueError(msg)
    if inspect.iscoroutinefunction(publish) and not may_be_async:
        msg = "publish: an async function needs AsyncImageSender; pass ImageSender one that is not async."
        raise ValueError(msg)


def published_url(parts: Parts, errand: Errand, local: LocalImage, flight: Flight, ticket: Ticket) -> Flow[str]:
    """Have an image published, and give its URL.

    Raises:
        InvalidImage: the file is not what it was; or what came back is no URL for GeWe.
        PublishFailed: the function failed.
    """
    assert parts.publish is not None  # noqa: S101 - who calls has looked
    parts.lanes.leave(ticket)
    flight.ending = Ending("take_over", "its leader left before its call, or its file had changed")
    try:
        url: object = yield Publish(parts.publish, local)
    except (Abandoned, InvalidImage):
        raise
    except Exception as error:
        flight.ending = Ending("failed", f"publish= failed with {type(error).__name__}")
        if isinstance(error, PublishFailed):
            raise
        reason = f"{type(error).__name__}: {one_line(error)}"
        msg = f"Nothing was sent to {one_line(errand.to_wxid)}: publish= failed ({reason}). Send again."
        raise PublishFailed(msg) from error
    checked = _checked(url, flight)
    yield from enter_lane(parts, ticket, is_back=True)
    return checked


def _checked(url: object, flight: Flight) -> str:
    ending, flight.ending = flight.ending, Ending("failed", "publish= gave no usable URL")
    if not isinstance(url, str):
        msg = f"publish= gave no URL but {type(url).__name__}. Nothing was sent."
        raise InvalidImage(msg)
    try:
        check_url(url)
    except InvalidImage as error:
        msg = f"publish= gave an unusable URL. {error} Nothing was sent."
        raise InvalidImage(msg) from None
    flight.ending = ending
    return url


def publish_now(step: Publish) -> object:
    """Perform the step in this thread."""
    step.image.check()
    url = step.publish(step.image)
    if inspect.iscoroutine(url):
        url.close()
    step.image.check()
    return url


async def publish_async(step: Publish) -> object:
    """Perform the step on an event loop: what is not async runs in a thread."""
    await asyncio.to_thread(step.image.check)
    if inspect.iscoroutinefunction(step.publish):
        url = await step.publish(step.image)
    else:
        url = await asyncio.to_thread(_call, step)
        if inspect.isawaitable(url):
            url = await url
    await asyncio.to_thread(step.image.check)
    return url


def _call(step: Publish) -> object:
    try:
        return step.publish(step.image)
    except StopIteration as error:  # no future can hold it: whoever waits would wait for ever
        msg = "publish= raised StopIteration"
        raise RuntimeError(msg) from error
