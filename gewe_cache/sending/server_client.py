"""A running ``gewe-cache serve``, used as its clients use it: images handed in, and sends in its place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gewe_cache.errors import DeliveryUnknown, GeweUnreachable, InvalidImage, PublishFailed
from gewe_cache.gewe.transport import SyncTransport
from gewe_cache.gewe.wire import Accepted, Refused, Reply, Unknown, Unreached, read_reply, upload_request
from gewe_cache.image import SentImage
from gewe_cache.settings import DEFAULT_TOKEN_HEADER, check_origin, check_token, check_token_header, utc_now
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from gewe_cache.gewe.transport import Posted
    from gewe_cache.gewe.wire import Request
    from gewe_cache.image import Image, Route
    from gewe_cache.local_image import LocalImage
    from gewe_cache.sending.publishing import Publisher
    from gewe_cache.settings import Settings

FILES_PATH = "/_gewe-cache/files"

_CREATED, _UNREACHED = 201, 503
_HAND_IN_SECONDS = 120.0
_SEND_SECONDS = 600.0  # the device's queue at the server included


def publish_to_server(server: str, token: str, *, token_header: str = DEFAULT_TOKEN_HEADER) -> Publisher:
    """Give a ``publish=`` that has images hosted by a running ``gewe-cache serve --public-url …``.

    It takes at most 120 s an image. Where the server cannot be reached or does not take the image, it raises
    ``PublishFailed``; nothing was sent. The server's URL works until the image was sent, or for 15 minutes.

    Args:
        server: where it listens, such as ``http://127.0.0.1:8720``.
        token: GeWe's token, as for a sender.
        token_header: the header that carries it.

    Raises:
        ValueError: naming the argument that is unusable.
    """
    origin = check_origin("server", server)
    headers = {check_token_header(token_header): check_token(token)}

    def publish(image: LocalImage) -> str:
        transport = SyncTransport()
        try:
            return _hand_in(transport, origin, headers, image)
        finally:
            transport.close()

    return publish


class ServerClient:
    """Sends through a server: its queues, its cache. Not to be shared between threads."""

    def __init__(self, server: str, settings: Settings, timeout: float | None = None) -> None:
        """Connect to nothing yet.

        Args:
            server: where it listens.
            settings: the token, the device, and the path of the base URL.
            timeout: seconds of a whole send; by default 600, as it may queue at the server.

        Raises:
            ValueError: ``server`` is unusable, or there is no device.
        """
        if settings.app_id is None:
            msg = "app_id: pass --app-id, the device to send from (GEWE_APP_ID). Nothing was sent."
            raise ValueError(msg)
        self._app_id = settings.app_id
        self._origin = check_origin("--server", server)
        self._base_url = self._origin + urlsplit(settings.base_url).path
        self._token = settings.token
        self._headers = {settings.token_header: settings.token}
        self._timeout = _SEND_SECONDS if timeout is None else timeout
        self._transport = SyncTransport()
        self._handed_in: dict[str, str] = {}

    def send_image(self, to_wxid: str, image: Image, *, refresh: bool = False) -> SentImage:
        """Send an image; a local one is handed in first, once.

        Raises:
            InvalidImage, PublishFailed: nothing was sent.
            GeweRefused: nothing was sent; what the server itself does not take is refused as well.
            GeweUnreachable: the server could not be reached, or could not reach GeWe. Nothing was sent.
            DeliveryUnknown: it may have been sent.
        """
        url = image.url or self._url_of(image)
        request = upload_request(self._app_id, to_wxid, url, secrets=(url,) if image.url is None else ())
        headers = {"Content-Type": "application/json", **self._headers}
        if refresh:
            headers["X-Gewe-Cache"] = "refresh"
        began_at = utc_now()
        posted = self._transport.post(f"{self._base_url}{request.path}", headers, request.body, self._timeout)
        outcome = self._outcome(request, posted)
        if isinstance(outcome, Refused):
            raise outcome.error
        cache = posted.headers.get("x-gewe-cache", "") if isinstance(posted, Reply) else ""
        route: Route = "forward" if cache == "forward" else "upload"
        if not isinstance(outcome, Accepted):
            raise DeliveryUnknown(to_wxid, self._app_id, route, began_at, outcome.reason)
        return SentImage(
            to_wxid=to_wxid,
            app_id=self._app_id,
            route=route,
            msg_id=outcome.msg_id,
            new_msg_id=outcome.new_msg_id,
            create_time=outcome.create_time,
            image=None,
            fell_back=cache == "fell-back",
        )

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _url_of(self, image: Image) -> str:
        if image.local is None:
            msg = "image: a server needs the URL or the file; an md5 alone goes without --server. Nothing was sent."
            raise InvalidImage(msg)
        url = self._handed_in.get(image.local.md5)
        if url is None:
            url = self._handed_in[image.local.md5] = _hand_in(self._transport, self._origin, self._headers, image.local)
        return url

    def _outcome(self, request: Request, posted: Posted) -> Accepted | Refused | Unknown:
        if isinstance(posted, Unreached):
            raise GeweUnreachable(_unreached(self._origin, posted))
        if not isinstance(posted, Reply):
            return posted
        if posted.status == _UNREACHED and (answer := _json(posted)).get("ret") == _UNREACHED:
            raise GeweUnreachable(one_line(answer.get("msg"), 1000))
        return read_reply(request, posted, self._token)


def _hand_in(transport: SyncTransport, origin: str, headers: dict[str, str], image: LocalImage) -> str:
    """Have a server host an image; give its URL."""
    content = image.read()
    typed = {"Content-Type": image.content_type, **headers}
    posted = transport.post(f"{origin}{FILES_PATH}", typed, content, _HAND_IN_SECONDS)
    if isinstance(posted, Unreached):
        raise PublishFailed(_unreached(origin, posted))
    if not isinstance(posted, Reply):
        msg = f"The server at {origin} did not answer ({posted.reason}). Nothing was sent. Send again."
        raise PublishFailed(msg)
    answer = _json(posted)
    url = answer.get("url")
    if posted.status != _CREATED or not isinstance(url, str):
        why = one_line(answer.get("msg"), 500) or "is it gewe-cache serve? Nothing was sent."
        msg = f"The server at {origin} did not take the image (HTTP {posted.status}): {why}"
        raise PublishFailed(msg)
    return url


def _unreached(origin: str, posted: Unreached) -> str:
    return (
        f"The server at {origin} could not be reached ({posted.reason}). Nothing was sent. Is gewe-cache serve running "
        f"there? Check --server (GEWE_CACHE_SERVER)."
    )


def _json(reply: Reply) -> dict[str, Any]:
    try:
        answer = json.loads(reply.body or b"")
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
