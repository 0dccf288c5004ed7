"""``gewe-cache serve``, run as an operator runs it."""

from __future__ import annotations

import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gewe_cache.cli import output
from gewe_cache.sandbox import Fault
from tests.cli.running import command, end_of, line_with, press_ctrl_c, run
from tests.faults.kit import until
from tests.server.process import serving

if TYPE_CHECKING:
    from subprocess import Popen

    from tests.server.kit import World


def _request(process: Popen[str]) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(line_with(process, '"request"'))
    return line


def _refuses(base_url: str) -> bool:
    try:
        httpx.get(base_url, trust_env=False)
    except httpx.ConnectError:
        return True
    return False


def test_a_bot_sends_through_it_and_each_request_is_a_json_line(world: World) -> None:
    with serving(world) as (process, base_url):
        routes = [world.post(base_url, to).headers["x-gewe-cache"] for to in ("wxid_1", "wxid_2")]
        lines = [_request(process) for _ in routes]
        press_ctrl_c(process)
        code, rest, problems = end_of(process)
    assert routes == ["upload", "forward"]
    assert [line["cache"] for line in lines] == routes
    assert (code, rest) == (0, "")
    assert problems.count("\n") == 2
    assert f"A bot's base URL: {base_url}" in problems
    assert world.sandbox.token not in problems + json.dumps(lines)


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_told_to_end_it_lets_sends_in_flight_finish(world: World, number: str) -> None:
    if sys.platform == "win32":
        number = "CTRL_BREAK_EVENT"
    plan = world.sandbox.fail(Fault.hold())
    with serving(world, "--no-access-log") as (process, base_url), ThreadPoolExecutor(1) as threads:
        sending = threads.submit(world.post, base_url)
        assert plan.wait_reached()
        process.send_signal(getattr(signal, number))
        assert until(lambda: _refuses(base_url))
        plan.release()
        assert sending.result().json()["ret"] == 200
        code, rest, _ = end_of(process)
    assert (code, rest) == (0, "")
    assert world.deliveries_to("wxid_friend") == 1
    with serving(world) as (_, base_url):  # what was uploaded last is in the database
        assert world.post(base_url, "wxid_next").headers["x-gewe-cache"] == "forward"


def test_killed_in_the_middle_it_sends_nothing_twice(world: World) -> None:
    plan = world.sandbox.fail(Fault.hold(delivered_first=True))
    with serving(world) as (process, base_url), ThreadPoolExecutor(1) as threads:
        sending = threads.submit(world.post, base_url)
        assert plan.wait_reached()
        process.kill()
        assert isinstance(sending.exception(), httpx.TransportError)
        plan.release()
    with serving(world) as (_, base_url):
        assert world.post(base_url, "wxid_next").json()["ret"] == 200
    assert (world.calls_to("wxid_friend"), world.deliveries_to("wxid_friend")) == (1, 1)


def test_warnings_are_json_lines_on_stderr(world: World) -> None:
    world.sandbox.fail(Fault.reset(delivered=True))
    with serving(world) as (process, base_url):
        world.post(base_url)
        press_ctrl_c(process)
        _, _, problems = end_of(process)
    (warning,) = [json.loads(line) for line in problems.splitlines() if line.startswith("{")]
    assert (warning["event"], warning["level"]) == ("log", "WARNING")
    assert warning["message"].startswith("unknown: the upload")


def test_a_port_in_use_is_one_clear_line(world: World) -> None:
    with serving(world) as (_, base_url):
        port = httpx.URL(base_url).port
        result = run(command("serve", "--upstream", world.sandbox.url, "--port", str(port)))
    assert (result.returncode, result.stdout) == (output.EXIT_FAILURE, "")
    assert result.stderr.startswith(f"gewe-cache: Port {port} of 127.0.0.1 cannot be had")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--upstream", "api.geweapi.com"), "--upstream"),
        (("--upstream", "http://h/gewe/v2/api"), "--upstream"),
        (("--upstream", "http://user:pass@h"), "--upstream"),
        (("--upstream", "http://h", "--ttl", "soon"), "--ttl"),
        (("--upstream", "http://h", "--scope", "two words"), "scope"),
        (("--upstream", "http://h", "--token-header", "a b"), "token_header"),
        (("--upstream", "http://h", "--timeout", "0"), "timeout"),
        (("--upstream", "http://h", "--database", "mysql://x"), "database"),
        (("--upstream", "http://h", "--max-body", "0"), "--max-body"),
        ((), "--upstream"),
    ],
)
def test_bad_options_are_bad_usage(options: tuple[str, ...], words: str) -> None:
    result = run(command("serve", *options))
    assert (result.returncode, result.stdout) == (output.EXIT_USAGE, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_schema_that_cannot_be_used_is_said_at_once(world: World, postgres_url: str) -> None:
    result = run(command("serve", "--upstream", world.sandbox.url, "--port", "0", "--database", postgres_url))
    assert (result.returncode, result.stdout) == (output.EXIT_STORE, "")
    assert "gewe-cache db upgrade" in result.stderr


def test_a_database_that_is_away_is_only_said_to_be_so(world: World) -> None:
    world.database = "postgresql://u:secret-password@127.0.0.1:9/none"
    with serving(world) as (process, base_url):
        assert world.post(base_url).json()["ret"] == 200
        press_ctrl_c(process)
        _, _, problems = end_of(process)
    assert "The proxy begins without it" in problems
    assert "secret-password" not in problems


@pytest.mark.parametrize("missing", ["starlette", "starlette_admin", "uvicorn", "prometheus_client"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    result = run(command("serve", "--upstream", "http://h", first=f"import sys; sys.modules[{missing!r}] = None"))
    assert (result.returncode, result.stdout) == (output.EXIT_FAILURE, "")
    assert "pip install 'gewe-cache[server]'" in result.stderr
    assert result.stderr.count("\n") == 1
