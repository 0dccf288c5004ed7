"""``gewe-cache sandbox``, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gewe_cache import ImageSender, TokenRefused
from gewe_cache.cli import output
from gewe_cache.cli.interrupts import Interrupted, Interrupts
from gewe_cache.cli.sandbox_report import CallWatch
from gewe_cache.sandbox import Fault, Sandbox
from tests.cli.running import command, end_of, is_listening, line_with, press_ctrl_c, run, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import Popen


def _ready(process: Popen[str]) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(line_with(process, '"ready"'))
    return event


def _text(process: Popen[str]) -> str:
    """Read all that is printed before the first call."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C ends" in line:
            return "".join(lines)
    raise AssertionError(end_of(process))


def _sender(ready: dict[str, Any], token: str | None = None, app_id: str | None = None) -> ImageSender:
    return ImageSender(
        token or ready["token"], app_id or ready["app_id"], base_url=ready["base_url"], database="sqlite://"
    )


def _quietly_ended(process: Popen[str]) -> str:
    press_ctrl_c(process)
    code, rest, problems = end_of(process)
    assert (code, problems) == (0, "")
    return rest


def test_a_bot_sends_through_it_and_each_call_is_a_json_line() -> None:
    with started(command("sandbox", "--port", "0", "--json")) as process:
        ready = _ready(process)
        assert "Nothing here reaches WeChat" in ready["what"]
        with _sender(ready) as sender:
            routes = [sender.send_image(to, ready["image_url"]).route for to in ("wxid_1", "wxid_2")]
        with _sender(ready, "another") as stranger, pytest.raises(TokenRefused):
            stranger.send_image("wxid_3", ready["image_url"])
        calls = [json.loads(line_with(process, '"call"')) for _ in range(3)]
        assert _quietly_ended(process) == ""
    assert routes == ["upload", "forward"]
    told = [(call["route"], call["to_wxid"], call["delivered"], call["token_ok"]) for call in calls]
    assert told == [
        ("upload", "wxid_1", True, True),
        ("forward", "wxid_2", True, True),
        ("upload", "wxid_3", False, False),
    ]
    assert calls[0]["md5"] == calls[1]["md5"]
    assert not is_listening(ready["base_url"])


def test_what_it_prints_to_try_it_works(tmp_path: Path) -> None:
    with started(command("sandbox", "--port", "0")) as process:
        text = _text(process)
        assert "an imitation, not GeWe: nothing here reaches WeChat" in text
        assert max(map(len, text.splitlines())) <= 80
        settings = dict(re.findall(r"^  export (\w+)=(.+)$", text, re.MULTILINE))
        assert re.findall(r'^  \$env:(\w+) = "(.+)"$', text, re.MULTILINE) == list(settings.items())
        send = shlex.split(re.findall(r"^  gewe-cache (send .+)$", text, re.MULTILINE)[0])
        settings["GEWE_CACHE_DATABASE"] = f"sqlite:///{(tmp_path / 'sandbox.db').as_posix()}"
        for route in ("upload", "forward"):
            result = run(command(*send), {**os.environ, **settings})
            assert (result.returncode, result.stderr) == (0, "")
            assert "wx_sandbox_1 -> wxid_friend" in line_with(process, f"{route} ")

        words = shlex.split(text.partition("curl:\n")[2].partition("\n\n")[0].replace("\\\n", " "))
        headers = [header.split(": ") for header in words[3:6:2]]
        answer = httpx.post(words[1], headers=dict(headers), content=words[7], trust_env=False)
        assert (words[0], words[2], words[4], words[6]) == ("curl", "-H", "-H", "-d")
        assert answer.json()["ret"] == 200
        refused = httpx.post(words[1], json={}, trust_env=False)
        assert refused.json()["ret"] != 200
        assert "refused, ret" in line_with(process, "refused")
        assert "Delivered: 2 by upload, 1 by forward; duplicates: 1." in _quietly_ended(process)


def test_it_takes_ones_own_token_and_device_and_lets_uploads_expire() -> None:
    options = ("--any-token", "--device", "wx_mine", "--cdn-lifetime", "1s", "--delays", "realistic", "--converts")
    with started(command("sandbox", "--port", "0", "--json", *options)) as process:
        ready = _ready(process)
        with _sender(ready, "mine", "wx_mine") as sender:
            sent = sender.send_image("wxid_1", ready["image_url"])
        assert sent.image is not None
        call = json.loads(line_with(process, '"call"'))
        assert call["seconds"] > 0.3
        assert _quietly_ended(process) == ""


def test_a_port_in_use_is_one_clear_line() -> None:
    with Sandbox() as other:
        port = other.url.rpartition(":")[2]
        result = run(command("sandbox", "--port", port))
    assert (result.returncode, result.stdout) == (output.EXIT_FAILURE, "")
    assert result.stderr.startswith(f"gewe-cache: Port {port} cannot be had")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [("--cdn-lifetime", "soon"), ("--delays", "some"), ("--port", "70000"), ("--device", "two words")],
)
def test_bad_options_are_bad_usage(options: tuple[str, str]) -> None:
    result = run(command("sandbox", *options))
    assert (result.returncode, result.stdout) == (output.EXIT_USAGE, "")
    assert options[0] in result.stderr


def test_without_the_extra_it_says_what_to_install() -> None:
    result = run(command("sandbox", first="import sys; sys.modules['starlette'] = None"))
    assert (result.returncode, result.stdout) == (output.EXIT_FAILURE, "")
    assert "pip install 'gewe-cache[sandbox]'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_each_call_is_told_once_when_it_has_ended() -> None:
    with Sandbox() as sandbox, ThreadPoolExecutor() as threads:
        watch, image = CallWatch(sandbox), sandbox.make_image("poster.png")
        held = sandbox.fail(Fault.hold(), to_wxid="wxid_held")
        waiting = threads.submit(_upload, sandbox, "wxid_held", image)
        assert held.wait_reached()
        told: list[str | None] = []
        for to_wxid in ("wxid_1", "wxid_2"):
            _upload(sandbox, to_wxid, image)
            told.extend(seen.call.to_wxid for seen in watch.finished())
        held.release()
        waiting.result()
        told.extend(seen.call.to_wxid for seen in watch.finished())
        assert told == ["wxid_1", "wxid_2", "wxid_held"]
        assert watch.finished() == []


def _upload(sandbox: Sandbox, to_wxid: str, image: str) -> None:
    body = {"appId": sandbox.app_id, "toWxid": to_wxid, "imgUrl": image}
    headers = {sandbox.token_header: sandbox.token}
    httpx.post(f"{sandbox.base_url}/message/postImage", json=body, headers=headers, trust_env=False)


@pytest.fixture(params=["SIGINT", "SIGTERM"])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """Give a signal that is not ignored."""
    chosen = signal.Signals[request.param]
    former = signal.signal(chosen, signal.default_int_handler)
    yield chosen
    signal.signal(chosen, former)


def test_signals_set_a_flag_and_the_third_one_insists(number: signal.Signals) -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        assert not interrupts.wait(0)
        signal.raise_signal(number)
        assert interrupts.wait(0)
        signal.raise_signal(number)
        with pytest.raises(Interrupted):
            interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_so(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    with Interrupts() as interrupts:
        signal.raise_signal(number)
        assert not interrupts.is_set
