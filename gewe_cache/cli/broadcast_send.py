"""``gewe-cache broadcast start | resume``: the two commands that send."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from gewe_cache.broadcast.pace import Pace
from gewe_cache.broadcast.recipients import from_lines
from gewe_cache.broadcast.run import Limits, Listener
from gewe_cache.broadcast.service import Broadcasts, Plan, Stopped, broadcasts_of, duration_of
from gewe_cache.cli.broadcast_view import (
    broadcast_as_json,
    plan_as_json,
    print_plan,
    print_report,
    print_rest,
    view_of,
)
from gewe_cache.cli.inputs import (
    AppIdOption,
    BaseUrlOption,
    DatabaseOption,
    IgnoreQueryOption,
    JsonOption,
    Md5Option,
    SenderScopeOption,
    ServerOption,
    TimeoutOption,
    TokenFileOption,
    TokenHeaderOption,
    TtlOption,
    UrlOption,
    YesOption,
    read_ignored,
    read_image,
    read_server,
    read_token,
    read_ttl,
)
from gewe_cache.cli.interrupts import Interrupted, Interrupts
from gewe_cache.cli.output import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_UNKNOWN,
    confirm,
    describe_error,
    errors_as_exit_codes,
    fail,
    print_json,
    print_line,
)
from gewe_cache.errors import AlreadyBroadcast
from gewe_cache.gewe.transport import check_async_calls
from gewe_cache.image import Image
from gewe_cache.sending.core import Core
from gewe_cache.sending.server_client import publish_to_server
from gewe_cache.settings import DEFAULT_TOKEN_HEADER, make_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gewe_cache.settings import Settings
    from gewe_cache.store.broadcasts import Broadcast, Share

LIMITS = Limits()

PaceOption = Annotated[
    str | None,
    typer.Option(
        "--pace",
        metavar="gewe|none|SECONDS",
        help="gewe: 1 s after a friend, 2 to 5 s after a group, 40 a minute. Default: gewe, or as it was begun.",
        show_default=False,
    ),
]


def start(  # noqa: PLR0913, PLR0917 - one argument an option
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A URL, the path of a local file, or an md5.")],
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="FILE", help="One wxid a line, or a CSV whose header names wxid (and app_id); - for stdin."
        ),
    ],
    url: UrlOption = None,
    md5: Md5Option = None,
    server: ServerOption = None,
    app_id: AppIdOption = None,
    pace: PaceOption = None,
    token_file: TokenFileOption = None,
    base_url: BaseUrlOption = None,
    token_header: TokenHeaderOption = DEFAULT_TOKEN_HEADER,
    scope: SenderScopeOption = None,
    ttl: TtlOption = None,
    timeout: TimeoutOption = None,
    ignore_query: IgnoreQueryOption = None,
    database: DatabaseOption = None,
    *,
    again: Annotated[
        bool, typer.Option("--again", help="Send although the image went to some of them within 24 hours.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Send an image to many recipients, once to each, at a pace that WeChat bears.

    Every delivery is written down before its send begins and after it ends. Ctrl-C lets the sends under way finish;
    resume goes on with the rest. What may have been sent is never sent again by itself.
    """
    with errors_as_exit_codes():
        chosen_pace = read_pace(pace) or Pace.gewe()
        chosen_image = read_image(image, url=url, md5=md5)
        settings = _settings(app_id, token_file, base_url, token_header, scope, ttl, timeout, ignore_query, database)
        with _opened(settings, read_server(server)) as opened, _interruptible(opened) as interrupts:
            plan = _prepare(opened, chosen_image, to, chosen_pace)
            try:
                _agree(plan, pace or "gewe", again=again, dry_run=dry_run, yes=yes, as_json=json)
                interrupts.check()
                opened.open(plan, again=again)
            except BaseException:
                opened.discard(plan.broadcast_id)
                raise
            found = opened.find(plan.broadcast_id)
            exit_code = _work(opened, found, plan.shares, chosen_pace, interrupts, chosen_image, as_json=json)
    raise typer.Exit(exit_code)


def resume(  # noqa: PLR0913, PLR0917 - one argument an option
    broadcast_id: Annotated[int, typer.Argument(metavar="ID", help="As start and list show it.")],
    image: Annotated[
        Path | None,
        typer.Option(
            "--image", metavar="FILE", help="The local image with which it began, should it be uploaded again."
        ),
    ] = None,
    server: ServerOption = None,
    pace: PaceOption = None,
    token_file: TokenFileOption = None,
    base_url: BaseUrlOption = None,
    token_header: TokenHeaderOption = DEFAULT_TOKEN_HEADER,
    scope: SenderScopeOption = None,
    ttl: TtlOption = None,
    timeout: TimeoutOption = None,
    ignore_query: IgnoreQueryOption = None,
    database: DatabaseOption = None,
    *,
    resend_unknown: Annotated[
        bool, typer.Option("--resend-unknown", help="Send also to those who may have it: look into the chats first.")
    ] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Go on with a broadcast that was interrupted. What may have been sent is not sent again.

    Several may work on one broadcast at once, on one machine or, with PostgreSQL, on many.
    """
    with errors_as_exit_codes():
        settings = _settings(None, token_file, base_url, token_header, scope, ttl, timeout, ignore_query, database)
        given = None if image is None else Image.from_file(image)
        with _opened(settings, read_server(server)) as opened, _interruptible(opened) as interrupts:
            found = opened.check_resumable(broadcast_id, given)
            if resend_unknown and found.unknown:
                question = f"Send again to {found.unknown:,} who may have the image already?"
                confirm(question, yes=yes)
                opened.resend_unknown(broadcast_id)
            interrupts.check()
            found, shares = opened.find(broadcast_id), opened.shares(broadcast_id)
            chosen_pace = read_pace(pace) or Pace.from_json(found.pace)
            if not json:
                print_rest(found, duration_of(shares, chosen_pace), pace or "as begun")
            exit_code = _work(opened, found, shares, chosen_pace, interrupts, given, as_json=json)
    raise typer.Exit(exit_code)


def read_pace(text: str | None) -> Pace | None:
    """Read ``--pace``; None where it was not given.

    Raises:
        ValueError: it is none of what may be written.
    """
    if text is None:
        return None
    named = {"gewe": Pace.gewe, "none": Pace.none}.get(text.strip().lower())
    if named is not None:
        return named()
    try:
        return Pace.every(float(text))
    except ValueError:
        msg = "--pace: write gewe, none, or a number of seconds from 0 to 86400."
        raise ValueError(msg) from None


def _settings(  # noqa: PLR0913, PLR0917 - the options of both commands
    app_id: str | None,
    token_file: str | None,
    base_url: str | None,
    token_header: str,
    scope: str | None,
    ttl: str | None,
    timeout: float | None,
    ignore_query: list[str] | None,
    database: str | None,
) -> Settings:
    return make_settings(
        read_token(token_file),
        app_id,
        base_url=base_url,
        token_header=token_header,
        database=database,
        scope=scope,
        ttl=read_ttl(ttl),
        timeout=timeout,
        ignore_query=read_ignored(ignore_query),
        tuning=None,
    )


@contextmanager
def _opened(settings: Settings, server: str | None) -> Iterator[Broadcasts]:
    """Open the broadcasts of a sender; local images that are not in the cache are hosted by the server."""
    check_async_calls()
    publish = None
    if server is not None:
        publish = publish_to_server(server, settings.token, token_header=settings.token_header)
    core = Core.make(settings, publish=publish)
    try:
        with broadcasts_of(core, LIMITS) as opened:
            yield opened
    finally:
        core.shut_down()


@contextmanager
def _interruptible(opened: Broadcasts) -> Iterator[Interrupts]:
    """Let Ctrl-C, and what else ends a program, stop the run in order; a third one ends it at once."""
    try:
        with Interrupts(opened.stop) as interrupts:
            yield interrupts
    except (Interrupted, Stopped):
        fail("Stopped. Nothing was sent.", EXIT_INTERRUPTED)


def _prepare(opened: Broadcasts, image: Image, to: str, pace: Pace) -> Plan:
    app_id = opened.core.settings.app_id
    try:
        if to == "-":
            return opened.prepare(image, from_lines(_text_of_stdin(), app_id), pace)
        with _open_text(to) as file:
            lines = from_lines(file, app_id, is_csv=Path(to).suffix.lower() == ".csv")
            return opened.prepare(image, lines, pace)
    except UnicodeDecodeError:
        msg = f"--to: {to} is not a text in UTF-8. Nothing was sent. Save it as UTF-8 (CSV UTF-8 in Excel)."
        raise ValueError(msg) from None


def _open_text(path: str) -> TextIO:
    try:
        return Path(path).open(encoding="utf-8-sig", newline="")
    except OSError as error:
        msg = f"--to: {describe_error(error)}. Nothing was sent."
        raise ValueError(msg) from None


def _text_of_stdin() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer):
        yield line.decode("utf-8-sig" if number == 0 else "utf-8")


def _agree(plan: Plan, pace: str, *, again: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Show the plan, and go on only if it is to be sent."""
    if as_json:
        print_json(plan_as_json(plan, {"event": "plan"} if dry_run else {"event": "plan", "id": plan.broadcast_id}))
    else:
        print_plan(plan, pace, with_repeats=again or dry_run)
    if dry_run:
        raise typer.Exit(EXIT_OK)
    if plan.repeats.recipients and not again:
        raise AlreadyBroadcast(plan.repeats.recipients, plan.repeats.broadcast_ids)
    confirm(f"Send to {plan.recipients:,}?", yes=yes)


def _work(
    opened: Broadcasts,
    found: Broadcast,
    shares: Sequence[Share],
    pace: Pace,
    interrupts: Interrupts,
    image: Image | None,
    *,
    as_json: bool,
) -> int:
    if not as_json:
        print_line(f"Broadcast {found.id}. Ctrl-C ends it after the sends under way; three times, at once.")
    began = time.monotonic()
    try:
        with view_of(shares, as_json=as_json) as view:
            listener = Listener(on_delivery=view.on_delivery, on_notice=view.on_notice)
            found = opened.run_now(found, pace=pace, listener=listener, given=image)
    except BaseException:
        found = opened.find(found.id)
        _report(found, time.monotonic() - began, as_json=as_json)
        raise
    _report(found, time.monotonic() - began, as_json=as_json)
    return EXIT_INTERRUPTED if interrupts.is_set else _exit_code(found)


def _report(found: Broadcast, seconds: float, *, as_json: bool) -> None:
    if as_json:
        print_json({"event": "end", **broadcast_as_json(found), "seconds": round(seconds, 3)})
    else:
        print_report(found, seconds)


def _exit_code(found: Broadcast) -> int:
    if found.unknown:
        return EXIT_UNKNOWN
    if found.refused:
        return EXIT_REFUSED
    return EXIT_FAILURE if found.pending or found.sending else EXIT_OK
