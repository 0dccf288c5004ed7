"""Migrating a database, safe where many processes and threads start at once.

SQLite: the whole upgrade is one ``BEGIN IMMEDIATE`` transaction, so that one process migrates and the others
find it done. PostgreSQL: the same under an advisory lock. Alembic, which keeps its state in globals, runs under
a lock of the process; it is taken last and held while it runs only, so the locks cannot block one another.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from gewe_cache.errors import StoreError
from gewe_cache.store import schema
from gewe_cache.store.engine import is_locked, prepare_sqlite_file

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from sqlalchemy import Connection
    from sqlalchemy.engine import URL

    from gewe_cache.store.engine import Database

LOCK_PATIENCE = 60.0
_LOCK_PAUSE = 0.1
_CONNECT_TIMEOUT = 10
ADVISORY_LOCK = 0x67657765_63616368

ALEMBIC_LOCK = threading.Lock()
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Revision:
    """A step in the history of the schema."""

    id: str
    follows: str | None
    message: str


def ensure_schema(database: Database, patience: float | None = None) -> None:
    """Make a database usable for a sender: migrate a SQLite file, check anything else.

    Args:
        database: which one.
        patience: seconds to wait for others who hold it locked; ``LOCK_PATIENCE`` where it is not given.

    Raises:
        SchemaOutdated: PostgreSQL, or a file opened read-only, lacks a migration.
        SchemaUnknown: a newer gewe_cache has made it.
        StoreError: another process has kept it locked.
    """
    if not database.is_sqlite or is_read_only(database.url):
        with database.reader.connect() as connection:
            schema.check_schema(connection, database.url)
    elif is_missing(database.url) or current(database) != schema.HEAD:
        upgrade(database, patience=patience)


def upgrade(database: Database, revision: str = "head", *, patience: float | None = None) -> None:
    """Run the migrations up to a revision; does nothing where they have been run.

    Args:
        database: which one.
        revision: its id, or ``head``.
        patience: as for ``ensure_schema``.

    Raises:
        SchemaUnknown: a newer gewe_cache has made the database.
        StoreError: another process has kept it locked.
        ValueError: there is no such revision.
    """
    patience = LOCK_PATIENCE if patience is None else patience
    _prepare_file(database, patience)
    with _exclusive(database, patience) as connection:
        found = _known_revision(connection, database.url)
        if found != schema.HEAD or revision not in {"head", schema.HEAD}:
            _run(lambda scripts: scripts.upgrade(connection, revision))


def downgrade(database: Database, revision: str) -> None:
    """Undo the migrations down to a revision; ``base`` removes all tables.

    Raises:
        SchemaUnknown, StoreError, ValueError: as for ``upgrade``.
    """
    refuse_missing(database.url)
    with _exclusive(database, LOCK_PATIENCE) as connection:
        if _known_revision(connection, database.url) is None:
            msg = f"The database {schema.shown(database.url)} has no tables of gewe_cache: there is nothing to undo."
            raise StoreError(msg)
        _run(lambda scripts: scripts.downgrade(connection, revision))


def stamp(database: Database, revision: str) -> None:
    """Write a revision into the database without running anything.

    Raises:
        SchemaUnknown, StoreError, ValueError: as for ``upgrade``.
    """
    refuse_missing(database.url)
    with _exclusive(database, LOCK_PATIENCE) as connection:
        _known_revision(connection, database.url)
        _run(lambda scripts: scripts.stamp(connection, revision))


def current(database: Database) -> str | None:
    """Give the database's revision, or None where it has no tables of ours.

    Raises:
        StoreError: there is no such file.
    """
    refuse_missing(database.url)
    with database.reader.connect() as connection:
        return schema.read_revision(connection)


def check(database: Database) -> list[str]:
    """Say in which ways a database differs from this package's tables; nothing where it does not.

    Raises:
        SchemaOutdated, SchemaUnknown: it is not at this package's revision.
        StoreError: there is no such file.
    """
    refuse_missing(database.url)
    with database.reader.connect() as connection:
        schema.check_schema(connection, database.url)
        return _run(lambda scripts: scripts.differences(connection))


def history() -> list[Revision]:
    """Give the schema's revisions, oldest first."""
    return [Revision(*row) for row in _run(lambda scripts: scripts.history())]


def revision(message: str, database: Database | None = None) -> Path:
    """Write the script of a new revision; with a database at head, from what that lacks of ``tables.py``.

    Raises:
        StoreError: the database is not at head, there is no such file, or this is no checkout.
    """
    if database is not None:
        refuse_missing(database.url)
    if not _run(lambda scripts: scripts.is_checkout()):
        msg = "This gewe_cache was installed as a package. New revisions are written in a checkout of its source."
        raise StoreError(msg)
    if database is None:
        return Path(_run(lambda scripts: scripts.new_revision(None, message)))
    with database.reader.connect() as connection:
        schema.check_schema(connection, database.url)
        return Path(_run(lambda scripts: scripts.new_revision(connection, message)))


def is_read_only(url: URL) -> bool:
    """Tell whether a SQLite file is opened for reading alone (``file:…?mode=ro&uri=true``)."""
    return url.query.get("mode") == "ro" or url.query.get("immutable") == "1"


def is_missing(url: URL) -> bool:
    """Tell whether a SQLite file does not exist yet: to open it would create it."""
    name = str(url.database or "")
    if url.get_backend_name() != "sqlite" or name in {"", ":memory:"} or url.query.get("mode") == "memory":
        return False
    return not Path(url2pathname(urlsplit(name).path) if name.startswith("file:") else name).exists()


def refuse_missing(url: URL) -> None:
    """Refuse a SQLite file that does not exist, so that nobody creates one by looking at it.

    Raises:
        StoreError: there is no such file.
    """
    if is_missing(url):
        msg = f"There is no database {schema.shown(url)} yet. {schema.advice(url)}"
        raise StoreError(msg)


def _prepare_file(database: Database, patience: float) -> None:
    """Create the file of a SQLite database, unless it is opened for reading alone.

    Raises:
        StoreError: it is.
    """
    if not database.is_sqlite:
        return
    if is_read_only(database.url):
        msg = f"The database {schema.shown(database.url)} is opened read-only and cannot be migrated."
        raise StoreError(msg)
    prepare_sqlite_file(database, patience)


def _known_revision(connection: Connection, url: URL) -> str | None:
    found = schema.read_revision(connection)
    schema.refuse_unknown(found, url)
    return found


def _run(act: Callable[[ModuleType], _Result]) -> _Result:
    if not ALEMBIC_LOCK.acquire(timeout=LOCK_PATIENCE):
        msg = "Another thread of this process has been migrating a database for too long."
        raise StoreError(msg)
    try:
        from gewe_cache.store import scripts  # noqa: PLC0415 - Alembic is slow to import

        try:
            return act(scripts)
        except scripts.CommandError as error:
            msg = f"{str(error).removesuffix('.')}. Nothing was changed. The revisions: gewe-cache db history"
            raise ValueError(msg) from error
    finally:
        ALEMBIC_LOCK.release()


@contextmanager
def _exclusive(database: Database, patience: float) -> Iterator[Connection]:
    """Open a transaction that no other migration can enter; it is committed at the end, or rolled back whole."""
    if database.is_sqlite:
        with _patient_sqlite(database, patience) as connection, _begun(connection, database.url, patience):
            yield connection
            _refuse_broken_links(connection, database.url)
    else:
        with _patient_postgresql(database.url) as connection:
            _take_advisory_lock(connection, database.url, patience)
            yield connection
            connection.commit()


@contextmanager
def _patient_sqlite(database: Database, patience: float) -> Iterator[Connection]:
    """Open a connection on which tables can be rebuilt; its settings must be made before its transaction begins."""
    with database.writer.connect() as connection:
        driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        (timeout,) = driver.execute("PRAGMA busy_timeout").fetchone()
        driver.execute(f"PRAGMA busy_timeout = {round(patience * 1000)}")
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            yield connection
        finally:
            driver.execute("PRAGMA foreign_keys = ON")
            driver.execute(f"PRAGMA busy_timeout = {timeout}")


@contextmanager
def _begun(connection: Connection, url: URL, patience: float) -> Iterator[None]:
    try:
        transaction = connection.begin()
    except OperationalError as error:
        if is_locked(error):
            raise _locked(url, patience) from error
        raise
    with transaction:
        yield


@contextmanager
def _patient_postgresql(url: URL) -> Iterator[Connection]:
    """Open a connection without the time-outs that suit a sender and would cut a long migration off."""
    endless = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
    arguments = {"connect_timeout": _CONNECT_TIMEOUT, "options": endless, "application_name": "gewe_cache db"}
    engine = create_engine(
        url, poolclass=NullPool, hide_parameters=True, isolation_level="READ COMMITTED", connect_args=arguments
    )
    with engine.connect() as connection:
        yield connection


def _take_advisory_lock(connection: Connection, url: URL, patience: float) -> None:
    """Take the lock of migrations, which ends with the transaction; each try is a transaction of its own."""
    deadline = time.monotonic() + patience
    while not connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK}):
        connection.rollback()
        if time.monotonic() > deadline:
            raise _locked(url, patience)
        time.sleep(_LOCK_PAUSE)


def _refuse_broken_links(connection: Connection, url: URL) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        msg = f"The migration of {schema.shown(url)} would leave {len(broken)} rows without their entry; it was undone."
        raise StoreError(msg)


def _locked(url: URL, patience: float) -> StoreError:
    return StoreError(
        f"The database {schema.shown(url)} is being migrated by another process, or held by a long transaction: "
        f"waited {patience:.0f} s for it. Nothing was changed. Try again."
    )
