"""Engines: how each database is opened, and the two ways of talking to it.

``reader`` is in autocommit, for single statements; ``writer`` opens a transaction, on SQLite with
``BEGIN IMMEDIATE``, because a deferred one that reads and then writes fails with "locked" under contention.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.pool import QueuePool

from gewe_cache.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.pool import ConnectionPoolEntry

_WAL_PATIENCE = 30.0
_WAL_PAUSE = 0.02
_POOL_SIZE = 5
_LAST_PORT = 65_535
_SECRET_PARAMETERS = ("password", "sslpassword")
_OF_THE_DRIVER = frozenset({"cached_statements", "check_same_thread", "detect_types", "isolation_level", "timeout"})
# A statement is given twice the time-out, by the server; what is not answered after that never will be.
_WORST_ANSWER = 3
# Without these a connection whose other end has vanished is waited on for hours.
_NOTICE_A_DEAD_NETWORK = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_LOCK_WORDS = ("locked", "busy")


@dataclass(slots=True, eq=False)
class _Generation:
    """Tells old connections from new ones, by a number that each is given when it is made."""

    number: int = 0

    def note(self, _connection: object, record: ConnectionPoolEntry) -> None:
        record.info["generation"] = self.number

    def check(self, _connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
        if record.info.get("generation") != self.number:
            raise DisconnectionError


@dataclass(frozen=True, slots=True)
class Database:
    """Two engines on one database."""

    reader: Engine
    writer: Engine
    url: URL
    _generation: _Generation = field(default_factory=_Generation, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Let both engines use connections of the present generation only."""
        for engine in (self.reader,) if self.reader is self.writer else (self.reader, self.writer):
            event.listen(engine, "connect", self._generation.note)
            event.listen(engine, "checkout", self._generation.check)

    @property
    def is_sqlite(self) -> bool:
        """Tell whether short keyed reads are cheap enough to run inline."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def is_memory(self) -> bool:
        """Tell whether the database lives in this process alone."""
        return self.is_sqlite and _is_memory(self.url)

    def begin_anew(self) -> None:
        """Use none of today's connections again; one in use is closed by the next who would take it."""
        if not self.is_memory:
            self._generation.number += 1

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.reader.dispose()
        self.writer.dispose()

    def __repr__(self) -> str:
        """Show which database, without its password."""
        return f"Database({without_secrets(self.url)})"


def without_secrets(url: URL) -> str:
    """Give a database's URL without its passwords."""
    return url.difference_update_query(_SECRET_PARAMETERS).render_as_string(hide_password=True)


def parse_database_url(database: str) -> URL:
    """Read a database's URL.

    Raises:
        ValueError: it is not ``sqlite:///…`` or ``postgresql://…``; the password is not repeated.
    """
    try:
        url = make_url(database)
        backend = url.get_backend_name()
        if backend == "sqlite" and _names_a_file(url):
            return url.set(drivername="sqlite")
        if backend in {"postgresql", "postgres"} and _names_a_server(url):
            return url.set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        pass
    msg = (
        "database: pass sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME "
        "(GEWE_CACHE_DATABASE); in a password write % as %25 and @ as %40. "
        "What follows a ? has to be a parameter of PostgreSQL's, or of SQLite's own file:FILE?…&uri=true."
    )
    raise ValueError(msg) from None


def open_database(database: str, *, timeout: float = 5.0, durable: bool = False) -> Database:
    """Make the engines of a database; connects to nothing yet.

    Args:
        database: its URL.
        timeout: seconds to wait for a lock, a connection of the pool, or a new connection.
        durable: what is committed outlives a loss of power; without, it may lose the last moments.

    Raises:
        ValueError: the URL is unusable.
        StoreError: the driver for PostgreSQL is not installed.
    """
    url = parse_database_url(database)
    if url.get_backend_name() == "sqlite":
        return _open_memory(url, timeout) if _is_memory(url) else _open_sqlite(url, timeout, durable=durable)
    return _open_postgresql(url, timeout, durable=durable)


def prepare_sqlite_file(database: Database, patience: float = _WAL_PATIENCE) -> None:
    """Create the file for its owner alone and switch it to WAL, safe when many processes start at once.

    Raises:
        OSError, sqlite3.Error: the file cannot be created or written.
    """
    if database.is_memory or _is_uri(database.url):
        return
    path = Path(str(database.url.database))
    path.parent.mkdir(parents=True, exist_ok=True)
    _create_for_its_owner(path)
    _switch_to_wal(path, patience)


def _switch_to_wal(path: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        connection = sqlite3.connect(path, timeout=min(1.0, patience))
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() > deadline:
                raise
        else:
            return
        finally:
            connection.close()
        time.sleep(_WAL_PAUSE)


def is_locked(error: BaseException) -> bool:
    """Tell whether SQLite found the database held by another connection."""
    return any(word in str(error).lower() for word in _LOCK_WORDS)


def _names_a_file(url: URL) -> bool:
    """Tell whether a URL is SQLite's with nothing in it that the driver would take for a file, or not take."""
    if url.host is not None or _OF_THE_DRIVER & set(url.query):
        return False  # sqlite://FILE has a slash too few
    return not url.query or (_is_uri(url) and str(url.query.get("uri")).lower() == "true")


def _names_a_server(url: URL) -> bool:
    return url.port is None or 0 < url.port <= _LAST_PORT


def _is_memory(url: URL) -> bool:
    return url.database in {None, "", ":memory:"} or url.query.get("mode") == "memory"


def _is_uri(url: URL) -> bool:
    return str(url.database).startswith("file:")


def _open_sqlite(url: URL, timeout: float, *, durable: bool) -> Database:
    options: dict[str, Any] = {
        "poolclass": QueuePool,
        "pool_size": _POOL_SIZE,
        "max_overflow": _POOL_SIZE,
        "pool_timeout": timeout,
        "hide_parameters": True,
        "connect_args": {"timeout": timeout, "check_same_thread": False},
    }
    reader = create_engine(url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None, **options)
    writer = create_engine(url, **options)
    if not _is_uri(url):
        event.listen(reader, "do_connect", _create_before_connecting)
        event.listen(writer, "do_connect", _create_before_connecting)
    event.listen(reader, "connect", _set_pragmas)
    event.listen(writer, "connect", _set_pragmas)
    if durable:
        event.listen(writer, "connect", _write_through)
    event.listen(writer, "connect", _leave_transactions_to_us)
    event.listen(writer, "begin", _begin_immediate)
    return Database(reader, writer, url)


def _open_memory(url: URL, timeout: float) -> Database:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=timeout,
        hide_parameters=True,
        connect_args={"check_same_thread": False},
    )
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "connect", _leave_transactions_to_us)
    event.listen(engine, "begin", _begin_immediate)
    return Database(engine, engine, url)


def _open_postgresql(url: URL, timeout: float, *, durable: bool) -> Database:
    limits = f"-c statement_timeout={round(timeout * 2000)} -c lock_timeout={round(timeout * 1000)}"
    # A process that is stopped within a transaction must not hold what it has locked for as long as it is stopped.
    durably = f"-c synchronous_commit=on -c idle_in_transaction_session_timeout={round(timeout * 1000)}"
    options: dict[str, Any] = {
        "pool_size": _POOL_SIZE,
        "max_overflow": _POOL_SIZE,
        "pool_timeout": timeout,
        "hide_parameters": True,
        "connect_args": {
            "connect_timeout": max(2, round(timeout)),
            "options": f"{limits} {durably}" if durable else limits,
            "application_name": "gewe_cache",
            **_NOTICE_A_DEAD_NETWORK,
        },
    }
    try:
        from gewe_cache.store.bounded import check_parameters, connect_within  # noqa: PLC0415 - the driver is an extra
    except ModuleNotFoundError as error:
        msg = "PostgreSQL needs its driver. Nothing was sent. Run: pip install 'gewe-cache[postgres]'"
        raise StoreError(msg) from error
    check_parameters(url.query)
    reader = create_engine(url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None, **options)
    writer = create_engine(url, **options)
    connect = connect_within(_WORST_ANSWER * timeout)
    for engine in (reader, writer):
        event.listen(engine, "do_connect", lambda _dialect, _record, given, named: connect(*given, **named))
    return Database(reader, writer, url)


def _create_before_connecting(_dialect: object, _record: object, given: Any, _named: object) -> None:  # noqa: ANN401
    """Where the file has been deleted meanwhile, SQLite would make one that everybody may read."""
    with suppress(OSError):  # the connection itself will say it
        _create_for_its_owner(given[0])


def _create_for_its_owner(path: str | Path) -> None:
    """Create a file unless it exists. One that does is not opened: to close it would drop SQLite's locks on it."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")


def _write_through(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous = FULL")


def _leave_transactions_to_us(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
