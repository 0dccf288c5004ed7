"""Starting, stopping, binding, and standing up to bad input and to many at once."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

import gewe_cache.sandbox as sandbox_package
from gewe_cache.sandbox import Delays, Fault, Sandbox, run_forever

Post = Callable[..., httpx.Response]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "::", "example.com", ""])  # noqa: S104
def test_only_loopback(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        Sandbox(host=host)


def test_localhost_is_loopback() -> None:
    with Sandbox(host="localhost") as sandbox:
        assert sandbox.base_url.startswith("http://127.0.0.1:")
        assert sandbox.base_url.endswith("/gewe/v2/api")


def test_ipv6() -> None:
    sandbox = Sandbox(host="::1")
    try:
        sandbox.start()
    except OSError:  # right only where this machine itself has no IPv6
        with socket.socket(socket.AF_INET6) as probe, pytest.raises(OSError, match=r"."):
            probe.bind(("::1", 0))
        return
    with httpx.Client(trust_env=False) as client:
        assert client.get(sandbox.url + "/sandbox/").status_code == 200
    sandbox.stop()
    assert sandbox.url.startswith("http://[::1]:")


def test_start_and_stop() -> None:
    sandbox = Sandbox()
    with pytest.raises(RuntimeError, match="start it first"):
        _ = sandbox.base_url
    sandbox.stop()
    sandbox.start()
    with pytest.raises(RuntimeError, match="running already"):
        sandbox.start()
    assert sandbox.is_running
    sandbox.stop()
    sandbox.stop()
    assert not sandbox.is_running
    assert "stopped" in repr(sandbox)


def test_a_restart_keeps_port_record_and_cdn_information(
    sandbox: Sandbox, upload: Post, forward: Post, xml_of: Callable[..., str]
) -> None:
    data = upload().json()["data"]
    before = sandbox.base_url
    sandbox.stop()
    sandbox.start()

    assert sandbox.base_url == before
    assert forward(xml_of(data)).json()["ret"] == 200
    assert upload().json()["ret"] == 200
    assert [delivery.route for delivery in sandbox.deliveries] == ["upload", "forward", "upload"]


def test_a_taken_port_is_an_error(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    with pytest.raises(OSError, match=r"."):
        Sandbox(port=port).start()


@pytest.mark.parametrize(
    "fault",
    [
        Fault.hang(delivered=False),
        Fault.hold(),
        Fault.slow(3600),
        Fault.drip(3600, delivered=True, headers=True),
    ],
)
def test_stop_ends_whatever_is_under_way(
    sandbox: Sandbox, upload: Post, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    plan = sandbox.fail(fault, times=None)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(upload) for _ in range(4)]
        if fault.kind != "slow":
            plan.wait_reached(count=4)
        sandbox.stop()
        for call in calls:
            with pytest.raises(httpx.TransportError):
                call.result(20)
    assert all(call.ended_at is not None for call in sandbox.calls)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_stop_ends_long_delays() -> None:
    with Sandbox(delays=Delays(call_seconds=3600)) as sandbox, ThreadPoolExecutor(1) as pool:
        body = {"appId": sandbox.app_id, "toWxid": "a", "imgUrl": "http://x/"}
        headers = {"X-GEWE-TOKEN": sandbox.token}
        waiting = pool.submit(
            httpx.post, sandbox.base_url + "/message/postImage", json=body, headers=headers, trust_env=False
        )
        while not sandbox.calls:
            assert not waiting.done()
        sandbox.stop()
        with pytest.raises(httpx.TransportError):
            waiting.result(20)
    assert sandbox.deliveries == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "请求体不是合法的JSON"),
        (b"{", "请求体不是合法的JSON"),
        (b"\xff\xfe\x00", "请求体不是合法的JSON"),
        (b"[" * 100_000, "请求体不是合法的JSON"),
        (b'{"appId":' + b"9" * 5000 + b"}", "请求体不是合法的JSON"),
        (b"[]", "请求体不是JSON对象"),
        (b"null", "请求体不是JSON对象"),
        (b'"text"', "请求体不是JSON对象"),
        (b'{"appId":"wx_sandbox_1","toWxid":"\\ud800","imgUrl":"http://x"}', "toWxid类型错误"),
        (b" " * 1_000_001, "请求体过大"),
        (b" " * 9_000_000, "请求体过大"),
    ],
)
@pytest.mark.parametrize("call", ["postImage", "forwardImage"])
def test_bad_bodies_are_refused(sandbox: Sandbox, client: httpx.Client, call: str, body: bytes, words: str) -> None:
    answer = client.post(f"/message/{call}", content=body)
    assert (answer.status_code, answer.json()) == (200, {"ret": 500, "msg": words})
    assert client.get(sandbox.url + "/sandbox/calls").json()["calls"][0]["ret"] == 500


def test_other_methods_and_addresses(sandbox: Sandbox, client: httpx.Client) -> None:
    assert client.get("/message/postImage").json()["ret"] == 500
    assert client.post("/message/postText").status_code == 404
    assert sandbox.calls == []


def test_a_client_that_leaves_before_its_call_is_complete_leaves_no_trace(
    sandbox: Sandbox, upload: Post, caplog: pytest.LogCaptureFixture
) -> None:
    address = ("127.0.0.1", int(sandbox.url.rpartition(":")[2]))
    with socket.create_connection(address) as connection:
        connection.sendall(b"POST /v2/api/message/postImage HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{")
    assert upload().json()["ret"] == 200
    sandbox.stop()
    assert len(sandbox.calls) == 1
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_garbage_instead_of_http(sandbox: Sandbox, upload: Post) -> None:
    address = ("127.0.0.1", int(sandbox.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(b"\x00\x01\x02 nonsense\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert upload().json()["ret"] == 200


def test_the_record_counts_fifty_threads_right(
    sandbox: Sandbox, upload: Post, forward: Post, xml_of: Callable[..., str]
) -> None:
    xml = xml_of(upload().json()["data"])
    sandbox.clear()

    def work(thread: int) -> None:
        for number in range(10):
            assert forward(xml, toWxid=f"{thread}_{number}").json()["ret"] == 200

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(work, range(50)))

    assert (len(sandbox.calls), len(sandbox.deliveries), sandbox.duplicates()) == (500, 500, [])
    assert len({delivery.to_wxid for delivery in sandbox.deliveries}) == 500
    assert len({delivery.new_msg_id for delivery in sandbox.deliveries}) == 500
    numbers = [call.number for call in sandbox.calls]
    assert numbers == sorted(set(numbers))


def test_hundreds_of_connections_at_once(sandbox: Sandbox) -> None:
    plan = sandbox.fail(Fault.hold(), times=None)
    count = 400
    body = json.dumps({"appId": "none", "toWxid": "a", "imgUrl": "x"}).encode()
    head = f"POST /v2/api/message/postImage HTTP/1.1\r\nx-gewe-token: {sandbox.token}\r\nhost: x\r\n"
    call = f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
    port = int(sandbox.url.rpartition(":")[2])

    async def one() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(call)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def all_of_them() -> list[bytes]:
        calls = [asyncio.create_task(one()) for _ in range(count)]
        await asyncio.to_thread(plan.wait_reached, 30, count)
        plan.release()
        return await asyncio.gather(*calls)

    answers = asyncio.run(all_of_them())
    assert sum("设备不存在".encode() in answer for answer in answers) == count
    assert len(sandbox.overlaps()) == count * (count - 1) // 2


def test_images_have_the_size_they_were_asked_for(tmp_path: Path) -> None:
    with Sandbox() as sandbox, httpx.Client(trust_env=False) as client:
        png = client.get(sandbox.make_image("a b/ü.png", width=600, height=400, approximate_bytes=200_000))
        jpeg = client.get(sandbox.make_image("a.JPG", width=900, height=600, approximate_bytes=150_000, seed=1))
        again = client.get(sandbox.make_image("a.jpeg", width=900, height=600, approximate_bytes=150_000, seed=1))
        other = client.get(sandbox.make_image("b.jpeg", width=900, height=600, approximate_bytes=150_000, seed=2))
        tiny = client.get(sandbox.make_image("tiny.png", width=1, height=1))

    assert len(png.content) == pytest.approx(200_000, rel=0.1)
    assert len(jpeg.content) == pytest.approx(150_000, rel=0.1)
    assert again.content == jpeg.content != other.content
    assert (png.headers["content-type"], jpeg.headers["content-type"]) == ("image/png", "image/jpeg")
    for answer, size in ((png, (600, 400)), (jpeg, (900, 600)), (tiny, (1, 1))):
        file = tmp_path / "image"
        file.write_bytes(answer.content)
        with Image.open(file) as image:
            assert image.size == size
            image.load()


def test_images_that_cannot_be() -> None:
    with Sandbox() as sandbox:
        with pytest.raises(ValueError, match="pixel"):
            sandbox.make_image("a.png", width=0)
        with pytest.raises(ValueError, match="name"):
            sandbox.add_image("", b"")


def test_run_forever_ends_with_ctrl_c() -> None:
    seen: list[str] = []

    def interrupt(sandbox: Sandbox) -> None:
        seen.append(sandbox.base_url)
        raise KeyboardInterrupt

    sandbox = Sandbox()
    run_forever(sandbox, interrupt)
    assert len(seen) == 1
    assert not sandbox.is_running


def test_run_forever_ends_when_the_server_does() -> None:
    sandbox = Sandbox()
    ready = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_forever, sandbox, lambda _: ready.set())
        assert ready.wait(10)
        sandbox.stop()
        with pytest.raises(RuntimeError, match="by itself"):
            running.result(20)


def test_the_plugin_gives_a_fixture_to_whoever_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["gewe_cache.sandbox.pytest_plugin"]\n')
    (tmp_path / "test_bot.py").write_text(
        "def test_bot(gewe_sandbox):\n    assert gewe_sandbox.is_running and gewe_sandbox.calls == []\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout


def test_it_imports_nothing_else_of_gewe_cache() -> None:
    files = list(Path(sandbox_package.__file__).parent.glob("*.py"))
    statements = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    names = {node.module or "." for node in statements if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in statements if isinstance(node, ast.Import) for alias in node.names}
    ours = {name for name in names if name.startswith(("gewe_cache", "."))}
    assert "gewe_cache.sandbox.cdn" in ours
    assert all(name.startswith("gewe_cache.sandbox") for name in ours)
