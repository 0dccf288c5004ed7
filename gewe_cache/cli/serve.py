"""``gewe-cache serve``: the caching proxy, in the foreground, until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from gewe_cache.cli.inputs import (
    DatabaseOption,
    IgnoreQueryOption,
    SenderScopeOption,
    TtlOption,
    read_admin_password,
    read_ignored,
    read_ttl,
)
from gewe_cache.cli.interrupts import Interrupts
from gewe_cache.cli.output import complain, errors_as_exit_codes, fail
from gewe_cache.errors import SchemaOutdated, SchemaUnknown, StoreError
from gewe_cache.server.access_log import JsonLines
from gewe_cache.server.app import ServerApp
from gewe_cache.server.run import listen, url_of
from gewe_cache.server.run import serve as serve_until
from gewe_cache.server.settings import TOKEN_HEADERS, Limits, ServerSettings
from gewe_cache.settings import check_origin
from gewe_cache.text import one_line

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

_DEFAULT_PORT = 8720
_PASSWORD_BYTES = 18
_LIMITS = Limits()
_LOGGERS = ("gewe_cache", "uvicorn.error")


def serve(  # noqa: PLR0913, PLR0917 - one argument an option
    upstream: Annotated[
        str, typer.Option("--upstream", metavar="URL", help="GeWe's address, such as http://api.geweapi.com.")
    ],
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on. Whoever reaches it can send with a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65_535, metavar="PORT", help="The port to listen on; 0 takes a free one."),
    ] = _DEFAULT_PORT,
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url",
            metavar="URL",
            help="The address by which GeWe's server reaches this one: local images are hosted below it until sent.",
            show_default=False,
        ),
    ] = None,
    database: DatabaseOption = None,
    scope: SenderScopeOption = None,
    ttl: TtlOption = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            help="Seconds a call to GeWe. Default: 120 an upload, 30 a forward.",
            show_default=False,
        ),
    ] = None,
    ignore_query: IgnoreQueryOption = None,
    token_header: Annotated[
        list[str] | None,
        typer.Option(
            "--token-header",
            metavar="NAME",
            help=f"A header that carries the token, besides {', '.join(TOKEN_HEADERS)}; repeatable.",
        ),
    ] = None,
    pass_timeout: Annotated[
        float,
        typer.Option(
            "--pass-timeout",
            min=0.1,
            max=86_400,
            metavar="SECONDS",
            help="Seconds for the answer to what is passed on.",
        ),
    ] = 120.0,
    client_timeout: Annotated[
        float,
        typer.Option(
            "--client-timeout",
            min=0.1,
            max=86_400,
            metavar="SECONDS",
            help="Seconds a client may take to say what it wants.",
        ),
    ] = _LIMITS.client_seconds,
    max_body: Annotated[
        int, typer.Option("--max-body", min=1, metavar="BYTES", help="The longest request body that is taken.")
    ] = _LIMITS.body_bytes,
    max_connections: Annotated[
        int, typer.Option("--max-connections", min=1, metavar="COUNT", help="Clients connected at once.")
    ] = _LIMITS.connections,
    grace: Annotated[
        float,
        typer.Option(
            "--grace", min=0, max=86_400, metavar="SECONDS", help="Seconds that the end waits for sends under way."
        ),
    ] = _LIMITS.grace_seconds,
    admin_password_file: Annotated[
        str | None,
        typer.Option(
            "--admin-password-file",
            metavar="PATH",
            help="A file with the admin page's password (- for standard input). Default: GEWE_CACHE_ADMIN_PASSWORD, "
            "else one made for this run and said on stderr.",
            show_default=False,
        ),
    ] = None,
    admin_host: Annotated[
        list[str] | None,
        typer.Option(
            "--admin-host",
            metavar="NAME",
            help="A name by which browsers ask for the admin page, where a proxy on this machine passes it on; "
            "repeatable.",
        ),
    ] = None,
    *,
    no_access_log: Annotated[
        bool, typer.Option("--no-access-log", help="Do not write a JSON line a request to stdout.")
    ] = False,
) -> None:
    """Run a caching proxy before GeWe: for bots in any language, whose base URL is all that changes.

    POST …/message/postImage is uploaded once and forwarded from then on; all else is passed on unchanged. The
    admin page is at /_gewe-cache/. Ctrl-C and SIGTERM end it: sends under way are finished.
    """
    with errors_as_exit_codes():
        password = read_admin_password(admin_password_file)
        settings = ServerSettings(
            upstream=check_origin("--upstream", upstream, "http://api.geweapi.com"),
            database=database,
            scope=scope,
            ttl=read_ttl(ttl),
            timeout=timeout,
            ignore_query=read_ignored(ignore_query),
            token_headers=(*TOKEN_HEADERS, *(token_header or ())),
            pass_timeout=pass_timeout,
            public_url=public_url,
            limits=Limits(
                connections=max_connections,
                body_bytes=max_body,
                client_seconds=client_timeout,
                grace_seconds=grace,
            ),
            admin_password=password or secrets.token_urlsafe(_PASSWORD_BYTES),
            admin_hosts=frozenset(name.lower() for name in admin_host or ()),
        )
        lines = JsonLines(sys.stdout)
        problems = JsonLines(sys.stderr)
        with Interrupts() as interrupts, _warnings_to(problems):
            try:
                asyncio.run(
                    _run(
                        settings,
                        host,
                        port,
                        lines,
                        interrupts,
                        access_log=not no_access_log,
                        says_password=not password,
                    )
                )
            finally:
                lines.close()
                problems.close()


async def _run(
    settings: ServerSettings,
    host: str,
    port: int,
    lines: JsonLines,
    interrupts: Interrupts,
    *,
    access_log: bool,
    says_password: bool,
) -> None:
    app = ServerApp(settings, lines if access_log else None)
    try:
        await _check_database(app)
        listener = _listen(host, port)
    except BaseException:
        await app.aclose()
        raise
    url = url_of(listener)

    def say_ready() -> None:
        lines.write({"event": "ready", "url": url, "upstream": settings.upstream})
        complain(f"Listening on {url}. A bot's base URL: {url}/gewe/v2/api (the path as with GeWe). Ctrl-C ends.")
        complain(f"Admin page: {url}/_gewe-cache/ {_password_hint(settings, says_password=says_password)}")

    await serve_until(app, listener, settings.limits, on_ready=say_ready, should_end=lambda: interrupts.is_set)


def _password_hint(settings: ServerSettings, *, says_password: bool) -> str:
    if not says_password:
        return "(with your password)"
    return (
        f"Its password, for this run: {settings.admin_password} "
        "(set GEWE_CACHE_ADMIN_PASSWORD or --admin-password-file to choose one)"
    )


async def _check_database(app: ServerApp) -> None:
    """Refuse a schema that cannot be used; a database that is away is only said to be so."""
    store = app.shared.store
    try:
        await asyncio.get_running_loop().run_in_executor(app.shared.executor, store.demand, lambda _: None)
    except (SchemaOutdated, SchemaUnknown):
        raise
    except StoreError as error:
        complain(f"{error} The proxy begins without it: images go out by upload.")


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        fail(f"Port {port} of {host} cannot be had ({error.strerror or error}). Pass another --port or --host.")


class _JsonHandler(logging.Handler):
    def __init__(self, lines: JsonLines) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        told = {"event": "log", "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            told["exception"] = one_line(logging.Formatter().formatException(record.exc_info), 4000)
        self._lines.write(told)


@contextmanager
def _warnings_to(lines: JsonLines) -> Iterator[None]:
    """Write our own warnings and uvicorn's as JSON lines."""
    handler = _JsonHandler(lines)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
