"""Which schema a database has, and whether this package can work on it.

On the start-up path of every sender: no Alembic here. The revisions are named by hand; a test holds that
they are those of ``migrations/``.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sqlalchemy import bindparam, text

from gewe_cache.errors import SchemaOutdated, SchemaUnknown
from gewe_cache.settings import find_database
from gewe_cache.store.engine import parse_database_url, without_secrets
from gewe_cache.store.tables import VERSION_TABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine import URL

KNOWN_REVISIONS: tuple[str, ...] = ("0001", "0002")
HEAD = KNOWN_REVISIONS[-1]
UPGRADE_COMMAND = "gewe-cache db upgrade"
PACKAGE_COMMAND = "pip install --upgrade gewe-cache"

# The table is looked for first: on PostgreSQL a SELECT that fails would spoil the caller's transaction.
_TABLE_EXISTS = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name",
    "postgresql": "SELECT 1 WHERE to_regclass(:name) IS NOT NULL",
}
_REVISION = text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant of ours


def read_revision(connection: Connection) -> str | None:
    """Give the database's revision, or None where it has no tables of ours."""
    exists = text(_TABLE_EXISTS[connection.dialect.name]).bindparams(bindparam("name", VERSION_TABLE))
    if connection.scalar(exists) is None:
        return None
    revision: str | None = connection.scalar(_REVISION)
    return revision


def check_schema(connection: Connection, url: URL) -> None:
    """Refuse a database that this package cannot work on.

    Raises:
        SchemaOutdated: it lacks a migration, or all of them.
        SchemaUnknown: a newer gewe_cache has made it.
    """
    revision = read_revision(connection)
    refuse_unknown(revision, url)
    if revision != HEAD:
        raise SchemaOutdated(_outdated(revision, url))


def refuse_unknown(revision: str | None, url: URL) -> None:
    """Refuse a database that a newer gewe_cache has made.

    Raises:
        SchemaUnknown: with the command that upgrades the package.
    """
    if revision is not None and revision not in KNOWN_REVISIONS:
        msg = (
            f"The database {shown(url)} has schema {revision}, and this gewe_cache knows none newer than {HEAD}. "
            f"Nothing was sent. Upgrade the package: {PACKAGE_COMMAND}"
        )
        raise SchemaUnknown(msg)


def shown(url: URL) -> str:
    """Give a database's URL as people may see it."""
    return without_secrets(url.set(drivername=url.get_backend_name()))


def _outdated(revision: str | None, url: URL) -> str:
    found = "has no tables of gewe_cache yet" if revision is None else f"has schema {revision} and lacks {HEAD}"
    return f"The database {shown(url)} {found}. Nothing was sent. {advice(url)}"


def advice(url: URL) -> str:
    """Name the command that creates or migrates a database."""
    return f"Run: {command_on(UPGRADE_COMMAND, url)}"


def command_on(command: str, url: URL) -> str:
    """Give a command with the option that names this database, where it would not find it by itself."""
    if _is_default(url):
        return command
    url = _writable(url)
    hidden = " (with the password in place of ***)" if url.password is not None else ""
    return f"{command} --database {shlex.quote(shown(url))}{hidden}"


def _writable(url: URL) -> URL:
    """Give the plain URL of a SQLite file that was opened read-only: as it was, it cannot be migrated."""
    name = str(url.database)
    if url.get_backend_name() != "sqlite" or not name.startswith("file:"):
        return url
    return url.set(database=url2pathname(urlsplit(name).path), query={})


def _is_default(url: URL) -> bool:
    try:
        return parse_database_url(find_database()) == url
    except ValueError:
        return False
