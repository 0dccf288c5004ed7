"""Ways to spoil a SQLite file under a sender that uses it, each undone when its block ends."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from tests.faults.kit import Driver

_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""
_NOBODY = 65534


def file_of(database: str) -> Path:
    """Give the file of a database's URL."""
    return Path(database.removeprefix("sqlite:///"))


def files_of(database: str) -> list[Path]:
    """Give the file and what SQLite keeps beside it."""
    file = file_of(database)
    return [file, *file.parent.glob(f"{file.name}-*")]


def change(database: str, *statements: str) -> None:
    """Run statements on a file, on a connection of our own."""
    with closing(sqlite3.connect(file_of(database), isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def read(database: str, query: str) -> list[tuple[object, ...]]:
    """Run a query on a file, on a connection of our own."""
    with closing(sqlite3.connect(file_of(database))) as connection:
        return connection.execute(query).fetchall()


@contextmanager
def locked(database: str) -> Iterator[None]:
    """Let another process hold the file for writing."""
    command = [sys.executable, "-I", "-S", "-c", _HOLDER, str(file_of(database))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:  # noqa: S603
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.communicate()


@contextmanager
def locked_by_a_connection(database: str) -> Iterator[None]:
    """Let another connection of this process hold the file for writing."""
    with closing(sqlite3.connect(file_of(database), isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def read_only(database: str) -> Iterator[None]:
    """Let the file be one that its user may read and not write; root is nobody meanwhile."""
    file, files = file_of(database), files_of(database)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    for each in files:
        each.chmod(0o444)
    ways = [folder for folder in file.parents if is_root and not folder.stat().st_mode & 0o001]
    modes = {folder: folder.stat().st_mode for folder in ways}
    for folder in ways:
        folder.chmod(modes[folder] | 0o001)
    if is_root:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for folder, mode in modes.items():
            folder.chmod(mode)
        for each in files:
            each.chmod(0o600)


@contextmanager
def deleted(database: str) -> Iterator[None]:
    """Delete the file with all that is beside it; it does not come back."""
    for each in files_of(database):
        each.unlink()
    yield


@contextmanager
def without_tables(database: str) -> Iterator[None]:
    """Drop every table; the schema's version stays behind, and so they do not come back by themselves."""
    dump = _dump(database)
    names = ("keys", "entries", "leases", "usage")
    change(database, *(f"DROP TABLE gewe_cache_{name}" for name in names))
    yield
    _restore(database, dump)


@contextmanager
def corrupted(database: str) -> Iterator[None]:
    """Overwrite every page but the first with garbage."""
    with _replaced(database) as file:
        file.write_bytes(file.read_bytes()[:4096] + b"\xde\xad\xbe\xef" * 20_000)
        yield


@contextmanager
def no_database(database: str) -> Iterator[None]:
    """Put something else in the file's place."""
    with _replaced(database) as file:
        file.write_bytes(b"This was a database once. " * 400)
        yield


@contextmanager
def directory(database: str) -> Iterator[None]:
    """Put a folder in the file's place."""
    with _replaced(database) as file:
        file.unlink()
        file.mkdir()
        yield
        file.rmdir()


def fill_up(driver: Driver) -> None:
    """Let the database of a sender have no room for another page."""

    def allow_no_more(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # taken as: no more than there are

    engine: Engine = driver.sender._core.store.database.writer
    event.listen(engine, "connect", allow_no_more)
    engine.dispose()


@contextmanager
def _replaced(database: str) -> Iterator[Path]:
    """Give the file to be spoilt; put it back as it was."""
    change(database, "PRAGMA wal_checkpoint(TRUNCATE)")
    file = file_of(database)
    whole = file.read_bytes()
    yield file
    for each in file.parent.glob(f"{file.name}-*"):
        each.unlink()
    file.write_bytes(whole)


def _dump(database: str) -> str:
    with closing(sqlite3.connect(file_of(database))) as connection:
        return "\n".join(connection.iterdump())


def _restore(database: str, dump: str) -> None:
    folder = file_of(database).with_suffix(".restored")
    with closing(sqlite3.connect(folder)) as source, closing(sqlite3.connect(file_of(database))) as target:
        source.executescript(dump)
        source.backup(target)
    folder.unlink()
