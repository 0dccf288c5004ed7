"""The async driver: performs the flow's steps on one event loop, the database in a few threads of its own.

Cancellation. A step under way is never cancelled: the caller gets ``CancelledError`` at once, and a task
that the driver owns sees the step to its end and lets the flow save, log and let go of what it holds. A call
of which nothing has been written yet is given up. Steps that would begin something new are refused to such a flow.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gewe_cache.errors import DeliveryUnknown, StoreError
from gewe_cache.image import SentImage
from gewe_cache.log import Log
from gewe_cache.sending.core import Core
from gewe_cache.sending.publishing import publish_async
from gewe_cache.sending.steps import Abandoned, Ask, Demand, Pause, Post, Publish, Wait
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from gewe_cache.gewe.transport import Guard, Posted
    from gewe_cache.sending.steps import Flow, Step

T = TypeVar("T")

_STORE_THREADS = 4
_log = Log("gewe_cache.sending")


class Transport(Protocol):
    """Posts a body, as ``gewe.transport.AsyncTransport`` does."""

    async def post(  # noqa: D102
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float,  # noqa: ASYNC109 - a limit of the whole call, which becomes an outcome
        guard: Guard | None = None,
    ) -> Posted: ...


class _Call:
    """A call in a task of its own. Once it is left it is not begun any more; what has gone out goes on."""

    task: asyncio.Task[Posted]

    def __init__(self, guard: Guard | None) -> None:
        self._guard = guard
        self.is_left = False

    def check(self) -> None:
        """Refuse its first byte where nobody waits for it any more."""
        if self.is_left:
            raise Abandoned
        if self._guard is not None:
            self._guard()


class AsyncDriver:
    """Drives the flows of one sender on one event loop."""

    def __init__(self, core: Core, transport: Transport, executor: ThreadPoolExecutor | None = None) -> None:
        """Begin nothing yet. ``executor``: threads for the database that others use too."""
        self.executor = executor or ThreadPoolExecutor(_STORE_THREADS, thread_name_prefix="gewe_cache store")
        self.tasks: set[asyncio.Task[Any]] = set()
        self._core = core
        self._transport = transport
        self._under_way = 0
        self._idle = asyncio.Event()

    async def settle(self) -> None:
        """Wait for the flows under way, and for what those that were left still have to do."""
        while self._under_way or self.tasks:
            if self.tasks:
                await asyncio.wait(self.tasks)
            else:
                self._idle.clear()
                await self._idle.wait()

    def own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something in a task that ``settle`` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def drive(self, steps: Flow[T]) -> T:
        """Drive a flow to its end; when the caller leaves, it is seen to its end without it."""
        self._under_way += 1
        try:
            step = next(steps)
            while True:
                pending: _Call | Future[Any] | None = None
                try:
                    if isinstance(step, Wait | Pause | Publish):
                        result = await _wait(step)
                    elif self._is_quick(step):
                        result = self._perform_store(step)
                    else:
                        pending = self._begin(step)
                        result = await (asyncio.shield(pending.task) if isinstance(pending, _Call) else _done(pending))
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

    def _begin(self, step: Ask | Demand | Post) -> _Call | Future[Any]:
        """Begin a step that is seen to its end, whoever stops waiting for it."""
        if not isinstance(step, Post):
            return self._submit(step)
        core = self._core
        call = _Call(step.guard)
        posting = self._transport.post(
            core.url_of(step.request), core.headers(), step.request.body, step.timeout, call.check
        )
        call.task = asyncio.get_running_loop().create_task(posting)
        return call

    def _submit(self, step: Ask | Demand) -> Future[Any]:
        done = self._begin_in_a_thread(self._perform_store, step)
        if done.cancelled():
            if not isinstance(step, Ask):
                msg = "No thread can be had for the database. Nothing was changed. Try again."
                raise StoreError(msg)
            done = Future()
            done.set_result(step.otherwise)
        return done

    def _perform_store(self, step: Step) -> Any:  # noqa: ANN401 - each step has its own result
        store = self._core.store
        match step:
            case Ask(operation, otherwise, purpose, write, accepted, about):
                return store.attempt(operation, otherwise, write=write, purpose=purpose, accepted=accepted, about=about)
            case Demand(operation, write):
                return store.demand(operation, write=write)
            case _:
                msg = f"not a step of the store: {step}"
                raise TypeError(msg)

    async def _leave(self, steps: Flow[Any], pending: _Call | Future[Any] | None) -> None:
        """See an abandoned flow to its end, so that the caller can go at once.

        Only a call that is out needs the loop, and a task of ours; all the rest is done in a thread.
        """
        if not isinstance(pending, _Call):
            self._in_a_thread(self._finish_after, steps, pending)
            return
        pending.is_left = True
        if pending.task.cancelling():  # the loop itself is closing down, and waits for no new task
            await _done(self._in_a_thread(self._finish, steps, *await _settle(pending.task)))
            return
        self.own(self._finish_after_call(steps, pending.task))

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

    def _in_a_thread(self, act: Callable[..., None], *arguments: object) -> Future[None]:
        """Do something in a thread, or here where none can be had."""
        done = self._begin_in_a_thread(act, *arguments)
        if done.cancelled():
            done = Future()
            act(*arguments)
            done.set_result(None)
        return done

    def _begin_in_a_thread(self, act: Callable[..., T], *arguments: object) -> Future[T]:
        """Have a thread do something; the future comes back cancelled where none can be had, and none will do it."""
        done: Future[T] = Future()
        try:
            self.executor.submit(_do, done, act, arguments)
        except RuntimeError:
            # There is no thread to be had, or the sender has been shut down at the interpreter's exit. What was
            # submitted may have been queued all the same: a thread that has begun it goes on, none begins it now.
            done.cancel()
        return done


def _do(done: Future[T], act: Callable[..., T], arguments: tuple[object, ...]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        result = act(*arguments)
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is wanted
        done.set_exception(error)
    else:
        done.set_result(result)


def _is_of_the_end(step: Step) -> bool:
    """Tell whether an abandoned flow still needs a step: it saves what GeWe accepted, or lets go of a lease."""
    return isinstance(step, Ask) and step.accepted


async def _wait(step: Wait | Pause | Publish) -> Any:  # noqa: ANN401 - a future's own result
    """Do what is dropped at once when the caller leaves."""
    if isinstance(step, Publish):
        return await publish_async(step)
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
