"""One worker of a broadcast: a loop of turns at the ledger, and the sends between them.

Each turn is one transaction (``store.ledger.take_turn``): it writes how sends ended and claims what is due.
The rules:

* A send begins after its delivery is *sending* in the database. While the database is away nothing is begun.
* Right before a call is written its lane is checked once more, by both clocks: a worker that was stopped
  past its lane's expiry sends nothing.
* Until the image is known to be in the cache, one send at a time: a refused image costs one call.
* Who stops (Ctrl-C, a cancelled task) lets the calls that are out finish and writes how they ended; what
  waits is dropped before its call, and stays pending.
* Where the loop itself ends, and cancels the calls and the run, how they ended is written all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gewe_cache.broadcast import turns
from gewe_cache.broadcast.clock import Clock, Moment
from gewe_cache.broadcast.lane import Lane
from gewe_cache.broadcast.outcomes import judge
from gewe_cache.errors import StoreError
from gewe_cache.image import SentImage
from gewe_cache.log import Log
from gewe_cache.sending.steps import Abandoned
from gewe_cache.store.broadcasts import Delivery
from gewe_cache.store.guard import describe
from gewe_cache.store.ledger import Claim, Ended, Turn, Worker
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gewe_cache.broadcast.pace import Pace
    from gewe_cache.gewe.transport import Guard

T = TypeVar("T")
SendOne = Callable[[Claim, "Guard"], Awaitable[SentImage]]

_log = Log("gewe_cache.broadcast")

_AWAY_PAUSE = 1.0
_SHARED_POLL = 0.5
_SHORTEST_WAIT = 0.01


class Writer(Protocol):
    """Performs operations of the ledger, one after the other, each in a durable transaction."""

    async def perform(self, operation: Callable[[Connection], T]) -> T:
        """Perform one; whatever the database raises is raised."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Lengths of time in seconds, and how many sends at once.

    Attributes:
        lane_seconds, lane_renewal: for how long a lane is held, and how often it is kept.
        most_at_once: sends under way in one worker.
        patience: how long a worker waits for a database that is away.
    """

    lane_seconds: float = 15.0
    lane_renewal: float = 5.0
    most_at_once: int = 1000
    patience: float = 600.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told: of each delivery once its end is in the ledger, and of what holds the broadcast up."""

    on_delivery: Callable[[Delivery], None] = lambda _: None
    on_notice: Callable[[str], None] = lambda _: None


@dataclass(slots=True, eq=False)
class _Sending:
    """A claim under way, and when its lane was last known to be the worker's."""

    run: Run
    claim: Claim
    held_at: Moment
    is_lost: bool = False

    def check(self) -> None:
        """Refuse to let the call go out where the lane may be another's by now."""
        run = self.run
        if run.is_stopping or self.is_lost or not self.held_at.is_within(run.worker.lane_length, run.clock):
            raise Abandoned


class Run:
    """A worker at work on one broadcast."""

    def __init__(
        self,
        worker: Worker,
        writer: Writer,
        send_one: SendOne,
        pace: Pace,
        *,
        is_image_known: bool,
        limits: Limits,
        listener: Listener,
        clock: Clock,
    ) -> None:
        """Begin nothing yet."""
        self.worker = worker
        self.clock = clock
        self.is_stopping = False
        self._writer = writer
        self._send_one = send_one
        self._pace = pace
        self._is_image_known = is_image_known
        self._limits = limits
        self._listener = listener
        self._lanes: dict[str, Lane] = {}
        self._under_way: dict[int, _Sending] = {}
        self._ended: list[Ended] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._tended_at: Moment | None = None
        self._away_since: float | None = None
        self._ahead = timedelta(0)
        self._error: BaseException | None = None
        self._has_given_up = False
        self._told_of_others = False

    @property
    def stopped(self) -> dict[str, str]:
        """The devices that send nothing more in this run, and why."""
        return {app_id: lane.stopped for app_id, lane in self._lanes.items() if lane.stopped is not None}

    async def work(self) -> None:
        """Send until nothing is left that this worker can send.

        Raises:
            ImageRefused, InvalidImage, PublishFailed, StoreError: it holds for all that is left; that stays pending.
            CancelledError: after the calls that were out have finished; at once when cancelled again.
        """
        working = asyncio.ensure_future(self._work())
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            self.stop()
            await asyncio.shield(working)
            raise
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Begin nothing more; what is out finishes."""
        if not self.is_stopping and self._under_way:
            self._heard(self._listener.on_notice, f"stopping after the sends under way: {len(self._under_way):,}")
        self.is_stopping = True
        self._wake.set()

    async def _work(self) -> None:
        try:
            await self._take_turns()
        except asyncio.CancelledError:
            await self._write_what_ended()
            raise

    async def _write_what_ended(self) -> None:
        """Write the ends of calls that were cancelled with the run, and give back what the turn under way claimed."""
        self.stop()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._take_turn(is_after_lost=True)

    async def _take_turns(self) -> None:
        while True:
            self._wake.clear()
            turn = await self._take_turn()
            if self._is_over(turn):
                return
            self._tell_of_others(turn)
            if turn is None:
                await self.clock.wait(asyncio.Event(), _AWAY_PAUSE)
            else:
                await self.clock.wait(self._wake, self._until_next(turn))

    def _is_over(self, turn: Turn | None) -> bool:
        if self._under_way:
            return False
        if turn is None:
            return self._has_given_up or (self.is_stopping and not self._ended)
        if self._ended:
            return False
        return self.is_stopping or (turn.ready_at is None and not turn.is_shared)

    async def _take_turn(self, *, is_after_lost: bool = False) -> Turn | None:
        """Take a turn, and begin what it claimed; None where the database is away."""
        asked_at, ended = Moment.read(self.clock), self._ended[:]
        operation = partial(
            turns.take,
            worker=self.worker,
            clock=self.clock,
            ended=ended,
            sending=frozenset(self._under_way),
            room=self._room(),
            stopped=[*self.stopped, *(each.claim.app_id for each in self._under_way.values() if each.is_lost)],
            busy=frozenset(each.claim.app_id for each in self._under_way.values()),
            is_first=self._tended_at is None,
            is_back=is_after_lost or self._away_since is not None,
            tend=self._tended_at is None or not self._tended_at.is_within(self._renewal, self.clock),
        )
        try:
            turn = await self._writer.perform(operation)
        except (DBAPIError, PoolTimeout, OSError) as error:
            self._note_away(error)
            return None
        except Exception as error:  # noqa: BLE001 - what is out must finish first; then it is raised
            self._give_up(error)
            return None
        self._note_back()
        self._ahead = turn.now - self.clock.now()
        if not turn.is_open:
            self.stop()
        del self._ended[: len(ended)]
        if turn.kept is not None:
            self._keep(turn.kept, asked_at)
        for claim in turn.claims:
            self._begin(_Sending(self, claim, asked_at))
        for each in ended:
            self._tell(each)
        return turn

    @property
    def _renewal(self) -> timedelta:
        return timedelta(seconds=self._limits.lane_renewal)

    def _room(self) -> int:
        if self.is_stopping:
            return 0
        return (self._limits.most_at_once if self._is_image_known else 1) - len(self._under_way)

    def _keep(self, kept: frozenset[str], asked_at: Moment) -> None:
        """Take in which lanes are still the worker's; one that is not is lost for good."""
        self._tended_at = asked_at
        for sending in self._under_way.values():
            if sending.claim.app_id in kept:
                sending.held_at = asked_at
            else:
                sending.is_lost = True

    def _begin(self, sending: _Sending) -> None:
        self._under_way[sending.claim.number] = sending
        task = asyncio.ensure_future(self._send(sending))
        self._tasks.add(task)
        task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # what a second Ctrl-C has raised in it is raised by the loop as well

    async def _send(self, sending: _Sending) -> None:
        started_at = self._now()
        end: SentImage | BaseException
        try:
            end = await self._send_one(sending.claim, sending.check)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the ledger has to know
            end = error
        self._note_end(sending.claim, started_at, end)
        if isinstance(end, KeyboardInterrupt | SystemExit):
            raise end

    def _note_end(self, claim: Claim, started_at: datetime, end: SentImage | BaseException) -> None:
        ended_at, verdict = self._now(), judge(end)
        lane = self._lane(claim.app_id)
        ready_at, recent = lane.next(verdict, (*claim.recent, ended_at), is_group=claim.is_group)
        if lane.stopped is not None:
            self._say(f"device {claim.app_id} stopped ({lane.stopped}); what it has not sent stays pending")
        if verdict.consequence == "stop_all" and isinstance(end, BaseException):
            self._fail(end)
        sent = end if isinstance(end, SentImage) else None
        self._is_image_known |= sent is not None
        ended = Ended(
            claim=claim,
            state=verdict.state,
            started_at=started_at,
            ended_at=ended_at,
            ready_at=ready_at,
            recent=recent,
            route=None if sent is None else sent.route,
            new_msg_id=None if sent is None else sent.new_msg_id,
            reason=verdict.reason,
        )
        del self._under_way[claim.number]
        self._ended.append(ended)
        self._wake.set()

    def _lane(self, app_id: str) -> Lane:
        lane = self._lanes.get(app_id)
        if lane is None:
            lane = self._lanes[app_id] = Lane(self._pace, app_id)
        return lane

    def _now(self) -> datetime:
        """Give the time by the ledger's clock."""
        return self.clock.now() + self._ahead

    def _until_next(self, turn: Turn) -> float:
        """Give the seconds after which there is something to do even if no send ends."""
        waits = [self._limits.lane_renewal]
        if turn.is_shared:
            waits.append(_SHARED_POLL)
        if turn.ready_at is not None and turn.is_open and self._room() > 0:
            waits.append((turn.ready_at - self._now()).total_seconds())
        return max(_SHORTEST_WAIT, min(waits))

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self.stop()

    def _give_up(self, error: Exception) -> None:
        """End without the ledger: what could not be written is unknown to who resumes."""
        self._has_given_up = True
        self._fail(error)

    def _note_away(self, error: Exception) -> None:
        now = self.clock.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._say(f"the database is away ({describe(error)}); the broadcast pauses until it is back")
        if now - self._away_since > self._limits.patience and not self._has_given_up:
            msg = (
                f"The database has been away for {self._limits.patience:.0f} s ({describe(error)}). Nothing was sent "
                f"meanwhile. Go on with: gewe-cache broadcast resume {self.worker.broadcast_id}"
            )
            self._give_up(StoreError(msg))

    def _note_back(self) -> None:
        if self._away_since is not None:
            self._away_since = None
            self._say("the database is back; the broadcast goes on")

    def _tell_of_others(self, turn: Turn | None) -> None:
        if self._told_of_others or self._under_way or turn is None or not turn.is_shared:
            return
        self._told_of_others = True
        self._say(
            f"another worker holds the lanes that are left; waiting for it, or, if it is gone, "
            f"{self._limits.lane_seconds:.0f} s until they are free"
        )

    def _say(self, notice: str) -> None:
        _log.warning("broadcast %s: %s", self.worker.broadcast_id, one_line(notice))
        self._heard(self._listener.on_notice, notice)

    def _tell(self, ended: Ended) -> None:
        if ended.state == "pending" and ended.reason is None:
            return  # dropped before its call: nothing has happened to it
        claim = ended.claim
        delivery = Delivery(
            broadcast_id=self.worker.broadcast_id,
            number=claim.number,
            app_id=claim.app_id,
            to_wxid=claim.to_wxid,
            state=ended.state,
            route=ended.route,
            new_msg_id=ended.new_msg_id,
            started_at=ended.started_at,
            ended_at=ended.ended_at,
            reason=ended.reason,
        )
        self._heard(self._listener.on_delivery, delivery)

    def _heard(self, listen: Callable[[T], None], what: T) -> None:
        try:
            listen(what)
        except Exception:  # noqa: BLE001 - the broadcast does not depend on who listens to it
            _log.exception("broadcast %s: its listener failed; the broadcast goes on", self.worker.broadcast_id)
