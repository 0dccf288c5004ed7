"""Broadcasts of one sender, from the list of recipients to the report; both senders and the command line use it."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gewe_cache.broadcast.clock import Clock
from gewe_cache.broadcast.images import check_uploadable, image_of
from gewe_cache.broadcast.lane import longest_pause
from gewe_cache.broadcast.pace import MANY_IN_HALF_AN_HOUR, Pace
from gewe_cache.broadcast.recipients import BadRecipients, Recipient, check
from gewe_cache.broadcast.run import Limits, Listener, Run
from gewe_cache.broadcast.writer import LedgerWriter
from gewe_cache.errors import AlreadyBroadcast, StoreError
from gewe_cache.gewe.transport import AsyncTransport, SyncTransport, ThreadTransport
from gewe_cache.keys import host_of
from gewe_cache.sending import flow
from gewe_cache.sending.async_driver import AsyncDriver
from gewe_cache.store import broadcasts, entries, leases, ledger
from gewe_cache.store.broadcasts import Broadcast, Repeats, Share
from gewe_cache.store.guard import describe
from gewe_cache.store.ledger import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from gewe_cache.gewe.transport import Guard
    from gewe_cache.image import Image, SentImage
    from gewe_cache.sending.core import Core
    from gewe_cache.store.ledger import Claim

T = TypeVar("T")

_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """A broadcast that is written down and not begun.

    Attributes:
        broadcast_id: by which it is begun or discarded.
        shares: what each device is to send.
        duplicates: recipients that were dropped.
        repeats: whom the image reached within 24 hours, or is about to reach.
        is_cached: the image is forwarded from the first send on.
        duration: how long the pauses of the slowest device take, GeWe's own time not counted.
    """

    broadcast_id: int
    shares: tuple[Share, ...]
    duplicates: int
    repeats: Repeats
    is_cached: bool
    duration: timedelta

    @property
    def recipients(self) -> int:
        """How many are to get the image."""
        return sum(share.friends + share.groups for share in self.shares)

    @property
    def busy_devices(self) -> tuple[str, ...]:
        """Devices with more recipients than GeWe advises for half an hour."""
        return tuple(share.app_id for share in self.shares if share.friends + share.groups > MANY_IN_HALF_AN_HOUR)


class Stopped(RuntimeError):
    """It was stopped before it could send; a broadcast that was to begin is not kept."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("The broadcast was stopped before it could send. Nothing was sent. Start it again.")


@dataclass(slots=True, eq=False)
class Broadcasts:
    """The broadcasts of one sender. Not to be shared between threads; close it in the end."""

    core: Core
    limits: Limits = field(default_factory=Limits)
    clock: Clock = field(default_factory=Clock)
    _is_stopped: bool = False
    _writer: LedgerWriter | None = None
    _run: Run | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    def prepare(self, image: Image, recipients: Iterable[Recipient], pace: Pace) -> Plan:
        """Write down who is to get the image; nothing is sent.

        Raises:
            ValueError: recipients that cannot be sent to, by their places, or none at all.
            InvalidImage: it is not in the cache, and there is nothing to upload it from.
            Stopped: by ``stop``, called meanwhile.
            StoreError: the database cannot be used.
        """
        settings = self.core.settings
        is_cached = self._perform(partial(self._is_cached, image=image))
        if not is_cached:
            check_uploadable(self.core.parts, image)
        broadcast_id = self._perform(
            partial(
                self._make,
                image=image,
                ignore_query=settings.ignore_query,
                base_url=settings.base_url,
                scope=settings.scope,
                pace=pace.to_json(),
            )
        )
        try:
            given = self._add(broadcast_id, recipients)
            plan = partial(self._plan, broadcast_id=broadcast_id, given=given, pace=pace, is_cached=is_cached)
            return self._perform(plan)
        except BaseException:
            with suppress(StoreError):  # what is left of it is swept away later
                self.discard(broadcast_id)
            raise

    def discard(self, broadcast_id: int) -> None:
        """Forget a plan that is not begun."""
        self._perform(partial(broadcasts.discard, broadcast_id=broadcast_id))

    def open(self, plan: Plan, *, again: bool = False) -> None:
        """Let a plan be sent, unless the image went to some of its recipients lately.

        Raises:
            AlreadyBroadcast: it did, and ``again`` is false; the plan is discarded.
            Stopped: by ``stop``; the plan is discarded.
        """
        try:
            self._perform(partial(self._open, broadcast_id=plan.broadcast_id, again=again))
        except (AlreadyBroadcast, Stopped):
            with suppress(StoreError):
                self.discard(plan.broadcast_id)
            raise

    def find(self, broadcast_id: int) -> Broadcast:
        """Give a broadcast that was begun.

        Raises:
            ValueError: there is none of that id.
        """
        found = self._perform(partial(self._find, broadcast_id=broadcast_id))
        if found is None or found.state == "preparing":
            msg = f"There is no broadcast {broadcast_id} in this database. Run: gewe-cache broadcast list"
            raise ValueError(msg)
        return found

    def check_resumable(self, broadcast_id: int, given: Image | None = None) -> Broadcast:
        """Give a broadcast that this sender may go on with, with the image that is ``given``, if one is.

        Raises:
            ValueError: there is none, it is cancelled, or it was begun with another base URL, scope or image.
        """
        found, settings = self.find(broadcast_id), self.core.settings
        if found.state == "cancelled":
            msg = f"Broadcast {broadcast_id} is cancelled. Nothing was sent. Start a new one."
            raise ValueError(msg)
        for name, theirs, ours in (
            ("base_url", found.base_url, settings.base_url),
            ("scope", found.scope, settings.scope),
        ):
            if theirs != ours:
                option = f"--{name.replace('_', '-')}"
                msg = (
                    f"{name}: broadcast {broadcast_id} was begun with {theirs}, and this sender has {ours}. "
                    f"Nothing was sent. Pass {option} {theirs} ({name}=)."
                )
                raise ValueError(msg)
        image_of(found, given)
        return found

    def shares(self, broadcast_id: int) -> list[Share]:
        """Give what each device has still to send."""
        return self._perform(partial(broadcasts.shares, broadcast_id=broadcast_id))

    def resend_unknown(self, broadcast_id: int) -> int:
        """Make pending what is unknown, at the user's word, unless it was stopped; give how many."""
        return self._perform(partial(self._resend_unknown, broadcast_id=broadcast_id))

    async def run(
        self,
        found: Broadcast,
        driver: AsyncDriver,
        *,
        pace: Pace | None,
        listener: Listener,
        given: Image | None = None,
    ) -> Broadcast:
        """Work on an open broadcast until this sender has nothing left to send.

        ``given``: its image, where that is a local one: the database keeps no more of it than its md5.

        Raises:
            ImageRefused, InvalidImage, PublishFailed, StoreError: it holds for all that is left; that stays pending.
            ValueError: ``given`` is another image.
        """
        parts, image = self.core.parts, image_of(found, given)

        async def send_one(claim: Claim, guard: Guard) -> SentImage:
            return await driver.drive(flow.send(parts, claim.app_id, claim.to_wxid, image, guard=guard))

        is_image_known = await driver.drive(flow.lookup(parts, image)) is not None
        if not is_image_known and found.pending:
            check_uploadable(parts, image, found.id)
        chosen = pace or Pace.from_json(found.pace)
        self._loop = asyncio.get_running_loop()
        self._run = run = Run(
            self._worker(found, chosen),
            self._open_writer(),
            send_one,
            chosen,
            is_image_known=is_image_known,
            limits=self.limits,
            listener=listener,
            clock=self.clock,
        )
        if self._is_stopped:
            run.stop()
        await run.work()
        return replace(await asyncio.to_thread(self.find, found.id), stopped=run.stopped)

    def run_now(
        self,
        found: Broadcast,
        *,
        pace: Pace | None,
        listener: Listener,
        given: Image | None = None,
        transport: SyncTransport | None = None,
    ) -> Broadcast:
        """Do what ``run`` does on an event loop of its own, with the lanes, cache and counters of the sender.

        Args:
            found: as for ``run``.
            pace: as for ``run``.
            listener: as for ``run``.
            given: as for ``run``.
            transport: posts the calls, in threads, where a client was passed in.

        Raises:
            RuntimeError: an event loop runs in this thread already.
        """
        return asyncio.run(self._run_on_a_loop(found, pace, listener, given, transport))

    def stop(self) -> None:
        """Let the run begin nothing more; it returns when the calls that are out have finished.

        What is not open yet is not opened any more. May be called from a signal handler or another thread.
        """
        self._is_stopped = True
        run, loop = self._run, self._loop
        if run is not None and loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and the run with it
                loop.call_soon_threadsafe(run.stop)

    async def _run_on_a_loop(
        self,
        found: Broadcast,
        pace: Pace | None,
        listener: Listener,
        given: Image | None,
        given_transport: SyncTransport | None,
    ) -> Broadcast:
        transport = AsyncTransport() if given_transport is None else ThreadTransport(given_transport)
        driver = AsyncDriver(self.core, transport)
        try:
            return await self.run(found, driver, pace=pace, listener=listener, given=given)
        except (KeyboardInterrupt, SystemExit):  # who wants the end at once does not wait for the calls that are out
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            raise
        finally:
            await driver.settle()
            await transport.aclose()
            driver.executor.shutdown()

    def close(self) -> None:
        """Close the connections to the ledger."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _perform(self, operation: Callable[[Connection], T]) -> T:
        try:
            return self._open_writer().perform_now(operation)
        except (DBAPIError, PoolTimeout, OSError) as error:
            msg = (
                f"The database failed ({describe(error)}). What was sent is written down, and nothing more was sent. "
                f"Check {self.core.store.database}, then look: gewe-cache broadcast list"
            )
            raise StoreError(msg) from None

    def _open_writer(self) -> LedgerWriter:
        if self._writer is None:
            self._writer = LedgerWriter(self.core)
        return self._writer

    def _make(self, connection: Connection, image: Image, ignore_query: frozenset[str], **about: str) -> int:
        now = self._now(connection)
        broadcasts.sweep(connection, now)
        return broadcasts.prepare(connection, image, ignore_query, now=now, **about)

    def _add(self, broadcast_id: int, recipients: Iterable[Recipient]) -> int:
        """Write down the recipients, some at a time; give how many there were."""
        bad, given = BadRecipients(), 0
        checked = check(self._until_stopped(recipients), bad)
        while some := list(islice(checked, _AT_ONCE)):
            if not bad.count:
                add = partial(broadcasts.add_recipients, broadcast_id=broadcast_id, first=given + 1, recipients=some)
                self._perform(add)
            given += len(some)
        if bad.count:
            raise ValueError(bad.describe())
        if not given:
            msg = "recipients: the list is empty. Nothing was sent."
            raise ValueError(msg)
        return given

    def _until_stopped(self, recipients: Iterable[Recipient]) -> Iterator[Recipient]:
        for recipient in recipients:
            self._check_wanted()
            yield recipient

    def _check_wanted(self) -> None:
        if self._is_stopped:
            raise Stopped

    def _is_cached(self, connection: Connection, image: Image) -> bool:
        parts = self.core.parts
        entry = entries.find(connection, parts.key_of(image).digest, parts.settings.ttl)
        return entry is not None and parts.is_fresh(entry)

    def _plan(self, connection: Connection, broadcast_id: int, given: int, pace: Pace, *, is_cached: bool) -> Plan:
        duplicates = broadcasts.count_duplicates(connection, broadcast_id, given)
        shares = tuple(broadcasts.shares(connection, broadcast_id))
        repeats = broadcasts.find_repeats(connection, broadcast_id, self._now(connection))
        return Plan(broadcast_id, shares, duplicates, repeats, is_cached, duration_of(shares, pace))

    def _open(self, connection: Connection, broadcast_id: int, *, again: bool) -> None:
        broadcasts.lock(connection)
        self._check_wanted()
        repeats = broadcasts.find_repeats(connection, broadcast_id, self._now(connection))
        if repeats.recipients and not again:
            raise AlreadyBroadcast(repeats.recipients, repeats.broadcast_ids)
        broadcasts.open_for_sending(connection, broadcast_id)

    def _find(self, connection: Connection, broadcast_id: int) -> Broadcast | None:
        length = timedelta(seconds=self.limits.lane_seconds)
        return broadcasts.find(connection, broadcast_id, self._now(connection), length)

    def _resend_unknown(self, connection: Connection, broadcast_id: int) -> int:
        """Settle first what a worker that is gone was sending: it is shown as unknown already."""
        self._check_wanted()
        host, length = host_of(self.core.settings.base_url), timedelta(seconds=self.limits.lane_seconds)
        ledger.settle_expired(connection, host, broadcast_id, self._now(connection), length)
        return broadcasts.resend_unknown(connection, broadcast_id)

    def _now(self, connection: Connection) -> datetime:
        return leases.read_clock(connection) if connection.dialect.name == "postgresql" else self.clock.now()

    def _worker(self, found: Broadcast, pace: Pace) -> Worker:
        return Worker(
            name=secrets.token_hex(16),
            broadcast_id=found.id,
            host=host_of(found.base_url),
            lane_length=timedelta(seconds=self.limits.lane_seconds),
            longest_pause=longest_pause(pace),
            ready_after_lost=pace.ready_after_lost,
        )


def duration_of(shares: Sequence[Share], pace: Pace) -> timedelta:
    """Give how long the pauses of the slowest device take, GeWe's own time not counted."""
    return max((pace.estimate(share.friends, share.groups) for share in shares), default=timedelta(0))


@contextmanager
def broadcasts_of(core: Core, limits: Limits | None = None, clock: Clock | None = None) -> Iterator[Broadcasts]:
    """Open the broadcasts of a sender, and close their connections in the end."""
    opened = Broadcasts(core, limits or Limits(), clock or Clock())
    try:
        yield opened
    finally:
        opened.close()
