"""What a lookup costs, by the size of the table, beside general caches that hold the same entry.

*Front*: the sender found the image within the last two seconds. *Read*: the database is asked each time, for an
entry drawn at random; of a million, hardly one comes twice.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiocache
import diskcache
from cashews import Cache
from dogpile.cache import make_region

from benchmarks import filled
from benchmarks.figures import Curve, Figure, Target, ratios
from benchmarks.harness import alternate, repeat, repeat_async
from gewe_cache import AsyncImageSender, ImageSender
from gewe_cache.settings import Tuning

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from benchmarks.figures import Results
    from benchmarks.harness import Contender
    from benchmarks.scale import Scale
    from gewe_cache import CachedImage

GROUP: Final = "lookups"
FRONT, ASYNC_FRONT = "lookup, front cache", "async lookup, front cache"
_YEARS: Final = timedelta(days=3650)
_READS_EACH_TIME: Final = Tuning(front_trust=0.0)
_TARGETS: Final = {FRONT: 5.0, ("SQLite", 1_000_000): 60.0, ("PostgreSQL", 1_000_000): 250.0}
_GROWTH: Final = Target("≤", 1.5)
_DRAWN: Final = 20_000
_NOTE: Final = "the database is asked each time, for an entry drawn at random"


def measure(scale: Scale, results: Results) -> None:
    """Measure lookups in one process."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        reads = {(kind, size): _reads(stack, scale, kind, size) for kind in filled.KINDS for size in scale.entries}
        smallest = scale.entries[0]
        front = stack.enter_context(_sender(filled.database("SQLite", smallest)))
        url = filled.url_of(1)
        entry = front.lookup(url)
        if entry is None:
            msg = "the database was not filled"
            raise RuntimeError(msg)
        contenders: dict[Any, Contender] = {
            FRONT: repeat(lambda: front.lookup(url), scale.lookups),
            ASYNC_FRONT: _async_front(stack, runner, scale, smallest),
            **reads,
            **_others(stack, runner, scale, entry),
        }
        seconds = alternate(contenders, scale.rounds)
    _report(results, scale, seconds)


def _sender(database: str, tuning: Tuning | None = None) -> ImageSender:
    return ImageSender(filled.TOKEN, base_url=filled.BASE_URL, database=database, ttl=_YEARS, _tuning=tuning)


def _reads(stack: ExitStack, scale: Scale, kind: str, size: int) -> Contender:
    sender = stack.enter_context(_sender(filled.database(kind, size), _READS_EACH_TIME))
    drawn = random.Random(size).choices(range(1, size + 1), k=_DRAWN)  # noqa: S311 - no secret
    urls = cycle([filled.url_of(number) for number in drawn])
    return repeat(lambda: sender.lookup(next(urls)), max(10, scale.lookups // (1 if kind == "SQLite" else 4)))


def _async_front(stack: ExitStack, runner: asyncio.Runner, scale: Scale, size: int) -> Contender:
    url = filled.url_of(1)
    sender = AsyncImageSender(
        filled.TOKEN, base_url=filled.BASE_URL, database=filled.database("SQLite", size), ttl=_YEARS
    )
    stack.callback(lambda: runner.run(sender.aclose()))
    return _awaited(runner, scale, lambda _: sender.lookup(url))


def _awaited(runner: asyncio.Runner, scale: Scale, operation: Callable[[int], Awaitable[object]]) -> Contender:
    return repeat_async(runner, operation, scale.lookups, lanes=1)


def _others(stack: ExitStack, runner: asyncio.Runner, scale: Scale, entry: CachedImage) -> dict[str, Contender]:
    """Make general caches that hold an entry by its URL, as somebody might use them in our place."""
    url = filled.url_of(1)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gewe-cache-benchmark-")))
    disk = stack.enter_context(diskcache.Cache(str(folder / "diskcache")))
    memory = make_region().configure("dogpile.cache.memory")
    dbm = make_region().configure("dogpile.cache.dbm", arguments={"filename": str(folder / "dogpile.dbm")})
    cashews = Cache()
    cashews.setup("mem://")
    aio = aiocache.Cache(aiocache.Cache.MEMORY)
    for cache in (disk, memory, dbm):
        cache.set(url, entry)
    runner.run(cashews.set(url, entry, expire=_YEARS))
    runner.run(aio.set(url, entry))
    stack.callback(lambda: runner.run(cashews.close()))
    return {
        "dogpile.cache in memory": repeat(lambda: memory.get(url), scale.lookups),
        "cashews in memory": _awaited(runner, scale, lambda _: cashews.get(url)),
        "aiocache in memory": _awaited(runner, scale, lambda _: aio.get(url)),
        "diskcache (SQLite), one entry": repeat(lambda: disk.get(url), scale.lookups),
        "dogpile.cache on dbm, one entry": repeat(lambda: dbm.get(url), max(10, scale.lookups // 4)),
    }


def _report(results: Results, scale: Scale, seconds: Mapping[Any, list[float]]) -> None:
    smallest, largest = scale.entries[0], scale.entries[-1]
    for name in (FRONT, ASYNC_FRONT):
        results.figures.append(_in_microseconds(name, seconds[name], _TARGETS.get(name)))
    for kind in filled.KINDS:
        for size in scale.entries:
            what = f"lookup read from {kind}, {size:,} entries"
            results.figures.append(_in_microseconds(what, seconds[kind, size], _TARGETS.get((kind, size)), _NOTE))
        if largest > smallest:
            growth = ratios(seconds[kind, largest], seconds[kind, smallest])
            what = f"lookup read from {kind}, {largest:,} entries"
            results.figures.append(Figure.of(GROUP, what, growth, against=f"{smallest:,} entries", target=_GROWTH))
    for name, taken in seconds.items():
        if isinstance(name, str) and name not in {FRONT, ASYNC_FRONT}:
            results.figures.append(_in_microseconds(f"get, {name}", taken))
    results.curves.append(_curve(scale, seconds))


def _in_microseconds(what: str, seconds: list[float], bound: float | None = None, note: str = "") -> Figure:
    target = None if bound is None else Target("≤", bound)
    return Figure.of(GROUP, what, [1e6 * each for each in seconds], unit="µs", target=target, note=note)


def _curve(scale: Scale, seconds: Mapping[Any, list[float]]) -> Curve:
    def line(kind: str) -> list[tuple[float, float]]:
        figures = [_in_microseconds(kind, seconds[kind, size]) for size in scale.entries]
        return [(size, figure.median) for size, figure in zip(scale.entries, figures, strict=True)]

    front = _in_microseconds(FRONT, seconds[FRONT]).median
    lines = {kind: line(kind) for kind in filled.KINDS} | {"front cache": [(size, front) for size in scale.entries]}
    return Curve("lookups", "A lookup by the size of the table", "entries", "µs", lines, log_x=True, log_y=True)
