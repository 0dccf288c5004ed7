"""Who gets a broadcast: read from a list, a text file or a CSV, checked before anything is sent.

Nothing here holds the whole list: it may be long.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final, cast

from gewe_cache.settings import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_NAMED: Final = 20

_APP_ID = "app_id"
_WXID = frozenset({"wxid", "to_wxid"})
_DELIMITERS = ",;\t"
_LONGEST_LINE = 10_000
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient as it was given, unchecked. ``place``: "line 3" of a file, "recipient 3" of a list."""

    place: str
    app_id: object
    to_wxid: object


@dataclass(slots=True)
class BadRecipients:
    """What is wrong with a list: the first few by name, the rest as a number."""

    named: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, place: str, problem: str) -> None:
        """Note one."""
        self.count += 1
        if self.count <= MAX_NAMED:
            self.named.append(f"{place}: {problem}")

    def describe(self) -> str:
        """Say all of it in one line."""
        more = self.count - len(self.named)
        named = "; ".join(self.named)
        return f"Nothing was sent. {named}{f'; and {more} more' if more else ''}"


def from_items(items: Iterable[object], app_id: str | None) -> Iterator[Recipient]:
    """Take wxids, which are sent to from ``app_id``, and (app_id, wxid) pairs."""
    for number, item in enumerate(items, 1):
        place = f"recipient {number}"
        if isinstance(item, tuple | list) and len(item) == 2:  # noqa: PLR2004 - a pair
            yield Recipient(place, item[0], item[1])
        else:
            yield Recipient(place, app_id, item)


def from_lines(lines: Iterable[str], app_id: str | None, *, is_csv: bool = False) -> Iterator[Recipient]:
    """Read a text with one wxid a line, or a CSV whose header names ``wxid`` and perhaps ``app_id``.

    ``is_csv``: it is said to be one, so that its first line is a header whatever it looks like. Blank lines, and in a
    plain text lines that begin with ``#``, are left out.

    Raises:
        ValueError: a CSV's header names no wxid, or a line cannot be read.
    """
    numbered = enumerate(lines, 1)
    first = next(((number, line) for number, line in numbered if line.strip()), None)
    if first is None:
        return iter(())
    header = _header(first[1], is_csv=is_csv)
    if header is not None:
        return _from_csv(header, first[0], (line for _, line in numbered), app_id)
    return _from_text(chain([first], numbered), app_id)


def check(recipients: Iterable[Recipient], bad: BadRecipients) -> Iterator[tuple[str, str]]:
    """Give (app_id, wxid) pairs that can be sent to; what cannot is noted in ``bad``."""
    for recipient in recipients:
        try:
            yield _checked(recipient)
        except ValueError as error:
            bad.add(recipient.place, str(error))


def _checked(recipient: Recipient) -> tuple[str, str]:
    if recipient.app_id is None or recipient.app_id == "":
        msg = "app_id: no device is named; pass --app-id (app_id=, GEWE_APP_ID), or an app_id with each recipient"
        raise ValueError(msg)
    for name, value in (("app_id", recipient.app_id), ("wxid", recipient.to_wxid)):
        try:
            check_name(name, cast("str", value))  # it refuses what is no string
        except ValueError:
            msg = f"{name} '{_shown(value)}' is not a string of 1 to 256 printable characters without spaces"
            raise ValueError(msg) from None
    return str(recipient.app_id), str(recipient.to_wxid)


def _shown(value: object) -> str:
    """Give the beginning of what was passed, with what cannot be seen spelled out."""
    text = "" if value is None else str(value)
    begins = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[:_SHOWN])
    return begins if len(text) <= _SHOWN else f"{begins}…"


def _header(line: str, *, is_csv: bool) -> tuple[str, list[str]] | None:
    """Give the delimiter and the columns where a first line is the header of a CSV."""
    if line.lstrip().startswith("#") and not is_csv:
        return None
    for delimiter in _DELIMITERS:
        columns = [name.strip().strip('"').lower() for name in line.split(delimiter)]
        if len(columns) > 1:
            return delimiter, columns
    only = line.strip().strip('"').lower()
    return (_DELIMITERS[0], [only]) if is_csv or only in _WXID else None


def _from_csv(
    header: tuple[str, list[str]], number: int, lines: Iterator[str], app_id: str | None
) -> Iterator[Recipient]:
    delimiter, columns = header
    wxid_column = next((place for place, name in enumerate(columns) if name in _WXID), None)
    if wxid_column is None:
        msg = f"Nothing was sent. line {number}: a CSV needs a header that names wxid, and app_id for several devices"
        raise ValueError(msg)
    app_column = columns.index(_APP_ID) if _APP_ID in columns else None
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                place = f"line {number + reader.line_num}"
                device = app_id if app_column is None else _cell(row, app_column) or app_id
                yield Recipient(place, device, _cell(row, wxid_column))
    except csv.Error as error:
        msg = f"Nothing was sent. line {number + reader.line_num}: {error}"
        raise ValueError(msg) from None


def _cell(row: list[str], column: int) -> str:
    return row[column].strip() if column < len(row) else ""


def _from_text(numbered: Iterable[tuple[int, str]], app_id: str | None) -> Iterator[Recipient]:
    for number, line in numbered:
        text = line.strip()
        if text and not text.startswith("#"):
            yield Recipient(f"line {number}", app_id, text[:_LONGEST_LINE])
