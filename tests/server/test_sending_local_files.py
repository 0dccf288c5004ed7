"""Local files through a running server: the command line, and the library's ``publish_to_server``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache import Image, ImageSender, PublishFailed, publish_to_server
from gewe_cache.cli import output
from gewe_cache.sandbox import Fault
from gewe_cache.sandbox.images import draw
from tests.cli.conftest import invoke
from tests.server.kit import SELF, TUNING
from tests.server.process import hosting

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Invoke
    from tests.server.kit import Proxy, World

__all__ = ["invoke"]


@pytest.fixture
def proxy(world: World) -> Proxy:
    return world.open(public_url=SELF)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "poster.png"
    path.write_bytes(draw("poster.png", width=8, height=8, seed=9, approximate_bytes=None))
    return path


@pytest.fixture(autouse=True)
def _account(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEWE_TOKEN", world.sandbox.token)
    monkeypatch.setenv("GEWE_APP_ID", world.sandbox.app_id)
    monkeypatch.setenv("GEWE_BASE_URL", world.sandbox.base_url)
    monkeypatch.setenv("GEWE_CACHE_DATABASE", f"sqlite:///{(tmp_path / 'own.db').as_posix()}")


def _rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _reached(world: World) -> list[tuple[str, str]]:
    return [(delivery.to_wxid, delivery.route) for delivery in world.sandbox.deliveries]


def test_a_file_is_sent_through_a_server(world: World, invoke: Invoke, file: Path) -> None:
    with hosting(world) as server:
        first = invoke("send", str(file), "wxid_1", "wxid_2", "--server", server)
        assert (first.exit_code, [line.split()[1] for line in first.stdout.splitlines()]) == (0, ["upload", "forward"])
        again = invoke("send", str(file), "wxid_3", "--json", GEWE_CACHE_SERVER=server)
        assert [(row["outcome"], row["route"]) for row in _rows(again.stdout)] == [("accepted", "forward")]
        renewed = invoke("send", str(file), "wxid_4", "--refresh", "--server", server)
        assert renewed.stdout.split()[1] == "upload"
        by_url = invoke("send", world.image, "wxid_5", "--server", server)
        assert by_url.stdout.split()[1] == "upload"
    assert [to for to, _ in _reached(world)] == [f"wxid_{number}" for number in range(1, 6)]


@pytest.mark.parametrize(
    ("fault", "code", "outcome"),
    [
        (Fault.refuse(msg="发送图片失败", data={"code": "-219"}), output.EXIT_REFUSED, "refused"),
        (Fault.reset(delivered=True), output.EXIT_UNKNOWN, "unknown"),
    ],
    ids=["refused", "unknown"],
)
def test_the_outcomes_are_those_of_a_direct_send(
    world: World, proxy: Proxy, invoke: Invoke, file: Path, fault: Fault, code: int, outcome: str
) -> None:
    world.sandbox.fail(fault)
    result = invoke("send", str(file), "wxid_1", "--json", "--server", proxy.url)
    (row,) = _rows(result.stdout)
    assert (result.exit_code, row["outcome"]) == (code, outcome)
    assert world.calls_to("wxid_1") == 1


def test_gewe_unreached_is_unreached(world: World, proxy: Proxy, invoke: Invoke, file: Path) -> None:
    world.sandbox.stop()
    result = invoke("send", str(file), "wxid_1", "--server", proxy.url)
    assert result.exit_code == output.EXIT_UNREACHED
    assert "GeWe could not be reached" in result.stderr


def test_what_the_server_cannot_do_is_one_clear_line(world: World, invoke: Invoke, file: Path) -> None:
    closed = invoke("send", str(file), "wxid_1", "--server", "http://127.0.0.1:9")
    assert closed.exit_code == output.EXIT_UNREACHED
    assert "Check --server (GEWE_CACHE_SERVER)" in closed.stderr
    hosts_nothing = invoke("send", str(file), "wxid_1", "--server", world.open().url)
    assert hosts_nothing.exit_code == output.EXIT_UNREACHED
    assert "gewe-cache serve --public-url URL" in hosts_nothing.stderr
    no_proxy = invoke("send", str(file), "wxid_1", "--server", world.sandbox.url)
    assert no_proxy.exit_code == output.EXIT_UNREACHED
    assert "is it gewe-cache serve?" in no_proxy.stderr
    file.write_bytes(b"no image")
    no_image = invoke("send", str(file), "wxid_1", "--server", world.open(public_url=SELF).url)
    assert no_image.exit_code == output.EXIT_UNREACHED
    assert "no PNG, JPEG, GIF, WebP or BMP" in no_image.stderr
    assert world.sandbox.deliveries == []


@pytest.mark.parametrize(
    "options",
    [("--scope", "x"), ("--ttl", "3d"), ("--database", "sqlite://"), ("--ignore-query", "sign"), ("--md5", "0" * 32)],
)
def test_what_the_server_decides_is_not_taken(world: World, invoke: Invoke, options: tuple[str, str]) -> None:
    result = invoke("send", world.image, "wxid_1", "--server", "http://127.0.0.1:9", *options)
    assert result.exit_code == output.EXIT_USAGE
    assert f"{options[0]}: the server decides it" in result.stderr


def test_bad_usage_of_a_server_is_said(world: World, invoke: Invoke, file: Path, proxy: Proxy) -> None:
    for server in ("127.0.0.1:8720", "http://h/gewe/v2/api", "http://user:secret@h"):
        result = invoke("send", str(file), "wxid_1", "--server", server)
        assert result.exit_code == output.EXIT_USAGE
        assert "--server (GEWE_CACHE_SERVER): pass scheme, host and port alone" in result.stderr
        assert "secret" not in result.stderr
    only_md5 = invoke("send", "0" * 32, "wxid_1", "--server", proxy.url)
    assert only_md5.exit_code == output.EXIT_USAGE
    assert "an md5 alone goes without --server" in only_md5.stderr
    no_device = invoke("send", str(file), "wxid_1", "--server", proxy.url, GEWE_APP_ID="")
    assert no_device.exit_code == output.EXIT_USAGE
    assert "--app-id" in no_device.stderr
    assert world.sandbox.calls == []


def test_a_file_that_is_known_needs_no_server(world: World, invoke: Invoke, file: Path) -> None:
    url = world.sandbox.add_image("poster.png", file.read_bytes())
    invoke("send", str(file), "wxid_1", "--url", url)
    assert invoke("send", str(file), "wxid_2").stdout.split()[1] == "forward"


def test_the_library_publishes_through_a_server(world: World, proxy: Proxy, file: Path) -> None:
    publish = publish_to_server(proxy.url, world.sandbox.token)
    with ImageSender(world.sandbox.token, world.sandbox.app_id, publish=publish, _tuning=TUNING) as sender:
        routes = [sender.send_image(to, Image.from_file(file)).route for to in ("wxid_1", "wxid_2")]
        assert routes == ["upload", "forward"]
        local = Image.from_bytes(b"no image").local
    assert local is not None
    with pytest.raises(PublishFailed, match=r"HTTP 415.* Nothing was sent\.$"):
        publish(local)
    with pytest.raises(ValueError, match=r"^server: pass scheme"):
        publish_to_server("localhost", "token")


def test_a_file_is_broadcast_through_a_server(
    world: World, proxy: Proxy, invoke: Invoke, file: Path, tmp_path: Path
) -> None:
    to = tmp_path / "to.txt"
    to.write_text("wxid_1\nwxid_2\n", encoding="utf-8")
    start = ("broadcast", "start", str(file), "--to", str(to), "--yes", "--pace", "none")
    nowhere = invoke(*start)
    assert nowhere.exit_code == output.EXIT_USAGE
    assert "--server URL (GEWE_CACHE_SERVER)" in nowhere.stderr
    assert invoke(*start, "--server", proxy.url).exit_code == output.EXIT_OK
    assert _reached(world) == [("wxid_1", "upload"), ("wxid_2", "forward")]


def test_a_broadcast_may_need_its_file_again(
    world: World, proxy: Proxy, invoke: Invoke, file: Path, tmp_path: Path
) -> None:
    to = tmp_path / "to.txt"
    to.write_text("wxid_1\n", encoding="utf-8")
    start = ("broadcast", "start", str(file), "--to", str(to), "--yes", "--pace", "none", "--server", proxy.url)
    world.sandbox.fail(Fault.refuse(msg="发送图片失败", data={"msg": "图片格式错误"}))
    assert invoke(*start).exit_code == output.EXIT_REFUSED
    without = invoke("broadcast", "resume", "1")
    assert without.exit_code == output.EXIT_USAGE
    assert "gewe-cache broadcast resume 1 --image FILE --server URL" in without.stderr
    other = tmp_path / "other.png"
    other.write_bytes(b"another")
    wrong = invoke("broadcast", "resume", "1", "--image", str(other), "--server", proxy.url)
    assert wrong.exit_code == output.EXIT_USAGE
    assert "image: broadcast 1 sends md5" in wrong.stderr
    assert world.sandbox.deliveries == []
    assert invoke("broadcast", "resume", "1", "--image", str(file), "--server", proxy.url).exit_code == output.EXIT_OK
    assert _reached(world) == [("wxid_1", "upload")]
