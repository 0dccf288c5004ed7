"""A local image that many want at once: published once an upload, and nobody is held up by it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from gewe_cache import AsyncImageSender, Image, ImageSender, LocalImage
from gewe_cache.sandbox import Fault
from gewe_cache.sandbox.images import draw
from tests.concurrency.crews import (
    KINDS,
    PATIENCE,
    QUICK,
    busy,
    delivered,
    is_idle,
    outcome,
    outcomes,
    queued,
    until,
    uploads,
    waiters,
)
from tests.interruptions.kit import settings

if TYPE_CHECKING:
    from gewe_cache.sandbox import Sandbox
    from tests.concurrency.crews import Crew, Crews

_ALL = 20
_DEVICE = "wx_sandbox_1"


class Publisher:
    """A ``publish=`` that waits until it may go on, and then hosts the image or fails."""

    def __init__(self, sandbox: Sandbox, image: Image) -> None:
        assert image.local is not None
        self.sandbox = sandbox
        self.image = image
        self.calls = 0
        self.fails = False
        self.reached = threading.Event()
        self.may_go_on = threading.Event()

    def __call__(self, image: LocalImage) -> str:
        self.calls += 1
        self.reached.set()
        assert self.may_go_on.wait(PATIENCE)
        if self.fails:
            msg = "the object store is away"
            raise ConnectionError(msg)
        return self.sandbox.add_image(image.name, image.read())


@pytest.fixture
def publisher(sandbox: Sandbox) -> Publisher:
    content = draw("poster.png", width=8, height=8, seed=5, approximate_bytes=None)
    return Publisher(sandbox, Image.from_bytes(content))


@pytest.fixture(params=list(KINDS))
def crew(request: pytest.FixtureRequest, crews: Crews, publisher: Publisher) -> Crew:
    return crews.make(request.param, QUICK, publish=publisher)


def test_many_wait_for_one(crew: Crew, sandbox: Sandbox, publisher: Publisher) -> None:
    sends = [crew.send("wxid_leader", publisher.image, app_id=_DEVICE)]
    assert publisher.reached.wait(PATIENCE)
    sends += [crew.send(f"wxid_{number}", publisher.image, app_id=f"wx_sandbox_{number % 3}") for number in range(_ALL)]
    until(lambda: waiters(crew.parts) == _ALL)
    publisher.may_go_on.set()
    assert Counter(outcomes(sends)) == {"upload": 1, "forward": _ALL}
    assert publisher.calls == len(uploads(sandbox)) == 1
    assert len(delivered(sandbox)) == _ALL + 1
    assert is_idle(crew.parts)


def test_its_device_sends_other_images_meanwhile(crew: Crew, sandbox: Sandbox, url: str, publisher: Publisher) -> None:
    leader = crew.send("wxid_leader", publisher.image, app_id=_DEVICE)
    assert publisher.reached.wait(PATIENCE)
    assert busy(crew.parts) == set()
    assert outcome(crew.send("wxid_other", url, app_id=_DEVICE)) == "upload"
    publisher.may_go_on.set()
    assert outcome(leader) == "upload"
    assert delivered(sandbox) == ["wxid_leader", "wxid_other"]


def test_its_upload_has_the_devices_next_turn(crew: Crew, sandbox: Sandbox, url: str, publisher: Publisher) -> None:
    leader = crew.send("wxid_leader", publisher.image, app_id=_DEVICE)
    assert publisher.reached.wait(PATIENCE)
    plan = sandbox.fail(Fault.hold(), to_wxid="wxid_first")
    others = [crew.send("wxid_first", url, app_id=_DEVICE)]
    plan.wait_reached()
    second = sandbox.make_image("second.png", width=9, height=9)
    others.append(crew.send("wxid_second", second, app_id=_DEVICE))
    until(lambda: queued(crew.parts, _DEVICE) == 1)
    publisher.may_go_on.set()
    until(lambda: queued(crew.parts, _DEVICE) == 2)
    plan.release()
    assert outcomes([leader, *others]) == ["upload"] * 3
    assert [delivery.to_wxid for delivery in sandbox.deliveries] == ["wxid_first", "wxid_leader", "wxid_second"]


def test_one_other_may_try_and_the_rest_are_told(crew: Crew, sandbox: Sandbox, publisher: Publisher) -> None:
    publisher.fails = True
    sends = [crew.send("wxid_leader", publisher.image, app_id=_DEVICE)]
    assert publisher.reached.wait(PATIENCE)
    sends += [crew.send(f"wxid_{number}", publisher.image, app_id=f"wx_sandbox_{number}") for number in range(_ALL)]
    until(lambda: waiters(crew.parts) == _ALL)
    publisher.may_go_on.set()
    assert Counter(outcomes(sends)) == {"PublishFailed": 2, "GeweUnreachable": _ALL - 1}
    assert publisher.calls == 2
    told = next(error for send in sends if type(error := send.exception()).__name__ == "GeweUnreachable")
    assert "Nothing was sent" in str(told)
    assert "publish= failed with ConnectionError" in str(told)
    assert sandbox.calls == []
    publisher.fails = False
    assert outcome(crew.send("wxid_1", publisher.image)) == "upload"


def test_a_sync_function_runs_off_the_loop(crews: Crews, publisher: Publisher, url: str) -> None:
    crew = crews.make("tasks", QUICK, publish=publisher)
    leader = crew.send("wxid_leader", publisher.image)
    assert publisher.reached.wait(PATIENCE)
    assert outcome(crew.send("wxid_other", url, app_id="wx_sandbox_2")) == "upload"
    publisher.may_go_on.set()
    assert outcome(leader) == "upload"


def test_ctrl_c_in_it_lets_go_of_all(sandbox: Sandbox, sqlite_url: str, publisher: Publisher) -> None:
    presses = [KeyboardInterrupt()]

    def publish(image: LocalImage) -> str:
        if presses:
            raise presses.pop()
        return sandbox.add_image(image.name, image.read())

    with ImageSender(**settings(sandbox, sqlite_url, publish=publish)) as sender:
        with pytest.raises(KeyboardInterrupt):
            sender.send_image("wxid_1", publisher.image)
        assert is_idle(sender._core.parts)
        assert sender.send_image("wxid_2", publisher.image).route == "upload"
    assert delivered(sandbox) == ["wxid_2"]


async def test_who_is_cancelled_stops_at_once_and_another_takes_over(
    sandbox: Sandbox, sqlite_url: str, publisher: Publisher
) -> None:
    reached, stopped = asyncio.Event(), asyncio.Event()

    async def publish(image: LocalImage) -> str:
        if not reached.is_set():
            reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
        return sandbox.add_image(image.name, image.read())

    async with asyncio.timeout(PATIENCE), AsyncImageSender(**settings(sandbox, sqlite_url, publish=publish)) as sender:
        leader = asyncio.ensure_future(sender.send_image("wxid_gone", publisher.image))
        await reached.wait()
        other = asyncio.ensure_future(sender.send_image("wxid_other", publisher.image))
        await asyncio.to_thread(until, lambda: waiters(sender._core.parts) == 1)
        leader.cancel()
        assert (await other).route == "upload"
        assert stopped.is_set()
    assert leader.cancelled()
    assert delivered(sandbox) == ["wxid_other"]
