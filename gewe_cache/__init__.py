"""Upload an image to WeChat once; forward it ever after.

``ImageSender`` and ``AsyncImageSender`` send images through GeWe. The first send of an image uploads it and
keeps the CDN information that comes back; later sends forward it, which moves no image bytes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gewe_cache.adapters import cached
    from gewe_cache.broadcast.pace import Pace
    from gewe_cache.broadcast.senders import AsyncImageSender, ImageSender
    from gewe_cache.errors import (
        AlreadyBroadcast,
        DeliveryUnknown,
        DeviceUnavailable,
        GeweCacheError,
        GeweRefused,
        GeweUnreachable,
        ImageRefused,
        InvalidImage,
        InvalidXml,
        PublishFailed,
        RecipientUnavailable,
        SchemaOutdated,
        SchemaUnknown,
        StoreError,
        TokenRefused,
        TooFast,
    )
    from gewe_cache.image import CachedImage, Image, SentImage
    from gewe_cache.local_image import LocalImage
    from gewe_cache.sending.counters import Stats
    from gewe_cache.sending.server_client import publish_to_server
    from gewe_cache.store.broadcasts import Broadcast, Delivery

__version__ = "0.1.0"

__all__ = [
    "AlreadyBroadcast",
    "AsyncImageSender",
    "Broadcast",
    "CachedImage",
    "Delivery",
    "DeliveryUnknown",
    "DeviceUnavailable",
    "GeweCacheError",
    "GeweRefused",
    "GeweUnreachable",
    "Image",
    "ImageRefused",
    "ImageSender",
    "InvalidImage",
    "InvalidXml",
    "LocalImage",
    "Pace",
    "PublishFailed",
    "RecipientUnavailable",
    "SchemaOutdated",
    "SchemaUnknown",
    "SentImage",
    "Stats",
    "StoreError",
    "TokenRefused",
    "TooFast",
    "cached",
    "publish_to_server",
]

_HOMES = {
    "AsyncImageSender": "gewe_cache.broadcast.senders",
    "Broadcast": "gewe_cache.store.broadcasts",
    "CachedImage": "gewe_cache.image",
    "Image": "gewe_cache.image",
    "Delivery": "gewe_cache.store.broadcasts",
    "ImageSender": "gewe_cache.broadcast.senders",
    "LocalImage": "gewe_cache.local_image",
    "Pace": "gewe_cache.broadcast.pace",
    "SentImage": "gewe_cache.image",
    "Stats": "gewe_cache.sending.counters",
    "cached": "gewe_cache.adapters",
    "publish_to_server": "gewe_cache.sending.server_client",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: the command line's help needs none of them."""
    if name not in __all__:
        msg = f"module 'gewe_cache' has no attribute {name!r}"
        raise AttributeError(msg)
    value: object = getattr(import_module(_HOMES.get(name, "gewe_cache.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
