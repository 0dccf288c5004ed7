"""The root of the command line: quick help, one-line errors, completion."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
import typer

from gewe_cache import __version__
from gewe_cache.cli import main, output

if TYPE_CHECKING:
    from tests.cli.conftest import Invoke, Run

_SLOW = ("alembic", "starlette", "uvicorn", "PIL")


def test_help_names_every_command_and_exit_code(run: Run) -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert [name for name in main.COMMANDS if f" {name} " not in done.stdout] == []
    assert [meaning for meaning in output.EXIT_CODES.values() if meaning not in done.stdout] == []


def test_help_loads_no_command_and_nothing_slow() -> None:
    script = (
        "import sys; from gewe_cache.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {_SLOW!r} if name in sys.modules])\n"
        "print([name for name in sys.modules if name.startswith('gewe_cache.cli.')])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    *_, slow, loaded = done.stdout.splitlines()
    assert slow == "[]"
    assert sorted(eval(loaded)) == ["gewe_cache.cli.main", "gewe_cache.cli.output"]  # noqa: S307 - our own print


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"gewe-cache {__version__}\n"


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(invoke: Invoke, name: str) -> None:
    shown = invoke(name, "--help")
    assert shown.exit_code == 0
    assert main.COMMANDS[name].help in " ".join(shown.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], "No such command 'nope'. Try: gewe-cache --help"),
        (["cahce"], "Did you mean 'cache'?"),
        (["cache", "nope"], "Try: gewe-cache cache --help"),
        (["cache", "list", "--sort", "url"], "gewe-cache cache list --help"),
        (["cache", "prune"], "--older-than"),
        (["send"], "IMAGE"),
        (["serve", "--port", "99999"], "65535. Try: gewe-cache serve --help"),
        (["cache", "prune", "--older-than", "0s", "--yes"], "from 1s to 36500d."),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(invoke: Invoke, arguments: list[str], words: str) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (output.EXIT_USAGE, "")
    assert result.stderr.startswith("gewe-cache: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


@pytest.mark.parametrize("group", [[], ["cache"], ["db"]])
def test_a_group_alone_shows_its_help(run: Run, group: list[str]) -> None:
    done = run(*group)
    assert done.returncode == output.EXIT_USAGE
    assert "Commands" in done.stdout + done.stderr


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    def fail_to_import(_module: str) -> None:
        msg = "No module named 'starlette'"
        raise ModuleNotFoundError(msg, name="starlette.applications")

    monkeypatch.setattr(main, "import_module", fail_to_import)
    result = invoke("sandbox")
    assert (result.exit_code, result.stdout) == (output.EXIT_FAILURE, "")
    assert (
        result.stderr == "gewe-cache: gewe-cache sandbox needs more packages. Run: pip install 'gewe-cache[sandbox]'\n"
    )


def test_another_missing_module_is_not_taken_for_an_extra(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    monkeypatch.setitem(main.COMMANDS, "send", main.Place("gewe_cache.cli.no_such_room", "x", "."))
    assert isinstance(invoke("send").exception, ModuleNotFoundError)


def test_a_function_is_a_command(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    def sandbox(port: int = 0) -> None:
        typer.echo(f"port {port}")

    place = main.Place("gewe_cache.cli.main", "_of_this_test", "Run it.")
    monkeypatch.setattr(import_module(place.module), place.name, sandbox, raising=False)
    monkeypatch.setitem(main.COMMANDS, "sandbox", place)
    assert invoke("sandbox", "--port", "7").stdout == "port 7\n"


def test_verbose_logs_to_stderr(run: Run, sqlite_url: str) -> None:
    arguments = ("send", "https://img.example/a.png", "wxid_a", "--app-id", "wx_a", "--base-url", "http://127.0.0.1:9")
    environment = {"GEWE_TOKEN": "token-of-mine", "GEWE_CACHE_DATABASE": sqlite_url}
    quiet, loud = run(*arguments, **environment), run("-vv", *arguments, **environment)
    assert quiet.returncode == loud.returncode == output.EXIT_UNREACHED
    assert quiet.stderr.count("\n") == 1
    assert "token-of-mine" not in loud.stderr + loud.stdout + quiet.stderr
    assert loud.stdout == ""


def test_completion_scripts_are_made(run: Run) -> None:
    for shell, words in (("bash", "complete -o default"), ("zsh", "#compdef gewe-cache"), ("fish", "complete ")):
        done = run("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
        assert done.returncode == 0
        assert words in done.stdout
        assert "_GEWE_CACHE_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("gewe-cache ", {"send", "broadcast", "cache", "db", "serve", "sandbox", "demo"}),
        ("gewe-cache ca", {"cache"}),
        ("gewe-cache cache ", {"list", "show", "stats", "forget", "prune", "remember", "rescope"}),
        ("gewe-cache cache list --st", {"--state"}),
        ("gewe-cache cache list --state ", {"fresh", "expired", "retired"}),
        ("gewe-cache db up", {"upgrade"}),
    ],
)
def test_words_are_completed(run: Run, words: str, completed: set[str]) -> None:
    count = len(words.split()) if words.endswith(" ") else len(words.split()) - 1
    done = run(_GEWE_CACHE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(count))
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == completed
