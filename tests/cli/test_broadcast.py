"""``gewe-cache broadcast``, against the sandbox over real HTTP."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import sys
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from freezegun import freeze_time

from gewe_cache.broadcast.run import Limits
from gewe_cache.cli import broadcast_send, broadcast_view, output
from gewe_cache.cli.broadcast_view import Bars
from gewe_cache.sandbox import Fault, Sandbox
from gewe_cache.settings import utc_now
from gewe_cache.store.broadcasts import Delivery, Share
from tests.cli import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Invoke, Run

GROUPS = [f"{number}@chatroom" for number in range(1, 6)]
NOT_MEMBER = {"code": "-219", "msg": "not in the group"}
COUNTED = ("id", "pending", "sending", "sent", "refused", "unknown")


@pytest.fixture
def image(gewe: Sandbox) -> str:
    return gewe.make_image("poster.png")


@pytest.fixture
def to(tmp_path: Path) -> str:
    path = tmp_path / "to.txt"
    path.write_text("\n".join(["# our groups", *GROUPS, "", GROUPS[0]]), encoding="utf-8")
    return str(path)


def _rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _delivered(gewe: Sandbox) -> list[str]:
    return [delivery.to_wxid for delivery in gewe.deliveries]


def _start(*more: str) -> tuple[str, ...]:
    return ("broadcast", "start", "--yes", "--pace", "none", *more)


def test_each_gets_the_image_once(gewe: Sandbox, image: str, to: str, run: Run) -> None:
    done = run(*_start(image, "--to", to))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "Recipients  5: 0 friends, 5 groups; duplicates dropped: 1"
    assert "upload, then forward" in done.stdout
    assert "5 sent, in" in done.stdout
    assert _delivered(gewe) == GROUPS
    assert len(gewe.uploads) == 1
    assert gewe.token not in done.stdout + done.stderr


def test_the_same_start_again_is_refused_unless_asked_for(gewe: Sandbox, image: str, to: str, invoke: Invoke) -> None:
    assert invoke(*_start(image, "--to", to)).exit_code == 0
    refused = invoke(*_start(image, "--to", to))
    assert refused.exit_code == output.EXIT_FAILURE
    assert "going, to 5 of these recipients by broadcast 1" in refused.stderr
    assert "--again" in refused.stderr
    assert refused.stderr.count("24 hours") == 1
    assert len(gewe.deliveries) == 5
    assert "24 hours" in invoke(*_start(image, "--to", to, "--dry-run")).stderr
    again = invoke(*_start(image, "--to", to, "--again"))
    assert (again.exit_code, again.stderr.count("24 hours")) == (0, 1)
    assert len(gewe.deliveries) == 10


def test_a_dry_run_sends_nothing_and_leaves_nothing(gewe: Sandbox, image: str, to: str, invoke: Invoke) -> None:
    shown = invoke("broadcast", "start", image, "--to", to, "--dry-run")
    assert shown.exit_code == 0
    assert "at least 17s at pace gewe" in shown.stdout
    planned = _rows(invoke("broadcast", "start", image, "--to", to, "--dry-run", "--json").stdout)
    assert planned == [
        {
            "event": "plan",
            "recipients": 5,
            "devices": 1,
            "duplicates": 1,
            "route": "upload, then forward",
            "seconds": 17.5,
            "repeats": 0,
        }
    ]
    assert gewe.calls == []
    assert invoke("broadcast", "list").stdout == "No broadcasts.\n"


def test_500_groups_are_told_to_take_half_an_hour(image: str, tmp_path: Path, invoke: Invoke) -> None:
    to = tmp_path / "groups.txt"
    to.write_text("\n".join(f"{number}@chatroom" for number in range(500)), encoding="utf-8")
    shown = invoke("broadcast", "start", image, "--to", str(to), "--dry-run")
    assert "at least 29m" in shown.stdout
    assert "Devices with over 200 recipients: 1, such as wx_sandbox_1" in shown.stderr


def test_nothing_is_sent_without_a_yes(gewe: Sandbox, image: str, to: str, run: Run) -> None:
    done = run("broadcast", "start", image, "--to", to)
    assert done.returncode == output.EXIT_USAGE
    assert "Pass --yes" in done.stderr
    assert gewe.calls == []


def test_recipients_come_from_standard_input_or_a_csv(
    gewe: Sandbox, image: str, tmp_path: Path, invoke: Invoke
) -> None:
    gewe.add_device("wx_second")
    listed = invoke(*_start(image, "--to", "-"), stdin="\ufeff1@chatroom\n2@chatroom\n".encode())
    assert listed.exit_code == 0, listed.stderr
    table = tmp_path / "to.csv"
    table.write_text("name;wxid;app_id\nA;3@chatroom;wx_second\nB;4@chatroom;\n", encoding="utf-8-sig")
    assert invoke(*_start(image, "--to", str(table))).exit_code == 0
    assert {(each.to_wxid, each.app_id) for each in gewe.deliveries[2:]} == {
        ("3@chatroom", "wx_second"),
        ("4@chatroom", gewe.app_id),
    }


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("to.txt", b"1@chatroom\nwxid a\n2@chatroom\n\x07\n", "line 2: wxid 'wxid a' is not"),
        ("to.txt", b"name,app_id\nA,wx_1\n", "line 1: a CSV needs a header that names wxid"),
        ("to.txt", b"\xff\xfe1\x00@\x00", "is not a text in UTF-8"),
        ("to.txt", b"\n# nobody\n\n", "the list is empty"),
        ("to.txt", b"", "the list is empty"),
        ("to.CSV", "微信号\nwxid_a\n".encode(), "line 1: a CSV needs a header that names wxid"),
        ("to.csv", b"#1@chatroom\nwxid_a\n", "line 1: a CSV needs a header that names wxid"),
    ],
)
def test_bad_lists_are_named_before_anything_is_sent(
    gewe: Sandbox, image: str, tmp_path: Path, invoke: Invoke, name: str, content: bytes, said: str
) -> None:
    to = tmp_path / name
    to.write_bytes(content)
    refused = invoke(*_start(image, "--to", str(to)))
    assert refused.exit_code == output.EXIT_USAGE
    assert said in refused.stderr
    assert "Nothing was sent" in refused.stderr
    assert gewe.calls == []


def test_calls_that_cannot_be_made_begin_no_broadcast(
    gewe: Sandbox, image: str, to: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEWE_CACHE_HTTP", "curl")
    assert invoke(*_start(image, "--to", to)).exit_code == output.EXIT_USAGE
    monkeypatch.delenv("GEWE_CACHE_HTTP")
    assert invoke(*_start(image, "--to", to)).exit_code == output.EXIT_OK
    assert sorted(_delivered(gewe)) == GROUPS


def test_a_list_that_is_not_there_is_named(image: str, tmp_path: Path, invoke: Invoke) -> None:
    refused = invoke(*_start(image, "--to", str(tmp_path / "none.txt")))
    assert refused.exit_code == output.EXIT_USAGE
    assert refused.stderr.startswith("gewe-cache: --to: No such file")
    assert "Nothing was sent" in refused.stderr


@pytest.mark.parametrize("pace", ["fast", "-1", "nan", "1e9", ""])
def test_an_unknown_pace_is_refused(gewe: Sandbox, image: str, to: str, invoke: Invoke, pace: str) -> None:
    refused = invoke("broadcast", "start", image, "--to", to, "--yes", "--pace", pace)
    assert refused.exit_code == output.EXIT_USAGE
    assert gewe.calls == []


def test_what_ended_how_is_told_and_listed(gewe: Sandbox, image: str, to: str, invoke: Invoke) -> None:
    gewe.fail(Fault.refuse(data=NOT_MEMBER), to_wxid=GROUPS[1])
    gewe.fail(Fault.close(delivered=True), to_wxid=GROUPS[2])
    done = invoke(*_start(image, "--to", to, "--json"))
    assert done.exit_code == output.EXIT_UNKNOWN
    plan, *deliveries, end = _rows(done.stdout)
    assert (plan["event"], end["event"]) == ("plan", "end")
    assert [each["state"] for each in deliveries] == ["sent", "refused", "unknown", "sent", "sent"]
    assert (end["sent"], end["refused"], end["unknown"], end["pending"]) == (3, 1, 1, 0)
    [listed] = _rows(invoke("broadcast", "list", "--json").stdout)
    assert listed["state"] == end["state"] == "over"
    assert [listed[name] for name in COUNTED] == [1, 0, 0, 3, 1, 1]
    shown = invoke("broadcast", "show", "1").stdout
    assert f"refused  {GROUPS[1]}" in shown
    assert f"unknown  {GROUPS[2]}" in shown
    assert GROUPS[0] not in shown
    [about, unknown] = _rows(invoke("broadcast", "show", "1", "--state", "unknown", "--json").stdout)
    assert (about["id"], unknown["to_wxid"]) == (1, GROUPS[2])
    assert "poster.png" in invoke("broadcast", "list").stdout


def test_what_is_unknown_is_sent_again_only_when_asked_for(gewe: Sandbox, image: str, to: str, invoke: Invoke) -> None:
    gewe.fail(Fault.close(delivered=False), to_wxid=GROUPS[2])
    assert invoke(*_start(image, "--to", to)).exit_code == output.EXIT_UNKNOWN
    assert invoke("broadcast", "resume", "1").exit_code == output.EXIT_UNKNOWN
    assert GROUPS[2] not in _delivered(gewe)
    asked = invoke("broadcast", "resume", "1", "--resend-unknown")
    assert asked.exit_code == output.EXIT_USAGE
    assert invoke("broadcast", "resume", "1", "--resend-unknown", "--yes").exit_code == 0
    assert sorted(_delivered(gewe)) == GROUPS


def test_a_cancelled_broadcast_is_not_resumed(gewe: Sandbox, image: str, to: str, invoke: Invoke) -> None:
    gewe.fail(Fault.refuse(ret=401, msg="认证失败"), times=None)
    stopped = invoke(*_start(image, "--to", to))
    assert stopped.exit_code == output.EXIT_FAILURE
    assert "TokenRefused" in stopped.stderr
    assert "broadcast resume 1" in stopped.stderr
    assert invoke("broadcast", "cancel", "1", "--yes").exit_code == 0
    refused = invoke("broadcast", "resume", "1")
    assert refused.exit_code == output.EXIT_USAGE
    assert "cancelled" in refused.stderr
    assert gewe.deliveries == []


def test_what_is_over_is_not_cancelled(gewe: Sandbox, image: str, to: str, invoke: Invoke) -> None:
    assert invoke(*_start(image, "--to", to)).exit_code == 0
    assert "nothing to cancel" in invoke("broadcast", "cancel", "1", "--yes").stdout
    assert " over " in invoke("broadcast", "list").stdout
    gewe.fail(Fault.close(delivered=False), to_wxid="wxid_doubtful")
    assert invoke(*_start(image, "--to", "-"), stdin=b"wxid_doubtful\n").exit_code == output.EXIT_UNKNOWN
    assert invoke("broadcast", "cancel", "2", "--yes").stdout == "Cancelled broadcast 2.\n"  # it could be resent


@pytest.mark.parametrize("command", ["show", "resume", "cancel", "export"])
def test_an_unknown_id_is_said_so(gewe: Sandbox, image: str, to: str, invoke: Invoke, command: str) -> None:
    assert invoke(*_start(image, "--to", to)).exit_code == 0
    refused = invoke("broadcast", command, "99")
    assert refused.exit_code != 0
    assert len(gewe.deliveries) == 5
    assert "There is no broadcast 99" in refused.stderr


def test_another_scope_or_base_url_is_refused_with_what_to_pass(
    gewe: Sandbox, image: str, to: str, invoke: Invoke
) -> None:
    assert invoke(*_start(image, "--to", to, "--scope", "ours")).exit_code == 0
    refused = invoke("broadcast", "resume", "1")
    assert refused.exit_code == output.EXIT_USAGE
    assert "Pass --scope ours" in refused.stderr
    elsewhere = invoke("broadcast", "resume", "1", "--scope", "ours", "--base-url", "http://127.0.0.1:1/v2/api")
    assert f"Pass --base-url {gewe.base_url}" in elsewhere.stderr


def test_a_broadcast_is_exported_as_csv(gewe: Sandbox, image: str, to: str, tmp_path: Path, invoke: Invoke) -> None:
    gewe.fail(Fault.refuse(msg="=HYPERLINK()", data=NOT_MEMBER), to_wxid=GROUPS[1])
    invoke(*_start(image, "--to", to))
    rows = list(csv.DictReader(io.StringIO(invoke("broadcast", "export", "1").stdout)))
    assert [row["to_wxid"] for row in rows] == GROUPS
    assert [row["route"] for row in rows] == ["upload", "", "forward", "forward", "forward"]
    assert rows[0]["new_msg_id"] == str(gewe.deliveries[0].new_msg_id)
    file = tmp_path / "poster.csv"
    assert invoke("broadcast", "export", "1", "--output", str(file), "--state", "refused").exit_code == 0
    [refused] = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig")))
    assert refused["to_wxid"] == GROUPS[1]


def test_no_cell_of_an_export_is_a_formula(gewe: Sandbox, image: str, tmp_path: Path, invoke: Invoke) -> None:
    names = ["=1+1", "+1", "-1", "@SUM(1)", '=HYPERLINK("http://x","y")', "wxid_a"]
    to = tmp_path / "to.txt"
    to.write_text("\n".join(names), encoding="utf-8")
    assert invoke(*_start(image, "--to", str(to))).exit_code == 0
    assert _delivered(gewe) == names
    rows = list(csv.DictReader(io.StringIO(invoke("broadcast", "export", "1").stdout)))
    assert [row["to_wxid"] for row in rows] == [*(f"'{name}" for name in names[:-1]), "wxid_a"]
    assert not [cell for row in rows for cell in row.values() if cell[:1] in set("=+-@\t\r")]


def test_old_broadcasts_are_pruned(image: str, to: str, invoke: Invoke) -> None:
    assert invoke(*_start(image, "--to", to)).exit_code == 0
    assert invoke("broadcast", "prune", "--older-than", "1h", "--yes").exit_code == output.EXIT_USAGE
    assert "nothing was changed" in invoke("broadcast", "prune", "--older-than", "30d", "--yes").stdout
    with freeze_time(utc_now() + timedelta(days=31)):
        assert invoke("broadcast", "prune", "--older-than", "30d", "--yes").stdout == "Removed 1 broadcast.\n"
    assert invoke("broadcast", "list").stdout == "No broadcasts.\n"


def test_what_is_not_over_is_not_pruned(gewe: Sandbox, image: str, to: str, tmp_path: Path, invoke: Invoke) -> None:
    gewe.fail(Fault.refuse(ret=401, msg="认证失败"), times=1)
    assert invoke(*_start(image, "--to", to)).exit_code == output.EXIT_FAILURE
    other = tmp_path / "other.txt"
    other.write_text("wxid_other", encoding="utf-8")
    assert invoke(*_start(image, "--to", str(other))).exit_code == 0
    with freeze_time(utc_now() + timedelta(days=31)):
        assert invoke("broadcast", "prune", "--older-than", "30d", "--yes").stdout == "Removed 1 broadcast.\n"
        [kept] = _rows(invoke("broadcast", "list", "--json").stdout)
        assert (kept["id"], kept["pending"]) == (1, 5)
        assert invoke("broadcast", "cancel", "1", "--yes").exit_code == 0
        assert invoke("broadcast", "prune", "--older-than", "30d", "--yes").stdout == "Removed 1 broadcast.\n"
    with closing(sqlite3.connect(tmp_path / "cache.db")) as connection:
        assert connection.execute("SELECT count(*) FROM gewe_cache_deliveries").fetchone() == (0,)


def test_ctrl_c_lets_the_send_under_way_finish(gewe: Sandbox, image: str, to: str, tmp_path: Path) -> None:
    plan = gewe.fail(Fault.hold(), to_wxid=GROUPS[1])
    with running.started(running.command(*_start(image, "--to", to)), running.environment(tmp_path / "tmp")) as process:
        plan.wait_reached()
        running.press_ctrl_c(process)
        plan.release()
        code, out, err = running.end_of(process)
    assert code == output.EXIT_INTERRUPTED
    assert "3 pending, 2 sent" in out
    assert "stopping after the sends under way: 1" in err
    assert "broadcast resume 1" in err
    assert _delivered(gewe) == GROUPS[:2]


def test_a_killed_broadcast_goes_on_where_it_was(
    gewe: Sandbox, image: str, to: str, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = gewe.fail(Fault.hold(delivered_first=True), to_wxid=GROUPS[2])
    with running.started(running.command(*_start(image, "--to", to)), running.environment(tmp_path / "tmp")) as process:
        plan.wait_reached()
        process.kill()
    plan.release()
    monkeypatch.setattr(broadcast_send, "LIMITS", Limits(lane_seconds=0.2, lane_renewal=0.05))
    resumed = invoke("broadcast", "resume", "1")
    assert resumed.exit_code == output.EXIT_UNKNOWN
    assert "4 sent, 1 unknown" in resumed.stdout
    assert sorted(_delivered(gewe)) == GROUPS


def test_bars_count_what_came_to_what(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(broadcast_view, "console", lambda: __import__("rich.console").console.Console(width=120))
    shares = [Share("wx_1", 1, 2), Share("wx_2", 0, 1)]
    with Bars(shares) as bars:
        for number, state in enumerate(("sent", "refused", "pending"), 1):
            bars.on_delivery(Delivery(1, number, "wx_1", f"wxid_{number}", state, reason="why"))  # type: ignore[arg-type]
        bars.on_notice("the database is [red]away")
    text = shown.getvalue()
    assert "1 sent · 1 refused · 1 pending" in text
    assert "0 sent · 1 pending" in text
    assert "refused  wxid_2  wx_1  why" in text
    assert "the database is [red]away" in text


def test_many_devices_share_one_bar() -> None:
    bars = Bars([Share(f"wx_{number}", 1, 0) for number in range(1000)])
    assert list(bars._bars) == ["1,000 devices"]
