"""Broadcasts as people see them: made, checked against earlier ones, listed, cancelled, exported, pruned."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import ColumnElement, and_, case, delete, exists, func, insert, or_, select, text, update

from gewe_cache.keys import Key, normalise_url
from gewe_cache.store.entries import upsert
from gewe_cache.store.ledger import State, is_live
from gewe_cache.store.tables import broadcasts, deliveries, lanes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Row, Select, Update

    from gewe_cache.image import Image, Route

STATES: Final[tuple[State, ...]] = ("pending", "sending", "sent", "refused", "unknown")
REPEAT_WINDOW: Final = timedelta(hours=24)

_ABANDONED_AFTER = timedelta(days=1)
_LANES_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One image to many recipients, and how far it is.

    Attributes:
        id: by which it is resumed.
        state: ``"preparing"`` until it may be sent, ``"open"``, or ``"cancelled"``.
        created_at: aware UTC.
        base_url, scope: of the sender that began it; it is resumed with the same.
        url, md5: the image; one of them may be None.
        pace: as ``Pace`` writes itself.
        duplicates: recipients that were named more than once, and dropped.
        pending, sending, sent, refused, unknown: how many deliveries are in each state. What was being sent
            by a worker that is gone counts as unknown.
        stopped: of the run that gives this, the devices that send nothing more, and why.
    """

    id: int
    state: Literal["preparing", "open", "cancelled"]
    created_at: datetime
    base_url: str
    scope: str
    url: str | None
    md5: str | None
    pace: str
    duplicates: int
    pending: int
    sending: int
    sent: int
    refused: int
    unknown: int
    stopped: Mapping[str, str] = field(default_factory=dict)

    @property
    def recipients(self) -> int:
        """How many are to get the image, duplicates not counted."""
        return self.pending + self.sending + self.sent + self.refused + self.unknown


@dataclass(frozen=True, slots=True)
class Delivery:
    """One recipient of a broadcast.

    Attributes:
        broadcast_id, number: which one; numbers follow the order of the recipients, from 1.
        app_id, to_wxid: from which device, to whom.
        state: ``pending``, ``sending``, ``sent``, ``refused`` or ``unknown``.
        route, new_msg_id: of a sent one; ``new_msg_id`` is None where GeWe's answer had none.
        started_at, ended_at: of its last try, aware UTC, or None.
        reason: why it is refused, unknown or still pending, or None.
    """

    broadcast_id: int
    number: int
    app_id: str
    to_wxid: str
    state: State
    route: Route | None = None
    new_msg_id: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """How many friends and groups one device is to send to."""

    app_id: str
    friends: int
    groups: int


@dataclass(frozen=True, slots=True)
class Repeats:
    """Recipients whom the image reached, or is about to reach, by other broadcasts of the last 24 hours."""

    recipients: int
    broadcast_ids: tuple[int, ...]


def prepare(connection: Connection, image: Image, ignore_query: frozenset[str], *, now: datetime, **about: str) -> int:
    """Make a broadcast that has no recipients yet; ``about``: its ``base_url``, ``scope`` and ``pace``."""
    row = {"state": "preparing", "created_at": now, "url": image.url, "md5": image.md5, **about}
    result = connection.execute(insert(broadcasts).values(**row, url_digest=_url_digest(image, ignore_query)))
    inserted = result.inserted_primary_key
    assert inserted is not None  # noqa: S101 - the table has one
    return int(inserted[0])


def add_recipients(
    connection: Connection, broadcast_id: int, first: int, recipients: Sequence[tuple[str, str]]
) -> None:
    """Add (app_id, to_wxid) pairs, numbered from ``first``; one that is there already is left out."""
    rows = [
        {
            "broadcast_id": broadcast_id,
            "number": number,
            "app_id": app_id,
            "to_wxid": to_wxid,
            "is_group": to_wxid.endswith("@chatroom"),
        }
        for number, (app_id, to_wxid) in enumerate(recipients, first)
    ]
    connection.execute(upsert(connection, deliveries).on_conflict_do_nothing(), rows)


def count_duplicates(connection: Connection, broadcast_id: int, given: int) -> int:
    """Note how many of the recipients given were dropped."""
    kept = connection.scalar(select(func.count()).where(deliveries.c.broadcast_id == broadcast_id)) or 0
    connection.execute(_of(broadcast_id).values(duplicates=given - kept))
    return given - kept


def shares(connection: Connection, broadcast_id: int) -> list[Share]:
    """Give what each device has still to send."""
    groups = func.count(case((deliveries.c.is_group, 1)))
    statement = (
        select(deliveries.c.app_id, groups.label("groups"), func.count().label("all"))
        .where(deliveries.c.broadcast_id == broadcast_id, deliveries.c.state == "pending")
        .group_by(deliveries.c.app_id)
        .order_by(deliveries.c.app_id)
    )
    return [Share(row.app_id, row.all - row.groups, row.groups) for row in connection.execute(statement)]


def find_repeats(connection: Connection, broadcast_id: int, now: datetime) -> Repeats:
    """Tell whom the image reached lately, or is about to reach, by another broadcast."""
    earlier = _earlier_of_same_image(connection, broadcast_id)
    if not earlier:
        return Repeats(0, ())
    mine = deliveries.alias("mine")
    went = or_(
        and_(deliveries.c.state.in_(("sent", "unknown")), deliveries.c.ended_at > now - REPEAT_WINDOW),
        deliveries.c.state == "sending",
        and_(deliveries.c.state == "pending", broadcasts.c.state == "open"),
    )
    statement = (
        select(deliveries.c.broadcast_id, mine.c.number)
        .join(mine, mine.c.to_wxid == deliveries.c.to_wxid)
        .join(broadcasts, broadcasts.c.id == deliveries.c.broadcast_id)
        .where(mine.c.broadcast_id == broadcast_id, deliveries.c.broadcast_id.in_(earlier), went)
    )
    found = statement.subquery()
    count = connection.scalar(select(func.count(func.distinct(found.c.number)))) or 0
    ids = connection.scalars(select(found.c.broadcast_id).distinct().order_by(found.c.broadcast_id))
    return Repeats(count, tuple(ids))


def lock(connection: Connection) -> None:
    """Let one start at a time look for repeats, so that of two at once one sees the other."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE gewe_cache_broadcasts IN SHARE ROW EXCLUSIVE MODE"))


def open_for_sending(connection: Connection, broadcast_id: int) -> None:
    """Let its deliveries be sent."""
    connection.execute(_of(broadcast_id).where(broadcasts.c.state == "preparing").values(state="open"))


def discard(connection: Connection, broadcast_id: int) -> None:
    """Remove a broadcast that was never opened."""
    connection.execute(delete(broadcasts).where(broadcasts.c.id == broadcast_id, broadcasts.c.state == "preparing"))


def cancel(connection: Connection, broadcast_id: int) -> bool:
    """Send nothing more of it; True when it was open."""
    statement = _of(broadcast_id).where(broadcasts.c.state == "open").values(state="cancelled")
    return connection.execute(statement).rowcount > 0


def resend_unknown(connection: Connection, broadcast_id: int) -> int:
    """Make pending what is unknown, at the user's word; give how many."""
    statement = (
        update(deliveries)
        .where(deliveries.c.broadcast_id == broadcast_id, deliveries.c.state == "unknown")
        .values(state="pending", worker=None)
    )
    return connection.execute(statement).rowcount


def find(connection: Connection, broadcast_id: int, now: datetime, lane_length: timedelta) -> Broadcast | None:
    """Give a broadcast by its id."""
    found = _read(connection, select(broadcasts).where(broadcasts.c.id == broadcast_id), now, lane_length)
    return found[0] if found else None


def last_end(connection: Connection, broadcast_id: int) -> datetime | None:
    """Give when the last send of a broadcast ended, as far as any has."""
    ended_at: datetime | None = connection.scalar(
        select(func.max(deliveries.c.ended_at)).where(deliveries.c.broadcast_id == broadcast_id)
    )
    return ended_at


def list_latest(
    connection: Connection, limit: int, now: datetime, lane_length: timedelta, *, before: int | None = None
) -> list[Broadcast]:
    """Give the latest broadcasts, or those before one, newest first; the never opened are left out."""
    opened = select(broadcasts).where(broadcasts.c.state != "preparing")
    if before is not None:
        opened = opened.where(broadcasts.c.id < before)
    return _read(connection, opened.order_by(broadcasts.c.id.desc()).limit(limit), now, lane_length)


def list_deliveries(
    connection: Connection,
    broadcast_id: int,
    now: datetime,
    lane_length: timedelta,
    *,
    states: Sequence[State] = STATES,
    after: int = 0,
    limit: int = 1000,
) -> list[Delivery]:
    """Give deliveries in the order of their numbers, from the one ``after`` this."""
    state = case((_is_lost(now, lane_length), "unknown"), else_=deliveries.c.state)
    statement = (
        select(deliveries, state.label("shown_state"))
        .where(deliveries.c.broadcast_id == broadcast_id, deliveries.c.number > after, state.in_(states))
        .order_by(deliveries.c.number)
        .limit(limit)
    )
    return [delivery_of(row) for row in connection.execute(statement)]


def find_over(connection: Connection, before: datetime) -> list[int]:
    """Give the broadcasts made before then of which nothing will be sent any more."""
    waits = exists().where(deliveries.c.broadcast_id == broadcasts.c.id, deliveries.c.state.in_(("pending", "sending")))
    over = or_(broadcasts.c.state != "open", ~waits)
    return [*connection.scalars(select(broadcasts.c.id).where(broadcasts.c.created_at < before, over))]


def remove_some(connection: Connection, broadcast_id: int, limit: int) -> int:
    """Remove some deliveries of a broadcast, and then the broadcast; 0 when all is gone."""
    of_broadcast = deliveries.c.broadcast_id == broadcast_id
    some = select(deliveries.c.number).where(of_broadcast).order_by(deliveries.c.number).limit(limit)
    numbers = [*connection.scalars(some)]
    if not numbers:
        connection.execute(delete(broadcasts).where(broadcasts.c.id == broadcast_id))
        return 0
    gone = delete(deliveries).where(of_broadcast, deliveries.c.number <= numbers[-1])
    return connection.execute(gone).rowcount


def sweep(connection: Connection, now: datetime) -> None:
    """Remove what starts that were broken off have left, and lanes that keep no pace any more."""
    abandoned = and_(broadcasts.c.state == "preparing", broadcasts.c.created_at < now - _ABANDONED_AFTER)
    connection.execute(delete(broadcasts).where(abandoned))
    waiting = (
        select(deliveries.c.app_id)
        .join(broadcasts, broadcasts.c.id == deliveries.c.broadcast_id)
        .where(broadcasts.c.state == "open", deliveries.c.state == "pending")
    )
    idle = and_(lanes.c.worker.is_(None), lanes.c.ready_at < now - _LANES_KEPT, lanes.c.app_id.not_in(waiting))
    connection.execute(delete(lanes).where(idle))


def _url_digest(image: Image, ignore_query: frozenset[str]) -> bytes | None:
    """Give what tells the image's URL from others in every scope."""
    return None if image.url is None else Key.of("url", "", normalise_url(image.url, ignore_query)).digest


def _of(broadcast_id: int) -> Update:
    return update(broadcasts).where(broadcasts.c.id == broadcast_id)


def _earlier_of_same_image(connection: Connection, broadcast_id: int) -> list[int]:
    """Find the other broadcasts of an image: by md5 where both have one, else by URL."""
    mine = connection.execute(select(broadcasts).where(broadcasts.c.id == broadcast_id)).one()
    same_url = broadcasts.c.url_digest == mine.url_digest
    same = same_url
    if mine.md5 is not None:
        same = or_(broadcasts.c.md5 == mine.md5, and_(broadcasts.c.md5.is_(None), same_url))
    others = and_(broadcasts.c.id != broadcast_id, broadcasts.c.state != "preparing")
    return [*connection.scalars(select(broadcasts.c.id).where(others, same))]


def _is_lost(now: datetime, lane_length: timedelta) -> ColumnElement[bool]:
    """Tell of a delivery that its worker is gone, though nobody has settled it yet."""
    held = exists().where(
        lanes.c.worker == deliveries.c.worker, lanes.c.app_id == deliveries.c.app_id, is_live(now, lane_length)
    )
    return and_(deliveries.c.state == "sending", ~held)


def _read(connection: Connection, statement: Select[Any], now: datetime, lane_length: timedelta) -> list[Broadcast]:
    rows = connection.execute(statement).all()
    ids = [row.id for row in rows]
    counted = _count(connection, ids, deliveries.c.state)
    lost = _count(connection, ids, deliveries.c.state, _is_lost(now, lane_length))
    return [_broadcast(row, counted, lost.get((row.id, "sending"), 0)) for row in rows]


def _count(connection: Connection, ids: Sequence[int], *conditions: Any) -> dict[tuple[int, str], int]:  # noqa: ANN401
    column, *where = conditions
    statement = (
        select(deliveries.c.broadcast_id, column, func.count())
        .where(deliveries.c.broadcast_id.in_(ids), *where)
        .group_by(deliveries.c.broadcast_id, column)
    )
    return {(row[0], row[1]): row[2] for row in connection.execute(statement)}


def _broadcast(row: Row[Any], counted: dict[tuple[int, str], int], lost: int) -> Broadcast:
    counts = {state: counted.get((row.id, state), 0) for state in STATES}
    return Broadcast(
        id=row.id,
        state=row.state,
        created_at=row.created_at,
        base_url=row.base_url,
        scope=row.scope,
        url=row.url,
        md5=row.md5,
        pace=row.pace,
        duplicates=row.duplicates,
        pending=counts["pending"],
        sending=counts["sending"] - lost,
        sent=counts["sent"],
        refused=counts["refused"],
        unknown=counts["unknown"] + lost,
    )


def delivery_of(row: Row[Any]) -> Delivery:
    """Give a row with its ``shown_state``."""
    return Delivery(
        broadcast_id=row.broadcast_id,
        number=row.number,
        app_id=row.app_id,
        to_wxid=row.to_wxid,
        state=row.shown_state,
        route=row.route,
        new_msg_id=None if row.new_msg_id is None else int(row.new_msg_id),
        started_at=row.started_at,
        ended_at=row.ended_at,
        reason=row.reason,
    )
