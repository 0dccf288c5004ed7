"""Published clients work unchanged through the proxy: their base URL is all that differs.

Each runs in a virtual environment of its own (``install.py``), against the sandbox.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache.sandbox import Fault
from tests.clients.install import COMMAND, PACKAGES, is_installed, python_of
from tests.server.kit import Proxy, World

if TYPE_CHECKING:
    from collections.abc import Callable

    Bot = Callable[..., dict[str, Any]]

_BOTS = Path(__file__).with_name("bots")


@pytest.fixture(params=PACKAGES)
def client(request: pytest.FixtureRequest) -> str:
    """Name each client; where one is not installed, the test fails and says how to install it."""
    name: str = request.param
    assert is_installed(name), f"{name} is not installed for this test. Run: {COMMAND} (or make clients)"
    return name


@pytest.fixture
def bot(client: str, world: World, tmp_path: Path) -> Bot:
    """Run a bot in a process of its own; give what it printed last."""

    def run(base_url: str, to_wxid: str) -> dict[str, Any]:
        script = _BOTS / f"{client.replace('-', '_')}_bot.py"
        arguments = [base_url, world.sandbox.token, world.sandbox.app_id, to_wxid, world.image]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
        done = subprocess.run(  # noqa: S603 - our own
            [python_of(client), script, *arguments],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            cwd=tmp_path,
            env={**environment, "NO_PROXY": "127.0.0.1"},
        )
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    return run


def test_the_second_send_is_a_forward_and_its_own_parsers_accept_the_answer(
    world: World, proxy: Proxy, bot: Bot
) -> None:
    answers = [bot(proxy.base_url, to_wxid) for to_wxid in ("wxid_1", "wxid_2")]
    assert [list(answer) for answer in answers] == [["answer"], ["answer"]], answers
    assert [(each.route, each.to_wxid) for each in world.sandbox.deliveries] == [
        ("upload", "wxid_1"),
        ("forward", "wxid_2"),
    ]
    for answer, delivery in zip(answers, world.sandbox.deliveries, strict=True):
        data = answer["answer"]["data"]
        assert (answer["answer"]["ret"], data["toWxid"]) == (200, delivery.to_wxid)
        assert int(data["newMsgId"]) == delivery.new_msg_id
    first, second = (answer["answer"]["data"] for answer in answers)
    assert first["aesKey"] == second["aesKey"]
    assert first["length"] == second["length"] > 0


def test_it_sees_a_refusal_as_it_would_without_the_proxy(world: World, proxy: Proxy, bot: Bot, client: str) -> None:
    """opengewe's own spelling is refused by GeWe itself for want of an imgUrl: there, only the proxy is asked."""
    fault = Fault.refuse(500, "发送图片失败", {"code": "-219", "msg": "原因"})
    world.sandbox.fail(fault, times=None)
    through = bot(proxy.base_url, "wxid_1")
    assert "error" in through
    if client != "opengewe":
        direct = bot(world.sandbox.base_url, "wxid_1")
        assert through == json.loads(json.dumps(direct).replace(world.sandbox.url, proxy.url))
    assert "-219" in json.dumps(through) or client == "nonebot-adapter-gewechat"
    assert world.sandbox.deliveries == []


def test_an_unknown_outcome_is_an_error_to_it_that_nobody_sends_again(world: World, proxy: Proxy, bot: Bot) -> None:
    world.sandbox.fail(Fault.answer(b"<html>Bad Gateway</html>", 502, "text/html", delivered=True), times=None)
    assert "error" in bot(proxy.base_url, "wxid_1")
    assert (world.calls_to("wxid_1"), world.deliveries_to("wxid_1")) == (1, 1)
