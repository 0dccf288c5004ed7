"""Ctrl-C, and the other signals that end a program, as a flag: cleaning up is never interrupted half-way."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_PATIENCE: Final = 2


class Interrupted(Exception):
    """Somebody wants the program to end."""


class Interrupts:
    """While entered, signals to end set a flag. Signals that were ignored before stay so (``nohup``, ``&``)."""

    def __init__(self, on_interrupt: Callable[[], None] | None = None) -> None:
        """Change nothing yet. ``on_interrupt`` is called at each signal, in the main thread."""
        self._on_interrupt = on_interrupt
        self._event = threading.Event()
        self._received = 0
        self._former: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Take the signals over; outside the main thread Python gives none."""
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                self._take_over(getattr(signal, name, None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._former.clear()

    @property
    def is_set(self) -> bool:
        """Tell whether the program is to end."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait until the program is to end, this long at most. Pass little: Windows tells nobody who waits."""
        return self._event.wait(seconds)

    def check(self) -> None:
        """Go on only if the program is not to end.

        Raises:
            Interrupted: it is.
        """
        if self.is_set:
            raise Interrupted

    def _take_over(self, number: signal.Signals | None) -> None:
        if number is None:
            return
        former = signal.getsignal(number)
        if former is None or former is signal.SIG_IGN:
            return
        self._former[number] = former
        signal.signal(number, self._receive)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self._received += 1
        self._event.set()
        if self._on_interrupt is not None:
            self._on_interrupt()
        if self._received > _PATIENCE:
            raise KeyboardInterrupt
