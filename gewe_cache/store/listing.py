"""Entries as the operator looks at them: filtered, sorted by what is indexed, paged by key.

A page is read along one index, whatever the size of the table: the cursor is the last row's place in it.
Where an md5 is given, its few entries are looked up first and sorted afterwards; the same goes for retired
entries, which have an index of their own, in any order but that of their uploads. A part of a URL has no index:
SQLite then reads the table from its beginning to its end, which is quicker than to fetch each row by an index.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from urllib.parse import quote, unquote

from sqlalchemy import (
    ColumnElement,
    UnaryExpression,
    and_,
    func,
    literal,
    not_,
    or_,
    select,
    tuple_,
    union,
)
from sqlalchemy.sql.operators import custom_op

from gewe_cache.keys import Key, normalise_url
from gewe_cache.settings import utc_now
from gewe_cache.store.tables import entries, keys
from gewe_cache.text import mask_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Row, Select

    from gewe_cache.image import Image

Sort = Literal["uploaded_at", "last_used_at", "forwards"]
State = Literal["fresh", "expired", "retired"]

SORTS: Final[tuple[Sort, ...]] = get_args(Sort)
STATES: Final[tuple[State, ...]] = get_args(State)
MAX_LIMIT: Final = 10_000

_FUTURE_TOLERANCE = timedelta(minutes=5)
_MAX_URL_PART = 8192
_DIGESTS_AT_ONCE = 500
_ESCAPE = "\\"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_TOKEN = re.compile(r"([ulf][da])([0-9]{1,18})\.([0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which entries are meant; what is None or empty narrows nothing.

    Attributes:
        ttl: the reader's time to live, which tells fresh from expired.
        url_part: part of the URL, in either case, percent-encoded or not.
        md5: the user's or GeWe's, lower-case.
        scope: one scope.
        state: fresh, expired or retired.
        uploaded_before: uploaded earlier than this, aware.
        now: the moment at which ages are taken, aware.
    """

    ttl: timedelta
    url_part: str | None = None
    md5: str | None = None
    scope: str | None = None
    state: State | None = None
    uploaded_before: datetime | None = None
    now: datetime = field(default_factory=utc_now)

    def __post_init__(self) -> None:
        """Refuse what would match by accident."""
        if self.state is not None and self.state not in STATES:
            msg = f"state: pass one of {', '.join(STATES)}."
            raise ValueError(msg)
        if self.url_part is not None and not 0 < len(self.url_part) <= _MAX_URL_PART:
            msg = f"url_part: pass 1 to {_MAX_URL_PART} characters of the URL."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A page of entries: which, in what order, from where on, how many."""

    filters: Filters
    sort: Sort = "uploaded_at"
    descending: bool = True
    limit: int = 50
    after: str | None = None

    def __post_init__(self) -> None:
        """Refuse an order that no index gives, and a page without a bound."""
        if self.sort not in SORTS:
            msg = f"sort: pass one of {', '.join(SORTS)}."
            raise ValueError(msg)
        if not 1 <= self.limit <= MAX_LIMIT:
            msg = f"limit: pass a number from 1 to {MAX_LIMIT}."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class ListedEntry:
    """An entry as the operator sees it. ``time_left`` is None for a retired one, and 0 for an expired one."""

    id: int
    scope: str
    url: str | None
    aes_key: str = field(repr=False)
    file_id: str
    length: int | None
    width: int | None
    height: int | None
    md5: str | None
    uploaded_at: datetime
    last_used_at: datetime
    forwards: int
    retired_at: datetime | None
    retired_reason: str | None
    state: State
    age: timedelta
    time_left: timedelta | None

    def __repr__(self) -> str:
        """Show the entry without the key that decrypts it."""
        return (
            f"ListedEntry(id={self.id}, scope={self.scope!r}, url={self.url!r}, "
            f"aes_key='{mask_key(self.aes_key)}', state={self.state!r}, uploaded_at={self.uploaded_at.isoformat()})"
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, and the token of the page after them, or None at the end."""

    entries: tuple[ListedEntry, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: a row's sort value and its id."""

    value: datetime | int
    id: int


def list_entries(connection: Connection, query: ListQuery) -> Page:
    """Give a page of entries.

    While one pages by ``last_used_at`` or ``forwards``, an entry used meanwhile moves: it may come twice or not
    at all.

    Raises:
        ValueError: ``after`` is no token of this order.
    """
    rows = connection.execute(_page(connection, query)).all()
    shown = tuple(listed_entry(row, query.filters) for row in rows[: query.limit])
    more = len(rows) > query.limit
    return Page(shown, token_of(query, shown[-1]) if more else None)


def token_of(query: ListQuery, last: ListedEntry) -> str:
    """Give the token of the page that begins after an entry."""
    value: datetime | int = getattr(last, query.sort)
    number = value if isinstance(value, int) else (value - _EPOCH) // _TICK
    return f"{_order(query)}{number}.{last.id}"


def find_places(connection: Connection, filters: Filters, after: Place | None, limit: int) -> list[Place]:
    """Give where the entries that are meant stand, oldest upload first."""
    statement = select(entries.c.uploaded_at, entries.c.id).where(*conditions(connection, filters))
    if after is not None:
        statement = statement.where(_is_beyond(entries.c.uploaded_at, after, descending=False))
    rows = connection.execute(statement.order_by(entries.c.uploaded_at, entries.c.id).limit(limit))
    return [Place(row.uploaded_at, row.id) for row in rows]


def count_entries(connection: Connection, filters: Filters) -> int:
    """Count the entries that are meant."""
    statement = select(func.count()).select_from(entries).where(*conditions(connection, filters))
    return connection.scalar(statement) or 0


def entries_by_id(connection: Connection, entry_ids: list[int], filters: Filters) -> list[ListedEntry]:
    """Give these entries, newest first; ``filters`` only tells their state and age."""
    statement = select(entries).where(entries.c.id.in_(entry_ids)).order_by(entries.c.uploaded_at.desc())
    return [listed_entry(row, filters) for row in connection.execute(statement)]


def keys_of_entry(connection: Connection, entry_id: int) -> list[tuple[str, str]]:
    """Give the kind and value of every key that leads to an entry."""
    statement = select(keys.c.kind, keys.c.value).where(keys.c.entry_id == entry_id).order_by(keys.c.kind, keys.c.value)
    return [(row.kind, row.value) for row in connection.execute(statement)]


def find_ids(
    connection: Connection,
    image: Image,
    scope: str | None = None,
    ignore_query: frozenset[str] = frozenset(),
) -> list[int]:
    """Find an image's entries in one scope or in all, the retired ones too."""
    if image.md5 is not None:
        found = set(connection.scalars(_ids_of_md5(image.md5)))
    else:
        found = set(_ids_of_url(connection, image.url or "", scope, ignore_query))
    if scope is None or not found:
        return sorted(found)
    in_scope = select(entries.c.id).where(entries.c.id.in_(found), entries.c.scope == scope)
    return sorted(connection.scalars(in_scope))


def scopes_of_entries(connection: Connection) -> Iterator[str]:
    """Give every scope that has entries, one index step each."""
    scope = connection.scalar(select(func.min(entries.c.scope)))
    while scope is not None:
        yield scope
        scope = connection.scalar(select(func.min(entries.c.scope)).where(entries.c.scope > scope))


def conditions(
    connection: Connection, filters: Filters, sort: Sort | None = "uploaded_at"
) -> list[ColumnElement[bool]]:
    """Give the filters as SQL, written so that SQLite reads along the index that sorts; None: along none."""
    found: list[ColumnElement[bool]] = []
    if filters.md5 is not None:
        found.append(entries.c.id.in_(_ids_of_md5(filters.md5)))
    if filters.scope is not None:
        found.append(_scope(connection, filters, sort) == filters.scope)
    if filters.state is not None:
        found.extend(_state(_uploaded_at(connection, filters, sort), filters))
    if filters.state == "fresh" and sort == "last_used_at":  # implied, and spares a walk past all that are not
        found.append(entries.c.last_used_at > filters.now - filters.ttl)
    if filters.uploaded_before is not None:
        found.append(_uploaded_at(connection, filters, sort) < filters.uploaded_before)
    if filters.url_part is not None:
        found.append(_has_url_part(connection, filters.url_part))
    return found


def is_in_time(uploaded_at: ColumnElement[datetime], filters: Filters) -> ColumnElement[bool]:
    """Tell fresh from expired in SQL, retired or not."""
    return and_(uploaded_at > filters.now - filters.ttl, uploaded_at <= filters.now + _FUTURE_TOLERANCE)


def listed_entry(row: Row[Any], filters: Filters) -> ListedEntry:
    """Give a row with its state and age at the filters' moment."""
    uploaded_at: datetime = row.uploaded_at
    state = _state_of(uploaded_at, row.retired_at, filters)
    left = uploaded_at + filters.ttl - filters.now
    return ListedEntry(
        **{column.name: getattr(row, column.name) for column in entries.c if column.name != "upload_began_at"},
        state=state,
        age=filters.now - uploaded_at,
        time_left={"fresh": left, "expired": timedelta(0), "retired": None}[state],
    )


def _page(connection: Connection, query: ListQuery) -> Select[Any]:
    column: ColumnElement[Any] = entries.c[query.sort]
    is_scan = _is_scan(query.filters)
    if is_scan:
        column = _hidden(connection, column)
    statement = select(entries).where(*conditions(connection, query.filters, None if is_scan else query.sort))
    if query.after is not None:
        statement = statement.where(_is_beyond(column, _read_token(query), descending=query.descending))
    order = (column.desc(), entries.c.id.desc()) if query.descending else (column.asc(), entries.c.id.asc())
    return statement.order_by(*order).limit(query.limit + 1)


def _is_scan(filters: Filters) -> bool:
    """Tell of a page for which every row has to be looked at."""
    return filters.url_part is not None and filters.md5 is None and filters.state != "retired"


def _is_beyond(column: ColumnElement[Any], place: Place, *, descending: bool) -> ColumnElement[bool]:
    here = tuple_(column, entries.c.id)
    there = tuple_(literal(place.value, column.type), literal(place.id, entries.c.id.type))
    return here < there if descending else here > there


def _state(uploaded_at: ColumnElement[datetime], filters: Filters) -> list[ColumnElement[bool]]:
    if filters.state == "retired":
        return [entries.c.retired_at.is_not(None)]
    fresh = is_in_time(uploaded_at, filters)
    return [entries.c.retired_at.is_(None), fresh if filters.state == "fresh" else not_(fresh)]


def _state_of(uploaded_at: datetime, retired_at: datetime | None, filters: Filters) -> State:
    if retired_at is not None:
        return "retired"
    is_fresh = filters.now - filters.ttl < uploaded_at <= filters.now + _FUTURE_TOLERANCE
    return "fresh" if is_fresh else "expired"


def _scope(connection: Connection, filters: Filters, sort: Sort | None) -> ColumnElement[str]:
    by_other_index = filters.md5 is not None or filters.state == "retired" or sort is None
    return _hidden(connection, entries.c.scope) if by_other_index else entries.c.scope


def _uploaded_at(connection: Connection, filters: Filters, sort: Sort | None) -> ColumnElement[datetime]:
    by_other_index = filters.md5 is not None or (sort != "uploaded_at" and filters.state != "retired")
    return _hidden(connection, entries.c.uploaded_at) if by_other_index else entries.c.uploaded_at


def _hidden(connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Keep SQLite from searching by this column: it would have to sort what it finds. PostgreSQL has statistics."""
    if connection.dialect.name != "sqlite":
        return column
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


def _ids_of_md5(md5: str) -> Any:  # noqa: ANN401 - SQLAlchemy's own type is generic over internals
    return union(
        select(keys.c.entry_id).where(keys.c.kind == literal("md5", literal_execute=True), keys.c.value == md5),
        select(entries.c.id).where(entries.c.md5 == md5),
    )


def _ids_of_url(connection: Connection, url: str, scope: str | None, ignore_query: frozenset[str]) -> Iterator[int]:
    value = normalise_url(url, ignore_query)
    scopes = [scope] if scope is not None else list(scopes_of_entries(connection))
    digests = [Key.of("url", each, value).digest for each in scopes]
    for start in range(0, len(digests), _DIGESTS_AT_ONCE):
        some = digests[start : start + _DIGESTS_AT_ONCE]
        yield from connection.scalars(select(keys.c.entry_id).where(keys.c.digest.in_(some)))
    retired = select(entries.c.id).where(entries.c.retired_at.is_not(None), entries.c.url.in_({url, value}))
    yield from connection.scalars(retired)


def _has_url_part(connection: Connection, part: str) -> ColumnElement[bool]:
    spellings = {part, unquote(part), quote(part, safe="!#$%&'()*+,-./:;=?@[]_~")}
    patterns = [f"%{_escape_like(spelling)}%" for spelling in sorted(spellings)]
    if connection.dialect.name == "sqlite":  # its LIKE ignores case by itself, and is quicker than lower()
        return or_(*(entries.c.url.like(pattern, escape=_ESCAPE) for pattern in patterns))
    return or_(*(entries.c.url.ilike(pattern, escape=_ESCAPE) for pattern in patterns))


def _escape_like(text: str) -> str:
    for special in (_ESCAPE, "%", "_"):
        text = text.replace(special, _ESCAPE + special)
    return text


def _order(query: ListQuery) -> str:
    return f"{query.sort[0]}{'d' if query.descending else 'a'}"


def _read_token(query: ListQuery) -> Place:
    match = _TOKEN.fullmatch(query.after or "")
    try:
        if match is not None and match[1] == _order(query):
            number = int(match[2])
            return Place(number if query.sort == "forwards" else _EPOCH + number * _TICK, int(match[3]))
    except OverflowError:
        pass
    msg = "after: this is no page token of this order; pass the one that the last page gave, with the same sort."
    raise ValueError(msg)
