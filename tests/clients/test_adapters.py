"""``cached(client)`` on the published packages: real bots over the sandbox, each in its client's own environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache.sandbox import Fault
from tests.clients.bots.serving import TOLD
from tests.clients.install import ADAPTED, COMMAND, ROOT, is_installed, python_of
from tests.faults import spoils
from tests.faults.kit import until
from tests.server.kit import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BOTS = Path(__file__).with_name("bots")
_FAILED = "发送图片失败"
_NO_MEMBER = Fault.refuse(500, _FAILED, {"code": "-219", "msg": "不在群里"})
_BAD_GATEWAY = Fault.answer(b"<html>Bad Gateway</html>", 502, "text/html", delivered=True)
_SECOND_TOKEN, _WRONG_TOKEN = "sandbox-second-token", "sandbox-wrong-token"


class BotProcess:
    """A bot in its client's own environment, which performs one plan after another."""

    def __init__(self, client: str, folder: Path) -> None:
        assert is_installed(client), f"{client} is not installed for this test. Run: {COMMAND} (or make clients)"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
        self._errors = (folder / "stderr.txt").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(  # noqa: S603 - our own
            [python_of(client), _BOTS / f"cached_{client.replace('-', '_')}_bot.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            cwd=folder,
            env={**environment, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def say(self, line: str) -> None:
        self._stdin.write(f"{line}\n")
        self._stdin.flush()

    def told(self) -> Any:
        """Give what it tells next, past what its client prints."""
        for line in self._stdout:
            if line.startswith(TOLD):
                return json.loads(line.removeprefix(TOLD))
        self._errors.seek(0)
        return pytest.fail(self._errors.read()[-4000:])

    def close(self) -> None:
        self._stdin.close()
        self._process.wait(30)
        self._stdout.close()
        self._errors.close()


class Bot:
    """A client, with the cache or without it, in a world."""

    def __init__(self, client: str, process: BotProcess, world: World) -> None:
        self.client = client
        self.process = process
        self._world = world

    def run(self, *to: str, **changes: Any) -> list[Any]:
        """Perform a scenario; give what came of it."""
        self.begin(*to, **changes)
        return self.end()

    def begin(self, *to: str, **changes: Any) -> None:
        sandbox = self._world.sandbox
        plan = {
            "base_url": sandbox.base_url,
            "token": sandbox.token,
            "app_id": sandbox.app_id,
            "image": self._world.image,
            "to": to,
            "scenario": "in_turn",
            "cached": True,
            "options": {"database": self._world.database, "scope": "bots"},
        }
        self.process.say(json.dumps({**plan, **changes}))

    def end(self) -> list[Any]:
        told, threads = self.process.told()
        assert threads == [], "its sender is closed with the client"
        assert isinstance(told, list)
        return told

    def ended(self, told: dict[str, Any]) -> tuple[str, str]:
        """Give how a failed send ended and the words, as this client tells it."""
        error = told["error"]
        if self.client == "opengewe":
            assert error.keys() == {"ret", "msg", "data"}
            return {503: "GeweUnreachable", 504: "DeliveryUnknown"}.get(error["ret"], "GeweRefused"), error["msg"]
        kind, words = error
        assert kind == "RuntimeError"
        return told["cause"], words


@pytest.fixture(scope="session")
def process_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], BotProcess]]:
    """Give the one process of a client: to start one for each test would take its time."""
    processes: dict[str, BotProcess] = {}

    def find(client: str) -> BotProcess:
        if client not in processes:
            processes[client] = BotProcess(client, tmp_path_factory.mktemp(client))
        return processes[client]

    yield find
    for process in processes.values():
        process.close()


@pytest.fixture(params=ADAPTED)
def bot(request: pytest.FixtureRequest, world: World, process_of: Callable[[str], BotProcess]) -> Bot:
    return Bot(request.param, process_of(request.param), world)


@pytest.fixture
def gewechat_bot(world: World, process_of: Callable[[str], BotProcess]) -> Bot:
    return Bot("gewechat-client", process_of("gewechat-client"), world)


@pytest.fixture
def opengewe_bot(world: World, process_of: Callable[[str], BotProcess]) -> Bot:
    return Bot("opengewe", process_of("opengewe"), world)


def _kinds(told: list[dict[str, Any]]) -> list[str]:
    return ["answer" if "answer" in each else "error" for each in told]


def _routes(world: World) -> list[tuple[str, str]]:
    return [(each.route, each.to_wxid) for each in world.sandbox.deliveries]


def test_the_second_send_is_a_forward_and_has_post_images_answer(world: World, bot: Bot) -> None:
    told = bot.run("wxid_1", "wxid_2") + bot.run("wxid_3")
    assert _routes(world) == [("upload", "wxid_1"), ("forward", "wxid_2"), ("forward", "wxid_3")]
    answers = [each["answer"] for each in told]
    for answer, delivery in zip(answers, world.sandbox.deliveries, strict=True):
        assert (answer["ret"], answer["msg"], answer["data"]["toWxid"]) == (200, "操作成功", delivery.to_wxid)
        assert answer["data"]["newMsgId"] == delivery.new_msg_id
    same = [{name: answer["data"][name] for name in ("aesKey", "fileId", "length", "md5")} for answer in answers]
    assert same[0] == same[1] == same[2]
    assert same[0]["length"] > 0


def test_the_answer_is_the_clients_own(gewechat_bot: Bot) -> None:
    (own,) = gewechat_bot.run("wxid_1", cached=False)
    for told in gewechat_bot.run("wxid_1", "wxid_1"):
        changing = dict.fromkeys(("msgId", "newMsgId", "createTime", "aesKey", "fileId"), 0)
        assert {**told["answer"]["data"], **changing} == {**own["answer"]["data"], **changing}
        assert list(told["answer"]) == list(own["answer"])
        assert list(told["answer"]["data"]) == list(own["answer"]["data"])


def test_many_at_once_upload_once(world: World, bot: Bot) -> None:
    to = [f"wxid_{number}" for number in range(8)]
    told = bot.run(*to, scenario="at_once")
    assert [each["answer"]["data"]["toWxid"] for each in told] == to
    assert sorted(route for route, _ in _routes(world)) == ["forward"] * 7 + ["upload"]
    assert sorted(to_wxid for _, to_wxid in _routes(world)) == to


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_refusal_is_what_the_client_makes_of_it(world: World, bot: Bot, status: int) -> None:
    world.sandbox.fail(Fault.refuse(500, _FAILED, {"code": "-219", "msg": "不在群里"}, status), times=None)
    (told,) = bot.run("wxid_1")
    (own,) = bot.run("wxid_1", cached=False)
    assert told["error"] == own["error"]
    assert world.sandbox.deliveries == []
    if bot.client == "gewechat-client":
        assert told["cause"] == "RecipientUnavailable"
    if status == 200:
        assert "不在群里" in json.dumps(told["error"], ensure_ascii=False)


def test_a_refusal_does_not_repeat_the_token(world: World, bot: Bot) -> None:
    (told,) = bot.run("wxid_1", token=_WRONG_TOKEN)
    assert "不可用或已过期" in json.dumps(told, ensure_ascii=False)
    assert _WRONG_TOKEN not in json.dumps(told)
    assert [(call.token_ok, call.delivered) for call in world.sandbox.calls] == [(False, False)]


def test_a_refusal_may_be_retried(world: World, bot: Bot) -> None:
    world.sandbox.fail(_NO_MEMBER, times=1)
    first, second = bot.run("wxid_1", "wxid_1")
    assert _kinds([first, second]) == ["error", "answer"]
    assert _routes(world) == [("upload", "wxid_1")]


def test_a_blind_retry_after_an_unknown_outcome_sends_nothing(world: World, bot: Bot) -> None:
    world.sandbox.fail(_BAD_GATEWAY, times=1)
    *retries, other = bot.run("wxid_1", "wxid_1", "wxid_1", "wxid_2")
    for told in retries:
        kind, words = bot.ended(told)
        assert kind == "DeliveryUnknown"
        assert "Look into that chat" in words
        assert "For 10 minutes" in words
    assert _kinds([other]) == ["answer"]
    assert (world.calls_to("wxid_1"), world.deliveries_to("wxid_1"), world.deliveries_to("wxid_2")) == (1, 1, 1)


def test_unreached_says_that_nothing_was_sent_and_may_be_retried(world: World, bot: Bot) -> None:
    url, host = world.sandbox.base_url, "http://127.0.0.1:1"
    for told in bot.run("wxid_1", "wxid_1", base_url=url.replace(world.sandbox.url, host)):
        kind, words = bot.ended(told)
        assert kind == "GeweUnreachable"
        assert "Nothing was sent" in words
    assert world.sandbox.calls == []


def test_a_database_that_cannot_be_used_is_told_in_the_clients_way(world: World, bot: Bot) -> None:
    bot.run("wxid_1")
    spoils.change(world.database, "UPDATE gewe_cache_schema SET version_num = '9999'")
    (told,) = bot.run("wxid_2")
    kind, words = bot.ended(told)
    assert (kind, "pip install --upgrade gewe-cache" in words) == ("GeweUnreachable", True)
    assert world.calls_to("wxid_2") == 0


@pytest.mark.parametrize("change", [{"token": ""}, {"app_id": ""}, {"image": "no URL"}])
def test_what_no_sender_can_send_is_left_to_the_client(world: World, bot: Bot, change: dict[str, str]) -> None:
    (told,) = bot.run("wxid_1", **change)
    (own,) = bot.run("wxid_1", cached=False, **change)
    assert told == own
    first, second = world.sandbox.calls
    assert (first.app_id, first.img_url, first.ret) == (second.app_id, second.img_url, second.ret)


def test_the_token_is_the_one_that_the_client_has_at_the_time(world: World, bot: Bot) -> None:
    world.sandbox.add_tokens(_SECOND_TOKEN)
    for token, first in ((world.sandbox.token, "answer"), ("", "error")):
        told = bot.run("wxid_1", "wxid_2", "wxid_3", scenario="with_a_new_token", token=token, new_token=_SECOND_TOKEN)
        assert _kinds(told) == [first, "answer", "answer"]
    world.sandbox.fail(_NO_MEMBER, times=None)
    told = bot.run("wxid_1", "wxid_2", scenario="with_a_new_token", new_token=_WRONG_TOKEN)
    assert [call.token_ok for call in world.sandbox.calls][-2:] == [True, False]
    assert _kinds(told) == ["error", "error"]


def test_all_else_of_the_client_is_as_it_was(bot: Bot) -> None:
    described, own = (bot.run(scenario="described", cached=cached) for cached in (True, False))
    assert described == own


def test_wrong_uses_are_refused_at_once(gewechat_bot: Bot) -> None:
    twice, unknown, base_url, timeout, option = gewechat_bot.run(scenario="misused")
    assert twice == ["ValueError", "client: it is cached already; its options stay as they are."]
    assert unknown[0] == "TypeError"
    assert all(part in unknown[1] for part in ("gewechat-client", "opengewe", "gewe-cache serve --upstream"))
    assert (base_url[0], base_url[1].split(":")[0]) == ("ValueError", "base_url")
    assert (timeout[0], timeout[1].split(":")[0]) == ("ValueError", "timeout")
    assert option[0] == "TypeError"


def test_opengewes_own_queue_goes_through_the_cache(world: World, opengewe_bot: Bot) -> None:
    told = opengewe_bot.run("wxid_1", "wxid_2", scenario="queued")
    assert [each["answer"]["ret"] for each in told] == [200, 200]
    assert _routes(world) == [("upload", "wxid_1"), ("forward", "wxid_2")]


def test_a_send_given_up_is_not_made_again_by_a_retry(world: World, opengewe_bot: Bot) -> None:
    plan = world.sandbox.fail(Fault.hang(delivered=True), times=1)
    opengewe_bot.begin("wxid_1", "wxid_2", scenario="given_up")
    assert until(lambda: world.deliveries_to("wxid_1") == 1)
    opengewe_bot.process.say("give up")
    assert opengewe_bot.process.told() == "CancelledError"
    plan.release()
    again, other = opengewe_bot.end()
    assert opengewe_bot.ended(again)[0] == "DeliveryUnknown"
    assert _kinds([other]) == ["answer"]
    assert (world.calls_to("wxid_1"), world.deliveries_to("wxid_2")) == (1, 1)


def test_opengewe_may_be_used_on_one_loop_after_another_and_after_its_close(world: World, opengewe_bot: Bot) -> None:
    told = opengewe_bot.run("wxid_1", "wxid_2", scenario="loop_after_loop")
    assert [each["answer"]["ret"] for each in told] == [200] * 6
    assert [route for route, _ in _routes(world)] == ["upload", *["forward"] * 5]


def test_opengewe_on_two_loops_at_once_is_told_that_nothing_was_sent(world: World, opengewe_bot: Bot) -> None:
    first, second = opengewe_bot.run("wxid_1", "wxid_2", scenario="on_a_second_loop")
    assert list(first) == ["answer"]
    assert opengewe_bot.ended(second)[0] == "GeweUnreachable"
    assert _routes(world) == [("upload", "wxid_1")]
