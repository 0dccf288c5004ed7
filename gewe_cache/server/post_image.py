"""``postImage`` through the cache: sent in the client's place, and answered as GeWe would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gewe_cache.errors import DeliveryUnknown, GeweRefused, GeweUnreachable, InvalidImage, StoreError
from gewe_cache.log import Log
from gewe_cache.server import answers
from gewe_cache.server.access_log import secrets_of
from gewe_cache.server.exchange import ClientLeftError
from gewe_cache.server.passing import pass_on
from gewe_cache.server.reading import MAX_CALL_BYTES, find_account, read_post_image, read_wish
from gewe_cache.server.troubles import OUTCOMES, Troubles
from gewe_cache.text import redact

if TYPE_CHECKING:
    from gewe_cache.gewe.pass_through import PassThrough
    from gewe_cache.image import SentImage
    from gewe_cache.server.answers import Answer
    from gewe_cache.server.exchange import Exchange
    from gewe_cache.server.files import Files
    from gewe_cache.server.metrics import Metrics
    from gewe_cache.server.reading import Account, PostImage
    from gewe_cache.server.senders import Senders
    from gewe_cache.server.settings import ServerSettings

_log = Log("gewe_cache.server")

_STOPPED = (
    "The proxy was stopped while this send was under way. It may have been sent: look into that chat before you "
    "send it again."
)
_FILE_IS_GONE = (
    "imgUrl: the file is not here, or no longer (it was sent, has expired, or was posted to another server), and its "
    "image is not in the cache of this account. Post it to /_gewe-cache/files again."
)
_BROKEN = (
    "The proxy failed while this send was under way. It may have been sent: look into that chat before you send it "
    "again. The proxy's log tells more."
)


class PostImageCalls:
    """Serves ``postImage``."""

    def __init__(
        self,
        settings: ServerSettings,
        senders: Senders,
        upstream: PassThrough,
        metrics: Metrics,
        files: Files,
        troubles: Troubles,
    ) -> None:
        """Put the parts together."""
        self._settings = settings
        self._senders = senders
        self._upstream = upstream
        self._metrics = metrics
        self._files = files
        self._troubles = troubles

    async def serve(self, exchange: Exchange, base_path: bytes) -> None:
        """Send the image, or pass the request on where a sender cannot send it whole.

        Raises:
            BodyTooLongError, BodyTooSlowError, ClientLeftError: nothing was sent, or what was sent is recorded.
        """
        wish = read_wish(exchange.headers)
        if wish is None:
            await exchange.answer(answers.bad_request(400, "X-Gewe-Cache: write bypass or refresh, or leave it out."))
            return
        if wish == "bypass":
            await self._bypass(exchange, exchange.chunks())
            return
        base_url = self._settings.upstream + base_path.decode("ascii")
        account = find_account(base_url, exchange.headers, self._settings.token_headers)
        body = exchange.chunks()
        begun = await _read_up_to(body, MAX_CALL_BYTES)
        call = read_post_image(exchange.headers, begun) if len(begun) <= MAX_CALL_BYTES else None
        if account is None or call is None:
            await self._bypass(exchange, _joined(begun, body))
            return
        exchange.noted.more.update(app_id=call.app_id, to_wxid=call.to_wxid)
        with self._files.lend(call.image) as lent:
            sent_call = replace(call, image=lent.image)
            answer = await self._send(exchange, account, sent_call, refresh=wish == "refresh")
            lent.is_sent = exchange.noted.more.get("outcome") == "accepted"
        await exchange.answer(answer)

    async def _bypass(self, exchange: Exchange, body: AsyncIterator[bytes]) -> None:
        exchange.noted.more.update(cache="bypass")
        await pass_on(exchange, self._upstream, body, is_bypass=True)

    async def _send(self, exchange: Exchange, account: Account, call: PostImage, *, refresh: bool) -> Answer:
        began = time.monotonic()
        try:
            async with self._senders.borrow(account) as sender:
                sent = await _unless_gone(
                    exchange, sender.send_image(call.to_wxid, call.image, app_id=call.app_id, refresh=refresh)
                )
        except ClientLeftError:
            self._note(exchange, "none", "left")
            raise
        except GeweRefused as error:
            self._note(exchange, error.route or "none", "refused", told=error.words, ret=error.ret)
            return answers.refused(error)
        except (GeweUnreachable, InvalidImage, StoreError) as error:
            return self._nothing_sent(exchange, error)
        except DeliveryUnknown as error:
            self._note(exchange, error.route, "unknown", why=error.reason)
            return answers.unknown(str(error), error.route)
        except asyncio.CancelledError:
            self._note(exchange, "none", "unknown", why="the proxy was stopped")
            return answers.unknown(_STOPPED)
        except Exception:  # noqa: BLE001 - whatever it was, the message may be out
            _log.exception("a send failed in a way that was not foreseen; it may have been sent")
            self._note(exchange, "none", "unknown", why="unforeseen")
            return answers.unknown(_BROKEN)
        self._note_accepted(exchange, sent, time.monotonic() - began)
        return answers.accepted(sent)

    def _nothing_sent(self, exchange: Exchange, error: GeweUnreachable | InvalidImage | StoreError) -> Answer:
        if isinstance(error, InvalidImage):  # only a file that was handed in here: a URL has been checked by now
            self._note(exchange, "none", "gone")
            return answers.bad_request(404, _FILE_IS_GONE, closes=False)
        self._note(exchange, "none", "unreached", why=str(error))
        return answers.unreached(str(error))

    def _note(self, exchange: Exchange, route: str, outcome: str, *, told: str = "", **more: object) -> None:
        self._metrics.sends.labels(route, outcome).inc()
        exchange.noted.more.update(cache=route, outcome=outcome, **more)
        if outcome in OUTCOMES:
            secrets = secrets_of(exchange, self._settings.token_headers)
            words = redact(told or str(more.get("why", "")), secrets)
            self._troubles.note(words, exchange.noted.more)

    def _note_accepted(self, exchange: Exchange, sent: SentImage, seconds: float) -> None:
        self._note(exchange, sent.route, "accepted", new_msg_id=sent.new_msg_id)
        if sent.fell_back:
            exchange.noted.more.update(cache="fell-back")
        self._metrics.seconds.labels(sent.route).observe(seconds)
        if sent.route == "forward" and sent.image is not None:
            self._metrics.bytes_saved.inc(sent.image.length or 0)


async def _unless_gone(exchange: Exchange, send: Coroutine[Any, Any, SentImage]) -> SentImage:
    """Wait for a send while its client waits too.

    A send whose client leaves is cancelled, and so is one whose server is stopped: what has not gone out is
    dropped, what has is finished and recorded by the sender.
    """
    sending = asyncio.ensure_future(send)
    leaving = asyncio.ensure_future(exchange.gone())
    try:
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            return sending.result()
        raise ClientLeftError
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)


async def _read_up_to(body: AsyncIterator[bytes], size: int) -> bytes:
    """Read until there is more than ``size``, or no more."""
    begun = bytearray()
    async for chunk in body:
        begun += chunk
        if len(begun) > size:
            break
    return bytes(begun)


async def _joined(begun: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if begun:
        yield begun
    async for chunk in rest:
        yield chunk
