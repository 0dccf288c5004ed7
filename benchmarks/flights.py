"""One flight with many waiters: one upload, and then as many forwards as fast as lanes make them."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Final

from benchmarks import databases, instant
from benchmarks.figures import Figure, Target, ratios
from benchmarks.harness import alternate
from benchmarks.sends import APP_ID, TO, TOKEN
from gewe_cache import AsyncImageSender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Results
    from benchmarks.instant import Instant
    from benchmarks.scale import Scale

GROUP: Final = "flights"
_UPLOAD_SECONDS: Final = 0.5
_FLIGHT, _HITS = "last forward after the upload", "as many forwards in lanes"
_TARGET: Final = Target("≤", 1.2)
_MANY: Final = 1000
_ROUNDS: Final = 7


def measure(scale: Scale, results: Results) -> None:
    """Measure flights by their waiters."""
    with ExitStack() as stack:
        gewe = stack.enter_context(instant.running(upload_pause=_UPLOAD_SECONDS))
        database = stack.enter_context(databases.sqlite())
        runner = stack.enter_context(asyncio.Runner())
        sender = AsyncImageSender(TOKEN, base_url=gewe.base_url, database=database, ttl=timedelta(days=1))
        stack.callback(lambda: runner.run(sender.aclose()))
        images = (f"http://images.invalid/{number}.png" for number in count())
        for waiters in scale.waiters:
            _measure(min(scale.rounds, _ROUNDS), results, gewe, runner, sender, images, waiters)


def _measure(
    rounds: int,
    results: Results,
    gewe: Instant,
    runner: asyncio.Runner,
    sender: AsyncImageSender,
    images: Iterator[str],
    waiters: int,
) -> None:
    known = next(images)
    runner.run(sender.send_image(TO, known, app_id=APP_ID))
    gewe.check(uploads=1, forwards=0)

    def flight() -> float:
        taken = runner.run(_flight(sender, next(images), waiters))
        gewe.check(uploads=1, forwards=waiters)
        return taken

    def hits() -> float:
        taken = runner.run(_hits(sender, known, waiters))
        gewe.check(uploads=0, forwards=waiters)
        return taken

    seconds = alternate({_FLIGHT: flight, _HITS: hits}, rounds)
    results.figures.append(Figure.of(GROUP, f"{_HITS}, {waiters}", [1000 * each for each in seconds[_HITS]], unit="ms"))
    results.figures.append(
        Figure.of(
            GROUP,
            f"{_FLIGHT} that {waiters} waited for",
            ratios(seconds[_FLIGHT], seconds[_HITS]),
            against=_HITS,
            target=_TARGET if waiters >= _MANY else None,
            note="1 upload, always",
        )
    )


async def _flight(sender: AsyncImageSender, image: str, waiters: int) -> float:
    """Have one device upload and the rest wait for it; give the seconds from its end to the last forward."""
    ends: list[float] = []

    async def wait(number: int) -> None:
        await sender.send_image(TO, image, app_id=f"{APP_ID}_{number}")
        ends.append(time.perf_counter())

    async with asyncio.TaskGroup() as group:
        leader = group.create_task(sender.send_image(TO, image, app_id=APP_ID))
        for number in range(waiters):
            group.create_task(wait(number))
        await leader
        uploaded = time.perf_counter()
    return max(ends) - uploaded


async def _hits(sender: AsyncImageSender, image: str, waiters: int) -> float:
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(waiters):
            group.create_task(sender.send_image(TO, image, app_id=f"{APP_ID}_{number}"))
    return time.perf_counter() - began
