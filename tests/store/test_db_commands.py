"""``gewe-cache db …`` as an operator calls it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from gewe_cache.cli import db, output
from gewe_cache.store import migrate, schema, scripts
from gewe_cache.store.engine import open_database
from tests.store import histories

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

_READING = (
    ["current"],
    ["check"],
    ["current", "--json"],
    ["check", "--json"],
    ["revision", "-m", "x", "--autogenerate"],
)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(db.app, arguments)


def _ended(result: Result, code: int, *words: str) -> None:
    """Check an error: an exit code, and one line on stderr."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert [word for word in words if word not in result.stderr] == []


def test_upgrade_current_check_and_back(database_url: str) -> None:
    at = ("--database", database_url)
    result = _run("upgrade", *at)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith(f": schema {schema.HEAD}.\n")
    assert _run("check", *at).exit_code == 0
    assert f"schema {schema.HEAD}; this package's is {schema.HEAD}" in _run("current", *at).stdout

    _ended(_run("downgrade", "base", *at), output.EXIT_USAGE, "everything cached", "Pass --yes")
    assert _run("downgrade", "base", "--yes", *at).stdout.endswith(": schema none.\n")
    assert _run("stamp", "head", *at).stdout.endswith(f": schema {schema.HEAD}.\n")
    assert _run("check", *at).exit_code == output.EXIT_FAILURE
    for command in ("upgrade", "stamp"):
        _ended(_run(command, "nope", *at), output.EXIT_USAGE, "'nope'. Nothing was changed", "gewe-cache db history")


def test_the_environment_names_the_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEWE_CACHE_DATABASE", database_url)
    assert _run("upgrade").exit_code == 0
    database = open_database(database_url)
    assert migrate.current(database) == schema.HEAD
    database.dispose()


def test_json_is_all_there_is_on_stdout(database_url: str) -> None:
    at = ("--database", database_url)
    _run("upgrade", *at)
    (current,) = _run("current", "--json", *at).stdout.splitlines()
    assert json.loads(current) == {
        "database": schema.shown(open_database(database_url).url),
        "revision": schema.HEAD,
        "head": schema.HEAD,
    }
    assert _run("check", "--json", *at).output == ""
    rows = [json.loads(line) for line in _run("history", "--json").stdout.splitlines()]
    assert [row["revision"] for row in rows] == list(schema.KNOWN_REVISIONS)
    assert rows[0] == {"revision": "0001", "follows": None, "message": "Entries, keys, leases, usage."}
    assert _run("history").stdout.startswith("0001  Entries")


def test_check_prints_each_difference(migrated_database_url: str) -> None:
    at = ("--database", migrated_database_url)
    expected = "add_index: gewe_cache_keys.ix_gewe_cache_keys_md5"
    plain, structured = _run("check", *at), _run("check", "--json", *at)
    assert (plain.exit_code, structured.exit_code) == (output.EXIT_FAILURE, output.EXIT_FAILURE)
    assert plain.stdout == f"{expected}\n"
    assert json.loads(structured.stdout) == {"difference": expected}
    assert "differs" in plain.stderr


@pytest.fixture
def migrated_database_url(database_url: str) -> str:
    """Give a database that lacks one index."""
    database = open_database(database_url)
    migrate.upgrade(database)
    with database.writer.begin() as connection:
        connection.execute(text("DROP INDEX ix_gewe_cache_keys_md5"))
    database.dispose()
    return database_url


@pytest.mark.parametrize("arguments", [*_READING, ["downgrade", "base", "--yes"], ["stamp", "head"]])
def test_a_missing_file_stays_missing(arguments: list[str], sqlite_url: str, tmp_path: Path) -> None:
    result = _run(*arguments, "--database", sqlite_url)
    _ended(result, output.EXIT_STORE, "There is no database", f"gewe-cache db upgrade --database {sqlite_url}")
    assert list(tmp_path.iterdir()) == []


def test_the_default_file_stays_missing(tmp_path: Path) -> None:
    _ended(_run("current"), output.EXIT_STORE, "gewe_cache.db yet. Run: gewe-cache db upgrade\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", _READING)
def test_reading_does_not_migrate(arguments: list[str], postgres_url: str) -> None:
    _run(*arguments, "--database", postgres_url)
    database = open_database(postgres_url)
    with database.reader.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM pg_class WHERE relname LIKE 'gewe_cache%'")) == 0
    database.dispose()


def test_an_empty_postgresql_is_not_checked_but_explained(postgres_url: str) -> None:
    result = _run("check", "--database", postgres_url)
    _ended(result, output.EXIT_STORE, "has no tables", "gewe-cache db upgrade --database", ":***@")
    assert "schema none" in _run("current", "--database", postgres_url).stdout


def test_a_database_from_the_future_asks_for_the_package(database_url: str) -> None:
    database = open_database(database_url)
    migrate.upgrade(database)
    with database.writer.begin() as connection:
        connection.execute(text("UPDATE gewe_cache_schema SET version_num = '9999'"))
    database.dispose()
    for arguments in (["upgrade"], ["check"], ["stamp", "head"], ["downgrade", "base", "--yes"]):
        _ended(_run(*arguments, "--database", database_url), output.EXIT_STORE, "9999", schema.PACKAGE_COMMAND)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["upgrade", "0042", "--database", "sqlite://"], "0042"),
        (["upgrade", "--database", "mysql://user:hush@host/name"], "database: pass sqlite:///FILE"),
    ],
)
def test_wrong_usage_is_told_from_failure(arguments: list[str], words: str) -> None:
    result = _run(*arguments)
    _ended(result, output.EXIT_USAGE, words)
    assert "hush" not in result.output


def test_a_server_that_is_away_is_a_failure_of_the_store() -> None:
    result = _run("current", "--database", "postgresql://user:hush@127.0.0.1:1/name")
    _ended(result, output.EXIT_STORE, "database failed")
    assert "hush" not in result.output


def test_downgrade_asks_a_person(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _run("upgrade", "--database", sqlite_url)
    asked: list[str] = []
    monkeypatch.setattr(db, "confirm", lambda question, *, yes: asked.append(f"{question} {yes}"))
    _run("downgrade", "base", "--database", sqlite_url)
    assert asked == [f"Take {sqlite_url} from schema 0002 to base, dropping everything cached and counted in it? False"]


def test_a_contributor_writes_a_revision(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = histories.copy_history(tmp_path)
    monkeypatch.setattr(scripts, "migrations_folder", lambda: folder)
    _run("upgrade", "--database", database_url)
    by_hand = _run("revision", "-m", "By hand")
    assert by_hand.stdout == f"{folder / 'versions' / '0003_by_hand.py'}\n"
    assert "KNOWN_REVISIONS" in by_hand.stderr
    (folder / "versions" / "0003_by_hand.py").unlink()
    made = _run("revision", "-m", "Found", "--autogenerate", "--database", database_url)
    assert made.stdout == f"{folder / 'versions' / '0003_found.py'}\n"
