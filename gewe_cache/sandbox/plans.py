"""Which calls are to suffer which fault, and the switch that lets held calls go on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass

from gewe_cache.sandbox.answers import Route
from gewe_cache.sandbox.faults import Fault


@dataclass(frozen=True, slots=True)
class Aim:
    """Which calls a plan is for; None stands for any."""

    route: Route | None = None
    app_id: str | None = None
    to_wxid: str | None = None

    def __post_init__(self) -> None:
        """Refuse a route that no call could take."""
        if self.route not in (None, "upload", "forward"):
            message = "route must be upload or forward"
            raise ValueError(message)

    def fits(self, route: Route, app_id: str | None, to_wxid: str | None) -> bool:
        """Tell whether a call is aimed at."""
        return self.route in (None, route) and self.app_id in (None, app_id) and self.to_wxid in (None, to_wxid)


class Plan:
    """A fault that waits for its calls. Safe to use from any thread.

    Attributes:
        number: its number in this sandbox.
        fault: what the calls suffer.
        aim: which calls it is for.
        reached: set once a call suffers the fault (for a hold: once one is being held).
    """

    def __init__(self, number: int, fault: Fault, aim: Aim, times: int | None) -> None:
        """Plan `fault` for the next `times` calls that fit `aim` (None: for ever)."""
        self.number = number
        self.fault = fault
        self.aim = aim
        self.reached = threading.Event()
        self._times = times
        self._used = 0
        self._reached_count = 0
        self._released = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        """Show the fault and how often it was used."""
        return f"Plan(number={self.number}, fault={self.fault!r}, used={self.used}, left={self.left})"

    @property
    def used(self) -> int:
        """How many calls have taken this fault."""
        return self._used

    @property
    def left(self) -> int | None:
        """How many more calls will take it; None: any number."""
        return None if self._times is None else self._times - self._used

    def wait_reached(self, timeout: float = 10.0, count: int = 1) -> bool:
        """Wait until `count` calls have reached the fault; return True, for use in an `assert`.

        Raises:
            TimeoutError: they have not within `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._reached_count >= count, timeout):
                message = f"{self._reached_count} of {count} calls reached the fault within {timeout} s"
                raise TimeoutError(message)
        return True

    def release(self) -> None:
        """Let every held call go on, now and later; end hangs, drips and slow calls of this plan."""
        with self._changed:
            self._released = True
            waiting = list(self._waiting)
        for future in waiting:
            # The loop may have been closed since: then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_wake, future)

    def take(self) -> bool:
        """Use the plan once, if it has uses left."""
        if self._times is not None and self._used >= self._times:
            return False
        self._used += 1
        return True

    def mark_reached(self) -> None:
        """Tell those who wait in `wait_reached` that one more call is there."""
        with self._changed:
            self._reached_count += 1
            self._changed.notify_all()
        self.reached.set()

    async def wait_released(self, seconds: float | None = None) -> bool:
        """Wait for `release`, at most `seconds` (None: for ever); tell whether it came."""
        future = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._released:
                return True
            self._waiting.add(future)
        try:
            await asyncio.wait((future,), timeout=seconds)
        finally:
            with self._changed:
                self._waiting.discard(future)
        return self._released


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Plans:
    """All plans of a sandbox; the first that fits and has uses left wins."""

    def __init__(self) -> None:
        """Start without any."""
        self._lock = threading.Lock()
        self._last_number = 0
        self._plans: list[Plan] = []
        self._open: list[Plan] = []

    def add(self, fault: Fault, aim: Aim, times: int | None) -> Plan:
        """Plan a fault.

        Raises:
            ValueError: `times` is less than 1.
        """
        if times is not None and times < 1:
            message = "times must be at least 1, or None for ever"
            raise ValueError(message)
        with self._lock:
            self._last_number += 1
            plan = Plan(self._last_number, fault, aim, times)
            self._plans.append(plan)
            self._open.append(plan)
        return plan

    def take(self, route: Route, app_id: str | None, to_wxid: str | None) -> Plan | None:
        """Return the plan that a call of this kind has to suffer, used once more."""
        if not self._open:
            return None
        with self._lock:
            for plan in self._open:
                if plan.aim.fits(route, app_id, to_wxid) and plan.take():
                    self._open = [each for each in self._open if each.left != 0]
                    return plan
        return None

    def all(self) -> list[Plan]:
        """Return the plans made since the last `heal`, used up or not."""
        with self._lock:
            return list(self._plans)

    def heal(self) -> None:
        """Forget all plans and let go whatever they hold."""
        with self._lock:
            plans, self._plans, self._open = self._plans, [], []
        for plan in plans:
            plan.release()
