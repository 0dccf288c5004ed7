"""The first page: what the cache saves, what is sent just now, and what went wrong lately."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette_admin.routing import route
from starlette_admin.views import CustomView

from gewe_cache.errors import StoreError
from gewe_cache.server.admin import chart
from gewe_cache.server.admin.broadcasts import Watched, running
from gewe_cache.server.admin.words import later, say
from gewe_cache.server.troubles import Trouble, Troubles
from gewe_cache.settings import utc_now
from gewe_cache.store import watching
from gewe_cache.store.reports import Savings, usage_by_hour, usage_totals
from gewe_cache.store.usage import Counts

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.requests import Request
    from starlette.responses import Response

    from gewe_cache.server.admin.asking import Asking
    from gewe_cache.server.database_watch import DatabaseWatch
    from gewe_cache.store.broadcasts import Delivery

_MONTH: Final = timedelta(days=30)
_MONTH_IS_KEPT: Final = 60.0
_RUNNING: Final = 5
_TROUBLES: Final = 10


@dataclass(frozen=True, slots=True)
class Figures:
    """What the database tells: the last day by hour, and broadcasts."""

    day: Savings
    chart: chart.Chart
    running: list[Watched]
    refused: list[Delivery]


@dataclass(frozen=True, slots=True)
class Problem:
    """A send that went wrong, of a broadcast or a single one (``broadcast_id`` None)."""

    at: datetime
    outcome: str
    route: str | None
    app_id: str
    to_wxid: str
    words: str
    broadcast_id: int | None = None


def read_figures(connection: Connection, now: datetime) -> Figures:
    """Read what the first page shows, all of it along indexes."""
    since = now - timedelta(hours=chart.HOURS - 1)
    hours = dict(usage_by_hour(connection, since=since))
    day = sum((each.counts for each in hours.values()), Counts())
    return Figures(
        Savings(day),
        chart.draw(hours, now),
        running(connection, _RUNNING),
        watching.latest_troubles(connection, _TROUBLES),
    )


class Overview(CustomView):
    """The page at the prefix itself."""

    menu_label = later("Overview")
    path = "/"
    route_name = "index"

    def __init__(self, asking: Asking, watch: DatabaseWatch, troubles: Troubles) -> None:
        """Take what is shown."""
        super().__init__()
        self._asking = asking
        self._watch = watch
        self._troubles = troubles
        self._month: Savings | None = None
        self._month_until = float("-inf")

    @route("")
    async def index(self, request: Request) -> Response:
        """Show it; without the database, what this process knows."""
        now = utc_now()
        figures, fault = None, None
        try:
            figures = await self._asking.ask(partial(read_figures, now=now))
            month = await self._read_month(now)
        except StoreError as error:
            fault, month = str(error), None
        context: dict[str, Any] = {
            "title": say("Overview"),
            "now": now,
            "figures": figures,
            "month": month,
            "counts": None if fault else await self._watch.counts(),
            "fault": fault,
            "problems": _problems(self._troubles.latest(_TROUBLES), figures.refused if figures else []),
            "since": self._troubles.since,
        }
        assert self._admin is not None  # noqa: S101 - it is mounted
        return self._admin.templates.TemplateResponse(request, "overview.html", {"flashed_messages": [], **context})

    async def _read_month(self, now: datetime) -> Savings:
        """Read the month's sums at most once a minute: where many tokens send, they are many rows."""
        if self._month is None or time.monotonic() >= self._month_until:
            self._month = await self._asking.ask(partial(usage_totals, since=now - _MONTH))
            self._month_until = time.monotonic() + _MONTH_IS_KEPT
        return self._month


def _problems(single: list[Trouble], deliveries: list[Delivery]) -> list[Problem]:
    """Put single sends and deliveries together, the newest first."""
    problems = [
        Problem(each.at, each.outcome, each.route, each.app_id, each.to_wxid, _with_ret(each)) for each in single
    ]
    for each in deliveries:
        at = each.ended_at or each.started_at
        if at is not None:
            words = each.reason or ""
            problems.append(Problem(at, each.state, each.route, each.app_id, each.to_wxid, words, each.broadcast_id))
    return sorted(problems, key=lambda problem: problem.at, reverse=True)[:_TROUBLES]


def _with_ret(trouble: Trouble) -> str:
    return trouble.words if trouble.ret is None else f"ret {trouble.ret}: {trouble.words}"
