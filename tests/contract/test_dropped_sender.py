"""A sender that is dropped without being closed closes itself, whatever it has been through."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from gewe_cache import ImageRefused, ImageSender
from gewe_cache.sandbox import Fault, Sandbox


def test_a_sender_that_was_refused_ends_when_it_is_dropped(sandbox: Sandbox, shared_file: str) -> None:
    image = sandbox.make_image("poster.png")
    sandbox.fail(Fault.refuse(500, "发送图片失败"))
    before = set(threading.enumerate())
    sender = ImageSender(sandbox.token, sandbox.app_id, base_url=sandbox.base_url, database=shared_file)
    with pytest.raises(ImageRefused):
        sender.send_image("wxid_friend", image)
    dropped = weakref.ref(sender)
    del sender
    gc.collect()
    assert dropped() is None
    assert set(threading.enumerate()) <= before
