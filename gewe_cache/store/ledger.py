"""The ledger of a broadcast under way: lanes and deliveries, claimed and ended by workers.

A worker takes turns, each one transaction: it writes how its deliveries ended, keeps its lanes, and claims
what is due. A claim is a lane and the first pending delivery of its device; both are the worker's until it
says how the delivery ended, or until the lane expires. The promises:

* A delivery is *sending* in the database before its claim is handed out.
* One worker holds a lane at a time; only who holds it may send from its device.
* What was *sending* in a lane that expired becomes *unknown*, never pending: it may have been sent.
* A worker that was taken for lost may still say how its delivery ended; it knows best.

On PostgreSQL times are the database's, and claims skip what another worker is claiming.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import ColumnElement, and_, bindparam, exists, func, or_, select, update

from gewe_cache.store.entries import upsert
from gewe_cache.store.tables import broadcasts, deliveries, lanes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from sqlalchemy import Connection, Row, Select, Update

    from gewe_cache.image import Route

State = Literal["pending", "sending", "sent", "refused", "unknown"]

LOST: Final = "its worker ended, or lost its lane, while it was sending"


@dataclass(frozen=True, slots=True)
class Worker:
    """Who takes turns.

    Attributes:
        name: unique to one run of one process.
        broadcast_id, host: what it works on, and at which GeWe its lanes are.
        lane_length: for how long a lane is held unless it is kept.
        longest_pause: a lane that is ready later than this from now was written by another clock, and is ready.
        ready_after_lost: when a lane may send next if this worker is killed over its last send; given ``recent``.
    """

    name: str
    broadcast_id: int
    host: str
    lane_length: timedelta
    longest_pause: timedelta
    ready_after_lost: Callable[[tuple[datetime, ...]], datetime]


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery to send now. ``recent``: when the last sends of its lane ended, oldest first."""

    number: int
    app_id: str
    to_wxid: str
    is_group: bool
    recent: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a claim ended, and when its lane may send again."""

    claim: Claim
    state: State
    started_at: datetime
    ended_at: datetime
    ready_at: datetime
    recent: tuple[datetime, ...]
    route: Route | None = None
    new_msg_id: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn found.

    Attributes:
        now: by the ledger's clock.
        claims: what the worker has to send now.
        kept: the devices whose lanes the worker holds, or None where the turn did not look.
        ready_at: when the first of the other lanes with pending deliveries may send, or None.
        is_shared: other workers are sending, or hold lanes of pending deliveries.
        is_open: the broadcast has not been cancelled or removed.
    """

    now: datetime
    claims: tuple[Claim, ...]
    kept: frozenset[str] | None
    ready_at: datetime | None
    is_shared: bool
    is_open: bool


def make_lanes(connection: Connection, worker: Worker, now: datetime) -> None:
    """Make a lane for each device of the broadcast that has none yet."""
    devices = select(deliveries.c.app_id).where(deliveries.c.broadcast_id == worker.broadcast_id).distinct()
    missing = [
        {"host": worker.host, "app_id": app_id, "ready_at": now}
        for app_id in connection.scalars(devices.order_by(deliveries.c.app_id))
    ]
    if missing:
        connection.execute(upsert(connection, lanes).on_conflict_do_nothing(), missing)


def take_turn(
    connection: Connection,
    worker: Worker,
    now: datetime,
    ended: Sequence[Ended],
    *,
    room: int,
    stopped: Collection[str],
    busy: Collection[str],
    tend: bool,
) -> Turn:
    """Write what has ended, keep and settle lanes where it is time to, and claim at most ``room`` deliveries.

    ``busy``: devices of which the worker has a claim; it gets no other of theirs, though their lanes were lost.
    """
    _write_ended(connection, worker, ended)
    kept = _tend(connection, worker, now) if tend else None
    is_open = _is_open(connection, worker)
    claims = _claim(connection, worker, now, room, stopped, busy) if is_open and room > 0 else ()
    ready_at, is_shared = _look_ahead(connection, worker, now, stopped)
    return Turn(now=now, claims=claims, kept=kept, ready_at=ready_at, is_shared=is_shared, is_open=is_open)


def take_back(connection: Connection, worker: Worker, sending: Collection[int]) -> None:
    """Give back what was claimed in a turn whose answer was lost: nobody has sent it.

    ``sending``: the numbers that the worker knows it has claimed.
    """
    # Also what another worker has settled meanwhile: of all that this one has not begun, it knows that it was not sent.
    claimed = or_(deliveries.c.state == "sending", and_(deliveries.c.state == "unknown", deliveries.c.reason == LOST))
    rows = _own(connection, worker, claimed)
    lost = [{"b_number": row.number} for row in rows if row.number not in sending]
    busy = {row.app_id for row in rows if row.number in sending}
    if lost:
        given_back = {"state": "pending", "worker": None, "started_at": None, "ended_at": None, "reason": None}
        mine = _of_number(worker).where(claimed, deliveries.c.worker == worker.name)
        connection.execute(mine.values(**given_back), lost)
    idle = update(lanes).where(lanes.c.host == worker.host, lanes.c.worker == worker.name)
    connection.execute(idle.where(lanes.c.app_id.not_in(busy)).values(worker=None, expires_at=None))


def is_live(now: datetime, length: timedelta) -> ColumnElement[bool]:
    """Tell of a lane that it is held; one that expires further ahead than its length counts as expired."""
    return and_(lanes.c.worker.is_not(None), lanes.c.expires_at > now, lanes.c.expires_at <= now + length)


def _write_ended(connection: Connection, worker: Worker, ended: Sequence[Ended]) -> None:
    if not ended:
        return
    # Also of what was settled as unknown meanwhile: the worker that sent it knows better.
    connection.execute(
        _of_number(worker)
        .where(
            deliveries.c.worker == worker.name, or_(deliveries.c.state == "sending", deliveries.c.state == "unknown")
        )
        .values(
            state=bindparam("b_state"),
            started_at=bindparam("b_started_at"),
            ended_at=bindparam("b_ended_at"),
            route=bindparam("b_route"),
            new_msg_id=bindparam("b_new_msg_id"),
            reason=bindparam("b_reason"),
        ),
        [_ended_row(each) for each in sorted(ended, key=lambda each: each.claim.number)],
    )
    connection.execute(
        update(lanes)
        .where(lanes.c.host == worker.host, lanes.c.app_id == bindparam("b_app_id"), lanes.c.worker == worker.name)
        .values(worker=None, expires_at=None, ready_at=bindparam("b_ready_at"), recent=bindparam("b_recent")),
        [
            {"b_app_id": each.claim.app_id, "b_ready_at": each.ready_at, "b_recent": _as_json(each.recent)}
            for each in sorted(ended, key=lambda each: each.claim.app_id)
        ],
    )


def _ended_row(ended: Ended) -> dict[str, object]:
    is_pending = ended.state == "pending"
    return {
        "b_number": ended.claim.number,
        "b_state": ended.state,
        "b_started_at": None if is_pending else ended.started_at,
        "b_ended_at": None if is_pending else ended.ended_at,
        "b_route": ended.route,
        "b_new_msg_id": None if ended.new_msg_id is None else str(ended.new_msg_id),
        "b_reason": ended.reason,
    }


def _tend(connection: Connection, worker: Worker, now: datetime) -> frozenset[str]:
    """Keep the worker's own lanes, end those that have expired, and settle what was sent in them."""
    own = update(lanes).where(lanes.c.host == worker.host, lanes.c.worker == worker.name)
    connection.execute(own.values(expires_at=now + worker.lane_length))
    settle_expired(connection, worker.host, worker.broadcast_id, now, worker.lane_length)
    kept = select(lanes.c.app_id).where(lanes.c.host == worker.host, lanes.c.worker == worker.name)
    return frozenset(connection.scalars(kept))


def settle_expired(connection: Connection, host: str, broadcast_id: int, now: datetime, lane_length: timedelta) -> None:
    """End the lanes that have expired, and settle what was sent in them."""
    expired = (
        select(lanes.c.app_id)
        .where(lanes.c.host == host, lanes.c.worker.is_not(None), ~is_live(now, lane_length))
        .order_by(lanes.c.app_id)
        .with_for_update(skip_locked=True)
    )
    free = [{"b_app_id": app_id} for app_id in connection.scalars(expired)]
    if free:
        of_device = update(lanes).where(lanes.c.host == host, lanes.c.app_id == bindparam("b_app_id"))
        connection.execute(of_device.values(worker=None, expires_at=None), free)
    settle_lost(connection, broadcast_id, now)


def settle_lost(connection: Connection, broadcast_id: int, now: datetime) -> None:
    """Make *unknown* what is *sending* in a lane that its worker no longer holds."""
    lost = and_(
        deliveries.c.broadcast_id == broadcast_id,
        deliveries.c.state == "sending",
        ~exists().where(lanes.c.worker == deliveries.c.worker, lanes.c.app_id == deliveries.c.app_id),
    )
    # Waits for nobody: who has locked one writes how it ended, or is stopped within its transaction.
    unlocked = select(deliveries.c.number).where(lost).with_for_update(skip_locked=True, of=deliveries)
    connection.execute(
        update(deliveries)
        .where(lost, deliveries.c.number.in_(unlocked))
        .values(state="unknown", ended_at=now, reason=LOST)
    )


def _is_open(connection: Connection, worker: Worker) -> bool:
    state = select(broadcasts.c.state).where(broadcasts.c.id == worker.broadcast_id)
    return connection.scalar(state) == "open"


def _claim(
    connection: Connection,
    worker: Worker,
    now: datetime,
    room: int,
    stopped: Collection[str],
    busy: Collection[str],
) -> tuple[Claim, ...]:
    first = _pending_of_lane(worker, func.min(deliveries.c.number)).scalar_subquery()
    due = (
        select(lanes.c.app_id, lanes.c.recent, first.label("number"))
        .where(_waits(worker, stopped), lanes.c.worker.is_(None), _is_ready(worker, now))
        .order_by(lanes.c.ready_at, lanes.c.app_id)
        .limit(room)
        .with_for_update(skip_locked=True, of=lanes)
    )
    rows = [row for row in connection.execute(due) if row.number is not None and row.app_id not in busy]
    recent = {row.number: _from_json(row.recent) for row in rows}
    if not recent:
        return ()
    chosen = deliveries.c.number.in_(sorted(recent))
    connection.execute(
        update(deliveries)
        .where(deliveries.c.broadcast_id == worker.broadcast_id, deliveries.c.state == "pending", chosen)
        .values(state="sending", worker=worker.name, started_at=now, ended_at=None, reason=None)
    )
    claims = tuple(
        Claim(row.number, row.app_id, row.to_wxid, row.is_group, recent[row.number])
        for row in _own(connection, worker, and_(deliveries.c.state == "sending", chosen))
    )
    _hold(connection, worker, now, claims)
    return claims


def _hold(connection: Connection, worker: Worker, now: datetime, claims: Iterable[Claim]) -> None:
    """Take the lanes; the send counts for the pace from now on, lest its worker be killed."""
    held = [_held_row(worker, each.app_id, (*each.recent, now)) for each in claims]
    if held:
        of_device = update(lanes).where(lanes.c.host == worker.host, lanes.c.app_id == bindparam("b_app_id"))
        connection.execute(
            of_device.values(
                worker=worker.name,
                expires_at=now + worker.lane_length,
                ready_at=bindparam("b_ready_at"),
                recent=bindparam("b_recent"),
            ),
            held,
        )


def _held_row(worker: Worker, app_id: str, recent: tuple[datetime, ...]) -> dict[str, object]:
    return {"b_app_id": app_id, "b_ready_at": worker.ready_after_lost(recent), "b_recent": _as_json(recent)}


def _own(connection: Connection, worker: Worker, condition: ColumnElement[bool]) -> Sequence[Row[int, str, str, bool]]:
    columns = (deliveries.c.number, deliveries.c.app_id, deliveries.c.to_wxid, deliveries.c.is_group)
    own = select(*columns).where(
        deliveries.c.broadcast_id == worker.broadcast_id, deliveries.c.worker == worker.name, condition
    )
    return connection.execute(own.order_by(deliveries.c.number)).all()


def _look_ahead(
    connection: Connection, worker: Worker, now: datetime, stopped: Collection[str]
) -> tuple[datetime | None, bool]:
    """Give when the first free lane may send, and whether other workers are at work."""
    waits = _waits(worker, stopped)
    earliest = select(func.min(lanes.c.ready_at)).where(waits, lanes.c.worker.is_(None)).scalar_subquery()
    sending = exists().where(
        deliveries.c.broadcast_id == worker.broadcast_id,
        deliveries.c.state == "sending",
        deliveries.c.worker != worker.name,
    )
    held = exists().where(waits, lanes.c.worker.is_not(None), lanes.c.worker != worker.name)
    ready_at, is_shared = connection.execute(select(earliest, or_(sending, held))).one()
    return (None if ready_at is None else min(ready_at, now + worker.longest_pause)), bool(is_shared)


def _waits(worker: Worker, stopped: Collection[str]) -> ColumnElement[bool]:
    """Tell of a lane that the broadcast has something pending in it."""
    pending = exists(_pending_of_lane(worker, deliveries.c.number))
    return and_(lanes.c.host == worker.host, lanes.c.app_id.not_in(stopped), pending)


def _pending_of_lane(worker: Worker, column: ColumnElement[int]) -> Select[int]:
    return (
        select(column)
        .where(
            deliveries.c.broadcast_id == worker.broadcast_id,
            deliveries.c.state == "pending",
            deliveries.c.app_id == lanes.c.app_id,
        )
        .correlate(lanes)
    )


def _is_ready(worker: Worker, now: datetime) -> ColumnElement[bool]:
    return or_(lanes.c.ready_at <= now, lanes.c.ready_at > now + worker.longest_pause)


def _of_number(worker: Worker) -> Update:
    return update(deliveries).where(
        deliveries.c.broadcast_id == worker.broadcast_id, deliveries.c.number == bindparam("b_number")
    )


def _as_json(moments: Iterable[datetime]) -> str:
    return json.dumps([moment.timestamp() for moment in moments])


def _from_json(text: str) -> tuple[datetime, ...]:
    return tuple(datetime.fromtimestamp(moment, UTC) for moment in json.loads(text))
