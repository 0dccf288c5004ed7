"""What the command line prints, and how it ends.

Standard output carries results only: text for people, or one JSON value a line with ``--json``. Whatever is
wrong is one line on standard error and an exit code. Text from outside (URLs, GeWe's words) never reaches a
terminal as control characters or markup.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from gewe_cache import errors
from gewe_cache.text import one_line, readable_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_UNREACHED = 4
EXIT_UNKNOWN = 5
EXIT_STORE = 6
EXIT_INTERRUPTED = 130

EXIT_CODES = {
    EXIT_OK: "done",
    EXIT_FAILURE: "failed, or answered with no",
    EXIT_USAGE: "wrong usage; nothing was done",
    EXIT_REFUSED: "GeWe refused; nothing was sent",
    EXIT_UNREACHED: "GeWe was not reached; nothing was sent",
    EXIT_UNKNOWN: "it is unknown whether a message was sent",
    EXIT_STORE: "the database failed or cannot be used",
    EXIT_INTERRUPTED: "interrupted (Ctrl-C)",
}

_MAX_ERROR_LENGTH = 2000
_WIDTH_OF_NO_TERMINAL = 80
_UNSAFE_IN_JSON = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Turn every foreseen failure into one line on stderr and an exit code. Also a decorator."""
    try:
        yield
    except BrokenPipeError:
        close_stdout_quietly()
        raise typer.Exit(EXIT_FAILURE) from None
    except (errors.GeweCacheError, ValueError, OSError, sqlite3.Error) as error:
        fail(describe_error(error), exit_code_of(error))
    except Exception as error:
        if not _is_database_error(error):
            raise
        fail(describe_error(error), EXIT_STORE)


def fail(message: str, exit_code: int = EXIT_FAILURE) -> NoReturn:
    """Say what is wrong in one line on stderr and end with this exit code."""
    complain(message)
    raise typer.Exit(exit_code) from None


def complain(message: str) -> None:
    """Say something in one line on stderr."""
    typer.echo(f"gewe-cache: {one_line(message, _MAX_ERROR_LENGTH)}", err=True)


def exit_code_of(error: BaseException) -> int:
    """Give the exit code that stands for an error."""
    for kinds, code in _CODES_BY_ERROR:
        if isinstance(error, kinds):
            return code
    return EXIT_STORE if _is_database_error(error) else EXIT_FAILURE


def describe_error(error: BaseException) -> str:
    """Give an error in one line, without the rows or parameters that a database error may quote."""
    if _is_database_error(error):
        from gewe_cache.store.guard import describe  # noqa: PLC0415 - loads SQLAlchemy

        return f"The database failed ({describe(error)}). Check --database (GEWE_CACHE_DATABASE)."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if ``--yes`` was given or a person at the terminal agrees."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(
            f"{question} There is no terminal to ask on; nothing was changed. Pass --yes.",
            EXIT_USAGE,
        )
    if not typer.confirm(printable(question), err=True):
        fail("Nothing was changed.", EXIT_FAILURE)


def console() -> Console:
    """Give a console on the present standard output; what comes from outside goes in as ``Text``, never as markup."""
    from rich.console import Console  # noqa: PLC0415 - slow, and not needed for JSON

    found = Console(highlight=False, emoji=False)
    return found if found.width > 0 else Console(highlight=False, emoji=False, width=_WIDTH_OF_NO_TERMINAL)


def print_line(text: str = "") -> None:
    """Print one line of text, made harmless."""
    typer.echo(printable(text, limit=None))


def print_json(value: object) -> None:
    """Print a value as one line of JSON: times in ISO 8601 (UTC), durations in seconds."""
    readable = json.dumps(value, ensure_ascii=False, default=_to_json)
    harmless = _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match.group()):04x}", readable)
    if not can_print(harmless):
        harmless = json.dumps(value, default=_to_json)
    typer.echo(harmless)


def close_stdout_quietly() -> None:
    """Give up standard output, which takes no more: else Python complains once more when it exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_output_safe() -> None:
    """Let no character that a console cannot show end the program (cp1252 on Windows, lone surrogates)."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def printable(text: object, limit: int | None = 300) -> str:
    """Give text without control characters, bidirectional overrides or line breaks."""
    return one_line(text, limit if limit is not None else max(len(str(text)), 1))


def can_print(text: str) -> bool:
    """Tell whether standard output knows all these characters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def printable_url(url: str | None) -> str:
    """Give an image's URL as a person reads it, where standard output can show it."""
    if url is None:
        return "(known by md5)"
    readable = readable_url(url)
    return printable(readable if can_print(readable) else url, limit=None)


def human_time(moment: datetime | None) -> str:
    """Give a moment in UTC, to the minute."""
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def iso(moment: datetime) -> str:
    """Give a moment as JSON carries it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _to_json(value: object) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    msg = f"{type(value).__name__} has no form in JSON"
    raise TypeError(msg)


def _is_database_error(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return True
    exc = sys.modules.get("sqlalchemy.exc")
    return exc is not None and isinstance(error, exc.SQLAlchemyError)


_CODES_BY_ERROR: tuple[tuple[type[BaseException], int], ...] = (
    (errors.DeliveryUnknown, EXIT_UNKNOWN),
    (errors.GeweRefused, EXIT_REFUSED),
    (errors.GeweUnreachable, EXIT_UNREACHED),
    (errors.StoreError, EXIT_STORE),
    (sqlite3.Error, EXIT_STORE),
    (errors.InvalidImage, EXIT_USAGE),
    (errors.InvalidXml, EXIT_USAGE),
    (OSError, EXIT_FAILURE),
    (ValueError, EXIT_USAGE),
)
