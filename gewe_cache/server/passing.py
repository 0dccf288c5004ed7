"""Requests that are passed on unchanged, and streamed both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gewe_cache.gewe.pass_through import BrokenOffError, Passed
from gewe_cache.gewe.wire import Unreached
from gewe_cache.log import Log
from gewe_cache.server import answers
from gewe_cache.server.reading import CACHE_HEADER, end_to_end, headers_to_pass

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gewe_cache.gewe.pass_through import PassThrough
    from gewe_cache.gewe.wire import Unknown
    from gewe_cache.server.exchange import Exchange

_log = Log("gewe_cache.server")


async def pass_on(
    exchange: Exchange, upstream: PassThrough, body: AsyncIterator[bytes], *, is_bypass: bool = False
) -> None:
    """Pass a request on, and its answer back; ``is_bypass``: it is a ``postImage`` that a sender cannot send.

    Raises:
        BodyTooLongError, BodyTooSlowError, ClientLeftError: and GeWe has not got the whole request.
    """
    headers = headers_to_pass(exchange.headers)
    async with upstream.open(exchange.method, exchange.target, headers, body) as opened:
        if not isinstance(opened, Passed):
            await exchange.answer(_no_answer(exchange.method, opened, is_bypass=is_bypass))
            return
        await _pass_back(exchange, opened, is_bypass=is_bypass)


async def _pass_back(exchange: Exchange, opened: Passed, *, is_bypass: bool) -> None:
    headers = end_to_end(opened.headers)
    if is_bypass:
        headers = [*(pair for pair in headers if pair[0].lower() != CACHE_HEADER), (CACHE_HEADER, b"bypass")]
    await exchange.start(opened.status, headers)
    try:
        async for chunk in opened.chunks:
            await exchange.write(chunk)
    except BrokenOffError as error:
        _log.warning("an answer of GeWe's broke off under way (%s), and so did what its client got", error)
        await exchange.abort()
    else:
        await exchange.write(b"", is_last=True)


def _no_answer(method: str, opened: Unreached | Unknown, *, is_bypass: bool) -> answers.Answer:
    cache = "bypass" if is_bypass else ""
    if isinstance(opened, Unreached):
        return answers.unreached(f"GeWe could not be reached ({opened.reason}). Nothing was sent. Send again.", cache)
    why = (
        f"GeWe's answer did not come ({opened.reason}). The request may have been carried out: "
        f"look before you send it again."
    )
    return answers.no_answer(method, why, cache)
