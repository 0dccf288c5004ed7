"""``gewe-cache broadcast …``: one image to many recipients. Here the commands that send nothing."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from gewe_cache.broadcast.run import Limits
from gewe_cache.cli import broadcast_send
from gewe_cache.cli.broadcast_view import broadcast_as_json, delivery_line, state_of
from gewe_cache.cli.inputs import DatabaseOption, JsonOption, YesOption, opened
from gewe_cache.cli.output import (
    EXIT_FAILURE,
    EXIT_USAGE,
    confirm,
    console,
    errors_as_exit_codes,
    fail,
    human_time,
    iso,
    print_json,
    print_line,
    printable_url,
)
from gewe_cache.settings import parse_duration, utc_now
from gewe_cache.store import broadcasts, leases
from gewe_cache.store.broadcasts import Broadcast, Delivery
from gewe_cache.store.tending import Pace
from gewe_cache.text import human_age, without_query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

    from gewe_cache.store.engine import Database
    from gewe_cache.store.ledger import State

app = typer.Typer(help="Send an image to many recipients, once to each.", no_args_is_help=True)
app.command()(broadcast_send.start)
app.command()(broadcast_send.resume)

IdArgument = Annotated[int, typer.Argument(metavar="ID", help="As start and list show it.")]

_LANE_LENGTH = timedelta(seconds=Limits().lane_seconds)
_TO_LOOK_AT: tuple[State, ...] = ("sending", "refused", "unknown")
_ONE_PAGE = 1000
_LEAST_AGE = broadcasts.REPEAT_WINDOW


class DeliveryState(StrEnum):
    """The states of a delivery, as an option."""

    pending = "pending"
    sending = "sending"
    sent = "sent"
    refused = "refused"
    unknown = "unknown"


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many at most.")] = 20,
    database: DatabaseOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """List the latest broadcasts, newest first."""
    with errors_as_exit_codes(), opened(database) as found, found.reader.connect() as connection:
        latest = broadcasts.list_latest(connection, limit, _now(connection), _LANE_LENGTH)
        if json:
            for each in latest:
                print_json(broadcast_as_json(each))
        elif latest:
            _print_table(latest)
        else:
            print_line("No broadcasts.")


@app.command()
def show(
    broadcast_id: IdArgument,
    state: Annotated[
        DeliveryState | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help=f"List all deliveries in this state: {', '.join(DeliveryState)}.",
            show_default=False,
        ),
    ] = None,
    database: DatabaseOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Show a broadcast: how far it is, and which deliveries want a look."""
    with errors_as_exit_codes(), opened(database) as found, found.reader.connect() as connection:
        broadcast = _find(connection, broadcast_id)
        states = _TO_LOOK_AT if state is None else (state.value,)
        if json:
            print_json(broadcast_as_json(broadcast))
        else:
            _print_broadcast(broadcast, broadcasts.last_end(connection, broadcast_id))
        if json and state is None:
            return
        for delivery in _deliveries(connection, broadcast_id, states):
            if json:
                print_json(asdict(delivery))
            else:
                print_line(delivery_line(delivery))


@app.command()
def cancel(broadcast_id: IdArgument, database: DatabaseOption = None, *, yes: YesOption = False) -> None:
    """Send nothing more of a broadcast, whoever works on it. The sends under way finish; it cannot be resumed."""
    with errors_as_exit_codes(), opened(database) as found:
        with found.reader.connect() as connection:
            broadcast = _find(connection, broadcast_id)
        if broadcast.state == "cancelled":
            print_line(f"Broadcast {broadcast_id} is cancelled already.")
            return
        if not (broadcast.pending or broadcast.sending or broadcast.unknown):
            print_line(f"Broadcast {broadcast_id} is over: there is nothing to cancel.")
            return
        confirm(f"Cancel broadcast {broadcast_id}, of which {broadcast.pending:,} are pending?", yes=yes)
        with found.writer.begin() as connection:
            broadcasts.cancel(connection, broadcast_id)
        print_line(f"Cancelled broadcast {broadcast_id}.")


@app.command()
def export(
    broadcast_id: IdArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write. Default: standard output.")
    ] = None,
    state: Annotated[
        DeliveryState | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help=f"Deliveries in this state alone: {', '.join(DeliveryState)}.",
            show_default=False,
        ),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """Write the deliveries of a broadcast as CSV."""
    states = broadcasts.STATES if state is None else (state.value,)
    with errors_as_exit_codes(), opened(database) as found, found.reader.connect() as connection:
        _find(connection, broadcast_id)
        deliveries = _deliveries(connection, broadcast_id, states)
        if output is None:
            _write_csv(sys.stdout, deliveries)
            return
        with output.open("w", encoding="utf-8-sig", newline="") as file:  # with a mark, by which Excel knows UTF-8
            _write_csv(file, deliveries)


@app.command()
def prune(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="DURATION", help="Begun longer ago than this, such as 30d.")
    ],
    database: DatabaseOption = None,
    *,
    yes: YesOption = False,
) -> None:
    """Remove old broadcasts, and with them who got what. Those that are not over are kept: cancel them first."""
    with errors_as_exit_codes():
        age = parse_duration("--older-than", older_than)
        if age < _LEAST_AGE:
            fail("--older-than: at least 24h, for so long a start looks whom the image reached.", EXIT_USAGE)
        with opened(database) as found:
            _prune(found, utc_now() - age, older_than, yes=yes)


def _prune(database: Database, before: datetime, older_than: str, *, yes: bool) -> None:
    with database.reader.connect() as connection:
        over = broadcasts.find_over(connection, before)
    if not over:
        print_line("No broadcast is that old and over; nothing was changed.")
        return
    confirm(f"Remove {_broadcasts(len(over))} begun more than {older_than} ago?", yes=yes)
    pace = Pace()
    for broadcast_id in over:
        remove = partial(broadcasts.remove_some, broadcast_id=broadcast_id)
        while pace.perform(database, partial(remove, limit=pace.size)):
            pass
    with database.writer.begin() as connection:
        broadcasts.sweep(connection, utc_now())
    print_line(f"Removed {_broadcasts(len(over))}.")


def _find(connection: Connection, broadcast_id: int) -> Broadcast:
    found = broadcasts.find(connection, broadcast_id, _now(connection), _LANE_LENGTH)
    if found is None or found.state == "preparing":
        fail(f"There is no broadcast {broadcast_id} in this database. Run: gewe-cache broadcast list", EXIT_FAILURE)
    return found


def _deliveries(connection: Connection, broadcast_id: int, states: Sequence[State]) -> Iterator[Delivery]:
    after, now = 0, _now(connection)
    while True:
        page = broadcasts.list_deliveries(
            connection, broadcast_id, now, _LANE_LENGTH, states=states, after=after, limit=_ONE_PAGE
        )
        yield from page
        if len(page) < _ONE_PAGE:
            return
        after = page[-1].number


def _now(connection: Connection) -> datetime:
    return leases.read_clock(connection)


def _print_table(latest: Sequence[Broadcast]) -> None:
    from rich.table import Table  # noqa: PLC0415 - slow to load
    from rich.text import Text  # noqa: PLC0415 - as is this

    rows = [
        [
            str(each.id),
            human_time(each.created_at).partition("-")[2],
            state_of(each),
            *(f"{getattr(each, state):,}" for state in broadcasts.STATES),
            _short_name(each),
        ]
        for each in latest
    ]
    names = ("id", "begun UTC", "state", *broadcasts.STATES, "image")
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for column, name in enumerate(names[:-1]):
        widest = max(len(name), *(len(row[column]) for row in rows))
        is_text = name in {"begun UTC", "state"}
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True, min_width=widest)
    table.add_column(names[-1], no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def _print_broadcast(found: Broadcast, last_end: datetime | None) -> None:
    counts = ", ".join(f"{getattr(found, state):,} {state}" for state in broadcasts.STATES)
    print_line(f"Broadcast {found.id}  {state_of(found)}, begun {human_time(found.created_at)} UTC")
    print_line(f"image      {_image_of(found)}")
    print_line(f"at         {found.base_url}, scope {found.scope}")
    print_line(f"deliveries {counts}")
    if found.duplicates:
        print_line(f"duplicates {found.duplicates:,} dropped")
    if last_end is not None:
        print_line(f"last end   {human_age(utc_now() - last_end)} ago")


def _image_of(found: Broadcast) -> str:
    return printable_url(without_query(found.url)) if found.url is not None else f"md5 {found.md5}"


def _short_name(found: Broadcast) -> str:
    path = urlsplit(found.url or "").path
    return printable_url(path.rpartition("/")[2]) or _image_of(found)


def _write_csv(file: IO[str], deliveries: Iterator[Delivery]) -> None:
    names = [field.name for field in fields(Delivery) if field.name != "broadcast_id"]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    for delivery in deliveries:
        writer.writerow([_cell(getattr(delivery, name)) for name in names])


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value[:1] in "=+-@" else value  # a spreadsheet would take it for a formula
    return iso(value) if isinstance(value, datetime) else value


def _broadcasts(count: int) -> str:
    return "1 broadcast" if count == 1 else f"{count:,} broadcasts"
