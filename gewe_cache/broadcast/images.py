"""The image of a broadcast: of a local one the ledger keeps the md5 alone, so that it may have to be passed again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gewe_cache.errors import InvalidImage
from gewe_cache.image import Image
from gewe_cache.sending.parts import name_of
from gewe_cache.sending.upload import HOW_TO_UPLOAD

if TYPE_CHECKING:
    from gewe_cache.sending.parts import Parts
    from gewe_cache.store.broadcasts import Broadcast


def image_of(found: Broadcast, given: Image | None) -> Image:
    """Give a broadcast's image, with its content where that is ``given``.

    Raises:
        ValueError: ``given`` is another image.
    """
    kept = Image(url=found.url, md5=found.md5)
    if given is None:
        return kept
    if given.md5 != kept.md5 or (kept.md5 is None and given.url != kept.url):
        msg = (
            f"image: broadcast {found.id} sends {name_of(kept)}, and this is {name_of(given)}. Nothing was sent. "
            f"Pass the image with which it was begun, or none (--image)."
        )
        raise ValueError(msg)
    return replace(given, url=kept.url)


def check_uploadable(parts: Parts, image: Image, broadcast_id: int | None = None) -> None:
    """Refuse an image that is not in the cache and can come from nowhere.

    Raises:
        InvalidImage: it says what to pass; of a broadcast that was begun, with which command.
    """
    if image.url is not None or parts.can_publish(image):
        return
    how = HOW_TO_UPLOAD
    if broadcast_id is not None and image.local is None:
        how = (
            f"Broadcast {broadcast_id} began with a local image, of which no more than the md5 is kept. Pass the "
            f"file again: gewe-cache broadcast resume {broadcast_id} --image FILE --server URL "
            f"(image=Image.from_file(…), by a sender with publish=)."
        )
    msg = f"image: md5 {image.md5} is not in the cache of this scope. Nothing was sent. {how}"
    raise InvalidImage(msg)
