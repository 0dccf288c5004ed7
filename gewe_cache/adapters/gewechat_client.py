"""``GewechatClient`` of gewechat-client: sync, raises ``RuntimeError`` for whatever is not ``ret`` 200.

Its ``post_image`` calls that of its ``MessageApi``, which holds base URL and token; that one is replaced.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gewe_cache.adapters.endings import PLACEHOLDER_TOKEN, Ending, Endings, SenderOptions, read_call, words_of
from gewe_cache.errors import GeweRefused
from gewe_cache.gewe.post_image import accepted_answer, encode_answer, refused_answer, refused_status
from gewe_cache.sending.sender import ImageSender
from gewe_cache.settings import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_CLIENT_ERROR, _FIRST_SERVER_ERROR = 400, 500


class CachedGewechatClient:
    """Stands in for the ``post_image`` of one client."""

    def __init__(self, client: Any, options: SenderOptions) -> None:  # noqa: ANN401 - its package is not imported
        """Take the place of the client's own."""
        self._api = client._message_api  # noqa: SLF001 - it gives no other way to its base URL and token
        self._own_post_image = self.find_post_image(client)
        self._options = options
        self._making = threading.Lock()
        self._held = self._make(self._api.base_url, self._api.token or PLACEHOLDER_TOKEN)
        self._endings = Endings(options.get("ignore_query", ()))
        self._api.post_image = self.post_image

    @staticmethod
    def find_post_image(client: Any) -> Callable[..., Any]:  # noqa: ANN401
        """Find the method whose place it takes."""
        found: Callable[..., Any] = client._message_api.post_image  # noqa: SLF001 - it gives no other way
        return found

    def post_image(self, app_id: str, to_wxid: str, img_url: str) -> dict[str, Any]:
        """发送图片消息."""
        call = read_call(app_id, to_wxid, img_url)
        sender = self._sender()
        if call is None or sender is None:
            own: dict[str, Any] = self._own_post_image(app_id, to_wxid, img_url)
            return own
        ending: Ending | None = self._endings.unknown_of(call)
        if ending is None:
            started_at = utc_now()
            try:
                return accepted_answer(sender.send_image(call.to_wxid, call.image, app_id=call.app_id))
            except Exception as error:  # noqa: BLE001 - a client's callers know RuntimeError alone
                ending = self._endings.ending_of(call, error, started_at)
            except BaseException as interruption:  # Ctrl-C, or a time-out of gevent's, while the call may be out
                self._endings.ending_of(call, interruption, started_at)
                raise
        raise RuntimeError(self._words(ending)) from ending

    def _words(self, ending: Ending) -> str:
        """Give the client's own words for a refusal: GeWe's JSON, or requests' words for an HTTP error."""
        if not isinstance(ending, GeweRefused):
            return words_of(ending)
        status = refused_status(ending)
        if status < _FIRST_CLIENT_ERROR:
            return encode_answer(refused_answer(ending)).decode()
        whose = "Client" if status < _FIRST_SERVER_ERROR else "Server"
        return f"{status} {whose} Error: {_phrase(status)} for url: {self._api.base_url}/message/postImage"

    def _sender(self) -> ImageSender | None:
        """Give the sender of the client's present account; None where no sender can have it.

        One that is replaced closes itself when its last send has ended.
        """
        account = (self._api.base_url, self._api.token)
        held_account, sender = self._held
        if held_account == account:
            return sender
        with self._making:
            if self._held[0] != account:
                try:
                    self._held = self._make(*account)
                except ValueError:
                    return None
            return self._held[1]

    def _make(self, base_url: str, token: str) -> tuple[tuple[str, str], ImageSender]:
        return (base_url, token), ImageSender(token, base_url=base_url, **self._options)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
