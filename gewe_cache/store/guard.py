"""The one place where the database meets a send, and where its failures become a miss.

``attempt`` is for sends: whatever the database does, a fallback value comes back, with a warning and a
count, and a database that failed is left alone for a while. ``demand`` is for those who asked for the
database by name (remember, forget): it raises ``StoreError``. A schema that is too old or too new is loud
in both, because it is found before anything is sent.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError

from gewe_cache.errors import SchemaOutdated, SchemaUnknown, StoreError
from gewe_cache.log import Log
from gewe_cache.store.engine import Database, open_database, parse_database_url, without_secrets
from gewe_cache.store.entries import CorruptEntryError
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from gewe_cache.settings import Tuning

T = TypeVar("T")

_log = Log("gewe_cache.store")

# Of the database's time-out: for how long another process may hold a database that has to be migrated first.
_MIGRATION_SHARE = 2
# What a database answers to a write that can still be read: SQLite is busy, locked, read-only or full; PostgreSQL
# is a standby, full, grants no such right, holds a lock, or refuses the row.
_SQLITE_CANNOT_WRITE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL}
_POSTGRESQL_CANNOT_WRITE = ("25006", "53100", "42501", "55P03", "23")


class AwayError(Exception):
    """The database has just failed for somebody else, who has said so."""


class Store:
    """A database that may be away. Safe to share between threads."""

    def __init__(self, database_url: str, tuning: Tuning, on_failure: Callable[[], None]) -> None:
        """Check the URL; connect when first used.

        Raises:
            ValueError: the URL is unusable.
            StoreError: PostgreSQL's driver is not installed.
        """
        parse_database_url(database_url)
        self.database: Database = open_database(database_url, timeout=tuning.database_timeout)
        self._pause = tuning.store_pause
        self._patience = _MIGRATION_SHARE * tuning.database_timeout
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._ready = False
        self._news_lock = threading.Lock()
        self._away_until = 0.0
        self._unwritable_until = 0.0
        self._failed_at = 0.0

    @property
    def reads_inline(self) -> bool:
        """Tell whether a keyed read is cheaper done at once than in another thread."""
        return self.database.is_sqlite and self._ready

    def attempt(
        self,
        operation: Callable[[Connection], T],
        otherwise: T,
        *,
        write: bool = False,
        purpose: str = "read",
        accepted: bool = False,
        in_pause: bool = False,
        about: object = None,
    ) -> T:
        """Perform an operation, or give ``otherwise`` where the database fails or is being left alone.

        Args:
            operation: what to do with a connection.
            otherwise: what to give where it cannot be done.
            write: open a transaction for writing.
            purpose: what the operation is for, in the warning.
            accepted: GeWe has accepted the message, so that nothing at all may be raised any more.
            in_pause: ask a database, too, that failed a moment ago and is being left alone.
            about: the send that asks; its ``str`` says in the warning what was sent to whom.

        Raises:
            SchemaOutdated, SchemaUnknown: unless ``accepted``; the database cannot be used by this version.
        """
        if not in_pause and self._is_left_alone(write=write):
            return otherwise
        try:
            return self._perform(operation, write=write)
        except AwayError:
            pass
        except CorruptEntryError as error:
            self._note(purpose, about, error, logging.WARNING)
        except Exception as error:
            if isinstance(error, SchemaOutdated | SchemaUnknown) and not accepted:
                raise
            self._leave_alone(purpose, about, error, write=write)
        return otherwise

    def demand(self, operation: Callable[[Connection], T], *, write: bool = False) -> T:
        """Perform an operation whose failure its caller wants to know of.

        Raises:
            StoreError: the database failed; nothing was changed.
        """
        try:
            return self._perform(operation, write=write)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the database raised, its caller wants to know
            if not _only_writing_failed(error):
                self._ready = False
                self.database.begin_anew()
            msg = (
                f"The database failed ({describe(error)}). Nothing was changed. Check the database, "
                f"{without_secrets(self.database.url)}, and try again."
            )
            raise StoreError(msg) from None  # the cause's own text may show a row, and so an aes_key

    def close(self) -> None:
        """Close every connection."""
        self.database.dispose()

    def _is_left_alone(self, *, write: bool) -> bool:
        until = max(self._away_until, self._unwritable_until) if write else self._away_until
        return time.monotonic() < until

    def _perform(self, operation: Callable[[Connection], T], *, write: bool) -> T:
        self._make_ready()
        transact = self.database.writer.begin if write else self.database.reader.connect
        try:
            with transact() as connection:
                return operation(connection)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        with transact() as connection:
            return operation(connection)

    def _make_ready(self) -> None:
        if self._ready:
            return
        asked_at = time.monotonic()
        with self._lock:
            self._check_schema(asked_at)

    def _check_schema(self, asked_at: float) -> None:
        from gewe_cache.store.migrate import ensure_schema  # noqa: PLC0415 - once, and not before it is needed

        if self._ready:
            return
        if self._failed_at >= asked_at:  # who waited for the lock does not wait for the same failure again
            msg = "it could not be made ready a moment ago"
            raise AwayError(msg)
        try:
            ensure_schema(self.database, self._patience)
        except (SchemaOutdated, SchemaUnknown):
            raise
        except Exception:
            self._failed_at = time.monotonic()
            raise
        self._ready = True

    def _leave_alone(self, purpose: str, about: object, error: Exception, *, write: bool) -> None:
        """Leave the database alone for a while, and then begin with new connections.

        Of all who find it failing at once, the first says so aloud. One that can be read and not written goes
        on being read: its hits are worth as much as ever.
        """
        is_gone = not (write and _only_writing_failed(error))
        with self._news_lock:
            now = time.monotonic()
            is_news = now >= max(self._away_until, self._unwritable_until)
            self._unwritable_until = now + self._pause
            if is_gone:
                self._away_until = now + self._pause
                self._ready = False
        if is_gone:
            self.database.begin_anew()
        self._note(purpose, about, error, logging.WARNING if is_news else logging.DEBUG)

    def _note(self, purpose: str, about: object, error: Exception, level: int) -> None:
        self._on_failure()
        _log.log(
            level,
            "the database failed (%s%s%s: %s); sends go on without it, by upload where an image is not in memory",
            purpose,
            "" if about is None else " for ",
            "" if about is None else about,
            describe(error),
        )


def describe(error: BaseException) -> str:
    """Give a database error in one line, without the statement's parameters or the rows it names."""
    cause = getattr(error, "orig", None) or error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    lines = str(primary or cause).splitlines()
    return f"{type(cause).__name__}: {one_line(lines[0])}" if lines else type(cause).__name__


def _only_writing_failed(error: Exception) -> bool:
    """Tell whether a database that failed a write answers reads all the same."""
    cause = getattr(error, "orig", None)
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_CANNOT_WRITE
    return str(getattr(cause, "sqlstate", None) or "").startswith(_POSTGRESQL_CANNOT_WRITE)
