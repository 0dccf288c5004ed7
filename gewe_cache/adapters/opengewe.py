"""``GeweClient`` of opengewe: async, raises nothing, answers with a dict whose ``ret`` tells.

All its ways of sending an image come to the ``post_image`` of its ``MessageModule``; that one is replaced. Its advanced
queue sends from workers of its own, with clients of their own: those need the proxy.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gewe_cache.adapters.endings import PLACEHOLDER_TOKEN, Call, Ending, Endings, SenderOptions, read_call, words_of
from gewe_cache.errors import GeweRefused, GeweUnreachable
from gewe_cache.gewe.post_image import accepted_answer, refused_answer, refused_status
from gewe_cache.sending.async_sender import AsyncImageSender
from gewe_cache.settings import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_CLIENT_ERROR = 400
_UNREACHED, _UNKNOWN = 503, 504


@dataclass(slots=True)
class _Held:
    account: tuple[str, str] = field(repr=False)
    sender: AsyncImageSender
    loop: asyncio.AbstractEventLoop | None = None


class CachedOpengewe:
    """Stands in for the ``post_image`` of one client."""

    def __init__(self, client: Any, options: SenderOptions) -> None:  # noqa: ANN401 - its package is not imported
        """Take the place of the client's own; its ``close`` closes the sender too."""
        self._client = client
        self._own_post_image = self.find_post_image(client)
        self._options = options
        self._closing: set[asyncio.Task[None]] = set()
        self._held: _Held | None = self._make(client.base_url, client.token or PLACEHOLDER_TOKEN)
        self._endings = Endings(options.get("ignore_query", ()))
        self._own_close = client.close
        client.message.post_image = self.post_image
        client.close = self.close

    @staticmethod
    def find_post_image(client: Any) -> Callable[..., Any]:  # noqa: ANN401
        """Find the method whose place it takes."""
        found: Callable[..., Any] = client.message.post_image
        return found

    async def post_image(self, to_wxid: str, image_url: str) -> dict[str, Any]:
        """发送图片消息."""
        call = read_call(self._client.app_id, to_wxid, image_url)
        try:
            sender = self._sender()
        except GeweUnreachable as error:
            return _answer(error)
        if call is None or sender is None:
            own: dict[str, Any] = await self._own_post_image(to_wxid, image_url)
            return own
        return _answer(self._endings.unknown_of(call) or await self._send(sender, call))

    async def close(self) -> None:
        """关闭客户端连接."""
        try:
            await self._own_close()
        finally:
            await self._close_senders()

    async def _send(self, sender: AsyncImageSender, call: Call) -> dict[str, Any] | Ending:
        started_at = utc_now()
        try:
            return accepted_answer(await sender.send_image(call.to_wxid, call.image, app_id=call.app_id))
        except asyncio.CancelledError as error:  # a call that is out is seen to its end
            self._endings.ending_of(call, error, started_at)
            raise
        except Exception as error:  # noqa: BLE001 - a client's callers know answers alone
            return self._endings.ending_of(call, error, started_at)

    def _sender(self) -> AsyncImageSender | None:
        """Give the sender of the client's present account and loop; None where no sender can have that account.

        Raises:
            GeweUnreachable: the client is in use on another event loop.
        """
        loop, account = asyncio.get_running_loop(), (self._client.base_url, self._client.token)
        held = self._held
        if held is not None and held.loop not in (None, loop):
            if not held.loop.is_closed():
                msg = "This client is in use on another event loop. Nothing was sent. Make one per loop."
                raise GeweUnreachable(msg)
            held = None
        if held is None or held.account != account:
            try:
                made = self._make(*account)
            except ValueError:
                return None
            if held is not None:
                self._close_later(held.sender)
            held = self._held = made
        held.loop = loop
        return held.sender

    def _make(self, base_url: str, token: str) -> _Held:
        return _Held((base_url, token), AsyncImageSender(token, base_url=base_url, **self._options))

    def _close_later(self, sender: AsyncImageSender) -> None:
        task = asyncio.get_running_loop().create_task(sender.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_senders(self) -> None:
        held, self._held = self._held, None
        if held is not None and held.loop in (None, asyncio.get_running_loop()):
            self._close_later(held.sender)
        while self._closing:
            await asyncio.wait(self._closing)


def _answer(ending: dict[str, Any] | Ending) -> dict[str, Any]:
    """Answer as the client does."""
    if isinstance(ending, dict):
        return ending
    if not isinstance(ending, GeweRefused):
        ret = _UNREACHED if isinstance(ending, GeweUnreachable) else _UNKNOWN
        return {"ret": ret, "msg": words_of(ending), "data": None}
    answer, status = refused_answer(ending), refused_status(ending)
    if status < _FIRST_CLIENT_ERROR:
        return answer
    return {"ret": status, "msg": f"HTTP错误 {status}: {answer.get('msg', '未知错误')}", "data": None}
