"""Other people's clients, wrapped: their ``post_image`` goes through the cache, all else stays as it is.

None of their packages is imported: a client is known by its class's name.
"""

from __future__ import annotations

from typing import TypeVar, Unpack

from gewe_cache.adapters.endings import SenderOptions
from gewe_cache.adapters.gewechat_client import CachedGewechatClient
from gewe_cache.adapters.opengewe import CachedOpengewe

Client = TypeVar("Client")

_ADAPTERS: dict[str, type[CachedGewechatClient | CachedOpengewe]] = {
    "gewechat_client.client.GewechatClient": CachedGewechatClient,
    "opengewe.client.GeweClient": CachedOpengewe,
}


def cached(client: Client, **options: Unpack[SenderOptions]) -> Client:
    """Let a client's ``post_image`` upload an image once and forward it ever after.

    The client itself is changed and returned: whoever holds it already, its own queues and plugins for instance,
    gets the cache too. ``post_image`` keeps its signature, return shape and exceptions:

    * accepted: ``postImage``'s answer, whichever route was taken;
    * refused: what the client makes of GeWe's refusal, with GeWe's ``ret``, ``msg`` and ``data``;
    * unreached, nothing was sent: ``RuntimeError`` from gewechat-client, ``ret`` 503 from opengewe;
    * unknown, it may have been sent: ``RuntimeError``, or ``ret`` 504. For 10 minutes the same call (device,
      recipient and image) of this client is not made again, and ends in the same way: a bot that retries whatever
      fails does not send twice. A cancelled call of opengewe counts as unknown.

    The ``__cause__`` of such a ``RuntimeError`` is the ``GeweRefused``, ``GeweUnreachable`` or ``DeliveryUnknown``. A
    call that no sender can make (an empty token, an ``img_url`` that is no URL) is left to the client.

    The sender, one per client, has the base URL and token that the client has at the time. opengewe's ``close`` closes
    it too; that of gewechat-client, which has none, is closed when the client is collected, or at exit. A cached
    GewechatClient may be shared by threads; a cached GeweClient belongs to one event loop at a time.

    Args:
        client: a ``GewechatClient`` of gewechat-client or a ``GeweClient`` of opengewe.
        options: ``database``, ``scope``, ``ttl``, ``timeout``, ``ignore_query`` and ``http_client``, as
            ``ImageSender`` takes them.

    Raises:
        TypeError: the client is of another kind; the proxy serves all others.
        ValueError: the client is cached already, or an option or its base URL is unusable.
        StoreError: PostgreSQL's driver is not installed.
    """
    adapter = _adapter_of(client)
    owner = getattr(adapter.find_post_image(client), "__self__", None)
    if type(owner) is adapter:
        msg = "client: it is cached already; its options stay as they are."
        raise ValueError(msg)
    adapter(client, options)
    return client


def _adapter_of(client: object) -> type[CachedGewechatClient | CachedOpengewe]:
    for kind in type(client).__mro__:
        adapter = _ADAPTERS.get(f"{kind.__module__}.{kind.__qualname__}")
        if adapter is not None:
            return adapter
    msg = (
        f"client: pass a GewechatClient of gewechat-client or a GeweClient of opengewe, not "
        f"{type(client).__module__}.{type(client).__qualname__}. Every other client gets the cache by its base URL: "
        f"run gewe-cache serve --upstream URL."
    )
    raise TypeError(msg)
