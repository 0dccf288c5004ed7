"""Broadcasts while they run, and what became of each delivery."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from gewe_cache.broadcast.pace import Pace
from gewe_cache.broadcast.run import Limits
from gewe_cache.server.admin.tables import PAGE_SIZE, ReadOnlyView, cell, read_id
from gewe_cache.server.admin.words import later
from gewe_cache.store import broadcasts, watching
from gewe_cache.store.broadcasts import STATES, Broadcast, Delivery
from gewe_cache.store.leases import read_clock
from gewe_cache.store.ledger import State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection
    from starlette.requests import Request

    from gewe_cache.server.admin.asking import Asking

LANE_LENGTH: Final = timedelta(seconds=Limits().lane_seconds)

_ROWS: Final = 20
_ORDER: Final[tuple[State, ...]] = ("sent", "refused", "unknown", "sending", "pending")


@dataclass(frozen=True, slots=True)
class Share:
    """One state's part of a progress bar; ``x`` and ``width`` are per cent."""

    state: State
    count: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Watched:
    """A broadcast and how it stands: somebody sends, nobody does, all is done, or it was cancelled."""

    broadcast: Broadcast
    standing: Literal["running", "paused", "done", "cancelled"]

    @property
    def id(self) -> int:
        """Its id, as starlette-admin asks for it."""
        return self.broadcast.id

    @property
    def shares(self) -> tuple[Share, ...]:
        """The parts of its progress bar, what is done first."""
        total, shares, x = self.broadcast.recipients or 1, [], 0.0
        for state in _ORDER:
            count = self.count(state)
            width = 100 * count / total
            shares.append(Share(state, count, round(x, 3), round(width, 3)))
            x += width
        return tuple(shares)

    @property
    def percent_done(self) -> int:
        """How much is settled, in whole per cent, 100 only when all is."""
        done = self.broadcast.sent + self.broadcast.refused + self.broadcast.unknown
        return 100 * done // (self.broadcast.recipients or 1)

    @property
    def pace(self) -> Pace | None:
        """Its pace, or None where another version wrote it in a way that this one cannot read."""
        try:
            return Pace.from_json(self.broadcast.pace)
        except (TypeError, ValueError):
            return None

    def count(self, state: State) -> int:
        """Give how many deliveries are in a state."""
        counted: int = getattr(self.broadcast, state)
        return counted


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Some deliveries of a broadcast, and the number after which the next begin, or None at the end."""

    shown: tuple[Delivery, ...]
    next: int | None


def running(connection: Connection, limit: int) -> list[Watched]:
    """Give the broadcasts of which something is still to be sent, newest first."""
    now = read_clock(connection)
    ids = watching.unfinished_ids(connection, limit)
    found = [broadcasts.find(connection, broadcast_id, now, LANE_LENGTH) for broadcast_id in ids]
    return [_watched(connection, each, now) for each in found if each is not None]


def read_latest(connection: Connection, before: int | None, limit: int) -> list[Watched]:
    """Give the latest broadcasts, or those before one, newest first."""
    now = read_clock(connection)
    latest = broadcasts.list_latest(connection, limit, now, LANE_LENGTH, before=before)
    return [_watched(connection, each, now) for each in latest]


def read_one(connection: Connection, broadcast_id: int) -> Watched | None:
    """Give a broadcast that was opened, or None."""
    now = read_clock(connection)
    found = broadcasts.find(connection, broadcast_id, now, LANE_LENGTH)
    return None if found is None or found.state == "preparing" else _watched(connection, found, now)


def read_deliveries(connection: Connection, broadcast_id: int, states: Sequence[State], after: int) -> Deliveries:
    """Give a page of deliveries, in the order of their numbers."""
    now = read_clock(connection)
    found = broadcasts.list_deliveries(
        connection, broadcast_id, now, LANE_LENGTH, states=states, after=after, limit=PAGE_SIZE + 1
    )
    shown = tuple(found[:PAGE_SIZE])
    return Deliveries(shown, shown[-1].number if len(found) > PAGE_SIZE else None)


class BroadcastView(ReadOnlyView):
    """Broadcasts, as starlette-admin shows a table."""

    key = "broadcasts"
    menu_label = later("Broadcasts")
    display_name = later("Broadcasts")
    list_template = "broadcasts.html"
    detail_template = "broadcast.html"
    page_size = _ROWS
    page_size_options = (_ROWS,)
    row_actions = ()
    sortable_fields = ()

    def __init__(self, asking: Asking) -> None:
        """Take what the broadcasts are read with."""
        self.fields = [
            cell("broadcast", "Image"),
            cell("progress", "Progress"),
            cell("begun", "Begun"),
        ]
        super().__init__()
        self._asking = asking

    async def find_all(
        self,
        request: Request,
        skip: int = 0,  # noqa: ARG002 - a page begins at a key, not after so many rows
        limit: int = _ROWS,
        q: str | None = None,  # noqa: ARG002 - there is no search
        sorts: Sequence[tuple[str, str]] | None = None,  # noqa: ARG002 - the newest come first
        filters: Any = None,  # noqa: ANN401, ARG002 - starlette-admin's own
    ) -> Sequence[Watched]:
        """Give the broadcasts of the page that the address names."""
        before = read_id(request.query_params.get("page", ""))
        read = partial(read_latest, before=before if before > 0 else None, limit=limit + 1)
        found = await self._asking.ask_for_page(read)
        request.state.next_page = found[limit - 1].id if len(found) > limit else None
        request.state.is_running = any(each.standing == "running" for each in found)
        return found[:limit]

    async def find_by_pk(self, request: Request, pk: Any) -> Watched | None:  # noqa: ANN401 - starlette-admin's own
        """Give a broadcast by its id, or None, and the deliveries that the address names."""
        found = await self._asking.ask_for_page(partial(read_one, broadcast_id=read_id(pk)))
        if found is not None:
            asked = request.query_params
            states = [state for state in STATES if state == asked.get("state")] or STATES
            after = max(0, read_id(asked.get("after", "")))
            read = partial(read_deliveries, broadcast_id=found.id, states=states, after=after)
            request.state.deliveries = await self._asking.ask_for_page(read)
        return found


def _watched(connection: Connection, broadcast: Broadcast, now: datetime) -> Watched:
    if broadcast.state == "cancelled":
        return Watched(broadcast, "cancelled")
    if not broadcast.pending and not broadcast.sending:
        return Watched(broadcast, "done")
    is_running = watching.is_worked_on(connection, broadcast.id, now, LANE_LENGTH)
    return Watched(broadcast, "running" if is_running else "paused")
