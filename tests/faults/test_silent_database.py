"""A database that takes connections and never says a word holds up the sends of one moment once."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.faults.kit import DRIVERS, FAST, PATIENCE, send, warnings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.kit import World

_CONNECT_SECONDS = 2.0  # libpq takes no less
_SENDS = 8


@contextmanager
def _silent_server() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)  # the system takes the connections; nobody accepts or answers them
        yield f"postgresql://somebody:secret@127.0.0.1:{listener.getsockname()[1]}/nothing"


@pytest.mark.parametrize("kind", DRIVERS)
def test_sends_of_one_moment_wait_for_it_together(world: World, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    images = [world.sandbox.make_image(f"{number}.png", width=8, height=8, seed=number) for number in range(_SENDS)]
    with _silent_server() as database:
        driver = world.open(f"{kind} own", database=database, _tuning=replace(FAST, store_pause=600.0))
        began = time.monotonic()
        sending = [driver.begin("wxid_1", image, app_id=f"wx_sandbox_{image}") for image in images]
        sent = [each.result(PATIENCE) for each in sending]
        assert time.monotonic() - began < 3 * _CONNECT_SECONDS
        began = time.monotonic()
        sent += [send(driver, "wxid_2", image) for image in images]
        assert time.monotonic() - began < _CONNECT_SECONDS
        world.drivers.remove(driver)
        driver.close()
    assert [each.route for each in sent] == ["upload"] * _SENDS + ["forward"] * _SENDS
    (line,) = warnings_of(caplog.records, "the database failed")
    assert "secret" not in line
    world.check_delivered(*sent)
