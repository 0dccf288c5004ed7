"""How entries and savings look: as tables for people, as values for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from gewe_cache.cli.output import can_print, console, human_time, printable, printable_url
from gewe_cache.text import human_age, human_size, mask_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from gewe_cache.store.listing import Filters, ListedEntry
    from gewe_cache.store.reports import Savings, TableCounts

_WIDE_FROM = 110
_WIDE_SCOPE = 24
_NARROW_SCOPE = 6
_LEAST_IMAGE = 12
_HOURS_SHOWN = 24
_MAX_BAR = 40
_BARS = ("█", "░")
_PLAIN_BARS = ("#", ".")
_STATE_COLOURS = {"fresh": "green", "expired": "yellow", "retired": "red"}


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a list: its cells, as wide as the widest. East Asian characters take two places."""

    name: str
    cells: Sequence[str]
    to_the_left: bool = False
    least: int = 0
    colours: Mapping[str, str] | None = None

    @property
    def width(self) -> int:
        return max(self.least, cell_len(self.name), *(cell_len(cell) for cell in self.cells))

    def head(self) -> str:
        return self._place(self.name)

    def cell(self, row: int) -> str:
        return self._place(self.cells[row])

    def style_of(self, entry: ListedEntry) -> str:
        return "" if self.colours is None else self.colours[entry.state]

    def _place(self, text: str) -> str:
        blank = " " * (self.width - cell_len(text))
        return text + blank if self.to_the_left else blank + text


def entry_as_json(entry: ListedEntry, *, reveal: bool) -> dict[str, Any]:
    """Give an entry's fields, its key masked unless it is to be revealed."""
    fields = asdict(entry)
    fields["aes_key"] = entry.aes_key if reveal else mask_key(entry.aes_key)
    return fields


def print_entries(entries: Sequence[ListedEntry], filters: Filters, *, reveal: bool) -> None:
    """Print a line for each entry, as wide as the terminal, and a second one for what a retired one was refused."""
    out = console()
    wide = out.width >= _WIDE_FROM
    scopes = {printable(entry.scope) for entry in entries}
    columns = _columns(entries, filters, scope_width=0 if len(scopes) == 1 else _WIDE_SCOPE if wide else _NARROW_SCOPE)
    gap = "  " if wide else " "
    room = out.width - sum(column.width + len(gap) for column in columns)
    columns.insert(1, _image_column(entries, max(_LEAST_IMAGE, room)))
    out.print(Text(gap.join(column.head() for column in columns), style="bold"), no_wrap=True)
    for row, entry in enumerate(entries):
        line = Text(gap).join(Text(column.cell(row), style=column.style_of(entry)) for column in columns)
        out.print(line, no_wrap=True, overflow="ellipsis")
        for note in _notes(entry, filters, reveal=reveal):
            out.print(Text(" " * (columns[0].width + len(gap)) + note, style="dim"), no_wrap=True, overflow="ellipsis")
    if len(scopes) == 1:
        out.print(Text(f"All in scope {scopes.pop()}.", style="dim"))


def print_entry(entry: ListedEntry, keys: Sequence[tuple[str, str]], *, reveal: bool) -> None:
    """Print all that is known of an entry."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in _facts(entry, reveal=reveal):
        table.add_row(name, Text(printable(value, limit=None)))
    for kind, value in keys:
        table.add_row(f"key ({kind})", Text(printable(value, limit=None)))
    console().print(table)


def print_stats(counts: TableCounts, total: Savings, period: str) -> None:
    """Print how full the cache is, and what it has saved."""
    sent, out = total.counts, console()
    ratio = "-" if total.hit_ratio is None else f"{total.hit_ratio:.1%}"
    trouble = (
        f"{sent.fall_backs:,} fall-backs, {sent.refusals:,} refusals, {sent.unknowns:,} unknowns, "
        f"{sent.store_failures:,} store failures"
    )
    lines = (
        ("entries", f"{counts.fresh:,} fresh, {counts.expired:,} expired, {counts.retired:,} retired"),
        (f"sent {period}", f"{sent.forwards:,} forwards, {sent.uploads:,} uploads"),
        ("hit ratio", ratio),
        ("not uploaded again", human_size(sent.bytes_saved)),
        ("time saved", f"about {human_age(total.seconds_saved)}" if total.seconds_saved else "-"),
        ("trouble", trouble),
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(name, value)
    out.print(table)


def print_hours(hours: Sequence[tuple[datetime, Savings]]) -> None:
    """Print the last day's hours as bars, from the first in which something was sent."""
    if not hours:
        return
    out, by_hour = console(), dict(hours)
    last = max(by_hour)
    shown = [last - timedelta(hours=ago) for ago in reversed(range(_HOURS_SHOWN))]
    while shown[0] not in by_hour:
        shown.pop(0)
    most = max(_sent(by_hour[hour]) for hour in shown if hour in by_hour)
    full, light = _bars()
    out.print()
    out.print(Text(f"hour (UTC)   forwards {full}  uploads {light}", style="bold"))
    room = max(10, min(_MAX_BAR, out.width - 36))
    for hour in shown:
        out.print(_hour_line(hour, by_hour.get(hour), room, most), no_wrap=True, overflow="ellipsis")


def short_url(url: str | None, width: int) -> str:
    """Give a URL without scheme and query, its middle left out where it does not fit: both ends tell most."""
    shown = printable_url(url)
    bare = shown.partition("://")[2].partition("?")[0] or shown
    if cell_len(bare) <= width:
        return bare
    head = set_cell_size(bare, (width - 1) // 3)
    tail = bare[-width:]
    while cell_len(head) + 1 + cell_len(tail) > width:
        tail = tail[1:]
    return f"{head}…{tail}"


def stats_as_json(counts: TableCounts, total: Savings, hours: Sequence[tuple[datetime, Savings]]) -> dict[str, Any]:
    """Give everything that ``stats`` knows as one value."""
    return {
        "entries": asdict(counts),
        **_savings_as_json(total),
        "hours": [{"hour": hour, **_savings_as_json(savings)} for hour, savings in hours],
    }


def _savings_as_json(savings: Savings) -> dict[str, Any]:
    return {**asdict(savings.counts), "hit_ratio": savings.hit_ratio, "seconds_saved": savings.seconds_saved}


def _columns(entries: Sequence[ListedEntry], filters: Filters, *, scope_width: int) -> list[_Column]:
    now = filters.now
    columns = [_Column("id", [str(entry.id) for entry in entries])]
    if scope_width:
        columns.append(_Column("scope", [_cut(entry.scope, scope_width) for entry in entries], to_the_left=True))
    columns += [
        _Column("size", [human_size(entry.length) for entry in entries]),
        _Column("age", [human_age(entry.age, coarse=True) for entry in entries]),
        _Column("left", [_time_left(entry) for entry in entries], colours=_STATE_COLOURS),
        _Column("fwds", [f"{entry.forwards:,}" for entry in entries]),
        _Column("used", [human_age(now - entry.last_used_at, coarse=True) for entry in entries]),
    ]
    return columns


def _image_column(entries: Sequence[ListedEntry], width: int) -> _Column:
    return _Column("image", [short_url(entry.url, width) for entry in entries], to_the_left=True, least=width)


def _time_left(entry: ListedEntry) -> str:
    return human_age(entry.time_left, coarse=True) if entry.state == "fresh" else entry.state


def _notes(entry: ListedEntry, filters: Filters, *, reveal: bool) -> list[str]:
    notes = []
    if entry.retired_at is not None:
        notes.append(f"retired {human_age(filters.now - entry.retired_at)} ago: {printable(entry.retired_reason)}")
    if reveal:
        notes.append(f"aes_key {printable(entry.aes_key)}")
    return notes


def _cut(text: str, width: int) -> str:
    shown = printable(text)
    return shown if cell_len(shown) <= width else f"{set_cell_size(shown, width - 1)}…"


def _facts(entry: ListedEntry, *, reveal: bool) -> list[tuple[str, str]]:
    sides = f"{entry.width} x {entry.height}" if entry.width and entry.height else "-"
    facts = [
        ("id", str(entry.id)),
        ("image", printable_url(entry.url)),
        ("scope", entry.scope),
        ("state", entry.state),
        ("uploaded", f"{human_time(entry.uploaded_at)} UTC, {human_age(entry.age)} ago"),
        ("time left", human_age(entry.time_left) if entry.state == "fresh" else "-"),
        ("forwards", f"{entry.forwards:,}"),
        ("last used", f"{human_time(entry.last_used_at)} UTC"),
        ("size", f"{human_size(entry.length)}, {sides}"),
        ("md5 at GeWe", entry.md5 or "-"),
        ("aes_key", entry.aes_key if reveal else f"{mask_key(entry.aes_key)} (--reveal shows it)"),
        ("file_id", entry.file_id),
    ]
    if entry.retired_at is not None:
        facts.insert(4, ("retired", f"{human_time(entry.retired_at)} UTC: {entry.retired_reason}"))
    return facts


def _hour_line(hour: datetime, savings: Savings | None, room: int, most: int) -> Text:
    line = Text(f"{hour:%m-%d %H:%M}  ")
    if savings is None:
        return line
    full, light = _bars()
    forwards, uploads = (_length(count, room, most) for count in (savings.counts.forwards, savings.counts.uploads))
    line.append(full * forwards, style="green")
    line.append(light * uploads, style="yellow")
    line.append(f" {savings.counts.forwards:,} + {savings.counts.uploads:,}")
    return line


def _length(count: int, room: int, most: int) -> int:
    return max(1, round(count * room / most)) if count else 0


def _sent(savings: Savings) -> int:
    return savings.counts.forwards + savings.counts.uploads or 1


def _bars() -> tuple[str, str]:
    return _BARS if can_print("".join(_BARS)) else _PLAIN_BARS
