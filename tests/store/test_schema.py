"""Which schema a database has, and what is said about one that does not fit."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql import column, table

from gewe_cache.errors import SchemaOutdated, SchemaUnknown, StoreError
from gewe_cache.store import migrate, schema, scripts, tables
from gewe_cache.store.engine import open_database, parse_database_url
from tests.store import histories

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gewe_cache.store.engine import Database
    from tests.postgres import PostgresServer

_VERSIONS = table(tables.VERSION_TABLE, column("version_num"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Give a database without tables, once on each backend."""
    opened = open_database(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Database]:
    """Give a PostgreSQL without tables."""
    opened = open_database(postgres_url)
    yield opened
    opened.dispose()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give the place of the SQLite file of ``sqlite_url``."""
    return tmp_path / "cache.db"


def _set_revision(database: Database, revision: str) -> None:
    with database.writer.begin() as connection:
        connection.execute(update(_VERSIONS).values(version_num=revision))


def test_the_known_revisions_are_alembics() -> None:
    rows = scripts.history()
    assert tuple(revision for revision, _, _ in rows) == schema.KNOWN_REVISIONS
    assert [follows for _, follows, _ in rows] == [None, *schema.KNOWN_REVISIONS[:-1]]
    assert schema.KNOWN_REVISIONS[-1] == schema.HEAD


def test_an_empty_database_has_no_revision(database: Database) -> None:
    with database.reader.connect() as connection:
        assert schema.read_revision(connection) is None
        assert connection.scalar(text("SELECT 1")) == 1


def test_a_missing_version_table_leaves_the_callers_transaction_whole(database: Database) -> None:
    with database.writer.begin() as connection:
        connection.execute(text("CREATE TABLE other (id INTEGER)"))
        assert schema.read_revision(connection) is None
        connection.execute(text("INSERT INTO other VALUES (1)"))
    with database.reader.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM other")) == 1


def test_the_revision_is_read_in_and_out_of_a_transaction(migrated_database: Database) -> None:
    for engine in (migrated_database.reader, migrated_database.writer):
        with engine.connect() as connection:
            assert schema.read_revision(connection) == schema.HEAD


def test_an_emptied_version_table_is_no_revision(migrated_database: Database) -> None:
    with migrated_database.writer.begin() as connection:
        connection.execute(text(f"DELETE FROM {tables.VERSION_TABLE}"))  # noqa: S608 - a constant
    assert migrate.current(migrated_database) is None


def test_a_lost_connection_is_not_taken_for_an_empty_database(postgres: Database) -> None:
    with postgres.reader.connect() as connection, postgres.writer.connect() as other:
        backend = connection.scalar(text("SELECT pg_backend_pid()"))
        other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": backend})
        with pytest.raises(OperationalError):
            schema.read_revision(connection)


def test_an_empty_postgresql_is_refused_with_the_command(postgres: Database) -> None:
    with pytest.raises(SchemaOutdated) as raised:
        migrate.ensure_schema(postgres)
    said = str(raised.value)
    assert "Nothing was sent. Run: gewe-cache db upgrade --database 'postgresql://" in said
    assert ":***@" in said
    assert str(postgres.url.password) not in said
    assert migrate.current(postgres) is None


def test_the_command_is_short_where_the_database_is_the_default(
    postgres_url: str, postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEWE_CACHE_DATABASE", postgres_url)
    with pytest.raises(SchemaOutdated, match=r"Run: gewe-cache db upgrade$"):
        migrate.ensure_schema(postgres)


def test_unusable_settings_do_not_hide_what_is_wrong(postgres: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEWE_CACHE_DATABASE", "nonsense")
    with pytest.raises(SchemaOutdated, match="--database"):
        migrate.ensure_schema(postgres)


def test_an_older_postgresql_is_refused_with_both_revisions(
    postgres: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate.upgrade(postgres)
    migrate.ensure_schema(postgres)
    histories.lengthen_history(tmp_path, monkeypatch, upgrade="pass")
    with pytest.raises(SchemaOutdated, match="has schema 0002 and lacks 0003"):
        migrate.ensure_schema(postgres)


def test_a_database_from_the_future_is_refused_by_all(migrated_database: Database) -> None:
    _set_revision(migrated_database, "9999")
    for act in (
        migrate.ensure_schema,
        migrate.upgrade,
        migrate.check,
        lambda database: migrate.downgrade(database, "base"),
        lambda database: migrate.stamp(database, "head"),
    ):
        with pytest.raises(SchemaUnknown, match=r"9999.*Nothing was sent.*pip install --upgrade gewe-cache"):
            act(migrated_database)
    assert migrate.current(migrated_database) == "9999"


def test_a_sender_creates_its_sqlite_file_for_its_owner_alone(sqlite_url: str, file: Path) -> None:
    database = open_database(sqlite_url)
    migrate.ensure_schema(database)
    assert migrate.current(database) == schema.HEAD
    with database.reader.connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        if os.name == "posix":
            modes = {stat.S_IMODE(path.stat().st_mode) for path in file.parent.glob("cache.db*")}
            assert modes == {0o600}
    database.dispose()


def test_a_sender_migrates_an_older_sqlite_file(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(sqlite_url)
    migrate.ensure_schema(database)
    with database.writer.begin() as connection:
        histories.insert_rows(connection)
    histories.lengthen_history(
        tmp_path, monkeypatch, upgrade='op.create_table("gewe_cache_more", sa.Column("a", sa.Text()))'
    )
    migrate.ensure_schema(database)
    assert migrate.current(database) == "0003"
    with database.reader.connect() as connection:
        assert histories.count_entries(connection) == 1
    database.dispose()


def test_a_file_opened_read_only_is_checked_and_never_migrated(sqlite_url: str, file: Path) -> None:
    read_only = open_database(f"sqlite:///file:{file.as_posix()}?mode=ro&uri=true")
    file.touch()
    with pytest.raises(SchemaOutdated) as raised:
        migrate.ensure_schema(read_only)
    assert str(raised.value).endswith(f"Run: gewe-cache db upgrade --database {sqlite_url}")
    with pytest.raises(StoreError, match="read-only"):
        migrate.upgrade(read_only)
    assert file.stat().st_size == 0

    writable = open_database(sqlite_url)
    migrate.ensure_schema(writable)
    migrate.ensure_schema(read_only)
    assert migrate.current(read_only) == schema.HEAD
    _set_revision(writable, "9999")
    with pytest.raises(SchemaUnknown):
        migrate.ensure_schema(read_only)
    writable.dispose()
    read_only.dispose()


@pytest.mark.parametrize("url", ["sqlite:///{}", "sqlite:///file:{}?mode=ro&uri=true", "sqlite:///file:{}?uri=true"])
def test_looking_at_a_missing_file_does_not_create_it(url: str, file: Path) -> None:
    database = open_database(url.format(file.as_posix()))
    for look in (migrate.current, migrate.check, lambda found: migrate.revision("x", found)):
        with pytest.raises(StoreError, match=r"There is no database .*Run: gewe-cache db upgrade"):
            look(database)
    assert list(file.parent.iterdir()) == []
    database.dispose()


def test_a_database_in_memory_lives_on_one_connection() -> None:
    database = open_database("sqlite://", timeout=0.2)
    for _ in range(2):
        migrate.ensure_schema(database)
    assert migrate.check(database) == []
    migrate.downgrade(database, "base")
    assert migrate.current(database) is None
    database.dispose()


def test_percent_and_at_in_a_password_reach_the_server_as_they_are(postgres_url: str) -> None:
    password = "p%40 @:/?#ü"  # noqa: S105 - a made-up one
    admin = open_database(postgres_url)
    role = f"role_{parse_database_url(postgres_url).database}"
    with admin.writer.begin() as connection:
        literal = "'" + password.replace("%", "%%") + "'"
        connection.exec_driver_sql(f'CREATE ROLE "{role}" LOGIN PASSWORD {literal}')
        connection.exec_driver_sql(f'GRANT CREATE ON SCHEMA public TO "{role}"')
    url = parse_database_url(postgres_url).set(username=role, password=password)
    try:
        database = open_database(url.render_as_string(hide_password=False))
        assert database.url.password == password
        migrate.upgrade(database)
        with database.reader.connect() as connection:
            assert connection.scalar(text("SELECT current_user")) == role
        assert password not in repr(database)
        database.dispose()
    finally:
        with admin.writer.begin() as connection:
            connection.exec_driver_sql(f'DROP OWNED BY "{role}"')
            connection.exec_driver_sql(f'DROP ROLE "{role}"')
        admin.dispose()


def test_no_password_of_a_url_is_shown() -> None:
    database = open_database(
        "postgresql://u:secret-1@h/x?password=secret-2&sslpassword=secret-3&application_name=shown"
    )
    for said in (repr(database), schema.shown(database.url)):
        assert "shown" in said
        assert "secret" not in said


def test_the_wrong_password_is_an_error_of_the_connection(postgres_server: PostgresServer) -> None:
    url = parse_database_url(postgres_server.url).set(password="p%40@/wrong")  # noqa: S106 - not one
    database = open_database(url.render_as_string(hide_password=False))
    with pytest.raises(OperationalError, match="password authentication failed"):
        migrate.ensure_schema(database)
    database.dispose()


def test_a_current_file_is_accepted_without_loading_alembic(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    migrate.ensure_schema(database)
    database.dispose()
    code = """
import sys
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
database = open_database(sys.argv[1])
migrate.ensure_schema(database)
database.dispose()
print([name for name in sys.modules if name.split(".")[0] in {"alembic", "mako"}])
"""
    said, complained = histories.start_python(code, sqlite_url).communicate(timeout=histories.PATIENCE)
    assert (said.strip(), complained) == ("[]", "")
