"""``gewe-cache cache list | show | stats``: they show, and change nothing."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache.cli import cache as cache_commands
from gewe_cache.cli import output
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
from tests.cli.running import run_unread
from tests.store.rows import AES_KEY, add_entry, scopes_by_id

if TYPE_CHECKING:
    from pathlib import Path

    from gewe_cache.store.engine import Database
    from tests.cli.conftest import Invoke, Run

FRESH, OLD, GONE, OTHER = 1, 2, 3, 4
READING = (["cache", "list"], ["cache", "show", "1"], ["cache", "stats"])
HOSTILE = "https://img.example/\x1b]0;pwned\x07[red]\u202e海报.png"


def _rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("cache")
def test_a_list_shows_what_an_operator_looks_for(run: Run) -> None:
    done = run("cache", "list")
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["id", "image", "scope", "size", "age", "left", "fwds", "used"]
    assert [line.split()[0] for line in lines] == ["1", "4", "3", "retired", "2"]
    assert all(len(line) <= 80 for line in lines)
    assert {"img.example/fresh.png", "4.1", "kB", "1h", "2d", "22h", "7"} <= set(lines[0].split())
    assert lines[3].strip() == "retired 2h ago: GeWe refused: cdn信息已失效"
    assert AES_KEY not in done.stdout


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_list_fits_the_terminal(invoke: Invoke, width: int) -> None:
    lines = invoke("cache", "list", COLUMNS=str(width)).stdout.splitlines()
    assert len(lines) == 6
    assert all(len(line) <= width for line in lines)


@pytest.mark.usefixtures("cache")
def test_a_terminal_that_says_it_has_no_width_is_taken_for_one_of_80(invoke: Invoke) -> None:
    assert invoke("cache", "list", COLUMNS="0").stdout == invoke("cache", "list", COLUMNS="80").stdout


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("arguments", [*READING, ["cache", "list", "--json"]])
def test_a_reader_that_has_gone_is_no_reason_to_complain(arguments: list[str]) -> None:
    done = run_unread(*arguments)
    assert (done.returncode, done.stderr) == (output.EXIT_FAILURE, "")


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ([], [FRESH, OTHER, GONE, OLD]),
        (["--reverse"], [OLD, GONE, OTHER, FRESH]),
        (["--sort", "forwards", "-n", "1"], [FRESH]),
        (["--url-part", "FRESH"], [FRESH, OTHER]),
        (["--md5", "0" * 31 + "A"], [FRESH]),
        (["--scope", "two"], [OTHER]),
        (["--state", "fresh"], [FRESH, OTHER]),
        (["--state", "expired"], [OLD]),
        (["--state", "expired", "--ttl", "2h"], [OTHER, OLD]),
        (["--state", "retired"], [GONE]),
        (["--url-part", "nowhere"], []),
    ],
)
def test_json_lines_and_nothing_else(invoke: Invoke, options: list[str], ids: list[int]) -> None:
    result = invoke("cache", "list", "--json", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [row["id"] for row in _rows(result.stdout)] == ids


@pytest.mark.usefixtures("cache")
def test_json_has_the_same_fields_in_every_row_and_masks_keys(invoke: Invoke) -> None:
    rows = _rows(invoke("cache", "list", "--json").stdout)
    names = (
        "id scope url aes_key file_id length width height md5 uploaded_at last_used_at forwards retired_at "
        "retired_reason state age time_left token"
    )
    assert {" ".join(row) for row in rows} == {names}
    assert {row["aes_key"] for row in rows} == {f"{AES_KEY[:4]}…"}
    assert rows[0]["uploaded_at"].endswith("Z")
    revealed = _rows(invoke("cache", "list", "--json", "--reveal").stdout)
    assert {row["aes_key"] for row in revealed} == {AES_KEY}


@pytest.mark.usefixtures("cache")
def test_a_script_pages_by_the_last_rows_token(invoke: Invoke) -> None:
    seen: list[int] = []
    after: list[str] = []
    while rows := _rows(invoke("cache", "list", "--json", "-n", "3", *after).stdout):
        seen += [row["id"] for row in rows]
        after = ["--after", rows[-1]["token"]]
    assert seen == [FRESH, OTHER, GONE, OLD]


@pytest.mark.usefixtures("cache")
def test_a_person_gets_the_command_that_goes_on(run: Run) -> None:
    done = run("cache", "list", "-n", "3", "--url-part", "img example")
    assert done.stdout == ""
    assert "No entry matches" in done.stderr

    arguments = ["cache", "list", "-n", "3", "--url-part", "img."]
    *_, last = run(*arguments).stdout.splitlines()
    program, *following = shlex.split(last.removeprefix("There are more: "))
    assert (program, following[: len(arguments)]) == ("gewe-cache", arguments)
    lines = run(*following).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [str(OLD), "All"]
    assert "There are more" not in lines[-1]


@pytest.mark.parametrize(
    ("given", "repeated"),
    [
        (["cache", "list", "--after", "ud1.1", "-n", "3"], ["cache", "list", "-n", "3"]),
        (["cache", "list", "--after=ud1.1"], ["cache", "list"]),
        (["cache", "list", "--database", "sqlite:///a.db"], ["cache", "list", "--database", "sqlite:///a.db"]),
        (["cache", "list", "--database=postgresql://me:secret@h/n"], ["cache", "list"]),
    ],
)
def test_the_command_that_goes_on_has_no_password(
    monkeypatch: pytest.MonkeyPatch, given: list[str], repeated: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gewe-cache", *given])
    assert cache_commands._command_line().split() == ["gewe-cache", *repeated]


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_a_hostile_url_does_nothing_to_the_terminal(
    cache: Database, invoke: Invoke, command: list[str], json_option: list[str]
) -> None:
    entry_id = add_entry(cache, "https://img.example/x")
    with cache.writer.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE gewe_cache_entries "
            "SET url = ?, scope = ?, retired_at = uploaded_at, retired_reason = ? WHERE id = ?",
            (HOSTILE, "[blink]\x9b31m", "\x1b[2J[/] no", entry_id),
        )
    arguments = [str(entry_id) if word == "1" else word for word in command]
    done = invoke(*arguments, *json_option)
    assert (done.exit_code, done.stderr) == (0, "")
    assert all(line.isprintable() for line in done.stdout.split("\n"))


@pytest.mark.parametrize("command", [*READING, ["cache", "list", "--reveal"]])
def test_a_console_that_knows_few_characters_is_served(cache: Database, run: Run, command: list[str]) -> None:
    add_entry(cache, "https://img.example/海报.png")
    done = run(*command, PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_escaped_name_is_shown_as_it_is_read_where_the_console_can(cache: Database, run: Run) -> None:
    escaped = "https://img.example/%E6%B5%B7%E6%8A%A5.png"
    entry_id = add_entry(cache, escaped)
    for encoding, shown in (("utf-8", "img.example/海报.png"), ("cp1252", escaped.removeprefix("https://"))):
        for command in (["list", "--url-part", "海报"], ["show", str(entry_id)]):
            assert shown in run("cache", *command, PYTHONIOENCODING=encoding).stdout
    assert escaped in run("cache", "list", "--json", PYTHONIOENCODING="utf-8").stdout


@pytest.mark.parametrize("command", READING)
def test_what_only_reads_creates_nothing(invoke: Invoke, tmp_path: Path, command: list[str]) -> None:
    done = invoke(*command, "--database", f"sqlite:///{(tmp_path / 'none.db').as_posix()}", "--json")
    assert (done.exit_code, done.stdout) == (output.EXIT_STORE, "")
    assert "There is no database" in done.stderr
    assert done.stderr.count("\n") == 1
    assert invoke(*command).exit_code == output.EXIT_STORE  # the default file, in the user's data folder
    assert list(tmp_path.rglob("*.db*")) == []


@pytest.mark.parametrize("command", READING)
def test_what_only_reads_migrates_nothing(
    invoke: Invoke, database_url: str, sqlite_url: str, command: list[str]
) -> None:
    if database_url == sqlite_url:
        database = open_database(database_url)
        migrate.upgrade(database)
        migrate.downgrade(database, "base")
        database.dispose()
    result = invoke(*command, "--database", database_url)
    assert (result.exit_code, result.stdout) == (output.EXIT_STORE, "")
    assert "gewe-cache db upgrade" in result.stderr


@pytest.mark.parametrize("command", READING)
def test_what_cannot_be_a_database_is_said(invoke: Invoke, tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "poster.db"
    file.write_bytes(b"this is no database" * 100)
    result = invoke(*command, "--database", f"sqlite:///{file.as_posix()}")
    assert (result.exit_code, result.stderr.count("\n")) == (output.EXIT_STORE, 1)
    result = invoke(*command, "--database", "mysql://me:secret@host/name")
    assert (result.exit_code, result.stdout) == (output.EXIT_USAGE, "")
    assert "secret" not in result.stderr


def test_every_reading_command_works_on_both_databases(migrated_database: Database, invoke: Invoke) -> None:
    from gewe_cache.settings import utc_now  # noqa: PLC0415

    entry_id = add_entry(migrated_database, now=utc_now())
    at = ("--database", migrated_database.url.render_as_string(hide_password=False).replace("+psycopg", ""))
    assert [row["id"] for row in _rows(invoke("cache", "list", "--json", *at).stdout)] == [entry_id]
    assert _rows(invoke("cache", "show", str(entry_id), "--json", *at).stdout)[0]["state"] == "fresh"
    assert _rows(invoke("cache", "stats", "--json", *at).stdout)[0]["entries"]["fresh"] == 1


@pytest.mark.usefixtures("cache")
def test_an_image_is_shown_by_id_url_md5_and_file(invoke: Invoke, tmp_path: Path, cache: Database) -> None:
    file = tmp_path / "poster.png"
    file.write_bytes(b"image")
    md5 = hashlib.md5(b"image").hexdigest()  # noqa: S324 - no secret
    named = add_entry(cache, "https://img.example/file.png", user_md5=md5)

    def ids(*arguments: str) -> list[int]:
        return [row["id"] for row in _rows(invoke("cache", "show", "--json", *arguments).stdout)]

    assert ids("3") == [GONE]
    assert ids("https://img.example/fresh.png#top") == [FRESH, OTHER]
    assert ids("https://img.example/fresh.png", "--scope", "two") == [OTHER]
    assert ids("https://img.example/old.png?sign=x", "--ignore-query", "sign") == [OLD]
    assert ids("https://img.example/gone.png") == [GONE]
    assert ids(md5.upper()) == ids(str(file)) == [named]


@pytest.mark.usefixtures("cache")
def test_an_entry_is_shown_whole_but_for_its_key(invoke: Invoke) -> None:
    shown = invoke("cache", "show", "1").stdout
    facts = ("https://img.example/fresh.png", "370 x 400", "4.1 kB", "key (md5)", "key (url)", f"{AES_KEY[:4]}…")
    assert [fact for fact in facts if fact not in shown] == []
    assert AES_KEY not in shown
    assert AES_KEY in invoke("cache", "show", "1", "--reveal").stdout
    assert "GeWe refused: cdn信息已失效" in invoke("cache", "show", "3").stdout
    row = _rows(invoke("cache", "show", "1", "--json").stdout)[0]
    assert row["keys"] == [
        {"kind": "md5", "value": "0" * 31 + "a"},
        {"kind": "url", "value": "https://img.example/fresh.png"},
    ]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("99", output.EXIT_FAILURE, "no such entry"),
        ("https://img.example/none.png", output.EXIT_FAILURE, "no such entry"),
        ("none.png", output.EXIT_USAGE, "neither an http(s) URL, nor a file, nor an md5"),
        ("https://me:secret@img.example/", output.EXIT_USAGE, "credentials"),
    ],
)
def test_what_cannot_be_shown_is_said(invoke: Invoke, what: str, code: int, words: str) -> None:
    result = invoke("cache", "show", what)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert "secret" not in result.stderr


@pytest.mark.usefixtures("cache")
def test_stats_for_people_and_for_programs(invoke: Invoke) -> None:
    shown = invoke("cache", "stats").stdout
    for fact in ("2 fresh, 1 expired, 1 retired", "9 forwards, 1 uploads", "90.0%", "3.0 MB", "about 17s", "█"):
        assert fact in shown
    (row,) = _rows(invoke("cache", "stats", "--json").stdout)
    assert row["entries"] == {"fresh": 2, "expired": 1, "retired": 1, "keys": 4, "leases": 0, "usage_rows": 1}
    assert (row["forwards"], row["hit_ratio"]) == (9, 0.9)
    assert row["seconds_saved"] == pytest.approx(17.1)
    assert row["hours"][0]["uploads"] == 1
    (elsewhere,) = _rows(invoke("cache", "stats", "--json", "--scope", "two", "--since", "7d").stdout)
    assert (elsewhere["entries"]["fresh"], elsewhere["hit_ratio"], elsewhere["hours"]) == (1, None, [])


def test_stats_of_an_empty_cache(invoke: Invoke, sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    migrate.upgrade(database)
    database.dispose()
    result = invoke("cache", "stats", "--database", sqlite_url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "0 fresh, 0 expired, 0 retired" in result.stdout


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--after", "nonsense"], "after: "),
        (["list", "--limit", "0"], "limit: "),
        (["list", "--ttl", "soon"], "--ttl: "),
        (["list", "--md5", "zz"], "md5: "),
        (["list", "--scope", "a b"], "--scope: "),
        (["list", "--url-part", ""], "url_part: "),
        (["stats", "--since", "yesterday"], "--since: "),
    ],
)
def test_bad_usage_is_named(invoke: Invoke, arguments: list[str], words: str) -> None:
    result = invoke("cache", *arguments)
    assert (result.exit_code, result.stdout) == (output.EXIT_USAGE, "")
    assert result.stderr.startswith(f"gewe-cache: {words}")
    assert result.stderr.count("\n") == 1


def test_reading_changes_nothing(cache: Database, invoke: Invoke) -> None:
    before = scopes_by_id(cache)
    for command in READING:
        assert invoke(*command).exit_code == 0
    assert scopes_by_id(cache) == before
