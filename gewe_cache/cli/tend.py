"""``gewe-cache cache forget | prune | remember | rescope``: the commands that change the cache.

Each says how many entries it is about, asks, and changes them in short batches; what is done when it is
broken off stays done, and is said.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gewe_cache.cli.inputs import (
    BaseUrlOption,
    DatabaseOption,
    IgnoreQueryOption,
    ScopeOption,
    SenderScopeOption,
    TokenFileOption,
    TtlOption,
    YesOption,
    opened,
    read_ignored,
    read_image,
    read_token,
    read_ttl,
)
from gewe_cache.cli.output import (
    EXIT_USAGE,
    confirm,
    describe_error,
    errors_as_exit_codes,
    fail,
    print_line,
    printable_url,
)
from gewe_cache.image import Image
from gewe_cache.settings import check_name, parse_duration, utc_now
from gewe_cache.store import tending
from gewe_cache.store.listing import Filters, count_entries, entries_by_id, find_ids
from gewe_cache.store.listing import State as ListedState
from gewe_cache.text import human_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gewe_cache.store.engine import Database

_ID = re.compile(r"[0-9]{1,18}", re.ASCII)
_MAX_XML_BYTES = 400_000
_PROGRESS_FROM = 5_000
_UNUSED_TOKEN = "not-needed"  # noqa: S105 - remember calls nobody; with a scope named, the token decides nothing


class State(StrEnum):
    """The states of an entry, as an option."""

    fresh = "fresh"
    expired = "expired"
    retired = "retired"


class Old(StrEnum):
    """The states that a prune can be kept to."""

    expired = "expired"
    retired = "retired"


def forget(  # noqa: PLR0913, PLR0917 - one argument an option
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[WHAT]...", help="Entries' ids, URLs, files' paths, or md5s.")
    ] = None,
    url_part: Annotated[
        str | None, typer.Option("--url-part", metavar="TEXT", help="All whose URL has this part, in either case.")
    ] = None,
    md5: Annotated[str | None, typer.Option("--md5", help="All of this md5, yours or GeWe's.")] = None,
    scope: ScopeOption = None,
    state: Annotated[State | None, typer.Option("--state", help="All in this state.")] = None,
    ignore_query: IgnoreQueryOption = None,
    ttl: TtlOption = None,
    database: DatabaseOption = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every entry.")] = False,
    yes: YesOption = False,
) -> None:
    """Remove entries with all their keys: the next send of such an image uploads it."""
    with errors_as_exit_codes():
        filters = make_filters(url_part=url_part, md5=md5, scope=scope, state=state, ttl=ttl)
        others = [url_part, md5, state, everything or None]
        if bool(what) == any(other is not None for other in (*others, None if what else scope)):
            fail(
                "Name the entries, or pass filters (--url-part, --md5, --scope, --state, --all), not both.", EXIT_USAGE
            )
        with opened(database) as found:
            if what:
                _forget_named(found, what, filters, read_ignored(ignore_query), yes=yes)
            else:
                _forget_matching(found, filters, yes=yes)


def prune(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="DURATION", help="Uploaded longer ago than this, such as 30d.")
    ],
    scope: ScopeOption = None,
    state: Annotated[Old | None, typer.Option("--state", help="Expired or retired entries alone.")] = None,
    ttl: TtlOption = None,
    database: DatabaseOption = None,
    *,
    usage: Annotated[bool, typer.Option("--usage", help="Remove the hourly usage before that as well.")] = False,
    yes: YesOption = False,
) -> None:
    """Remove old entries, and leases that nobody waits for. Usage is kept unless --usage is given."""
    with errors_as_exit_codes():
        age = parse_duration("--older-than", older_than)
        filters = make_filters(scope=scope, state=state, ttl=ttl)
        filters = replace(filters, uploaded_before=filters.now - age)
        with opened(database) as found:
            total = _count(found, filters)
            if total or usage:
                besides = " and the usage before that" if usage else ""
                confirm(f"Remove {_entries(total)} uploaded more than {older_than} ago{besides}?", yes=yes)
            pruned = tending.Pruned()
            try:
                for pruned in tending.prune(found, filters, with_usage=usage):
                    _show_progress(pruned.entries, total)
            finally:
                also = f" and {pruned.usage_rows:,} hours of usage" if usage else ""
                print_line(f"Removed {_entries(pruned.entries)}{also}.")


def remember(  # noqa: PLR0913, PLR0917 - one argument an option
    xml_file: Annotated[str, typer.Argument(metavar="XML_FILE", help="The message as received; - for standard input.")],
    url: Annotated[str | None, typer.Option("--url", help="The URL by which to find it.")] = None,
    md5: Annotated[str | None, typer.Option("--md5", help="Your md5 by which to find it.")] = None,
    age: Annotated[
        str | None, typer.Option("--age", metavar="DURATION", help="How long ago it was uploaded, such as 2h.")
    ] = None,
    scope: SenderScopeOption = None,
    token_file: TokenFileOption = None,
    base_url: BaseUrlOption = None,
    ignore_query: IgnoreQueryOption = None,
    database: DatabaseOption = None,
) -> None:
    """Learn an entry from a received image message, so that it is forwarded without an upload."""
    from gewe_cache import ImageSender  # noqa: PLC0415 - slow to load, and the other commands send nothing

    with errors_as_exit_codes():
        xml = _read_xml(xml_file)
        image = Image(url=url, md5=md5) if url is not None or md5 is not None else None
        uploaded_at = None if age is None else utc_now() - parse_duration("--age", age)
        has_scope = scope is not None or bool(os.environ.get("GEWE_CACHE_SCOPE"))
        token = _UNUSED_TOKEN if has_scope and token_file is None else read_token(token_file)
        with ImageSender(
            token, base_url=base_url, scope=scope, database=database, ignore_query=read_ignored(ignore_query)
        ) as sender:
            entry = sender.remember(xml, image=image, uploaded_at=uploaded_at)
        print_line(f"Remembered as entry {entry.entry_id}: {human_size(entry.length)}, md5 {entry.md5 or 'unknown'}.")


def rescope(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The scope to empty.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The scope to fill.")],
    database: DatabaseOption = None,
    *,
    yes: YesOption = False,
) -> None:
    """Move all entries of a scope to another, such as after a change of token.

    Where both know an image, the newer upload wins. Stop the senders that use the old scope first.
    """
    with errors_as_exit_codes():
        check_name("OLD", old)
        if check_name("NEW", new) == old:
            fail("OLD and NEW are the same scope.", EXIT_USAGE)
        with opened(database) as found:
            total = _count(found, make_filters(scope=old))
            confirm(f"Move {_entries(total)} and the usage of scope {old} to {new}?", yes=yes)
            moved = 0
            try:
                for moved in tending.rescope(found, old, new):
                    _show_progress(moved, total)
            finally:
                print_line(f"Moved {_entries(moved)}.")


def make_filters(
    *,
    url_part: str | None = None,
    md5: str | None = None,
    scope: str | None = None,
    state: StrEnum | None = None,
    ttl: str | None = None,
) -> Filters:
    """Check the options that tell which entries are meant."""
    return Filters(
        ttl=read_ttl(ttl),
        url_part=url_part,
        md5=None if md5 is None else Image(md5=md5).md5,
        scope=None if scope is None else check_name("--scope", scope),
        state=None if state is None else _STATES[state.value],
    )


def is_id(text: str) -> bool:
    """Tell an entry's id from an image."""
    return _ID.fullmatch(text) is not None


def _forget_named(
    database: Database, what: Sequence[str], filters: Filters, ignored: frozenset[str], *, yes: bool
) -> None:
    images = [read_image(text) for text in what if not is_id(text)]
    wanted = {int(text) for text in what if is_id(text)}
    with database.reader.connect() as connection:
        for image in images:
            wanted.update(find_ids(connection, image, filters.scope, ignored))
        found = [
            entry
            for entry in entries_by_id(connection, sorted(wanted), filters)
            if filters.scope in {None, entry.scope}
        ]
    if not found:
        print_line("No entry matches; nothing was changed.")
        return
    named = (
        f"entry {found[0].id} ({printable_url(found[0].url or 'known by md5')})"
        if len(found) == 1
        else _entries(len(found))
    )
    confirm(f"Forget {named}?", yes=yes)
    _drain(tending.forget_ids(database, [entry.id for entry in found]), len(found))


def _forget_matching(database: Database, filters: Filters, *, yes: bool) -> None:
    total = _count(database, filters)
    if not total:
        print_line("No entry matches; nothing was changed.")
        return
    confirm(f"Forget {_entries(total)}?", yes=yes)
    _drain(tending.forget_matching(database, filters), total)


def _drain(progress: Iterator[int], total: int) -> None:
    done = 0
    try:
        for done in progress:
            _show_progress(done, total)
    finally:
        print_line(f"Forgot {_entries(done)}.")


def _count(database: Database, filters: Filters) -> int:
    with database.reader.connect() as connection:
        return count_entries(connection, filters)


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"


def _show_progress(done: int, total: int) -> None:
    if total >= _PROGRESS_FROM and sys.stderr.isatty():
        typer.echo(f"\r{done:,} of {total:,} " + ("\n" if done >= total else ""), nl=False, err=True)


def _read_xml(xml_file: str) -> str:
    if xml_file == "-":
        content = sys.stdin.buffer.read(_MAX_XML_BYTES)
    else:
        try:
            with Path(xml_file).open("rb") as file:
                content = file.read(_MAX_XML_BYTES)
        except OSError as error:
            fail(f"XML_FILE: {describe_error(error)}. Nothing was changed.", EXIT_USAGE)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        fail("XML_FILE is not UTF-8 text.", EXIT_USAGE)


_STATES: dict[str, ListedState] = {"fresh": "fresh", "expired": "expired", "retired": "retired"}
