"""Health, metrics and the access log: what an operator sees, and what nobody may see."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from gewe_cache.sandbox import Fault
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
from tests.faults.kit import until
from tests.server.kit import Wire

if TYPE_CHECKING:
    from tests.postgres import PostgresServer
    from tests.server.kit import Proxy, World


def _metrics(proxy: Proxy) -> dict[str, float]:
    text = httpx.get(f"{proxy.url}/_gewe-cache/metrics", trust_env=False).text
    pairs = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def _health(proxy: Proxy, path: str = "/healthz") -> tuple[int, dict[str, object]]:
    answer = httpx.get(proxy.url + path, trust_env=False)
    return answer.status_code, answer.json()


def test_metrics_count_what_was_sent(world: World, proxy: Proxy) -> None:
    uploaded = world.post(proxy, "wxid_1").json()["data"]
    world.post(proxy, "wxid_2")
    world.sandbox.fail(Fault.refuse(500, "x", {"code": "-219"}))
    world.post(proxy, "wxid_3")
    world.sandbox.fail(Fault.reset(delivered=True))
    world.post(proxy, "wxid_4")
    world.post(proxy, "wxid_5", {"X-Gewe-Cache": "bypass"})
    httpx.get(f"{proxy.url}/sandbox/", trust_env=False)
    seen = _metrics(proxy)
    sends = "gewe_cache_sends_total"
    assert seen[f'{sends}{{outcome="accepted",route="upload"}}'] == 1
    assert seen[f'{sends}{{outcome="accepted",route="forward"}}'] == 1
    assert seen[f'{sends}{{outcome="refused",route="forward"}}'] == 1
    assert seen[f'{sends}{{outcome="unknown",route="forward"}}'] == 1
    assert seen['gewe_cache_send_seconds_count{route="upload"}'] == 1
    assert seen['gewe_cache_send_seconds_count{route="forward"}'] == 1
    assert seen["gewe_cache_saved_bytes_total"] == uploaded["length"]
    assert seen['gewe_cache_passed_requests_total{status="200",what="bypass"}'] == 1
    assert seen['gewe_cache_passed_requests_total{status="200",what="other"}'] == 1
    assert seen['gewe_cache_entries{state="fresh"}'] == 1
    assert seen["gewe_cache_database_errors_total"] == 0


def test_it_is_live_and_ready(proxy: Proxy) -> None:
    assert _health(proxy) == (200, {"live": True, "ready": True, "database": "ready"})
    assert _health(proxy, "/healthz/ready")[0] == 200
    assert _health(proxy, "/healthz/live") == (200, {"live": True})


def test_without_its_database_it_is_ready_all_the_same(world: World, postgres_server: PostgresServer) -> None:
    database = open_database(postgres_server.url)
    migrate.upgrade(database)
    database.dispose()
    proxy = world.open(database=postgres_server.url)
    assert _health(proxy)[1]["database"] == "ready"
    postgres_server.stop()
    assert until(lambda: _health(proxy)[1]["database"] == "away")
    assert _health(proxy)[0] == 200
    assert world.post(proxy).json()["ret"] == 200
    assert until(lambda: _metrics(proxy)["gewe_cache_database_errors_total"] > 0)
    postgres_server.start()
    assert until(lambda: _health(proxy)[1]["database"] == "ready")


def test_with_a_schema_that_cannot_be_used_it_is_not_ready_and_sends_nothing(world: World, postgres_url: str) -> None:
    proxy = world.open(database=postgres_url)
    status, health = _health(proxy)
    assert (status, health["ready"], health["database"]) == (503, False, "unusable")
    answer = world.post(proxy)
    assert (answer.status_code, answer.json()["ret"]) == (503, 503)
    assert "gewe-cache db upgrade" in answer.json()["msg"]
    assert world.sandbox.calls == []


def test_what_is_the_servers_own_is_never_passed_on(world: World, proxy: Proxy) -> None:
    for path in ("/_gewe-cache/", "/_gewe-cache/none", "/healthz/live"):
        httpx.get(proxy.url + path, trust_env=False)
    assert world.sandbox.calls == []
    assert httpx.get(f"{proxy.url}/_gewe-cache/none", trust_env=False).status_code == 404
    assert proxy.lines() == []


def test_the_access_log_tells_all_but_secrets(world: World, proxy: Proxy) -> None:
    world.post(proxy, "wxid_1")
    line = proxy.line_of("wxid_1")
    assert {"time", "client", "seconds", "received", "sent", "new_msg_id"} <= line.keys()
    assert (line["event"], line["method"], line["status"], line["cache"], line["outcome"]) == (
        "request",
        "POST",
        200,
        "upload",
        "accepted",
    )
    token = world.sandbox.token
    with Wire(proxy) as wire:
        head = f"GET /a/{token}b?sign={token} HTTP/1.1\r\nHost: x\r\nX-GEWE-TOKEN: {token}\r\n"
        wire.send(f"{head}Connection: close\r\n\r\n".encode())
        wire.read_all()
    assert until(lambda: len(proxy.lines()) == 2)
    assert proxy.lines()[1]["path"] == "/a/***b"


@pytest.mark.parametrize("header", ["VideosApi-token", "X-finder-TOKEN", "X-My-Token"])
def test_tokens_of_other_services_are_kept_out_too(world: World, header: str) -> None:
    proxy = world.open(token_headers=("X-GEWE-TOKEN", "VideosApi-token", "X-finder-TOKEN", "X-My-Token"))
    httpx.get(f"{proxy.url}/x/their-secret", headers={header: "their-secret"}, trust_env=False)
    assert until(proxy.lines)
    assert "their-secret" not in json.dumps(proxy.lines())
