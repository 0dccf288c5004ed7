"""The sync driver: performs the flow's steps in the calling thread."""

from __future__ import annotations

import os
import threading
import time
import weakref
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from functools import partial
from inspect import GEN_CLOSED, getgeneratorstate
from typing import TYPE_CHECKING, Any, Self, TypeVar

from gewe_cache.gewe.transport import SyncTransport
from gewe_cache.image import as_image
from gewe_cache.sending import flow
from gewe_cache.sending.core import Core
from gewe_cache.sending.publishing import check_publisher, publish_now
from gewe_cache.sending.steps import Abandoned, Ask, Demand, Pause, Post, Publish, Wait
from gewe_cache.settings import DEFAULT_TOKEN_HEADER, Tuning, make_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime, timedelta
    from types import TracebackType

    from gewe_cache.gewe.clients import GivenClient
    from gewe_cache.image import CachedImage, Image, SentImage
    from gewe_cache.sending.counters import Stats
    from gewe_cache.sending.publishing import Publisher
    from gewe_cache.sending.steps import Flow, Step

T = TypeVar("T")

_CLIENT_OF_THE_PARENT = (
    "The http_client passed in belongs to the parent process. Nothing was sent. Make a new sender here."
)
_fork_lock = threading.Lock()


def _renew_fork_lock() -> None:
    global _fork_lock  # noqa: PLW0603 - whoever held it has stayed in the parent
    _fork_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_fork_lock)


class ImageSender:
    """Sends images through GeWe: uploads each once, forwards it ever after. May be shared by threads.

    Args:
        token: GeWe's token; kept in memory only.
        app_id: the device to send from, unless ``send_image`` names one (else ``GEWE_APP_ID``).
        base_url: everything up to ``/message/…`` (else ``GEWE_BASE_URL``, else GeWe's own).
        token_header: the header that carries the token; other services of the same API use other names.
        database: ``sqlite:///FILE`` or ``postgresql://…`` (else ``GEWE_CACHE_DATABASE``, else a SQLite file
            in the user's data folder).
        scope: the pool in which entries may be reused (else ``GEWE_CACHE_SCOPE``, else one per host and
            token). Name one where the token rotates.
        ttl: how long an entry is forwarded after its upload (else ``GEWE_CACHE_TTL``, else 3 days). How long
            GeWe's CDN information lasts is not known; a refused forward falls back to an upload.
        timeout: seconds for one whole call; by default 120 for an upload and 30 for a forward.
        ignore_query: names of query parameters left out of an image's key, such as a signature.
        http_client: an ``httpx.Client`` or ``httpx2.Client`` to use instead of our own; it is not closed.
        publish: called with a ``LocalImage`` when a local image has to be uploaded; returns the URL from which GeWe
            can fetch it, used for that upload alone and not kept. Called once an upload, for different images at
            once by several threads. What it raises becomes ``PublishFailed``, and what is no URL ``InvalidImage``;
            nothing was sent.

    Raises:
        ValueError: naming the argument that is unusable.
        StoreError: PostgreSQL's driver is not installed.
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
        http_client: GivenClient | None = None,
        publish: Publisher | None = None,
        _tuning: Tuning | None = None,
    ) -> None:
        """Check the settings; connects to nothing yet."""
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
        check_publisher(publish, may_be_async=False)
        self._publish = publish
        self._sends = threading.Condition()
        self._under_way: set[object] = set()
        self._closed = False
        self._make_live(http_client)

    def send_image(
        self, to_wxid: str, image: str | Image, *, app_id: str | None = None, refresh: bool = False
    ) -> SentImage:
        """Send an image to a friend or a group.

        Args:
            to_wxid: the recipient.
            image: a URL, or an ``Image``.
            app_id: the device, where it is not the sender's own.
            refresh: upload even if an entry is known, because the image at its URL has changed.

        Raises:
            InvalidImage, ValueError: what was passed is unusable; nothing was sent.
            GeweRefused: GeWe refused; nothing was sent. One of its kinds where the reason is known.
            GeweUnreachable: nothing was sent. ``PublishFailed`` where ``publish=`` failed.
            DeliveryUnknown: it may have been sent; a person should look.
            SchemaOutdated, SchemaUnknown: the database cannot be used as it is; nothing was sent.
            RuntimeError: the sender is closed; nothing was sent.
        """
        return self._run(self._live().send(to_wxid, image, app_id, refresh=refresh))

    def lookup(self, image: str | Image) -> CachedImage | None:
        """Give the fresh entry of an image, or None; also None where the database is away.

        Raises:
            InvalidImage: what was passed is unusable.
            SchemaOutdated, SchemaUnknown: the database cannot be used as it is.
        """
        return self._run(flow.lookup(self._live().parts, as_image(image)))

    def remember(
        self, xml: str, *, image: str | Image | None = None, uploaded_at: datetime | None = None
    ) -> CachedImage:
        """Learn an entry from a received image message.

        Args:
            xml: the message as it came in a callback; ``wxid_…:`` before it is accepted.
            image: the URL or md5 by which to find it; not needed where the XML carries an md5.
            uploaded_at: when it was uploaded, aware; now, where that is not known.

        Raises:
            InvalidXml: it is no image message, or nothing would lead to it.
            InvalidImage, ValueError: ``image`` or ``uploaded_at`` is unusable.
            StoreError: the database failed; nothing was kept.
        """
        known = None if image is None else as_image(image)
        return self._run(flow.remember(self._live().parts, xml, known, uploaded_at))

    def forget(self, image: str | Image) -> bool:
        """Remove an image's entry with all its keys; True when there was one.

        Raises:
            InvalidImage: what was passed is unusable.
            StoreError: the database failed; nothing was changed.
        """
        return self._run(flow.forget(self._live().parts, as_image(image)))

    def stats(self) -> Stats:
        """Give what this sender has done since it was made; asks no database and never fails."""
        return self._core.parts.counters.stats()

    def close(self) -> None:
        """Wait for the sends under way, write the counters and close every connection of our own."""
        if not self._core.is_of_this_process:  # what is under way and connected is the parent's
            self._closed = True
            self._leave_to_parent()
            return
        with self._sends:
            self._closed = True
            self._sends.wait_for(lambda: not self._under_way)
        self._finalizer()

    def __enter__(self) -> Self:
        """Use the sender as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Show what it sends from and where its cache is, without a secret."""
        return f"ImageSender({self._settings.describe()}, {self._core.store.database})"

    def _make_live(self, http_client: GivenClient | None) -> None:
        core = Core.make(self._settings, publish=self._publish)
        self._transport = SyncTransport(http_client)
        self._finalizer = weakref.finalize(self, _shut_down, core, self._transport)
        self._core = core  # the last: by it other threads know that all is made

    def _live(self) -> Core:
        """Give the parts of this process; a fork makes its own."""
        if self._closed:
            msg = "This ImageSender is closed. Nothing was sent. Make a new one."
            raise RuntimeError(msg)
        if not self._core.is_of_this_process:
            self._after_fork()
        return self._core

    def _after_fork(self) -> None:
        with _fork_lock:
            if self._core.is_of_this_process:
                return  # another thread was first
            if self._transport.is_given:
                raise RuntimeError(_CLIENT_OF_THE_PARENT)
            self._leave_to_parent()
            self._sends, self._under_way = threading.Condition(), set()
            self._make_live(None)

    def _leave_to_parent(self) -> None:
        self._finalizer.detach()
        self._core.leave_to_parent(self._transport)

    def _run(self, steps: Flow[T]) -> T:
        return self._while_open(partial(self._perform_all, steps))

    def _while_open(self, act: Callable[[], T]) -> T:
        """Do what ``close`` waits for."""
        use = object()
        try:
            self._begin(use)
            return act()
        finally:
            try:
                self._end(use)
            except BaseException:  # Ctrl-C at this very moment
                self._end(use)
                raise

    def _begin(self, use: object) -> None:
        self._live()
        with self._sends:
            self._live()
            self._under_way.add(use)

    def _end(self, use: object) -> None:
        with self._sends:
            self._under_way.discard(use)
            if self._closed:
                self._sends.notify_all()

    def _perform_all(self, steps: Flow[T]) -> T:
        """Drive a flow to its end, also where Ctrl-C comes between two of its steps."""
        try:
            return self._drive(steps)
        except BaseException as error:
            if getgeneratorstate(steps) != GEN_CLOSED:
                self._let_go(steps, error)
            raise

    def _drive(self, steps: Flow[T]) -> T:
        """Drive a flow; what a step raises is raised inside the flow."""
        try:
            step = next(steps)
            while True:
                try:
                    result = self._perform(step)
                except BaseException as error:  # noqa: BLE001 - the flow must let go of its lane and flight
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as finished:
            value: T = finished.value
            return value

    def _let_go(self, steps: Flow[Any], error: BaseException) -> None:
        """Raise inside a flow what came between its steps; of those that follow, perform what ends it."""
        with suppress(BaseException):  # the caller raises what came
            step = steps.throw(error)
            while True:
                is_of_the_end = isinstance(step, Ask) and step.accepted
                step = steps.send(self._perform(step)) if is_of_the_end else steps.throw(Abandoned())

    def _perform(self, step: Step) -> Any:  # noqa: ANN401 - each step has its own result
        core = self._core
        match step:
            case Post(request, timeout, guard):
                return self._transport.post(core.url_of(request), core.headers(), request.body, timeout, guard)
            case Ask(operation, otherwise, purpose, write, accepted, about):
                return core.store.attempt(
                    operation, otherwise, write=write, purpose=purpose, accepted=accepted, about=about
                )
            case Demand(operation, write):
                return core.store.demand(operation, write=write)
            case Publish():
                return publish_now(step)
            case Wait() | Pause():
                return _wait(step)


def _wait(step: Wait | Pause) -> Any:  # noqa: ANN401 - a future's own result
    if isinstance(step, Pause):
        time.sleep(step.seconds)
        return None
    try:
        return step.future.result(step.seconds)
    except FutureTimeoutError:
        return step.otherwise


def _shut_down(core: Core, transport: SyncTransport) -> None:
    if core.is_of_this_process:
        core.shut_down()
        transport.close()
