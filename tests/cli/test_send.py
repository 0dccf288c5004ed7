"""``gewe-cache send``, against the sandbox over real HTTP."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache.cli import output
from gewe_cache.sandbox import Fault, Sandbox
from tests.cli.running import command, environment, run_unread, started
from tests.faults.wires import refusing_address

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Invoke, Run

GROUP, FRIEND, OTHER = "34757816141@chatroom", "wxid_friend", "wxid_other"
NOT_MEMBER = {"code": "-219", "msg": "not in the group"}
OFFLINE = {"code": "-1", "msg": "微信已离线"}
PATIENCE = 30


def _rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _delivered(gewe: Sandbox) -> list[tuple[str, str]]:
    return [(delivery.to_wxid, delivery.route) for delivery in gewe.deliveries]


def test_an_image_is_uploaded_once_and_forwarded_ever_after(gewe: Sandbox, run: Run) -> None:
    image = gewe.make_image("poster.png")
    done = run("send", image, GROUP, FRIEND)
    assert done.returncode == 0
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        [GROUP, "upload", "new_msg_id"],
        [FRIEND, "forward", "new_msg_id"],
    ]
    assert done.stderr == "gewe-cache: 2 accepted.\n"
    assert run("send", image, OTHER).stdout.split()[1] == "forward"
    assert _delivered(gewe) == [(GROUP, "upload"), (FRIEND, "forward"), (OTHER, "forward")]
    assert gewe.token not in done.stdout + done.stderr


def test_json_lines_for_programs(gewe: Sandbox, invoke: Invoke) -> None:
    result = invoke("send", gewe.make_image("poster.png"), GROUP, FRIEND, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = _rows(result.stdout)
    assert (first["outcome"], first["route"], second["route"]) == ("accepted", "upload", "forward")
    assert first["new_msg_id"] == gewe.deliveries[0].new_msg_id
    assert (first["to_wxid"], first["app_id"], first["fell_back"]) == (GROUP, gewe.app_id, False)


def test_a_local_file_is_found_by_its_md5(gewe: Sandbox, run: Run, tmp_path: Path) -> None:
    data = bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b")
    file = tmp_path / "海报 1.gif"
    file.write_bytes(data)
    unknown = run("send", str(file), FRIEND)
    assert (unknown.returncode, unknown.stdout) == (output.EXIT_USAGE, "")
    assert "url" in unknown.stderr
    assert gewe.calls == []
    url = gewe.add_image("1.gif", data)
    assert run("send", str(file), FRIEND, "--url", url).stdout.split()[1] == "upload"
    assert run("send", str(file), OTHER).stdout.split()[1] == "forward"
    assert run("send", url, GROUP).stdout.split()[1] == "forward"


def test_refresh_uploads_once_for_all_recipients(gewe: Sandbox, invoke: Invoke) -> None:
    image = gewe.make_image("poster.png")
    invoke("send", image, OTHER)
    invoke("send", image, GROUP, FRIEND, "--refresh")
    assert _delivered(gewe) == [(OTHER, "upload"), (GROUP, "upload"), (FRIEND, "forward")]


@pytest.mark.parametrize(
    "data", [NOT_MEMBER, {"code": "-77", "msg": "no published reason"}], ids=["listed", "unlisted"]
)
def test_a_recipients_refusal_does_not_stop_the_rest(gewe: Sandbox, invoke: Invoke, data: dict[str, str]) -> None:
    gewe.fail(Fault.refuse(msg="发送图片失败", data=data), to_wxid=GROUP)
    result = invoke("send", gewe.make_image("poster.png"), GROUP, FRIEND)
    assert result.exit_code == output.EXIT_REFUSED
    assert [line.split()[0] for line in result.stdout.splitlines()] == [FRIEND]
    assert f"{GROUP}: refused: GeWe refused with ret 500" in result.stderr
    assert "1 refused, 1 accepted." in result.stderr
    assert _delivered(gewe) == [(FRIEND, "upload")]


@pytest.mark.parametrize(
    "fault",
    [
        Fault.refuse(msg="发送图片失败", data=OFFLINE),
        Fault.refuse(msg="HTTP HEADER: X-GEWE-TOKEN=xxx 不可用或已过期"),
        Fault.refuse(msg="发送图片失败", data={"msg": "图片格式错误"}),
    ],
    ids=["device", "token", "image"],
)
def test_what_would_befall_all_stops_the_rest(gewe: Sandbox, invoke: Invoke, fault: Fault) -> None:
    gewe.fail(fault, to_wxid=FRIEND, times=None)
    image = gewe.make_image("poster.png")
    result = invoke("send", image, FRIEND, GROUP, OTHER)
    assert (result.exit_code, result.stdout) == (output.EXIT_REFUSED, "")
    assert f"Not tried, nothing was sent to: {GROUP} {OTHER}" in result.stderr
    assert gewe.deliveries == []
    rows = _rows(invoke("send", image, FRIEND, GROUP, OTHER, "--json").stdout)
    assert [row["outcome"] for row in rows] == ["refused", "not_tried", "not_tried"]
    assert rows[0]["ret"] == 500


def test_what_went_wrong_is_one_line_on_stderr(gewe: Sandbox, run: Run, tmp_path: Path) -> None:
    image = gewe.make_image("poster.png")
    gewe.fail(Fault.reset(delivered=True))
    unknown = run("send", image, FRIEND)
    assert unknown.returncode == output.EXIT_UNKNOWN
    assert len(unknown.stderr.splitlines()) == 1
    away = run("send", image, OTHER, GEWE_CACHE_DATABASE=f"sqlite:///{tmp_path.as_posix()}")
    assert (away.returncode, away.stdout.split()[1]) == (output.EXIT_OK, "upload")
    why = "The cache was not kept: its database failed. To see why, without sending again: gewe-cache db check"
    assert away.stderr == f"gewe-cache: {why}\n"
    named = f"sqlite:///{(tmp_path / 'a folder').as_posix()}/none/cache.db"
    (tmp_path / "a folder").write_text("is none", encoding="utf-8")
    assert run("send", image, OTHER, "--database", named).stderr == f"gewe-cache: {why} --database '{named}'\n"


def test_an_interrupted_send_is_said_to_be_unknown(gewe: Sandbox) -> None:
    held = gewe.fail(Fault.hold(delivered_first=True))
    command = [sys.executable, "-m", "gewe_cache.cli.main", "send", gewe.make_image("poster.png"), FRIEND, OTHER]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
    assert held.wait_reached(PATIENCE)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    held.release()
    assert process.returncode == output.EXIT_UNKNOWN
    assert f"{FRIEND}: unknown: Interrupted" in said
    assert f"Not tried, nothing was sent to: {OTHER}" in said
    assert _delivered(gewe) == [(FRIEND, "upload")]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_nobody_reads_any_more_is_said_on_stderr(gewe: Sandbox, tmp_path: Path, options: list[str]) -> None:
    image = gewe.make_image("poster.png")
    second = gewe.fail(Fault.hold(), to_wxid=OTHER)
    with started(command("send", image, FRIEND, OTHER, GROUP, *options), environment(tmp_path)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert FRIEND in process.stdout.readline()
        assert second.wait_reached(PATIENCE)
        process.stdout.close()
        second.release()
        said = process.stderr.read()
        assert process.wait(PATIENCE) == output.EXIT_FAILURE
    assert _delivered(gewe) == [(FRIEND, "upload"), (OTHER, "forward")]
    assert f"accepted: {OTHER}  forward  new_msg_id {gewe.deliveries[1].new_msg_id}" in said
    assert f"Not tried, nothing was sent to: {GROUP}" in said


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_that_nobody_reads_does_not_hide_an_unknown(gewe: Sandbox, options: list[str]) -> None:
    image = gewe.make_image("poster.png")
    gewe.fail(Fault.reset(delivered=True), to_wxid=FRIEND)
    done = run_unread("send", image, FRIEND, OTHER, *options)
    assert done.returncode == output.EXIT_UNKNOWN
    assert f"{FRIEND}: unknown: " in done.stderr
    assert "Standard output takes no more" in done.stderr
    assert all(f" {delivery.to_wxid}" in done.stderr for delivery in gewe.deliveries)


def test_an_unknown_is_said_and_outweighs_a_refusal(gewe: Sandbox, invoke: Invoke) -> None:
    image = gewe.make_image("poster.png")
    invoke("send", image, OTHER)
    gewe.fail(Fault.reset(delivered=True), to_wxid=FRIEND)
    gewe.fail(Fault.refuse(msg="发送图片失败", data=NOT_MEMBER), to_wxid=GROUP)
    result = invoke("send", image, FRIEND, GROUP, "wxid_third", "--json")
    assert result.exit_code == output.EXIT_UNKNOWN
    rows = _rows(result.stdout)
    assert [row["outcome"] for row in rows] == ["unknown", "refused", "accepted"]
    assert "not sent again by itself" in rows[0]["message"]
    assert gewe.duplicates() == []


def test_a_gewe_that_is_away(gewe: Sandbox, run: Run) -> None:
    image = gewe.make_image("poster.png")
    gewe.stop()
    done = run("send", image, FRIEND, OTHER)
    assert (done.returncode, done.stdout) == (output.EXIT_UNREACHED, "")
    assert f"{FRIEND}: unreached" in done.stderr
    assert f"Not tried, nothing was sent to: {OTHER}" in done.stderr
    assert "HTTP_PROXY" not in done.stderr
    with refusing_address() as proxy:
        by_proxy = run("send", image, FRIEND, HTTP_PROXY=proxy, http_proxy=proxy, NO_PROXY="", no_proxy="")
    assert by_proxy.returncode == output.EXIT_UNREACHED
    assert "Check base_url (GEWE_BASE_URL), the proxy that HTTP_PROXY" in by_proxy.stderr


@pytest.mark.parametrize("newline", ["", "\n", "\r\n"])
def test_the_token_from_standard_input_and_from_a_file(
    gewe: Sandbox, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newline: str
) -> None:
    monkeypatch.delenv("GEWE_TOKEN")
    image = gewe.make_image("poster.png")
    assert run("send", image, FRIEND, "--token-file", "-", stdin=gewe.token + newline).returncode == 0
    file = tmp_path / "token"
    file.write_text(gewe.token + newline, encoding="utf-8-sig", newline="")
    file.chmod(stat.S_IRUSR)
    assert run("send", image, OTHER, "--token-file", str(file)).returncode == 0


@pytest.mark.parametrize("token", [b"", b"two words", b"\xff\xfe\x00s3cret", b"s3cret\nmore"])
def test_what_cannot_be_a_token_is_not_repeated(gewe: Sandbox, invoke: Invoke, token: bytes) -> None:
    result = invoke("send", gewe.make_image("poster.png"), FRIEND, "--token-file", "-", stdin=token)
    assert (result.exit_code, result.stdout) == (output.EXIT_USAGE, "")
    assert result.stderr.startswith("gewe-cache: token: ")
    assert "s3cret" not in result.stderr
    assert gewe.calls == []


@pytest.mark.usefixtures("gewe")
def test_there_is_no_option_that_takes_a_token(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke("send", "https://a.example/1", FRIEND, "--token", "x").exit_code == output.EXIT_USAGE
    monkeypatch.delenv("GEWE_TOKEN")
    result = invoke("send", "https://a.example/1", FRIEND)
    assert (result.exit_code, result.stdout) == (output.EXIT_USAGE, "")
    assert "GEWE_TOKEN" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["https://a.example/1", FRIEND, " "], "TO: "),
        (["https://a.example/1", FRIEND, FRIEND], "named twice"),
        (["ftp://a.example/1", FRIEND], "IMAGE: "),
        (["", FRIEND], "IMAGE: "),
        (["https://a.example/1", FRIEND, "--url", "https://a.example/2"], "--url: "),
        (["https://a.example/1", FRIEND, "--md5", "zz"], "md5: "),
        (["https://a.example/1", FRIEND, "--timeout", "0"], "timeout: "),
        (["https://a.example/1", FRIEND, "--ttl", "0d"], "--ttl: "),
        (["https://a.example/1", FRIEND, "--base-url", "nowhere"], "base_url: "),
        (["https://a.example/1", FRIEND, "--token-header", "a b"], "token_header: "),
        (["https://a.example/1", FRIEND, "--database", "mysql://x"], "database: "),
        ([__file__, FRIEND, "--md5", "0" * 32], "--md5: "),
    ],
)
def test_bad_usage_is_named_before_anything_is_sent(
    gewe: Sandbox, invoke: Invoke, arguments: list[str], words: str
) -> None:
    result = invoke("send", *arguments)
    assert (result.exit_code, result.stdout) == (output.EXIT_USAGE, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert gewe.calls == []


def test_without_a_device_nothing_is_sent(gewe: Sandbox, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEWE_APP_ID")
    image = gewe.make_image("poster.png")
    result = invoke("send", image, FRIEND)
    assert (result.exit_code, result.stdout) == (output.EXIT_USAGE, "")
    assert "app_id" in result.stderr
    assert invoke("send", image, FRIEND, "--app-id", gewe.app_id).exit_code == 0


def test_a_database_from_the_future_stops_the_send(gewe: Sandbox, invoke: Invoke, sqlite_url: str) -> None:
    from gewe_cache.store import migrate  # noqa: PLC0415 - Alembic is slow to import
    from gewe_cache.store.engine import open_database  # noqa: PLC0415

    database = open_database(sqlite_url)
    migrate.upgrade(database)
    with database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE gewe_cache_schema SET version_num = '9999'")
    database.dispose()
    result = invoke("send", gewe.make_image("poster.png"), FRIEND, OTHER)
    assert (result.exit_code, result.stdout) == (output.EXIT_STORE, "")
    assert "pip install --upgrade" in result.stderr
    assert f"Not tried, nothing was sent to: {FRIEND} {OTHER}" in result.stderr
    assert gewe.calls == []


def test_another_services_header_and_the_cache_afterwards(gewe: Sandbox, run: Run) -> None:
    with Sandbox(token_header="VideosApi-token") as other:  # noqa: S106 - a header's name
        image = other.make_image("poster.png")
        options = ("--base-url", other.base_url, "--token-header", "VideosApi-token", "--scope", "mine")
        done = run("send", f"{image}?sign=1", FRIEND, *options, "--ignore-query", "sign", "--timeout", "20")
        assert done.returncode == 0, done.stderr
    assert gewe.calls == []
    (row,) = _rows(run("cache", "list", "--json", "--scope", "mine").stdout)
    assert (row["state"], row["url"]) == ("fresh", f"{image}?sign=1")
    (stats,) = _rows(run("cache", "stats", "--json").stdout)
    assert (stats["uploads"], stats["forwards"]) == (1, 0)
