"""Broadcasts of an image that is a local file: published once, and passed again where they are resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gewe_cache import AsyncImageSender, Image, ImageSender, InvalidImage, LocalImage, Pace, PublishFailed
from gewe_cache.sandbox.images import draw
from tests.interruptions.kit import settings

if TYPE_CHECKING:
    from gewe_cache.sandbox import Sandbox

IMAGE = Image.from_bytes(draw("poster.png", width=8, height=8, seed=4, approximate_bytes=None))
TO = ["wxid_1", "wxid_2"]


class Publisher:
    """A ``publish=`` that fails until it is told to host the image at the sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.fails = True
        self.calls = 0

    def __call__(self, image: LocalImage) -> str:
        self.calls += 1
        if self.fails:
            raise ConnectionError
        return self.sandbox.add_image(image.name, image.read())


def test_what_could_not_be_published_stays_pending(sandbox: Sandbox, sqlite_url: str) -> None:
    publish = Publisher(sandbox)
    with ImageSender(**settings(sandbox, sqlite_url, publish=publish)) as sender:
        with pytest.raises(PublishFailed):
            sender.broadcast(IMAGE, TO, pace=Pace.none())
        assert publish.calls == 1
        with pytest.raises(InvalidImage, match=r"resume 1 --image FILE .*image=Image\.from_file"):
            sender.resume_broadcast(1)
        with pytest.raises(ValueError, match=r"^image: broadcast 1 sends md5"):
            sender.resume_broadcast(1, image=Image.from_bytes(b"another"), resend_unknown=True)
        publish.fails = False
        found = sender.resume_broadcast(1, image=IMAGE)
    assert (found.sent, found.pending, publish.calls) == (2, 0, 2)
    assert [(each.to_wxid, each.route) for each in sandbox.deliveries] == [("wxid_1", "upload"), ("wxid_2", "forward")]


async def test_it_is_published_once(sandbox: Sandbox, sqlite_url: str) -> None:
    publish = Publisher(sandbox)
    publish.fails = False
    async with AsyncImageSender(**settings(sandbox, sqlite_url, publish=publish)) as sender:
        assert (await sender.broadcast(IMAGE, TO, pace=Pace.none())).sent == 2
        assert (await sender.resume_broadcast(1)).sent == 2  # nothing is left, and nothing is needed
    assert publish.calls == 1
