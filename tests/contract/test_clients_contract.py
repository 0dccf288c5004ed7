"""Clients that callers bring along, loops and context managers."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import httpx2
import pytest
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

from gewe_cache import AsyncImageSender, GeweRefused, GeweUnreachable, ImageSender, InvalidImage
from gewe_cache.sandbox import Fault, Sandbox
from gewe_cache.store.engine import Database
from tests.contract.conftest import SHORT

FRIEND = "wxid_friend"
SYNC_CLIENTS = {"httpx": httpx.Client, "httpx2": httpx2.Client}
ASYNC_CLIENTS = {
    "httpx": httpx.AsyncClient,
    "httpx2": httpx2.AsyncClient,
    "httpx-aiohttp client": HttpxAiohttpClient,
    "httpx-aiohttp transport": lambda **options: httpx.AsyncClient(transport=AiohttpTransport(), **options),
}


def arguments(sandbox: Sandbox, database: Database, **changes: Any) -> dict[str, Any]:
    return {
        "token": sandbox.token,
        "app_id": sandbox.app_id,
        "base_url": sandbox.base_url,
        "database": database.url.render_as_string(hide_password=False),
        "_tuning": SHORT,
    } | changes


@pytest.mark.parametrize("make", SYNC_CLIENTS.values(), ids=SYNC_CLIENTS.keys())
def test_a_client_passed_in_is_used_and_left_open(sandbox: Sandbox, database: Database, make: Any) -> None:
    image = sandbox.make_image("poster.png")
    with make(headers={"X-Own": "1"}, trust_env=False) as client:
        with ImageSender(**arguments(sandbox, database, http_client=client)) as sender:
            assert [sender.send_image(FRIEND, image).route for _ in range(3)] == ["upload", "forward", "forward"]
        assert not client.is_closed
        assert client.get(sandbox.url).status_code < 500
    assert len(sandbox.calls) == 3


@pytest.mark.parametrize("make", ASYNC_CLIENTS.values(), ids=ASYNC_CLIENTS.keys())
async def test_an_async_client_passed_in_is_used_and_left_open(
    sandbox: Sandbox,
    database: Database,
    make: Any,
) -> None:
    image = sandbox.make_image("poster.png")
    async with make(trust_env=False) as client:
        async with AsyncImageSender(**arguments(sandbox, database, http_client=client)) as sender:
            assert [(await sender.send_image(FRIEND, image)).route for _ in range(3)] == [
                "upload",
                "forward",
                "forward",
            ]
        assert not client.is_closed
        assert (await client.get(sandbox.url)).status_code < 500
    assert len(sandbox.calls) == 3


@pytest.mark.parametrize("make", SYNC_CLIENTS.values(), ids=SYNC_CLIENTS.keys())
def test_a_client_that_follows_redirects_is_not_let_to(sandbox: Sandbox, database: Database, make: Any) -> None:
    sandbox.fail(Fault.answer(b"", 302, delivered=False))
    with (
        make(follow_redirects=True, trust_env=False) as client,
        ImageSender(**arguments(sandbox, database, http_client=client)) as sender,
        pytest.raises(GeweRefused, match="HTTP 302"),
    ):
        sender.send_image(FRIEND, sandbox.make_image("poster.png"))
    assert len(sandbox.calls) == 1


@pytest.mark.parametrize("make", SYNC_CLIENTS.values(), ids=SYNC_CLIENTS.keys())
def test_a_closed_client_sends_nothing(sandbox: Sandbox, database: Database, make: Any) -> None:
    client = make(trust_env=False)
    client.close()
    with (
        ImageSender(**arguments(sandbox, database, http_client=client)) as sender,
        pytest.raises(GeweUnreachable, match=r"http_client passed in is closed\). Nothing was sent to wxid_friend"),
    ):
        sender.send_image(FRIEND, sandbox.make_image("poster.png"))
    assert sandbox.calls == []


@pytest.mark.parametrize("make", ASYNC_CLIENTS.values(), ids=ASYNC_CLIENTS.keys())
async def test_a_closed_async_client_sends_nothing(sandbox: Sandbox, database: Database, make: Any) -> None:
    client = make(trust_env=False)
    await client.aclose()
    async with AsyncImageSender(**arguments(sandbox, database, http_client=client)) as sender:
        with pytest.raises(GeweUnreachable, match="Nothing was sent"):
            await sender.send_image(FRIEND, sandbox.make_image("poster.png"))
    assert sandbox.calls == []


def test_an_async_sender_belongs_to_one_loop(sandbox: Sandbox, database: Database) -> None:
    image = sandbox.make_image("poster.png")
    with asyncio.Runner() as first, asyncio.Runner() as second:
        sender = AsyncImageSender(**arguments(sandbox, database))
        first.run(sender.send_image(FRIEND, image))
        for call in (sender.send_image(FRIEND, image), sender.lookup(image), sender.forget(image)):
            with pytest.raises(RuntimeError, match=r"another event loop\. Nothing was sent\. Make one per loop"):
                second.run(call)
        assert first.run(sender.send_image(FRIEND, image)).route == "forward"
        first.run(sender.aclose())
    assert len(sandbox.calls) == 2


def test_an_async_sender_is_made_without_a_loop(sandbox: Sandbox, database: Database) -> None:
    sender = AsyncImageSender(**arguments(sandbox, database))

    async def use() -> str:
        async with sender:
            return (await sender.send_image(FRIEND, sandbox.make_image("poster.png"))).route

    assert asyncio.run(use()) == "upload"


def test_context_managers_close_and_let_errors_through(sandbox: Sandbox, database: Database) -> None:
    with pytest.raises(InvalidImage), ImageSender(**arguments(sandbox, database)) as sender:
        sender.send_image(FRIEND, "ftp://h/a")
    with pytest.raises(RuntimeError, match="closed"):
        sender.lookup("https://h/a")


async def test_async_context_managers_close_and_let_errors_through(sandbox: Sandbox, database: Database) -> None:
    with pytest.raises(InvalidImage):
        async with AsyncImageSender(**arguments(sandbox, database)) as sender:
            await sender.send_image(FRIEND, "ftp://h/a")
    with pytest.raises(RuntimeError, match="closed"):
        await sender.lookup("https://h/a")


@pytest.mark.parametrize("header", ["VideosApi-token", "X-finder-TOKEN"])
def test_other_services_have_other_headers_and_paths(database: Database, header: str) -> None:
    with Sandbox(token_header=header) as other:
        changes = {"token_header": header, "base_url": f"{other.url}/v2/api/"}
        with ImageSender(**arguments(other, database, **changes)) as sender:
            assert sender.send_image(FRIEND, other.make_image("poster.png")).route == "upload"
