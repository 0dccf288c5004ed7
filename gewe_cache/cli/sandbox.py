"""``gewe-cache sandbox``: the imitation of GeWe, in the foreground, for people's own bots to be tried against."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import typer

from gewe_cache.cli import sandbox_report
from gewe_cache.cli.interrupts import Interrupts
from gewe_cache.cli.output import EXIT_FAILURE, errors_as_exit_codes, fail
from gewe_cache.sandbox import Delays, Sandbox
from gewe_cache.settings import check_name, parse_duration

_DEFAULT_PORT: Final = 8730
_POLL_SECONDS: Final = 0.1
_POSTER: Final = "poster.jpg"


class Pace(StrEnum):
    """How long things take, as an option."""

    none = "none"
    realistic = "realistic"


def sandbox(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="The port on 127.0.0.1; 0 takes a free one.")
    ] = _DEFAULT_PORT,
    delays: Annotated[
        Pace, typer.Option("--delays", help="How long things take. The realistic figures are assumed.")
    ] = Pace.none,
    cdn_lifetime: Annotated[
        str | None,
        typer.Option(
            "--cdn-lifetime",
            metavar="DURATION",
            help="How long an upload can be forwarded, such as 3d. Default: for ever.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="APP_ID", help="A device that exists besides wx_sandbox…; repeatable."),
    ] = None,
    *,
    any_token: Annotated[bool, typer.Option("--any-token", help="Accept every token that is not empty.")] = False,
    converts: Annotated[
        bool, typer.Option("--converts", help="Convert images, so that GeWe's md5 differs from the file's.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines and nothing else.")] = False,
) -> None:
    """Run an imitation of GeWe's image calls on this machine, until Ctrl-C. Nothing in it reaches WeChat."""
    with errors_as_exit_codes():
        imitation = Sandbox(
            port=port,
            delays=Delays.realistic() if delays is Pace.realistic else Delays.none(),
            cdn_lifetime=None if cdn_lifetime is None else parse_duration("--cdn-lifetime", cdn_lifetime),
            any_token=any_token,
            converts=converts,
        )
        for app_id in device or ():
            imitation.add_device(check_name("--device", app_id))
        with Interrupts() as interrupts:
            _start(imitation, port)
            try:
                _serve(imitation, interrupts, json=json)
            finally:
                imitation.stop()
        if not json:
            sandbox_report.print_end(imitation)


def _start(imitation: Sandbox, port: int) -> None:
    try:
        imitation.start()
    except OSError as error:
        fail(f"Port {port} cannot be had ({error.strerror or error}). Pass another --port; 0 takes a free one.")


def _serve(imitation: Sandbox, interrupts: Interrupts, *, json: bool) -> None:
    poster = imitation.make_image(_POSTER, width=800, height=600, approximate_bytes=100_000)
    watch = sandbox_report.CallWatch(imitation)
    print_call = sandbox_report.print_call_as_json if json else sandbox_report.print_call
    if json:
        sandbox_report.print_ready_as_json(imitation, poster)
    else:
        sandbox_report.print_ready(imitation, poster)
    while not interrupts.wait(_POLL_SECONDS):
        for seen in watch.finished():
            print_call(seen)
        if not imitation.is_running:
            fail("The sandbox's server has ended by itself.", EXIT_FAILURE)
    for seen in watch.finished():
        print_call(seen)
