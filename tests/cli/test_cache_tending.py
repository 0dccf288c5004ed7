"""``gewe-cache cache forget | prune | remember | rescope``: they say, ask, and change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gewe_cache import ImageSender
from gewe_cache.cli import output
from gewe_cache.store import tending
from tests.store.rows import AES_KEY, keys_by_value, scopes_by_id

if TYPE_CHECKING:
    from pathlib import Path

    from gewe_cache.store.engine import Database
    from tests.cli.conftest import Invoke, Run

FRESH, OLD, GONE, OTHER = 1, 2, 3, 4
MD5 = "799ee4beed51720525232aef6a0d2ec4"
XML = f"""wxid_abc:
<?xml version="1.0"?>
<msg><img aeskey="{AES_KEY}" cdnmidimgurl="30ab" length="4061" md5="{MD5}" /></msg>"""


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["1"], [OLD, GONE, OTHER]),
        (["1", "3"], [OLD, OTHER]),
        (["https://img.example/fresh.png"], [OLD, GONE]),
        (["https://img.example/fresh.png", "--scope", "two"], [FRESH, OLD, GONE]),
        (["0000000000000000000000000000000a"], [OLD, GONE, OTHER]),
        (["--url-part", "FRESH"], [OLD, GONE]),
        (["--state", "retired"], [FRESH, OLD, OTHER]),
        (["--scope", "one"], [OTHER]),
        (["--all"], []),
    ],
)
def test_forget(cache: Database, invoke: Invoke, arguments: list[str], kept: list[int]) -> None:
    result = invoke("cache", "forget", *arguments, "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    count = 4 - len(kept)
    assert result.stdout == f"Forgot {'1 entry' if count == 1 else f'{count} entries'}.\n"
    assert sorted(scopes_by_id(cache)) == kept
    assert set(keys_by_value(cache).values()) <= set(kept)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("arguments", [["99"], ["--url-part", "nowhere"], ["https://img.example/none.png"]])
def test_forget_nothing(invoke: Invoke, arguments: list[str]) -> None:
    result = invoke("cache", "forget", *arguments)
    assert (result.exit_code, result.stdout) == (0, "No entry matches; nothing was changed.\n")


@pytest.mark.parametrize("arguments", [[], ["1", "--all"], ["1", "--state", "fresh"], ["nonsense"]])
def test_forget_wants_to_be_told_what(cache: Database, invoke: Invoke, arguments: list[str]) -> None:
    result = invoke("cache", "forget", *arguments, "--yes")
    assert (result.exit_code, result.stdout) == (output.EXIT_USAGE, "")
    assert len(scopes_by_id(cache)) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["forget", "--all"], "Forget 4 entries?"),
        (["forget", "1"], "Forget entry 1 (https://img.example/fresh.png)?"),
        (["prune", "--older-than", "7d"], "Remove 1 entry uploaded more than 7d ago?"),
        (["rescope", "one", "two"], "Move 3 entries and the usage of scope one to two?"),
    ],
)
def test_without_a_terminal_and_yes_nothing_changes(
    cache: Database, run: Run, arguments: list[str], words: str
) -> None:
    before = scopes_by_id(cache)
    done = run("cache", *arguments, stdin="y\n")
    assert (done.returncode, done.stdout) == (output.EXIT_USAGE, "")
    assert words in done.stderr
    assert "Pass --yes" in done.stderr
    assert done.stderr.count("\n") == 1
    assert scopes_by_id(cache) == before


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--older-than", "7d"], [FRESH, GONE, OTHER]),
        (["--older-than", "4h"], [FRESH, OTHER]),
        (["--older-than", "4h", "--state", "retired"], [FRESH, OLD, OTHER]),
        (["--older-than", "4h", "--state", "expired"], [FRESH, GONE, OTHER]),
        (["--older-than", "1m", "--scope", "two"], [FRESH, OLD, GONE]),
        (["--older-than", "90d"], [FRESH, OLD, GONE, OTHER]),
    ],
)
def test_prune(cache: Database, invoke: Invoke, options: list[str], kept: list[int]) -> None:
    result = invoke("cache", "prune", *options, "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(scopes_by_id(cache)) == kept


@pytest.mark.usefixtures("cache")
def test_usage_is_pruned_on_request_alone(invoke: Invoke) -> None:
    assert '"usage_rows": 1' in invoke("cache", "stats", "--json").stdout
    assert invoke("cache", "prune", "--older-than", "30d", "--yes").stdout == "Removed 0 entries.\n"
    assert "0 hours of usage" in invoke("cache", "prune", "--older-than", "30d", "--usage", "--yes").stdout


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("age", ["0d", "30", "-1d", "soon"])
def test_prune_wants_an_age(invoke: Invoke, age: str) -> None:
    assert invoke("cache", "prune", "--yes").exit_code == output.EXIT_USAGE
    result = invoke("cache", "prune", f"--older-than={age}", "--yes")
    assert (result.exit_code, result.stdout) == (output.EXIT_USAGE, "")


def test_what_was_done_before_a_failure_is_said(
    cache: Database, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tending.Pace, "adapt", lambda pace, _took: setattr(pace, "size", 1))
    monkeypatch.setattr(tending.Pace.__init__, "__defaults__", (1, 1, 1, 1.0, lambda _: None))
    real, calls = tending.remove_entries, iter([None, None])

    def fail_the_third_time(*arguments: object) -> int:
        next(calls)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tending, "remove_entries", fail_the_third_time)
    result = invoke("cache", "forget", "--all", "--yes")
    assert result.stdout == "Forgot 2 entries.\n"
    assert result.exit_code != 0
    assert len(scopes_by_id(cache)) == 2


def test_rescope(cache: Database, invoke: Invoke) -> None:
    result = invoke("cache", "rescope", "one", "two", "--yes")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Moved 3 entries.\n", "")
    assert scopes_by_id(cache) == {FRESH: "two", OLD: "two", GONE: "two"}  # of the fresh ones the newer is left
    with ImageSender("any-token", database=str(cache.url), scope="two") as sender:
        found = sender.lookup("https://img.example/fresh.png")
    assert found is not None
    assert found.entry_id == FRESH


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("scopes", [("one", "one"), ("one", "a b"), ("", "two")])
def test_rescope_refuses_what_cannot_be_a_scope(invoke: Invoke, scopes: tuple[str, str]) -> None:
    assert invoke("cache", "rescope", *scopes, "--yes").exit_code == output.EXIT_USAGE


@pytest.mark.parametrize("command", [["forget", "--all"], ["prune", "--older-than", "1d"], ["rescope", "one", "two"]])
def test_tending_creates_no_database(run: Run, tmp_path: Path, command: list[str]) -> None:
    done = run("cache", *command, "--yes", "--database", f"sqlite:///{(tmp_path / 'none.db').as_posix()}")
    assert (done.returncode, done.stdout) == (output.EXIT_STORE, "")
    assert list(tmp_path.rglob("*.db*")) == []


def test_remember_from_standard_input_and_from_a_file(cache: Database, run: Run, tmp_path: Path) -> None:
    done = run("cache", "remember", "-", "--scope", "three", stdin=XML)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Remembered as entry 5: 4.1 kB, md5 {MD5}.\n"
    file = tmp_path / "message.xml"
    file.write_text(XML, encoding="utf-8-sig")
    url = "https://img.example/received.png"
    done = run("cache", "remember", str(file), "--url", url, "--age", "2h", GEWE_CACHE_SCOPE="four")
    assert done.returncode == 0
    assert scopes_by_id(cache)[6] == "four"
    assert keys_by_value(cache)[url] == 6
    assert AES_KEY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("xml", "words"),
    [("<msg/>", "no <img>"), ("nonsense", "not the XML"), (XML.replace(AES_KEY, "x"), "aeskey")],
)
def test_remember_refuses_what_is_no_image(cache: Database, run: Run, xml: str, words: str) -> None:
    done = run("cache", "remember", "-", "--scope", "three", stdin=xml)
    assert (done.returncode, done.stdout) == (output.EXIT_USAGE, "")
    assert words in done.stderr
    assert len(scopes_by_id(cache)) == 4


def test_remember_wants_a_scope_or_a_token(cache: Database, invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("cache", "remember", "-", stdin=XML).exit_code == output.EXIT_USAGE
    missing = invoke("cache", "remember", str(tmp_path / "none.xml"), "--scope", "x")
    assert (missing.exit_code, missing.stderr.count("Nothing was changed.")) == (output.EXIT_USAGE, 1)
    assert invoke("cache", "remember", "-", "--scope", "x", stdin=b"\xff\xfe\x00").exit_code == output.EXIT_USAGE
    assert len(scopes_by_id(cache)) == 4
