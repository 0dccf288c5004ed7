"""The async driver: performs the flow's steps on one event loop, the database in a few threads of its own.

Cancellation. A step under way is never cancelled: the caller gets ``CancelledError`` at once, and a task
that the sender owns sees the step to its end and lets the flow save, log and let go of what it holds. Steps
that would begin something new are refused to such a flow.
"""

from __future__ import annotations

import asyncio
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

from gewe_cache.errors import DeliveryUnknown
from gewe_cache.gewe.transport import AsyncTransport
from gewe_cache.image import SentImage, as_image
from gewe_cache.log import Log
from gewe_cache.sending import flow
from gewe_cache.sending.core import Core
from gewe_cache.sending.steps import Abandoned, Ask, Demand, Pause, Post, Wait
from gewe_cache.settings import DEFAULT_TOKEN_HEADER, Tuning, make_settings
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime, timedelta
    from types import TracebackType

    from gewe_cache.gewe.transport import GivenAsyncClient
    from gewe_cache.image import CachedImage, Image
    from gewe_cache.sending.counters import Stats
    from gewe_cache.sending.shared import Shared
    from gewe_cache.sending.steps import Flow, Step

T = TypeVar("T")

_STORE_THREADS = 4
_log = Log("gewe_cache.sending")


class AsyncImageSender:
    """Sends images through GeWe, as ``ImageSender`` does, for one event loop.

    The arguments are those of ``ImageSender``; ``http_client`` is an ``httpx.AsyncClient`` or an
    ``httpx2.AsyncClient``. When a send is cancelled, ``CancelledError`` is raised at once; a call that has gone
    out is finished, saved and logged all the same, and ``aclose`` waits for it.
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
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._shared = _shared
        self._make_live(http_client)

    async def send_image(
        self, to_wxid: str, image: str | Image, *, app_id: str | None = None, refresh: bool = False
    ) -> SentImage:
        """Send an image; see ``ImageSender.send_image``."""
        return await self._drive(self._live().send(to_wxid, image, app_id, refresh=refresh))

    async def lookup(self, image: str | Image) -> CachedImage | None:
        """Give the fresh entry of an image; see ``ImageSender.lookup``."""
        return await self._drive(flow.lookup(self._live().parts, as_image(image)))

    async def remember(
        self, xml: str, *, image: str | Image | None = None, uploaded_at: datetime | None = None
    ) -> CachedImage:
        """Learn an entry from a received image message; see ``ImageSender.remember``."""
        known = None if image is None else as_image(image)
        return await self._drive(flow.remember(self._live().parts, xml, known, uploaded_at))

    async def forget(self, image: str | Image) -> bool:
        """Remove an image's entry with all its keys; see ``ImageSender.forget``."""
        return await self._drive(flow.forget(self._live().parts, as_image(image)))

    async def stats(self) -> Stats:
        """Give what this sender has done since it was made; see ``ImageSender.stats``."""
        return self._core.parts.counters.stats()

    async def aclose(self) -> None:
        """Wait for the calls that are out, write the counters and close every connection of our own."""
        self._closed = True
        if not self._core.is_of_this_process:  # what is under way and connected is the parent's
            self._leave_to_parent()
            return
        while self._under_way or self._tasks:
            if self._tasks:
                await asyncio.wait(self._tasks)
            else:
                self._idle.clear()
                await self._idle.wait()
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

    def _make_live(self, http_client: GivenAsyncClient | None) -> None:
        if self._shared is not None:
            self._core = Core.make(self._settings, self._shared.store)
            self._transport, self._executor = self._shared.transport, self._shared.executor
            self._finalizer = weakref.finalize(self, _shut_down, self._core, None)
            return
        self._core = Core.make(self._settings)
        self._transport = AsyncTransport(http_client)
        self._executor = ThreadPoolExecutor(_STORE_THREADS, thread_name_prefix="gewe_cache store")
        self._finalizer = weakref.finalize(self, _shut_down, self._core, self._executor)

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
        self._tasks, self._loop, self._under_way, self._idle = set(), None, 0, asyncio.Event()
        self._make_live(None)

    def _leave_to_parent(self) -> None:
        self._finalizer.detach()
        self._core.leave_to_parent(self._transport, self._executor, self._tasks)

    async def _drive(self, steps: Flow[T]) -> T:
        """Drive a flow to its end; when the caller leaves, it is seen to its end without it."""
        self._under_way += 1
        try:
            step = next(steps)
            while True:
                pending: asyncio.Task[Any] | Future[Any] | None = None
                try:
                    if isinstance(step, Wait | Pause):
                        result = await _wait(step)
                    elif self._is_quick(step):
                        result = self._perform_store(step)
                    else:
                        pending = self._begin(step)
                        result = await (
                            asyncio.shield(pending) if isinstance(pending, asyncio.Task) else _done(pending)
                        )
                except asyncio.CancelledError:
                    await self._leave(steps, pending)
                    raise
                except GeneratorExit as closing:
                    self._finish(steps, None, closing)
                    raise
                except BaseException as error:  # noqa: BLE001 - the flow must let go of its lane and flight
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as finished:
            value: T = finished.value
            return value
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    def _is_quick(self, step: Ask | Demand | Post) -> bool:
        """Tell whether a step is a keyed read that is cheaper here than in another thread."""
        return isinstance(step, Ask) and not step.write and self._core.store.reads_inline

    def _begin(self, step: Ask | Demand | Post) -> asyncio.Task[Any] | Future[Any]:
        """Begin a step that is seen to its end, whoever stops waiting for it."""
        if not isinstance(step, Post):
            return self._submit(step)
        core = self._core
        call = self._transport.post(core.url_of(step.request), core.headers(), step.request.body, step.timeout)
        return asyncio.get_running_loop().create_task(call)

    def _submit(self, step: Ask | Demand) -> Future[Any]:
        try:
            return self._executor.submit(self._perform_store, step)
        except RuntimeError:  # no thread can be had
            if not isinstance(step, Ask):
                raise
            done: Future[Any] = Future()
            done.set_result(step.otherwise)
            return done

    def _perform_store(self, step: Step) -> Any:  # noqa: ANN401 - each step has its own result
        store = self._core.store
        match step:
            case Ask(operation, otherwise, purpose, write, accepted):
                return store.attempt(operation, otherwise, write=write, purpose=purpose, accepted=accepted)
            case Demand(operation, write):
                return store.demand(operation, write=write)
            case _:
                msg = f"not a step of the store: {step}"
                raise TypeError(msg)

    async def _leave(self, steps: Flow[Any], pending: asyncio.Task[Any] | Future[Any] | None) -> None:
        """See an abandoned flow to its end, so that the caller can go at once.

        Only a call that is out needs the loop, and a task of ours; all the rest is done in a thread.
        """
        if not isinstance(pending, asyncio.Task):
            self._in_a_thread(self._finish_after, steps, pending)
            return
        if pending.cancelling():  # the loop itself is closing down, and waits for no new task
            await _done(self._executor.submit(self._finish, steps, *await _settle(pending)))
            return
        task = asyncio.get_running_loop().create_task(self._finish_after_call(steps, pending))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish_after_call(self, steps: Flow[Any], call: asyncio.Task[Any]) -> None:
        self._in_a_thread(self._finish, steps, *await _settle(call))

    def _finish_after(self, steps: Flow[Any], pending: Future[Any] | None) -> None:
        error = Abandoned() if pending is None else pending.exception()
        self._finish(steps, pending.result() if pending is not None and error is None else None, error)

    def _finish(self, steps: Flow[Any], result: object, error: BaseException | None) -> None:
        """Drive an abandoned flow to its end: it saves and lets go of what it holds, and begins nothing."""
        try:
            step = steps.send(result) if error is None else steps.throw(error)
            while True:
                step = steps.send(self._perform_store(step)) if _is_of_the_end(step) else steps.throw(Abandoned())
        except StopIteration as finished:
            _note_end_without_caller(finished.value)
        except (Abandoned, asyncio.CancelledError, GeneratorExit, DeliveryUnknown):
            return  # nothing went out, or the flow has logged that it is unknown
        except Exception as raised:  # noqa: BLE001 - nobody is left to raise it to
            _log.warning("a send whose caller has left ended with: %s", one_line(raised))

    def _in_a_thread(self, act: Callable[..., None], *arguments: object) -> None:
        try:
            self._executor.submit(act, *arguments)
        except RuntimeError:  # the sender has been shut down meanwhile, at the interpreter's exit
            act(*arguments)


def _is_of_the_end(step: Step) -> bool:
    """Tell whether an abandoned flow still needs a step: it saves what GeWe accepted, or lets go of a lease."""
    return isinstance(step, Ask) and step.accepted


async def _wait(step: Wait | Pause) -> Any:  # noqa: ANN401 - a future's own result
    if isinstance(step, Pause):
        await asyncio.sleep(step.seconds)
        return None
    try:
        async with asyncio.timeout(step.seconds):
            return await asyncio.wrap_future(step.future)
    except TimeoutError:
        return step.otherwise


async def _done(pending: Future[Any]) -> Any:  # noqa: ANN401 - a future's own result
    """Wait for what runs in a thread; who stops waiting does not stop it."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake(_: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_set_done, waiter)

    pending.add_done_callback(wake)
    await waiter
    return pending.result()


async def _settle(call: asyncio.Task[Any]) -> tuple[Any, BaseException | None]:
    try:
        return await call, None
    except BaseException as error:  # noqa: BLE001 - it is raised inside the flow
        return None, error


def _set_done(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _note_end_without_caller(result: object) -> None:
    if isinstance(result, SentImage):
        _log.warning(
            "a send whose caller has left was accepted: %s to %s from device %s, newMsgId %s",
            result.route,
            one_line(result.to_wxid),
            one_line(result.app_id),
            result.new_msg_id,
        )


def _shut_down(core: Core, executor: ThreadPoolExecutor | None) -> None:
    if core.is_of_this_process:
        with suppress(RuntimeError):  # collected in a thread of the executor, which cannot wait for itself
            if executor is not None:
                executor.shutdown()
        core.shut_down()
