"""What the tests of faults share: senders of every kind behind one face, a world to send in, what must hold of it."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from unittest.mock import patch

import httpx
import httpx2
from httpx_aiohttp import HttpxAiohttpClient

from gewe_cache import AsyncImageSender, DeliveryUnknown, ImageSender
from gewe_cache.sandbox import Sandbox
from gewe_cache.settings import Tuning

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gewe_cache import Image, SentImage

FAST = Tuning(
    lease_seconds=2.0,
    lease_renewal=0.5,
    lease_poll=0.05,
    store_pause=0.3,
    usage_interval=0.2,
    front_trust=30.0,
    unreached_pauses=(0.01, 0.01),
    database_timeout=0.5,
)
PATIENCE = 30.0
SCOPE = "faults"
DRIVERS = ("sync", "async")
GIVEN_CLIENTS = ("sync httpx", "sync httpx2", "async httpx", "async httpx2", "async aiohttp")
CLIENTS = ("sync own", "async own", "async fast", *GIVEN_CLIENTS)
_MAKERS: dict[str, Callable[..., Any]] = {
    "sync httpx": httpx.Client,
    "sync httpx2": httpx2.Client,
    "async httpx": httpx.AsyncClient,
    "async httpx2": httpx2.AsyncClient,
    "async aiohttp": HttpxAiohttpClient,
}


class Driver(Protocol):
    """A sender that is sent from and closed in the same way, be it sync or async."""

    sender: Any
    http_client: Any

    def begin(self, to_wxid: str, image: str | Image, **options: Any) -> Future[SentImage]: ...

    def run(self, what: Callable[[], Any]) -> Any: ...

    def close(self) -> None: ...


def send(driver: Driver, to_wxid: str, image: str | Image, **options: Any) -> SentImage:
    """Send and wait."""
    return driver.begin(to_wxid, image, **options).result(PATIENCE)


def limit_calls(driver: Driver, seconds: float) -> None:
    """Let every call from now on take at most so long."""
    for name in ("upload_timeout", "forward_timeout"):
        object.__setattr__(driver.sender._settings, name, seconds)


class SyncDriver:
    """An ``ImageSender``, used from threads."""

    def __init__(self, kind: str, client_options: dict[str, Any], settings: dict[str, Any]) -> None:
        maker = _MAKERS.get(kind)
        self.http_client = maker(**client_options) if maker is not None else None
        self._threads = ThreadPoolExecutor(64)
        self.sender = ImageSender(http_client=self.http_client, **settings)

    def begin(self, to_wxid: str, image: str | Image, **options: Any) -> Future[SentImage]:
        return self._threads.submit(self.sender.send_image, to_wxid, image, **options)

    def run(self, what: Callable[[], Any]) -> Any:
        """Call in another thread."""
        return self._threads.submit(what).result(PATIENCE)

    def close(self) -> None:
        self.sender.close()
        if self.http_client is not None:
            self.http_client.close()
        self._threads.shutdown()


class AsyncDriver:
    """An ``AsyncImageSender`` on an event loop in a thread; whatever that loop complains of fails the test."""

    def __init__(self, kind: str, client_options: dict[str, Any], settings: dict[str, Any]) -> None:
        self.complaints: list[dict[str, Any]] = []
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._loop.set_exception_handler(lambda _loop, context: self.complaints.append(context))
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._runner.run, args=(self._stop.wait(),), daemon=True)
        self._thread.start()
        maker = _MAKERS.get(kind)
        self.http_client = self.run(lambda: maker(**client_options)) if maker is not None else None
        with patch.dict(os.environ, {"GEWE_CACHE_HTTP": "aiohttp"} if kind == "async fast" else {}):
            self.sender = AsyncImageSender(http_client=self.http_client, **settings)

    def begin(self, to_wxid: str, image: str | Image, **options: Any) -> Future[SentImage]:
        return self.start(self.sender.send_image(to_wxid, image, **options))

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, what: Callable[[], Any]) -> Any:
        """Call on the loop, and wait for what it gives if that can be awaited."""

        async def call() -> Any:
            result = what()
            return await result if asyncio.iscoroutine(result) else result

        return self.start(call()).result(PATIENCE)

    def close(self) -> None:
        try:
            self.run(self.sender.aclose)
            if self.http_client is not None:
                self.run(self.http_client.aclose)
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(PATIENCE)
            self._runner.close()
        assert self.complaints == []


@dataclass
class World:
    """A sandbox, a database and an image; senders of it are closed when the test ends."""

    sandbox: Sandbox
    database: str
    image: str
    drivers: list[Driver] = field(default_factory=list)
    begun: list[tuple[str, Future[SentImage]]] = field(default_factory=list)

    def open(self, kind: str = "sync own", **changes: Any) -> Driver:
        """Make a sender of one of ``CLIENTS``; keywords replace its settings (``client``: its client's)."""
        client_options = {"trust_env": False, "verify": False, **changes.pop("client", {})}
        settings = {
            "token": self.sandbox.token,
            "app_id": self.sandbox.app_id,
            "base_url": self.sandbox.base_url,
            "database": self.database,
            "scope": SCOPE,
            "timeout": 20.0,
            "_tuning": FAST,
            **changes,
        }
        make = SyncDriver if kind.startswith("sync") else AsyncDriver
        driver = make(kind, client_options, settings)
        self._note_what_begins(driver)
        self.drivers.append(driver)
        return driver

    def close(self) -> None:
        """Close every sender, then the sandbox, also where one of them fails; hold what they said of their sends."""
        self.sandbox.heal()
        try:
            while self.drivers:
                self.drivers.pop().close()
            self._check_what_ended()
        finally:
            for driver in self.drivers:
                with suppress(Exception):
                    driver.close()
            self.sandbox.stop()

    def _note_what_begins(self, driver: Driver) -> None:
        begin = driver.begin

        def begin_noted(to_wxid: str, image: str | Image, **options: Any) -> Future[SentImage]:
            future = begin(to_wxid, image, **options)
            self.begun.append((to_wxid, future))
            return future

        vars(driver)["begin"] = begin_noted

    def _check_what_ended(self) -> None:
        """Hold that nobody got more than was said to have, or to may have, been sent: none twice, none "failed"."""
        may_have = Counter(to_wxid for to_wxid, future in self.begun if _may_have_been_sent(future))
        delivered = Counter(delivery.to_wxid for delivery in self.sandbox.deliveries)
        begun = {to_wxid for to_wxid, _ in self.begun}
        assert {to_wxid: n for to_wxid, n in delivered.items() if to_wxid in begun and n > may_have[to_wxid]} == {}

    def calls_to(self, to_wxid: str) -> int:
        """Count the calls that arrived for a recipient."""
        return sum(call.to_wxid == to_wxid for call in self.sandbox.calls)

    def deliveries_to(self, to_wxid: str) -> int:
        """Count what a recipient got."""
        return sum(delivery.to_wxid == to_wxid for delivery in self.sandbox.deliveries)

    def check_delivered(self, *sent: SentImage) -> None:
        """Hold that every accepted send was delivered, and nothing twice."""
        delivered = [delivery.new_msg_id for delivery in self.sandbox.deliveries]
        assert {each.new_msg_id for each in sent} <= set(delivered)
        assert self.sandbox.duplicates() == []


def _may_have_been_sent(future: Future[SentImage]) -> bool:
    if not future.done() or future.cancelled():
        return True
    error = future.exception()
    return error is None or not isinstance(error, Exception) or isinstance(error, DeliveryUnknown)


def warnings_of(records: list[logging.LogRecord], word: str) -> list[str]:
    """Give the warnings in our own log that begin with a word."""
    ours = [record for record in records if record.name.startswith("gewe_cache")]
    lines = [record.getMessage() for record in ours if record.levelno >= logging.WARNING]
    return [line for line in lines if line.startswith(word)]


def until(condition: Callable[[], object]) -> bool:
    """Wait until something holds; tell whether it did within the patience of a test."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
