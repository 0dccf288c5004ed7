"""What several commands take: an image, a token, a duration, a database to look into."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gewe_cache.cli import db
from gewe_cache.image import Image
from gewe_cache.settings import check_origin, check_token, find_database, find_ttl, parse_duration
from gewe_cache.store.engine import open_database
from gewe_cache.store.migrate import refuse_missing
from gewe_cache.store.schema import check_schema
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from gewe_cache.store.engine import Database

_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_URL = re.compile(r"https?://", re.IGNORECASE)
_PATIENCE = 30.0

DatabaseOption = db.DatabaseOption
JsonOption = db.JsonOption
YesOption = db.YesOption
ScopeOption = Annotated[str | None, typer.Option("--scope", help="One scope alone.", show_default=False)]
SenderScopeOption = Annotated[
    str | None,
    typer.Option(
        "--scope", help="The pool of entries. Default: GEWE_CACHE_SCOPE, else the token's.", show_default=False
    ),
]
TtlOption = Annotated[
    str | None,
    typer.Option(
        "--ttl",
        metavar="DURATION",
        help="How long an entry is fresh, such as 12h. Default: GEWE_CACHE_TTL, else 3d.",
        show_default=False,
    ),
]
IgnoreQueryOption = Annotated[
    list[str] | None,
    typer.Option("--ignore-query", metavar="NAME", help="A query parameter left out of the image's key; repeatable."),
]
UrlOption = Annotated[str | None, typer.Option("--url", help="Where GeWe can fetch the file, if it must be uploaded.")]
Md5Option = Annotated[
    str | None, typer.Option("--md5", help="The md5 of what is at the URL; it decides which entry is found.")
]
AppIdOption = Annotated[
    str | None, typer.Option("--app-id", help="The device to send from. Default: GEWE_APP_ID.", show_default=False)
]
TokenHeaderOption = Annotated[
    str, typer.Option("--token-header", metavar="NAME", help="The header that carries the token.")
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help="Seconds a call. Default: 120 an upload, 30 a forward.",
        show_default=False,
    ),
]
TokenFileOption = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        metavar="PATH",
        help="Read the token from this file, - for standard input. Default: GEWE_TOKEN.",
        show_default=False,
    ),
]
BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="Everything up to /message/…. Default: GEWE_BASE_URL, else GeWe's own.",
        show_default=False,
    ),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="A running gewe-cache serve --public-url …, for local images. Default: GEWE_CACHE_SERVER.",
        show_default=False,
    ),
]


@contextmanager
def opened(database: str | None) -> Iterator[Database]:
    """Open a database that has its tables already; creates and migrates nothing.

    Raises:
        StoreError: it is missing, or its schema is not this package's.
    """
    found = open_database(find_database(database), timeout=_PATIENCE)
    try:
        refuse_missing(found.url)
        with found.reader.connect() as connection:
            check_schema(connection, found.url)
        yield found
    finally:
        found.dispose()


def read_image(text: str, *, url: str | None = None, md5: str | None = None) -> Image:
    """Take a URL, the path of a file, or an md5 for an image.

    Raises:
        ValueError: it is none of them, or the same is said twice.
    """
    if _URL.match(text):
        if url is not None:
            msg = "--url: IMAGE is a URL already."
            raise ValueError(msg)
        return Image(url=text, md5=md5)
    if md5 is not None:
        msg = "--md5: it goes with a URL; of a file it is computed."
        raise ValueError(msg)
    if text and Path(text).exists():
        return Image.from_file(text, url=url)
    if _MD5.fullmatch(text):
        return Image(md5=text, url=url)
    msg = f"IMAGE: '{one_line(text)}' is neither an http(s) URL, nor a file, nor an md5."
    raise ValueError(msg)


def read_token(token_file: str | None) -> str:
    """Read the token from a file, standard input or the environment; never from an argument, which ps shows.

    Raises:
        ValueError: there is none, or it cannot be one; the message does not repeat it.
        OSError: the file cannot be read.
    """
    if token_file is None:
        token = os.environ.get("GEWE_TOKEN")
        if not token:
            msg = "token: set GEWE_TOKEN, or pass --token-file PATH (- for standard input)."
            raise ValueError(msg)
        return check_token(token)
    return check_token(_read_secret(token_file))


def read_admin_password(password_file: str | None) -> str | None:
    """Read the admin page's password from a file, standard input or the environment; None where there is none.

    Raises:
        ValueError: the file is empty.
        OSError: the file cannot be read.
    """
    if password_file is None:
        return os.environ.get("GEWE_CACHE_ADMIN_PASSWORD") or None
    password = _read_secret(password_file)
    if not password:
        msg = f"--admin-password-file: {password_file} is empty."
        raise ValueError(msg)
    return password


def _read_secret(path: str) -> str:
    content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    return content.decode("utf-8-sig", errors="replace").strip()


def read_server(server: str | None) -> str | None:
    """Read ``--server``, else the environment.

    Raises:
        ValueError: it is no address of a server.
    """
    named = server if server is not None else os.environ.get("GEWE_CACHE_SERVER")
    return check_origin("--server (GEWE_CACHE_SERVER)", named) if named else None


def read_ttl(ttl: str | None) -> timedelta:
    """Read ``--ttl``, else the environment, else the default."""
    return find_ttl(None if ttl is None else parse_duration("--ttl", ttl))


def read_ignored(names: list[str] | None) -> frozenset[str]:
    """Read ``--ignore-query``."""
    return frozenset(names or ())
