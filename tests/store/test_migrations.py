"""The migrations make the tables of ``tables.py``, lose nothing they can keep, and touch nothing foreign."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from gewe_cache.errors import StoreError
from gewe_cache.store import migrate, schema, scripts, tables
from gewe_cache.store.engine import open_database
from gewe_cache.store.partial_indexes import metadata
from tests.store import histories

if TYPE_CHECKING:
    from pathlib import Path

    from gewe_cache.store.engine import Database

_ADD_A_COLUMN = """with op.batch_alter_table("gewe_cache_entries", recreate="{recreate}") as batch:
        batch.add_column(sa.Column("note", sa.Text()))"""
_DROP_IT = """with op.batch_alter_table("gewe_cache_entries", recreate="{recreate}") as batch:
        batch.drop_column("note")"""

_POSTGRES_TRUTH = (
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1",
    """SELECT conname, conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
       WHERE connamespace = current_schema()::regnamespace ORDER BY 1, 2""",
    """SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default, is_identity
       FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2""",
    """SELECT relname, obj_description(oid, 'pg_class') FROM pg_class
       WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY 1""",
)


def _truth(engine: Engine) -> object:
    """Read out everything a database says about our tables."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            rows = connection.execute(text("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")).all()
            return [(kind, name, _lines(sql)) for kind, name, sql in rows if _is_ours(name)]
        found = [[tuple(row) for row in connection.execute(text(query))] for query in _POSTGRES_TRUTH]
        return [[row for row in rows if tables.VERSION_TABLE not in str(row)] for rows in found]


def _is_ours(name: str) -> bool:
    return "gewe_cache_" in name and tables.VERSION_TABLE not in name


def _lines(sql: str | None) -> list[str]:
    return sorted(re.sub(r"\s+", " ", line).strip(" ,") for line in (sql or "").splitlines())


def _names(database: Database) -> set[str]:
    return set(inspect(database.reader).get_table_names())


def test_the_migrations_make_the_tables_of_the_package(migrated_database: Database) -> None:
    assert migrate.check(migrated_database) == []


def test_the_migrations_make_exactly_what_create_all_makes(migrated_database: Database) -> None:
    migrated = _truth(migrated_database.reader)
    migrate.downgrade(migrated_database, "base")
    metadata.create_all(migrated_database.writer)
    assert migrated == _truth(migrated_database.reader)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("DROP INDEX ix_gewe_cache_keys_md5", "add_index: gewe_cache_keys.ix_gewe_cache_keys_md5"),
        ("ALTER TABLE gewe_cache_usage DROP COLUMN unknowns", "add_column: gewe_cache_usage.unknowns"),
        ("ALTER TABLE gewe_cache_leases ADD COLUMN more TEXT", "remove_column: gewe_cache_leases.more"),
        ("CREATE TABLE gewe_cache_left_over (id INTEGER)", "remove_table: gewe_cache_left_over"),
    ],
)
def test_check_names_a_difference(migrated_database: Database, change: str, found: str) -> None:
    with migrated_database.writer.begin() as connection:
        connection.execute(text(change))
    assert migrate.check(migrated_database) == [found]


def test_check_names_a_lost_check_constraint(postgres_url: str) -> None:
    database = open_database(postgres_url)
    migrate.upgrade(database)
    with database.writer.begin() as connection:
        connection.execute(text("ALTER TABLE gewe_cache_keys DROP CONSTRAINT ck_gewe_cache_keys_kind"))
    assert migrate.check(database) == ["add_check: gewe_cache_keys.ck_gewe_cache_keys_kind"]
    database.dispose()


def test_every_table_holds_its_rows_after_an_upgrade_that_has_been_run(migrated_database: Database) -> None:
    with migrated_database.writer.begin() as connection:
        histories.insert_rows(connection)
        before = histories.read_rows(connection)
    migrate.upgrade(migrated_database)
    migrate.upgrade(migrated_database, "0001")
    with migrated_database.reader.connect() as connection:
        assert histories.read_rows(connection) == before


@pytest.mark.parametrize("recreate", ["auto", "always"])
def test_down_and_up_again_keeps_the_rows(
    database_url: str, recreate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(database_url)
    recreate = recreate if database.is_sqlite else "auto"  # PostgreSQL never needs to rebuild a table
    add, drop = (part.format(recreate=recreate) for part in (_ADD_A_COLUMN, _DROP_IT))
    histories.lengthen_history(tmp_path, monkeypatch, upgrade=add, downgrade=drop)
    migrate.upgrade(database, "0002")
    with database.writer.begin() as connection:
        histories.insert_rows(connection)
        before = histories.read_rows(connection)
    for act, revision in ((migrate.upgrade, "head"), (migrate.downgrade, "0002"), (migrate.upgrade, "0003")):
        act(database, revision)
        with database.reader.connect() as connection:
            assert schema.read_revision(connection) == ("0002" if revision == "0002" else "0003")
            assert histories.read_rows(connection) == before
    database.dispose()


def test_down_to_nothing_and_up_again_works(migrated_database: Database) -> None:
    with migrated_database.writer.begin() as connection:
        histories.insert_rows(connection)
        connection.execute(text("CREATE TABLE users (id INTEGER)"))
        connection.execute(text("INSERT INTO users VALUES (1)"))
    migrate.downgrade(migrated_database, "base")
    assert _names(migrated_database) == {"users", tables.VERSION_TABLE} | _of_sqlite(migrated_database)
    migrate.upgrade(migrated_database)
    assert migrate.check(migrated_database) == []
    with migrated_database.reader.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM users")) == 1
        assert histories.count_entries(connection) == 0


def _of_sqlite(database: Database) -> set[str]:
    return {"sqlite_sequence"} & _names(database)


def test_a_migration_that_fails_changes_nothing(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    histories.lengthen_history(tmp_path, monkeypatch, upgrade="op.drop_table('gewe_cache_usage'); 1 / 0")
    database = open_database(database_url)
    migrate.upgrade(database, "0002")
    with pytest.raises(ZeroDivisionError):
        migrate.upgrade(database)
    assert migrate.current(database) == "0002"
    assert "gewe_cache_usage" in _names(database)
    database.dispose()


def test_a_migration_that_breaks_links_is_undone(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking = "op.execute('UPDATE gewe_cache_keys SET entry_id = 8')"
    histories.lengthen_history(tmp_path, monkeypatch, upgrade=breaking)
    database = open_database(database_url)
    migrate.upgrade(database, "0002")
    with database.writer.begin() as connection:
        histories.insert_rows(connection)
    with pytest.raises(StoreError if database.is_sqlite else IntegrityError):
        migrate.upgrade(database)
    with database.reader.connect() as connection:
        assert schema.read_revision(connection) == "0002"
        assert connection.scalar(text("SELECT entry_id FROM gewe_cache_keys")) == 7
    database.dispose()


def test_the_connections_of_a_file_are_as_before(sqlite_url: str) -> None:
    database = open_database(sqlite_url, timeout=1.5)
    with database.writer.connect() as connection:
        before = [connection.scalar(text(f"PRAGMA {name}")) for name in ("foreign_keys", "busy_timeout")]
    migrate.upgrade(database)
    with database.writer.connect() as connection:
        after = [connection.scalar(text(f"PRAGMA {name}")) for name in ("foreign_keys", "busy_timeout")]
    assert before == after == [1, 1500]
    database.dispose()


def test_a_long_migration_outlives_a_senders_time_outs(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    histories.lengthen_history(tmp_path, monkeypatch, upgrade="op.execute('SELECT pg_sleep(0.5)')")
    database = open_database(postgres_url, timeout=0.1)
    migrate.upgrade(database)
    assert migrate.current(database) == "0003"
    database.dispose()


def test_an_unknown_revision_is_named(migrated_database: Database) -> None:
    for act in (migrate.upgrade, migrate.downgrade, migrate.stamp):
        with pytest.raises(ValueError, match="0042"):
            act(migrated_database, "0042")


def test_there_is_nothing_to_undo_in_an_empty_database(postgres_url: str, sqlite_url: str) -> None:
    empty = open_database(postgres_url)
    with pytest.raises(StoreError, match="nothing to undo"):
        migrate.downgrade(empty, "base")
    empty.dispose()
    missing = open_database(sqlite_url)
    with pytest.raises(StoreError, match="There is no database"):
        migrate.downgrade(missing, "base")
    missing.dispose()


def test_stamp_writes_the_revision_alone(migrated_database: Database) -> None:
    migrate.stamp(migrated_database, "base")
    assert migrate.current(migrated_database) is None
    assert "gewe_cache_entries" in _names(migrated_database)
    migrate.stamp(migrated_database, "head")
    assert migrate.current(migrated_database) == schema.HEAD
    assert migrate.check(migrated_database) == []


def test_foreign_tables_are_left_alone(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = open_database(postgres_url)
    migrate.upgrade(database)
    with database.writer.begin() as connection:
        connection.execute(text("CREATE TABLE users (id INTEGER PRIMARY KEY, geweCache TEXT)"))
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
        connection.execute(text("DROP INDEX ix_gewe_cache_keys_md5"))
    assert migrate.check(database) == ["add_index: gewe_cache_keys.ix_gewe_cache_keys_md5"]

    folder = histories.copy_history(tmp_path)
    monkeypatch.setattr(scripts, "migrations_folder", lambda: folder)
    written = migrate.revision("Find what is missing", database).read_text(encoding="utf-8")
    assert "ix_gewe_cache_keys_md5" in written
    assert not re.search("users|alembic_version", written)
    database.dispose()


def test_a_generated_revision_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = open_database(f"sqlite:///{(tmp_path / 'cache.db').as_posix()}")
    migrate.upgrade(database)
    with database.writer.begin() as connection:
        connection.execute(text("ALTER TABLE gewe_cache_leases DROP COLUMN last_upload_at"))
    folder = histories.copy_history(tmp_path)
    monkeypatch.setattr(scripts, "migrations_folder", lambda: folder)
    path = migrate.revision("Bring it back", database)
    assert path == folder / "versions" / "0003_bring_it_back.py"
    written = path.read_text(encoding="utf-8")
    compile(written, str(path), "exec")
    assert "sa.DateTime(timezone=True)" in written
    assert "gewe_cache." not in written
    assert migrate.revision("By hand") == folder / "versions" / "0004_by_hand.py"
    database.dispose()


def test_no_revision_is_written_into_an_installed_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shipped = tmp_path / "gewe_cache" / "migrations"
    shipped.mkdir(parents=True)
    (shipped / "env.py").touch()
    monkeypatch.setattr(scripts, "_PACKAGE", shipped.parent)
    assert scripts.migrations_folder() == shipped
    with pytest.raises(StoreError, match="checkout"):
        migrate.revision("x")


def test_nothing_is_printed_and_no_logging_is_set_up(sqlite_url: str, postgres_url: str) -> None:
    code = """
import logging, sys
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
for url in sys.argv[1:]:
    database = open_database(url)
    migrate.upgrade(database)
    migrate.check(database)
    migrate.downgrade(database, "base")
    migrate.stamp(database, "head")
    database.dispose()
names = [None, *(name for name in logging.root.manager.loggerDict if name.split(".")[0] in {"alembic", "gewe_cache"})]
loggers = [logging.getLogger(name) for name in names]
assert len(loggers) > 1, loggers
handlers = [handler for logger in loggers for handler in logger.handlers]
assert {type(handler) for handler in handlers} <= {logging.NullHandler}, handlers
assert not [logger for logger in loggers if logger.disabled], loggers
assert {logger.level for logger in loggers[1:]} == {logging.NOTSET} and logging.root.level == logging.WARNING
"""
    process = histories.start_python(code, sqlite_url, postgres_url)
    assert (process.communicate(timeout=histories.PATIENCE), process.returncode) == (("", ""), 0)
