"""What a sender is told: its account, its database, its time to live. All of it is checked here, once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from gewe_cache.keys import default_scope

DEFAULT_BASE_URL = "http://api.geweapi.com/gewe/v2/api"
DEFAULT_TOKEN_HEADER = "X-GEWE-TOKEN"  # noqa: S105 - the header's name, not a token
DEFAULT_TTL = timedelta(days=3)
UPLOAD_TIMEOUT = 120.0
FORWARD_TIMEOUT = 30.0

_MAX_NAME_LENGTH = 256
_MAX_TTL = timedelta(days=36_500)
_MAX_TIMEOUT = 86_400.0
_ASCII = re.compile(r"[\x21-\x7e]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TTL = re.compile(r"([0-9]+)\s*([smhd])")
_TTL_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Tuning:
    """Waits and lengths of time in seconds, and bounds, gathered so that tests can set them.

    The defaults are the design's promises; a sender in production has no reason to change one.
    """

    lease_seconds: float = 15.0
    lease_renewal: float = 5.0
    lease_poll: float = 0.25
    refusal_memory: float = 30.0
    fall_back_pause: float = 60.0
    store_pause: float = 5.0
    usage_interval: float = 5.0
    front_trust: float = 2.0
    front_entries: int = 10_000
    lane_queue: int = 10_000
    flight_grace: float = 60.0
    unreached_pauses: tuple[float, ...] = (0.2, 0.5)
    database_timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """A sender's settings, checked.

    Raises:
        ValueError: naming the argument; nothing was sent.
    """

    token: str = field(repr=False)
    app_id: str | None
    base_url: str
    token_header: str
    database: str = field(repr=False)
    scope: str
    ttl: timedelta
    upload_timeout: float
    forward_timeout: float
    ignore_query: frozenset[str]
    tuning: Tuning
    account: str = field(repr=False)

    def describe(self) -> str:
        """Say from where and in which scope it sends, without a secret."""
        return f"app_id={self.app_id!r}, base_url={self.base_url!r}, scope={self.scope!r}"


def make_settings(  # noqa: PLR0913 - the one place where the public arguments come together
    token: str,
    app_id: str | None,
    *,
    base_url: str | None,
    token_header: str,
    database: str | None,
    scope: str | None,
    ttl: timedelta | None,
    timeout: float | None,
    ignore_query: Iterable[str],
    tuning: Tuning | None,
) -> Settings:
    """Check a sender's arguments; what is None comes from the environment, then from the defaults."""
    checked_token = check_token(token)
    named_base_url = _given(base_url, "GEWE_BASE_URL")
    checked_base_url = check_base_url(DEFAULT_BASE_URL if named_base_url is None else named_base_url)
    chosen_app_id = _given(app_id, "GEWE_APP_ID")
    account = default_scope(checked_base_url, checked_token)
    named_scope = _given(scope, "GEWE_CACHE_SCOPE")
    upload_timeout, forward_timeout = _timeouts(timeout)
    return Settings(
        token=checked_token,
        app_id=None if chosen_app_id is None else check_name("app_id", chosen_app_id),
        base_url=checked_base_url,
        token_header=check_token_header(token_header),
        database=find_database(database),
        scope=account if named_scope is None else check_name("scope", named_scope),
        ttl=find_ttl(ttl),
        upload_timeout=upload_timeout,
        forward_timeout=forward_timeout,
        ignore_query=_check_ignore_query(ignore_query),
        tuning=tuning or Tuning(),
        account=account,
    )


def find_database(database: str | None = None) -> str:
    """Give the database's URL: as passed, else ``GEWE_CACHE_DATABASE``, else a file in the user's data folder."""
    return database or os.environ.get("GEWE_CACHE_DATABASE") or f"sqlite:///{default_database_file().as_posix()}"


def default_database_file() -> Path:
    """Give the SQLite file that is used when no database is named."""
    return Path(platformdirs.user_data_dir("gewe_cache", appauthor=False)) / "gewe_cache.db"


def find_ttl(ttl: timedelta | None = None) -> timedelta:
    """Give the time to live: as passed, else ``GEWE_CACHE_TTL``, else 3 days."""
    if ttl is None:
        named = os.environ.get("GEWE_CACHE_TTL")
        return parse_duration("GEWE_CACHE_TTL", named) if named else DEFAULT_TTL
    if not isinstance(ttl, timedelta) or not timedelta(0) < ttl <= _MAX_TTL:
        msg = f"ttl: pass a positive timedelta of at most {_MAX_TTL.days} days, such as timedelta(days=3)."
        raise ValueError(msg)
    return ttl


def wants_aiohttp() -> bool:
    """Tell whether ``GEWE_CACHE_HTTP`` asks for aiohttp. It is not used unasked: others may bring it along.

    Raises:
        ValueError: it asks for something else.
    """
    named = os.environ.get("GEWE_CACHE_HTTP", "")
    if named not in {"", "httpcore", "aiohttp"}:
        msg = "GEWE_CACHE_HTTP: write httpcore (the default) or aiohttp. Nothing was sent."
        raise ValueError(msg)
    return named == "aiohttp"


def parse_duration(field_name: str, text: str) -> timedelta:
    """Read ``90s``, ``30m``, ``12h`` or ``3d``."""
    match = _TTL.fullmatch(text.strip().lower())
    try:
        duration = timedelta(**{_TTL_UNITS[match[2]]: int(match[1])}) if match else timedelta(0)
    except (OverflowError, ValueError):  # more digits than a number may have
        duration = timedelta(0)
    if not timedelta(0) < duration <= _MAX_TTL:
        msg = f"{field_name}: write a duration such as 90s, 30m, 12h or 3d, from 1s to {_MAX_TTL.days}d."
        raise ValueError(msg)
    return duration


def check_name(field_name: str, value: str) -> str:
    """Check an id or a name that goes on the wire or into the database: printable, no spaces, not over-long."""
    fits = isinstance(value, str) and 0 < len(value) <= _MAX_NAME_LENGTH
    if not fits or " " in value or not value.isprintable():
        msg = (
            f"{field_name}: pass a string of 1 to {_MAX_NAME_LENGTH} printable characters without spaces. "
            f"Nothing was sent."
        )
        raise ValueError(msg)
    return value


def check_token(token: str) -> str:
    """Check a token; the message never repeats it."""
    if not isinstance(token, str) or not _ASCII.fullmatch(token) or len(token) > _MAX_NAME_LENGTH:
        msg = f"token: pass GeWe's token, 1 to {_MAX_NAME_LENGTH} ASCII characters without spaces."
        raise ValueError(msg)
    return token


def check_token_header(token_header: str) -> str:
    """Check the name of the header that carries the token."""
    if not isinstance(token_header, str) or not _HEADER_NAME.fullmatch(token_header):
        msg = "token_header: pass the name of an HTTP header, such as X-GEWE-TOKEN."
        raise ValueError(msg)
    return token_header


def check_base_url(base_url: str) -> str:
    """Check a base URL: everything up to ``/message/…``."""
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError):
        valid = False
    if not valid or "@" in parts.netloc or parts.query or parts.fragment or not _ASCII.fullmatch(base_url):
        msg = f"base_url: pass everything up to /message/…, without credentials, such as {DEFAULT_BASE_URL}"
        raise ValueError(msg)
    return base_url.rstrip("/")


def check_origin(field_name: str, origin: str, example: str = "http://127.0.0.1:8720") -> str:
    """Check a server's address: scheme, host and port, and nothing after them."""
    try:
        checked = check_base_url(origin)
        is_origin = urlsplit(checked).path == ""
    except ValueError:
        is_origin = False
    if not is_origin:
        msg = f"{field_name}: pass scheme, host and port alone, such as {example}. Nothing was sent."
        raise ValueError(msg)
    return checked


def utc_now() -> datetime:
    """Give the time, aware UTC: the one clock that ages entries."""
    return datetime.now(UTC)


def _given(value: str | None, variable: str) -> str | None:
    """Give what was passed, else the environment's; a variable that is empty counts as not set."""
    return value if value is not None else os.environ.get(variable) or None


def _check_ignore_query(names: Iterable[str]) -> frozenset[str]:
    is_list = isinstance(names, Iterable) and not isinstance(names, str)
    listed = tuple(names) if is_list else ("",)
    if not all(isinstance(name, str) and name for name in listed):
        msg = 'ignore_query: pass the names of query parameters, such as ("sign", "expires").'
        raise ValueError(msg)
    return frozenset(listed)


def _timeouts(timeout: float | None) -> tuple[float, float]:
    if timeout is None:
        return UPLOAD_TIMEOUT, FORWARD_TIMEOUT
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= _MAX_TIMEOUT:
        msg = (
            f"timeout: pass a positive number of seconds, at most {_MAX_TIMEOUT:.0f}, or None for "
            f"{UPLOAD_TIMEOUT:.0f} s an upload and {FORWARD_TIMEOUT:.0f} s a forward."
        )
        raise ValueError(msg)
    return float(timeout), float(timeout)
