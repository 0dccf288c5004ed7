"""``gewe-cache demo``, run as a user runs it."""

from __future__ import annotations

import io
import json
import re
import time
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from gewe_cache.cli import demo_view, output
from gewe_cache.cli.demo_run import Begun, DemoImage, Sent
from gewe_cache.cli.output import EXIT_INTERRUPTED
from gewe_cache.sandbox import Delays
from tests.cli.running import command, end_of, environment, is_listening, line_with, press_ctrl_c, run, started

if TYPE_CHECKING:
    from pathlib import Path

_URL = re.compile(r"http://127\.0\.0\.1:\d+")
_ROW = re.compile(r"(\w+\.jpg) +[\d.]+ \wB +(\d+) +(upload|forward) +\d+\.\d{3} ")


@pytest.mark.parametrize(("columns", "encoding"), [(80, "cp1252"), (120, "utf-8")])
def test_the_whole_demo(columns: int, encoding: str, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    env = environment(temporary, COLUMNS=str(columns), PYTHONIOENCODING=encoding)
    result = run(command("demo", "--quick", "--chats", "4"), env)
    assert (result.returncode, result.stderr) == (0, "")
    shown = result.stdout
    first = [(name, "1", "upload") for name in ("icon.jpg", "poster.jpg", "photo.jpg")]
    rest = {(name, str(chat), "forward") for name, _, _ in first for chat in (2, 3, 4)}
    rows = _ROW.findall(shown)
    assert len(rows) == 12
    assert rows[::4] == first
    assert set(rows) == {*first, *rest}

    flowing = " ".join(shown.split())
    assert "GeWe is imitated here" in flowing
    assert "These are assumed, shortened to 10%" in flowing
    assert "3 uploads, 9 forwards, 0 duplicates. Each image: 1 upload + 3 forwards" in flowing
    assert "$ gewe-cache cache list --database sqlite:///" in shown
    assert shown.count("/images/poster.jpg") == 1
    assert ("█" in shown) == (encoding == "utf-8")
    assert max(len(line) for line in shown.splitlines() if "--database" not in line) <= columns

    assert list(temporary.iterdir()) == []
    assert not is_listening(_URL.findall(shown)[0])


def test_json_tells_all_of_it(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    result = run(command("demo", "--quick", "--json", "--chats", "3"), environment(temporary))
    assert (result.returncode, result.stderr) == (0, "")
    start, *sent, summary = [json.loads(line) for line in result.stdout.splitlines()]
    assert (start["gewe"], start["chats"], len(start["images"])) == ("imitated", 3, 3)
    assert [event["route"] for event in sent] == ["upload", "forward", "forward"] * 3
    assert [event["to_wxid"] for event in sent] == [f"3475781000{chat}@chatroom" for chat in (1, 2, 3)] * 3
    counts = summary["uploads"], summary["forwards"], summary["duplicates"]
    assert (counts, summary["as_promised"]) == ((3, 6, 0), True)
    assert summary["bytes_saved"] == 2 * sum(image["size"] for image in start["images"])
    assert list(temporary.iterdir()) == []


def test_ctrl_c_in_the_middle_of_an_upload_cleans_up(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    with started(command("demo", "--json", "--chats", "2"), environment(temporary)) as process:
        start = json.loads(line_with(process, '"start"'))
        for _ in range(4):  # then the photo's upload begins, which takes 12 s
            line_with(process, '"sent"')
        assert [path.name.startswith("gewe-cache-demo-") for path in temporary.iterdir()] == [True]
        assert is_listening(start["sandbox"])
        pressed_at = time.monotonic()
        press_ctrl_c(process)
        code, rest, problems = end_of(process)
        took = time.monotonic() - pressed_at
    assert (code, rest) == (EXIT_INTERRUPTED, "")
    assert problems.startswith("gewe-cache: Stopped.")
    assert problems.count("\n") == 1
    assert took < 8
    assert list(temporary.iterdir()) == []
    assert not is_listening(start["sandbox"])


def test_a_proxy_of_the_environment_does_not_stand_in_between(tmp_path: Path) -> None:
    proxy = "http://127.0.0.1:9"
    env = environment(tmp_path / "temporary", HTTP_PROXY=proxy, http_proxy=proxy, ALL_PROXY=proxy)
    result = run(command("demo", "--quick", "--json", "--chats", "2"), env)
    assert (result.returncode, result.stderr) == (0, "")


def test_without_the_extra_it_says_what_to_install() -> None:
    result = run(command("demo", first="import sys; sys.modules['uvicorn'] = None"))
    assert (result.returncode, result.stdout) == (output.EXIT_FAILURE, "")
    assert "pip install 'gewe-cache[sandbox]'" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("chats", ["1", "1001", "many"])
def test_a_wrong_number_of_chats_is_bad_usage(chats: str) -> None:
    result = run(command("demo", "--chats", chats))
    assert (result.returncode, result.stdout) == (output.EXIT_USAGE, "")
    assert "--chats" in result.stderr


@pytest.mark.parametrize("width", [40, 80, 200])
def test_on_a_terminal_lines_are_printed_once_and_the_moving_ones_vanish(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, force_interactive=True, width=width, _environ={})
    monkeypatch.setattr(demo_view, "console", lambda: terminal)
    image = DemoImage("icon.jpg", "http://127.0.0.1:1/images/icon.jpg", 50_000, "0" * 32)
    with demo_view.GrowingTable([image], 2, Delays.realistic()) as table:
        table.show(Begun(image, 1, time.perf_counter()))
        table.show(Sent(image, 1, "1@chatroom", "upload", 1.25))
        table.show(Sent(image, 2, "2@chatroom", "forward", 0.125))
    table.print_totals()
    written = screen.getvalue()
    assert (written.count("1.250"), written.count("0.125")) == (1, 1) or width < 60
    assert written.index("\x1b[?25l") < written.index("\x1b[?25h")  # the cursor, hidden and shown again
    assert "2 of 2 sent in" in written.rpartition("\x1b[?25h")[2]
    assert [sent.route for sent in table.sends] == ["upload", "forward"]
