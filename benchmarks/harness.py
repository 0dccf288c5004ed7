"""Measures things alternately, so that what the machine does meanwhile hits all of them alike."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

NameT = TypeVar("NameT", bound=Hashable)
Contender = Callable[[], float]
"""Does its work once and gives the seconds that one operation took."""


def alternate(contenders: Mapping[NameT, Contender], rounds: int, *, warm_up: int = 1) -> dict[NameT, list[float]]:
    """Let all contenders work in turn, each round beginning with another one.

    Returns:
        for each contender, its seconds an operation, round by round; the warm-up is not among them.
    """
    names = list(contenders)
    seconds: dict[NameT, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            with _no_collection():
                taken = contenders[name]()
            if number >= 0:
                seconds[name].append(taken)
    return seconds


def repeat(operation: Callable[[], object], times: int) -> Contender:
    """Make a contender of a plain call, done ``times`` times one after the other."""

    def work() -> float:
        began = time.perf_counter()
        for _ in range(times):
            operation()
        return (time.perf_counter() - began) / times

    return work


def repeat_async(
    runner: asyncio.Runner, operation: Callable[[int], Awaitable[object]], times: int, lanes: int
) -> Contender:
    """Make a contender of ``times`` awaited calls shared out to ``lanes`` tasks, each given its lane's number.

    The seconds an operation are the wall time of all, divided by their number.
    """

    async def lane(number: int, share: int) -> None:
        for _ in range(share):
            await operation(number)

    async def work() -> float:
        share = max(1, times // lanes)
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(lanes):
                group.create_task(lane(number, share))
        return (time.perf_counter() - began) / (share * lanes)

    return lambda: runner.run(work())


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
