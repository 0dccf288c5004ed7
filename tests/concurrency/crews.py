"""Many sends at once through one sender: by threads, or by tasks of one event loop.

Both crews look alike to a test, which runs in a thread of its own: ``send`` begins a send and gives a future.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, Self

from gewe_cache import AsyncImageSender, ImageSender
from gewe_cache.settings import Tuning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gewe_cache import Image, SentImage
    from gewe_cache.sandbox import Call, Fault, Sandbox
    from gewe_cache.sending.parts import Parts

PATIENCE = 30.0
QUICK = Tuning(lease_poll=0.02, unreached_pauses=(0.01, 0.01))
_LARGEST_CREW = 400
_LOOK_AGAIN = 0.002

Sent = Future["SentImage"]


class Crew(Protocol):
    """Sends images at once."""

    @property
    def parts(self) -> Parts:
        """What the sends share."""

    def send(self, to_wxid: str, image: str | Image, *, app_id: str = ..., refresh: bool = False) -> Sent:
        """Begin a send."""

    def forget(self, image: str) -> bool:
        """Forget an image."""

    def close(self) -> None:
        """Close the sender, whose sends have ended."""


class Threads:
    """A crew of threads that share an ``ImageSender``."""

    def __init__(self, token: str, **options: Any) -> None:
        self.sender = ImageSender(token, **options)
        self._pool = ThreadPoolExecutor(_LARGEST_CREW)

    @property
    def parts(self) -> Parts:
        return self.sender._core.parts

    def send(self, to_wxid: str, image: str | Image, *, app_id: str = "wx_sandbox_1", refresh: bool = False) -> Sent:
        return self._pool.submit(self.sender.send_image, to_wxid, image, app_id=app_id, refresh=refresh)

    def forget(self, image: str) -> bool:
        return self.sender.forget(image)

    def close(self) -> None:
        self.sender.close()
        self._pool.shutdown()


class Tasks:
    """A crew of tasks that share an ``AsyncImageSender``, on a loop in a thread of its own."""

    def __init__(self, token: str, **options: Any) -> None:
        self.sender = AsyncImageSender(token, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    @property
    def parts(self) -> Parts:
        return self.sender._core.parts

    def send(self, to_wxid: str, image: str | Image, *, app_id: str = "wx_sandbox_1", refresh: bool = False) -> Sent:
        sending = self.sender.send_image(to_wxid, image, app_id=app_id, refresh=refresh)
        return asyncio.run_coroutine_threadsafe(sending, self._loop)

    def send_within(self, limit: asyncio.Timeout, to_wxid: str, image: str, app_id: str) -> Sent:
        """Begin a send that is given up once its limit is told to run out."""

        async def bounded() -> SentImage:
            async with limit:
                return await self.sender.send_image(to_wxid, image, app_id=app_id)

        return asyncio.run_coroutine_threadsafe(bounded(), self._loop)

    def run_out(self, limit: asyncio.Timeout) -> None:
        """Let a send's time be over."""
        self._loop.call_soon_threadsafe(limit.reschedule, self._loop.time())

    def forget(self, image: str) -> bool:
        return asyncio.run_coroutine_threadsafe(self.sender.forget(image), self._loop).result(PATIENCE)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.sender.aclose(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


KINDS: dict[str, type[Threads | Tasks]] = {"threads": Threads, "tasks": Tasks}


class Crews:
    """Makes crews for a sandbox, and closes them all."""

    def __init__(self, sandbox: Sandbox, database: str) -> None:
        self._sandbox = sandbox
        self._database = database
        self._made: list[Crew] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sandbox.heal()
        for crew in self._made:
            crew.close()

    def make(self, kind: str, tuning: Tuning = QUICK, **options: Any) -> Crew:
        """Make a crew of threads or tasks."""
        given = {"token": self._sandbox.token, "base_url": self._sandbox.base_url, "database": self._database}
        crew = KINDS[kind](**{**given, **options}, _tuning=tuning)
        self._made.append(crew)
        return crew


def held(fault: Fault) -> Fault:
    """Give a fault that waits for its plan's release before it happens."""
    return replace(fault, holds="before")


def until(condition: Callable[[], bool]) -> None:
    """Wait for what is certain to come; fail where it does not."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(_LOOK_AGAIN)


def waiters(parts: Parts) -> int:
    """Count who waits in memory for a flight."""
    with parts.flights._lock:
        flights = parts.flights._in_the_air.values()
        return sum(not waiter.cancelled() for flight in flights for waiter in flight.waiters)


def queued(parts: Parts, app_id: str) -> int:
    """Count who waits for a device's lane."""
    with parts.lanes._lock:
        _, *behind = parts.lanes._queues.get(app_id, [None])
        return sum(ticket is not None and not ticket.has_left for ticket in behind)


def busy(parts: Parts) -> set[str]:
    """Give the devices whose lanes are held."""
    return set(parts.lanes._queues)


def is_idle(parts: Parts) -> bool:
    """Tell whether no lane is held and no flight is in the air."""
    return not parts.lanes._queues and not parts.flights._in_the_air


def outcomes(sends: Iterable[Sent]) -> list[str]:
    """Wait for sends; give each one's route, or the name of its error."""
    return [outcome(send) for send in sends]


def outcome(send: Sent) -> str:
    """Wait for a send; give its route, or the name of its error."""
    error = send.exception(PATIENCE)
    return type(error).__name__ if error is not None else send.result().route


def uploads(sandbox: Sandbox) -> list[Call]:
    """Give the upload calls that arrived, whatever became of them."""
    return [call for call in sandbox.calls if call.route == "upload"]


def delivered(sandbox: Sandbox) -> list[str]:
    """Give who got a message, once for each."""
    return sorted(delivery.to_wxid for delivery in sandbox.deliveries)
