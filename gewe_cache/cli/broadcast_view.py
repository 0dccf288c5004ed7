"""How a broadcast looks while it runs: bars that move in a terminal, a line a change elsewhere, or JSON lines."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import asdict
from json import loads
from typing import TYPE_CHECKING, Any, Final, Protocol

from gewe_cache.cli.output import complain, console, print_json, print_line, printable
from gewe_cache.text import human_age

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from rich.progress import Progress, Task, TaskID

    from gewe_cache.broadcast.service import Plan
    from gewe_cache.store.broadcasts import Broadcast, Delivery, Share

MOST_LISTED: Final = 20

_MOST_BARS: Final = 10
_COLOURS: Final = {"sent": "green", "refused": "red", "unknown": "yellow", "pending": "dim"}
_COUNTED: Final = ("pending", "sending", "sent", "refused", "unknown")
_ALWAYS_SHOWN: Final = frozenset({"sent", "pending"})
_NARROWEST_NAME: Final = 8
_WIDEST_NAME: Final = 24
_WIDTH_OF_THE_REST: Final = 70  # every state counted in thousands, the rate and the time left
_WIDTH_OF_CTRL_C: Final = 2  # a terminal writes ^C where the cursor is; on a full line it would begin another


class View(Protocol):
    """Shows what happens in a broadcast."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Show no more."""

    def on_delivery(self, delivery: Delivery) -> None:
        """Show how a delivery ended."""

    def on_notice(self, notice: str) -> None:
        """Show what holds it up."""


def view_of(shares: Sequence[Share], *, as_json: bool) -> View:
    """Choose by where the output goes."""
    if as_json:
        return _JsonLines()
    return Bars(shares) if sys.stdout.isatty() else _Lines()


class _Lines:
    """A line a change."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def on_delivery(self, delivery: Delivery) -> None:
        print_line(delivery_line(delivery))

    def on_notice(self, notice: str) -> None:
        complain(notice)


class _JsonLines(_Lines):
    """A JSON value a change."""

    def on_delivery(self, delivery: Delivery) -> None:
        print_json(asdict(delivery))


class Bars:
    """A bar for each device, or one for all where there are many."""

    def __init__(self, shares: Sequence[Share]) -> None:
        """Prepare the bars; ``shares``: what each device has to send."""
        self._progress = _new_progress()
        name_width = min(_WIDEST_NAME, max(_NARROWEST_NAME, self._progress.console.width - _WIDTH_OF_THE_REST))
        sizes = {share.app_id: share.friends + share.groups for share in shares}
        self._groups = _groups(sizes)
        self._bars: dict[str, TaskID] = {}
        self._counts: dict[str, Counter[str]] = {}
        for group in dict.fromkeys(self._groups.values()):
            total = sum(size for app_id, size in sizes.items() if self._groups[app_id] == group)
            self._bars[group] = self._progress.add_task(printable(group, name_width), total=total, counts="")
            self._counts[group] = Counter(pending=total)
            self._update(group)

    def __enter__(self) -> Self:
        """Draw."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    def on_delivery(self, delivery: Delivery) -> None:
        """Move the device's bar; what is to be looked at is a line above the bars."""
        group = self._groups.get(delivery.app_id)
        if group is None:
            return
        if delivery.state != "pending":
            self._counts[group][delivery.state] += 1
            self._counts[group]["pending"] -= 1
            self._update(group)
        if delivery.state != "sent":
            self._progress.console.print(delivery_line(delivery), style=_COLOURS[delivery.state], markup=False)

    def on_notice(self, notice: str) -> None:
        """Print it above the bars."""
        self._progress.console.print(printable(notice), style="yellow", markup=False)

    def _update(self, group: str) -> None:
        counts = self._counts[group]
        done = counts["sent"] + counts["refused"] + counts["unknown"]
        states = [state for state in _COLOURS if counts[state] or state in _ALWAYS_SHOWN]
        shown = " · ".join(f"[{_COLOURS[state]}]{counts[state]:,} {state}[/]" for state in states)
        self._progress.update(self._bars[group], completed=done, counts=shown)


def delivery_line(delivery: Delivery) -> str:
    """Give a delivery in one line of text."""
    words = [f"{delivery.state:<7}", delivery.to_wxid, delivery.app_id, delivery.route, delivery.reason]
    return printable("  ".join(word for word in words if word))


def plan_as_json(plan: Plan, found_by: Mapping[str, Any]) -> dict[str, Any]:
    """Give a plan's facts as JSON values."""
    return {
        **found_by,
        "recipients": plan.recipients,
        "devices": len(plan.shares),
        "duplicates": plan.duplicates,
        "route": route_of(plan),
        "seconds": plan.duration.total_seconds(),
        "repeats": plan.repeats.recipients,
    }


def route_of(plan: Plan) -> str:
    """Tell by which calls the image will go."""
    return "forward" if plan.is_cached else "upload, then forward"


def print_plan(plan: Plan, pace: str, *, with_repeats: bool) -> None:
    """Say what will be sent, from where, how long it takes, and perhaps to how many it went already."""
    friends, groups = (sum(getattr(share, kind) for share in plan.shares) for kind in ("friends", "groups"))
    dropped = f"; duplicates dropped: {plan.duplicates:,}" if plan.duplicates else ""
    print_line(f"Recipients  {plan.recipients:,}: {_counted(friends, 'friend')}, {_counted(groups, 'group')}{dropped}")
    print_line(f"Devices     {len(plan.shares):,}{_device_list(plan.shares)}")
    print_line(f"Route       {route_of(plan)}")
    print_line(f"Time        {_time_of(plan.duration, pace)}")
    if plan.busy_devices:
        complain(
            f"Devices with over 200 recipients: {len(plan.busy_devices):,}, such as {plan.busy_devices[0]}. "
            f"GeWe advises at most about 200 people in half an hour."
        )
    if with_repeats and plan.repeats.recipients:
        ids = ", ".join(str(each) for each in plan.repeats.broadcast_ids)
        complain(
            f"Within 24 hours the image went, or is going, to {plan.repeats.recipients:,} of these by broadcast {ids}."
        )


def print_rest(found: Broadcast, duration: timedelta, pace: str) -> None:
    """Say what is left of a broadcast, and how long it takes."""
    print_line(f"Left        {found.pending:,} of {found.recipients:,}")
    print_line(f"Time        {_time_of(duration, pace)}")


def print_report(found: Broadcast, seconds: float) -> None:
    """Say how it ended, and what to do about what is left."""
    counts = ", ".join(f"{getattr(found, state):,} {state}" for state in _COUNTED if getattr(found, state))
    print_line(f"Broadcast {found.id}: {counts or 'nothing to send'}, in {human_age(seconds)}.")
    for number, (app_id, reason) in enumerate(found.stopped.items()):
        if number == MOST_LISTED:
            complain(f"and {len(found.stopped) - MOST_LISTED:,} more devices")
            break
        complain(f"device {app_id} stopped: {reason}")
    if found.unknown:
        complain(
            f"{found.unknown:,} unknown: look into these chats, the image may be there. List them: gewe-cache "
            f"broadcast show {found.id} --state unknown. Send to them again: gewe-cache broadcast resume {found.id} "
            f"--resend-unknown"
        )
    if found.state == "cancelled":
        complain("It was cancelled; what is pending is not sent.")
    elif found.pending or found.sending:
        complain(f"Go on with the rest: gewe-cache broadcast resume {found.id}")


def broadcast_as_json(found: Broadcast) -> dict[str, Any]:
    """Give a broadcast's facts as JSON values."""
    fields = {**asdict(found), "state": state_of(found), "pace": loads(found.pace)}
    return {"id": fields.pop("id"), **{state: fields.pop(state) for state in _COUNTED}, **fields}


def state_of(found: Broadcast) -> str:
    """Give how a broadcast stands in one word."""
    if found.state == "cancelled":
        return "cancelled"
    if found.sending:
        return "sending"
    return "open" if found.pending else "over"


def _time_of(duration: timedelta, pace: str) -> str:
    least = f"at least {human_age(duration)}" if duration else "no pauses"
    return f"{least} at pace {pace}, plus GeWe's own time for each"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _device_list(shares: Sequence[Share]) -> str:
    if len(shares) > _MOST_BARS:
        return ""
    return ": " + ", ".join(f"{share.app_id} ({share.friends + share.groups:,})" for share in shares)


def _groups(sizes: Mapping[str, int]) -> dict[str, str]:
    """Name the bar of each device."""
    if len(sizes) <= _MOST_BARS:
        return {app_id: app_id for app_id in sizes}
    return dict.fromkeys(sizes, f"{len(sizes):,} devices")


def _new_progress() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - slow to load
    from rich.table import Column  # noqa: PLC0415 - as is this

    class Rate(TextColumn):
        """Deliveries a minute."""

        def render(self, task: Task) -> Any:  # noqa: ANN401 - rich's own
            from rich.text import Text  # noqa: PLC0415 - loaded by now

            elapsed = task.elapsed or 0.0
            return Text(f"{60 * task.completed / elapsed:,.0f}/min" if elapsed > 1 else "", style="dim")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        Rate("", table_column=Column(min_width=7, no_wrap=True)),
        TimeRemainingColumn(compact=True, table_column=Column(min_width=5, no_wrap=True)),
        TextColumn("", table_column=Column(width=_WIDTH_OF_CTRL_C)),
        console=console(),
        get_time=time.monotonic,
    )
