"""Places in a delivery at which a process can be made to kill or stop itself, by their names."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from gewe_cache.broadcast import run
from gewe_cache.broadcast.writer import LedgerWriter
from gewe_cache.gewe import calling
from gewe_cache.sending import calls, flow
from gewe_cache.store.ledger import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

# In the order in which a delivery passes them; what is passed once for each turn at the ledger, and for each call.
IN_A_TURN = ("claim unwritten", "claim written", "end unwritten", "end written")
IN_A_CALL = ("before the check", "after the check", "half out", "out", "answered", "accepted", "noted")
POINTS = (*IN_A_TURN, *IN_A_CALL)
# As httpcore tells them to a request's "trace"; the guard checks at the first.
_OF_THE_WIRE = {
    "send_request_headers.started": "after the check",
    "send_request_headers.complete": "half out",
    "receive_response_headers.started": "out",
    "receive_response_body.complete": "answered",
}
# Windows ends a process by this one as by SIGKILL.
_KILL: signal.Signals = getattr(signal, "SIGKILL", signal.SIGTERM)


class Trap:
    """Acts when its point has been passed so often. It stops nothing in the middle of a turn, unless told to."""

    def __init__(self) -> None:
        self.turn = threading.RLock()
        self._lock = threading.Lock()
        self._armed: dict[str, tuple[int, str]] = {}

    def arm(self, point: str, count: int, signal_name: str) -> None:
        """Have the process send itself this signal at the ``count``-th passage."""
        assert point in POINTS
        self._armed[point] = count, signal_name

    def passed(self, point: str) -> None:
        """Note a passage."""
        with self._lock:
            if point not in self._armed:
                return
            left, signal_name = self._armed.pop(point)
            if left > 1:
                self._armed[point] = left - 1, signal_name
                return
        if signal_name == "SIGKILL":
            os.kill(os.getpid(), _KILL)
        with self.turn:
            os.kill(os.getpid(), getattr(signal, signal_name))


def watch(trap: Trap) -> None:
    """Tell a trap of every point that this process passes from now on."""
    _watch_turns(trap)
    _watch_sends(trap)
    _watch_the_wire(trap)


def _watch_turns(trap: Trap) -> None:
    perform_now = LedgerWriter.perform_now

    def watched(self: LedgerWriter, operation: Callable[[Any], Any]) -> Any:
        has_ended = bool(getattr(operation, "keywords", {}).get("ended"))

        def performed(connection: Any) -> Any:
            result = operation(connection)
            _tell(trap, result, "unwritten", has_ended=has_ended)
            return result

        with trap.turn:
            result = perform_now(self, performed)
        _tell(trap, result, "written", has_ended=has_ended)
        return result

    LedgerWriter.perform_now = watched  # type: ignore[method-assign]


def _tell(trap: Trap, result: object, what: str, *, has_ended: bool) -> None:
    if isinstance(result, Turn) and result.claims:
        trap.passed(f"claim {what}")
    if has_ended:
        trap.passed(f"end {what}")


def _watch_sends(trap: Trap) -> None:
    check, note_end = run._Sending.check, run.Run._note_end

    def checked(self: run._Sending) -> None:
        trap.passed("before the check")
        check(self)

    def noted(self: run.Run, claim: Any, started_at: Any, end: Any) -> None:
        trap.passed("noted")
        note_end(self, claim, started_at, end)

    def accepted(*arguments: Any) -> Any:
        trap.passed("accepted")
        return calls.sent_image(*arguments)

    setattr(flow, "sent_image", accepted)  # noqa: B010 - it is not exported, says mypy
    run._Sending.check = checked  # type: ignore[method-assign]
    run.Run._note_end = noted  # type: ignore[method-assign]


def _watch_the_wire(trap: Trap) -> None:
    trace = calling.Watch.trace_async

    async def traced(watch: calling.Watch, event: str, info: Any) -> None:
        await trace(watch, event, info)
        point = _OF_THE_WIRE.get(event.partition(".")[2])
        if point is not None:
            trap.passed(point)

    calling.Watch.trace_async = traced  # type: ignore[assignment, method-assign]
