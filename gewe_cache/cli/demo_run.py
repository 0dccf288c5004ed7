"""What ``gewe-cache demo`` does: images, an imitated GeWe, a real sender, and the proof of what was delivered."""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Final

from gewe_cache.sandbox import Delays, Sandbox
from gewe_cache.sandbox.images import draw
from gewe_cache.sending.sender import ImageSender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gewe_cache.image import Route

_LOOPBACK: Final = "127.0.0.1"
_POLL_SECONDS: Final = 0.1
_SIZES: Final = (
    ("icon.jpg", 640, 480, 50_000),
    ("poster.jpg", 1600, 1200, 500_000),
    ("photo.jpg", 3200, 2400, 5_000_000),
)


@dataclass(frozen=True, slots=True)
class DemoImage:
    """An image that the sandbox serves over HTTP."""

    name: str
    url: str
    size: int
    md5: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A send that has just begun."""

    image: DemoImage
    chat: int
    began_at: float


@dataclass(frozen=True, slots=True)
class Sent:
    """A send that has ended well: by which route, in how many seconds of the caller's time."""

    image: DemoImage
    chat: int
    to_wxid: str
    route: Route
    seconds: float


@dataclass(frozen=True, slots=True)
class Stage:
    """All that the sends need."""

    sandbox: Sandbox
    sender: ImageSender
    images: tuple[DemoImage, ...]
    chats: int


class Courier(threading.Thread):
    """Sends each image to each chat, one after the other, in a thread of its own.

    So Ctrl-C is heard at once everywhere: Windows tells nobody who waits for a socket.
    """

    def __init__(self, stage: Stage) -> None:
        """Send nothing yet."""
        super().__init__(name="gewe-demo", daemon=True)
        self._stage = stage
        self._events: queue.SimpleQueue[Begun | Sent | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Send everything, unless stopped."""
        try:
            self._send_all()
        except BaseException as error:  # noqa: BLE001 - raised again where the events are read
            self._error = error
        finally:
            self._events.put(None)

    def events(self, check: Callable[[], None]) -> Iterator[Begun | Sent]:
        """Give what happens as it happens; ``check`` is called often and may raise.

        Raises:
            GeweCacheError: a send has failed.
        """
        while True:
            check()
            try:
                event = self._events.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if event is None:
                break
            yield event
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the call under way by ending the sandbox, and wait for the thread."""
        self._stopping.set()
        self._stage.sandbox.stop()
        if self.ident is not None:
            self.join()

    def _send_all(self) -> None:
        for image in self._stage.images:
            for chat in range(1, self._stage.chats + 1):
                if self._stopping.is_set():
                    return
                self._send(image, chat)

    def _send(self, image: DemoImage, chat: int) -> None:
        began_at = time.perf_counter()
        self._events.put(Begun(image, chat, began_at))
        sent = self._stage.sender.send_image(chat_id(chat), image.url)
        self._events.put(Sent(image, chat, sent.to_wxid, sent.route, time.perf_counter() - began_at))


@contextmanager
def staged(chats: int, delays: Delays, database: str) -> Iterator[tuple[Stage, Courier]]:
    """Start the sandbox and make the sender; in the end all of it is stopped and closed."""
    with ExitStack() as stack:
        stack.enter_context(_direct_to_loopback())
        stack.enter_context(_quiet_logging())
        _warm_up()
        sandbox = stack.enter_context(Sandbox(delays=delays))
        images = tuple(_host(sandbox, place) for place in range(len(_SIZES)))
        sender = stack.enter_context(_sender_to(sandbox, database))
        sender.lookup(images[0].url)  # makes the tables
        stage = Stage(sandbox, sender, images, chats)
        courier = Courier(stage)
        stack.callback(courier.stop)
        yield stage, courier


def chat_id(chat: int) -> str:
    """Give the id of an imagined group."""
    return f"{34_757_810_000 + chat}@chatroom"


@dataclass(frozen=True, slots=True)
class ImageSavings:
    """What the sends of one image took, and what they saved."""

    image: DemoImage
    upload_seconds: float
    forward_seconds: tuple[float, ...]

    @property
    def median_forward(self) -> float:
        """The middle of the forwards' times."""
        return median(self.forward_seconds)

    @property
    def seconds(self) -> float:
        """What all sends of it took."""
        return self.upload_seconds + sum(self.forward_seconds)

    @property
    def seconds_as_uploads(self) -> float:
        """What they would have taken, had each been an upload like the first."""
        return self.upload_seconds * (1 + len(self.forward_seconds))

    @property
    def seconds_saved(self) -> float:
        """The difference."""
        return self.seconds_as_uploads - self.seconds

    @property
    def bytes_saved(self) -> int:
        """What GeWe did not download, convert and upload again."""
        return self.image.size * len(self.forward_seconds)


def savings_of(sends: Sequence[Sent], images: Sequence[DemoImage]) -> list[ImageSavings]:
    """Add up the times, image by image."""
    return [
        ImageSavings(
            image,
            sum(sent.seconds for sent in sends if sent.image == image and sent.route == "upload"),
            tuple(sent.seconds for sent in sends if sent.image == image and sent.route == "forward"),
        )
        for image in images
    ]


@dataclass(frozen=True, slots=True)
class Proof:
    """What the sandbox recorded: it shares no code with the sender."""

    uploads: int
    forwards: int
    duplicates: int
    is_as_promised: bool


def proof_of(stage: Stage) -> Proof:
    """Read the sandbox's record: each image uploaded once, and delivered once to each chat."""
    sandbox = stage.sandbox
    uploads, forwards, duplicates = sandbox.uploads, sandbox.forwards, sandbox.duplicates()
    chats = {chat_id(chat) for chat in range(1, stage.chats + 1)}
    each_is_right = all(
        sum(delivery.md5 == image.md5 for delivery in uploads) == 1
        and sum(delivery.md5 == image.md5 for delivery in forwards) == stage.chats - 1
        and {each.to_wxid for each in sandbox.deliveries if each.md5 == image.md5} == chats
        for image in stage.images
    )
    return Proof(len(uploads), len(forwards), len(duplicates), each_is_right and not duplicates)


def _sender_to(sandbox: Sandbox, database: str) -> ImageSender:
    return ImageSender(
        sandbox.token,
        sandbox.app_id,
        base_url=sandbox.base_url,
        database=database,
        scope="demo",
        ttl=timedelta(days=3),
    )


def _warm_up() -> None:
    """Send something elsewhere first: what a process loads but once must not pass for an upload's time."""
    with Sandbox() as sandbox, _sender_to(sandbox, "sqlite://") as sender:
        sender.send_image(chat_id(1), sandbox.make_image("warm-up.jpg"))


def _host(sandbox: Sandbox, place: int) -> DemoImage:
    name, width, height, size = _SIZES[place]
    data = draw(name, width=width, height=height, seed=place, approximate_bytes=size)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return DemoImage(name, sandbox.add_image(name, data), len(data), md5)


@contextmanager
def _direct_to_loopback() -> Iterator[None]:
    """Let no proxy of the environment stand between the sender and the sandbox."""
    former = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
    for name, value in former.items():
        os.environ[name] = f"{value},{_LOOPBACK}" if value else _LOOPBACK
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet_logging() -> Iterator[None]:
    """Keep what the sender logs when it is stopped off a terminal that did not ask for it with ``-v``."""
    logger, handler = logging.getLogger("gewe_cache"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
