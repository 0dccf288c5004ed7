"""Ctrl-C in a sync send may come between two steps of its flow: the lane, the flight and the lease are let go."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

from gewe_cache import ImageSender
from tests.faults import spoils
from tests.faults.kit import FAST, SCOPE

if TYPE_CHECKING:
    from types import FrameType

    from tests.faults.kit import World

_DRIVE = ImageSender._drive.__code__


class _CtrlC:
    """Raises KeyboardInterrupt at one of the lines that drive a flow."""

    def __init__(self, line: int) -> None:
        self.left = line

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code is not _DRIVE:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def test_everything_is_let_go_at_whichever_line_it_comes(world: World) -> None:
    settings: dict[str, Any] = {"token": world.sandbox.token, "app_id": world.sandbox.app_id, "scope": SCOPE}
    settings |= {"base_url": world.sandbox.base_url, "database": world.database, "_tuning": FAST}
    interrupted = 0
    with ImageSender(**settings) as sender:
        for line in itertools.count(1):
            image = world.sandbox.make_image(f"{line}.png", width=8, height=8, seed=line)
            ctrl_c = _CtrlC(line)
            before = sys.gettrace()
            sys.settrace(ctrl_c)
            try:
                sender.send_image("wxid_1", image)
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                sys.settrace(before)
            parts = sender._core.parts
            assert parts.lanes._queues == {}, line
            assert parts.flights._in_the_air == {}, line
            assert parts.background._held == set(), line
            if ctrl_c.left > 0:
                break
        running = "SELECT count(*) FROM gewe_cache_leases WHERE ended_at IS NULL"
        assert spoils.read(world.database, running) == [(0,)]
    assert interrupted > 10
    assert world.sandbox.duplicates() == []
