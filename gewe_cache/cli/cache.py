"""``gewe-cache cache …``: what is in the cache, and what it saves. These commands only read."""

from __future__ import annotations

import shlex
import subprocess
import sys
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from gewe_cache.cli import tend
from gewe_cache.cli.inputs import (
    DatabaseOption,
    IgnoreQueryOption,
    JsonOption,
    ScopeOption,
    TtlOption,
    opened,
    read_ignored,
    read_image,
    read_ttl,
)
from gewe_cache.cli.output import EXIT_FAILURE, complain, errors_as_exit_codes, fail, print_json, print_line
from gewe_cache.cli.views import (
    entry_as_json,
    print_entries,
    print_entry,
    print_hours,
    print_stats,
    stats_as_json,
)
from gewe_cache.settings import check_name, parse_duration
from gewe_cache.store import reports
from gewe_cache.store.engine import parse_database_url
from gewe_cache.store.listing import (
    SORTS,
    Filters,
    ListQuery,
    Page,
    Sort,
    entries_by_id,
    find_ids,
    keys_of_entry,
    list_entries,
    token_of,
)

app = typer.Typer(help="Look into the cache and tend it.", no_args_is_help=True)

RevealOption = Annotated[bool, typer.Option("--reveal", help="Show the keys (aes_key) in full.")]

_CHART = timedelta(hours=24)


class Order(StrEnum):
    """The orders of a list, as an option."""

    uploaded_at = "uploaded_at"
    last_used_at = "last_used_at"
    forwards = "forwards"


_SORTS: dict[Order, Sort] = dict(zip(Order, SORTS, strict=True))


@app.command("list")
def list_(  # noqa: PLR0913, PLR0917 - one argument an option
    url_part: Annotated[
        str | None, typer.Option("--url-part", metavar="TEXT", help="Part of the URL, in either case.")
    ] = None,
    md5: Annotated[str | None, typer.Option("--md5", help="The image's md5, yours or GeWe's.")] = None,
    scope: ScopeOption = None,
    state: Annotated[tend.State | None, typer.Option("--state", help="Entries in this state alone.")] = None,
    sort: Annotated[
        Order, typer.Option("--sort", help="What to sort by, highest or latest first.")
    ] = Order.uploaded_at,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Entries a page.")] = 50,
    after: Annotated[
        str | None, typer.Option("--after", metavar="TOKEN", help="Go on after this place; the last page tells it.")
    ] = None,
    ttl: TtlOption = None,
    database: DatabaseOption = None,
    *,
    reverse: Annotated[bool, typer.Option("--reverse", "-r", help="Lowest or earliest first.")] = False,
    reveal: RevealOption = False,
    json: JsonOption = False,
) -> None:
    """List entries: image, size, age, time left, how often sent, last use; of retired ones the reason."""
    with errors_as_exit_codes():
        filters = tend.make_filters(url_part=url_part, md5=md5, scope=scope, state=state, ttl=ttl)
        query = ListQuery(filters, sort=_SORTS[sort], descending=not reverse, limit=limit, after=after)
        with opened(database) as found, found.reader.connect() as connection:
            page = list_entries(connection, query)
        if json:
            for entry in page.entries:
                print_json({**entry_as_json(entry, reveal=reveal), "token": token_of(query, entry)})
        elif page.entries:
            print_entries(page.entries, filters, reveal=reveal)
            _say_how_to_go_on(page)
        else:
            complain("No entry matches.")


@app.command()
def show(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="An entry's id, a URL, a file's path, or an md5.")],
    scope: ScopeOption = None,
    ignore_query: IgnoreQueryOption = None,
    ttl: TtlOption = None,
    database: DatabaseOption = None,
    *,
    reveal: RevealOption = False,
    json: JsonOption = False,
) -> None:
    """Show all that is known of an image's entries, with the keys that lead to them."""
    with errors_as_exit_codes():
        filters = Filters(ttl=read_ttl(ttl))
        image = None if tend.is_id(what) else read_image(what)
        with opened(database) as found, found.reader.connect() as connection:
            ids = [int(what)] if image is None else find_ids(connection, image, scope, read_ignored(ignore_query))
            shown = [(entry, keys_of_entry(connection, entry.id)) for entry in entries_by_id(connection, ids, filters)]
        if not shown:
            fail("There is no such entry.", EXIT_FAILURE)
        for place, (entry, keys) in enumerate(shown):
            if json:
                named = [{"kind": kind, "value": value} for kind, value in keys]
                print_json({**entry_as_json(entry, reveal=reveal), "keys": named})
                continue
            if place:
                print_line()
            print_entry(entry, keys, reveal=reveal)


@app.command()
def stats(
    scope: ScopeOption = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DURATION", help="Count from this long ago, such as 7d.")
    ] = None,
    ttl: TtlOption = None,
    database: DatabaseOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Show what the cache holds and has saved: hit ratio, bytes, time, and the last day by hour."""
    with errors_as_exit_codes():
        filters = Filters(ttl=read_ttl(ttl), scope=None if scope is None else check_name("--scope", scope))
        length = None if since is None else parse_duration("--since", since)
        begin = None if length is None else filters.now - length
        chart_from = filters.now - (_CHART if length is None else length)
        with opened(database) as found, found.reader.connect() as connection:
            counts = reports.table_counts(connection, filters)
            total = reports.usage_totals(connection, scope, begin)
            hours = reports.usage_by_hour(connection, scope, chart_from)
        if json:
            print_json(stats_as_json(counts, total, hours))
            return
        print_stats(counts, total, "in all" if since is None else f"in the last {since}")
        print_hours(hours)


for _change in (tend.forget, tend.prune, tend.remember, tend.rescope):
    app.command()(_change)


def _say_how_to_go_on(page: Page) -> None:
    if page.next_token is None:
        return
    print_line()
    print_line(f"There are more: {_command_line()} --after {page.next_token}")


def _command_line() -> str:
    """Give the command as it was called, less its place, and less a database URL with a password."""
    kept: list[str] = []
    words = iter(sys.argv[1:])
    for word in words:
        name, equals, value = word.partition("=")
        if name in {"--after", "--database"}:
            value = value if equals else next(words, "")
            if name == "--database" and parse_database_url(value).password is None:
                kept.extend((name, value))
        else:
            kept.append(word)
    command = ["gewe-cache", *kept]
    return subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)
