"""What the command line prints, and how it ends."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path

import pytest
import typer
from sqlalchemy.exc import OperationalError

from gewe_cache import errors, text
from gewe_cache.cli import output

ESCAPE = "\x1b]0;pwned\x07\x1b[31m\x9b2J\u202e\u2066"


class _Colour(Enum):
    red = "red"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (errors.TokenRefused(500, "不可用或已过期"), output.EXIT_REFUSED, "不可用或已过期"),
        (errors.GeweUnreachable("no route"), output.EXIT_UNREACHED, "no route"),
        (
            errors.DeliveryUnknown("wxid_a", "wx_b", "upload", datetime(2026, 3, 1, tzinfo=UTC)),
            output.EXIT_UNKNOWN,
            "not sent again by itself",
        ),
        (errors.InvalidImage("url: it is empty"), output.EXIT_USAGE, "url: it is empty"),
        (errors.InvalidXml("no <img>"), output.EXIT_USAGE, "no <img>"),
        (errors.SchemaOutdated("run db upgrade"), output.EXIT_STORE, "run db upgrade"),
        (ValueError("ttl: wrong"), output.EXIT_USAGE, "ttl: wrong"),
        (sqlite3.DatabaseError("file is not a database"), output.EXIT_STORE, "file is not a database"),
        (OperationalError("SELECT secret", {}, sqlite3.OperationalError("locked")), output.EXIT_STORE, "locked"),
        (FileNotFoundError(2, "No such file", "x.png"), output.EXIT_FAILURE, "No such file: x.png"),
        (OSError("odd"), output.EXIT_FAILURE, "odd"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, words: str
) -> None:
    with pytest.raises(typer.Exit) as ended, output.errors_as_exit_codes():
        raise error
    out, err = capsys.readouterr()
    assert (ended.value.exit_code, output.exit_code_of(error), out) == (code, code, "")
    assert err.startswith("gewe-cache: ")
    assert words in err
    assert "secret" not in err
    assert err.count("\n") == 1


def test_a_mistake_of_ours_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError), output.errors_as_exit_codes():
        raise ZeroDivisionError


def test_as_a_decorator_it_keeps_the_function() -> None:
    @output.errors_as_exit_codes()
    def command(number: int) -> int:
        if number < 0:
            msg = "negative"
            raise ValueError(msg)
        return number

    assert (command(3), command.__name__) == (3, "command")
    for _ in range(2):
        with pytest.raises(typer.Exit):
            command(-1)


def test_json_is_one_line_that_no_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"url": f"海{ESCAPE}\n\ud800", "at": datetime(2026, 3, 1, 8, tzinfo=timezone(timedelta(hours=8)))}
    more = {"age": timedelta(minutes=2), "digest": b"\x01", "file": Path("a"), "colour": _Colour.red}
    output.print_json({**value, **more})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.rstrip("\n").isprintable()
    assert "海" in out
    assert json.loads(out) == {
        "url": value["url"],
        "at": "2026-03-01T00:00:00.000000Z",
        "age": 120.0,
        "digest": "01",
        "file": "a",
        "colour": "red",
    }


def test_json_fits_a_console_that_knows_few_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252"))
    output.print_json({"url": "海"})
    sys.stdout.flush()
    assert json.loads(raw.getvalue()) == {"url": "海"}


def test_json_refuses_what_might_carry_a_key() -> None:
    with pytest.raises(TypeError, match="object has no form"):
        output.print_json({"x": object()})


def test_text_fits_a_console_that_knows_few_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252", newline=""))
    output.make_output_safe()
    output.print_line("海 é")
    sys.stdout.flush()
    assert raw.getvalue() == b"\\u6d77 \xe9\n"


def test_text_from_outside_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_line(f"a{ESCAPE}b\r\nc")
    output.complain(f"a{ESCAPE}b\r\nc")
    out, err = capsys.readouterr()
    for line in (out, err):
        assert line.endswith("\n")
        assert line[:-1].isprintable()


def test_without_a_terminal_nothing_is_confirmed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output.confirm("Go?", yes=True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(typer.Exit) as ended:
        output.confirm("Go?", yes=False)
    assert ended.value.exit_code == output.EXIT_USAGE
    assert "Pass --yes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "goes_on"), [("y\n", True), ("n\n", False), ("\n", False)], ids=["yes", "no", "nothing"]
)
def test_at_a_terminal_a_person_decides(monkeypatch: pytest.MonkeyPatch, answer: str, *, goes_on: bool) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    if goes_on:
        output.confirm("Go?", yes=False)
        return
    with pytest.raises(typer.Exit) as ended:
        output.confirm("Go?", yes=False)
    assert ended.value.exit_code == output.EXIT_FAILURE


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (312_499, "312 kB"),
        (999_999, "1.0 MB"),
        (5e18, "5000 PB"),
    ],
)
def test_sizes(size: float | None, shown: str) -> None:
    assert text.human_size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown", "coarse"),
    [
        (None, "-", "-"),
        (0, "0s", "0s"),
        (59.9, "59s", "59s"),
        (61, "1m 1s", "1m 1s"),
        (3600, "1h", "1h"),
        (780, "13m", "13m"),
        (829, "13m 49s", "13m"),
        (2 * 86_400 + 23 * 3600, "2d 23h", "2d 23h"),
        (120 * 86_400 + 7200, "120d", "120d"),
        (-90, "-1m 30s", "-1m 30s"),
    ],
)
def test_ages(seconds: float | None, shown: str, coarse: str) -> None:
    assert text.human_age(seconds) == shown
    assert text.human_age(None if seconds is None else timedelta(seconds=seconds), coarse=True) == coarse
