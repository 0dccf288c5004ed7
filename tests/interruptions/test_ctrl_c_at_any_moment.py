"""Ctrl-C at each moment of a send at which it can come: lane, flight and lease are let go, and the next send goes.

Python looks for signals at the beginning of a function and after a call of one written in C; never between two
instructions that call nothing. A profiler is asked at the same moments, and what it raises comes as Ctrl-C would.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import gewe_cache.sending
from gewe_cache import GeweRefused, ImageSender
from gewe_cache.sandbox import Fault
from gewe_cache.sending.flight import Ending, Flight, Flights
from gewe_cache.sending.lanes import Lanes, Ticket
from tests.interruptions.kit import is_idle, running_leases, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from gewe_cache.sandbox import Sandbox

_SENDING = Path(gewe_cache.sending.__file__).parent
_NAMES = ("sender", "flow", "calls", "single_flight", "upload", "lanes", "flight")
_FILES = {str(_SENDING / f"{name}.py") for name in _NAMES}


class _CtrlC:
    """Raises KeyboardInterrupt at one of the moments at which it can come."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if frame.f_code.co_filename not in _FILES or not _can_come(frame, event):
            return
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def during(self, act: Callable[[], Any]) -> bool:
        """Do something; tell whether it was interrupted."""
        sys.setprofile(self)
        try:
            act()
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(None)
        return False


def _can_come(frame: FrameType, event: str) -> bool:
    """Tell whether a signal is looked for; what comes as a generator goes on comes out of the step it waited for."""
    is_generator = bool(frame.f_code.co_flags & inspect.CO_GENERATOR)
    return event == "c_return" or (event == "call" and not is_generator)


def test_a_lane_goes_on_to_the_next() -> None:
    moments = 0
    for moment in itertools.count(1):
        lanes, ticket, behind = Lanes(), Ticket("wx_1"), Ticket("wx_1")
        ctrl_c = _CtrlC(moment)

        def pass_through(lanes: Lanes = lanes, ticket: Ticket = ticket, behind: Ticket = behind) -> None:
            try:
                lanes.enter(ticket, 10)
                sys.setprofile(None)
                lanes.enter(behind, 10)
                sys.setprofile(ctrl_c)  # noqa: B023 - used in this turn only
            finally:
                try:
                    lanes.leave(ticket)
                except BaseException:
                    lanes.leave(ticket)
                    raise

        was_interrupted = ctrl_c.during(pass_through)
        assert behind.turn is None or behind.turn.done(), moment
        lanes.leave(behind)
        assert lanes._queues == {}, moment
        if not was_interrupted:
            break
        moments += 1
    assert moments > 5


def test_a_flight_ends_and_tells_its_waiters() -> None:
    moments = 0
    for moment in itertools.count(1):
        flights, flight = Flights(), Flight(b"k" * 32)
        ctrl_c = _CtrlC(moment)
        waiters: list[Any] = []

        def fly(flights: Flights = flights, flight: Flight = flight, waiters: list[Any] = waiters) -> None:
            try:
                flights.begin(flight)
                sys.setprofile(None)
                waiters.extend(flights.watch(flight.digest) for _ in range(3))
                flight.ending, flight.was_given = Ending("failed", "why"), True
                sys.setprofile(ctrl_c)  # noqa: B023
            finally:
                try:
                    flights.end(flight)
                except BaseException:
                    flights.end(flight)
                    raise

        was_interrupted = ctrl_c.during(fly)
        assert all(waiter.result(0) is flight.ending for waiter in waiters), moment
        assert flights._in_the_air == {}, moment
        if not was_interrupted:
            break
        moments += 1
    assert moments > 5


@pytest.mark.parametrize("route", ["upload", "refused upload", "forward", "fall-back"])
def test_the_next_send_of_the_device_goes_through(sandbox: Sandbox, url: str, shared_file: str, route: str) -> None:
    interrupted = 0
    given = settings(sandbox, shared_file)
    object.__setattr__(given["_tuning"], "fall_back_pause", 0.0)
    with ImageSender(**given) as sender:
        for moment in itertools.count(1):
            image = url if route == "forward" else sandbox.make_image(f"{moment}.png", width=8, height=8, seed=moment)
            if route in {"forward", "fall-back"}:
                sender.send_image(f"wxid_first_{moment}", image)
            if route == "fall-back":
                sandbox.fail(Fault.refuse(data={"msg": "?"}), route="forward", to_wxid=f"wxid_{moment}")
            if route == "refused upload":
                sandbox.fail(Fault.refuse(data={"msg": "?"}), route="upload", to_wxid=f"wxid_{moment}")
            was_interrupted = _is_interrupted(sender, moment, image)
            parts = sender._core.parts
            assert is_idle(parts), moment
            assert not sender._under_way, moment
            assert running_leases(shared_file) == 0, moment
            assert sender.send_image(f"wxid_next_{moment}", image).to_wxid == f"wxid_next_{moment}"
            sandbox.heal()
            if not was_interrupted:
                break
            interrupted += 1
    assert interrupted > 10
    assert sandbox.duplicates() == []


def _is_interrupted(sender: ImageSender, moment: int, image: str) -> bool:
    def send() -> None:
        with suppress(GeweRefused):
            sender.send_image(f"wxid_{moment}", image)

    return _CtrlC(moment).during(send)
