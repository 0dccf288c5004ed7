"""Many devices at once: one ``AsyncImageSender`` beside a default ``httpx.AsyncClient`` with as many tasks."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

import httpx

from benchmarks import children, databases, instant
from benchmarks.figures import Curve, Figure, Target, ratios
from benchmarks.harness import alternate
from benchmarks.sends import APP_ID, TO, TOKEN, URL, forward_body, headers, posting_by
from gewe_cache import AsyncImageSender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from benchmarks.figures import Results
    from benchmarks.harness import Contender
    from benchmarks.scale import Scale

    Send = Callable[[int], Awaitable[object]]

GROUP: Final = "devices"
FLOOR: Final = "a default httpx.AsyncClient"
OURS: Final = "AsyncImageSender"
FAST: Final = "AsyncImageSender, aiohttp"
KINDS: Final = (FLOOR, OURS, FAST)
_TARGETS: Final = {(100, OURS): 2.5, (100, FAST): 5.0, (1000, OURS): 20.0}
_MANY: Final = 1000
_ROUNDS_OF_MANY: Final = 2
_SHARE_OF_MANY: Final = 10
"""Sends of each of many devices by ours; by httpx one takes half a minute. A round begins without connections."""
_ROUNDS_IN_CHILDREN: Final = 3
_NOTE: Final = "httpx without its time-outs, which would fail its own queue"


def measure(scale: Scale, results: Results) -> None:
    """Measure sends a second, latency and memory by the number of devices."""
    with ExitStack() as stack:
        gewe = stack.enter_context(instant.running())
        database = stack.enter_context(databases.sqlite())
        body = forward_body(APP_ID, gewe.base_url)
        speeds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
        peaks: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
        gewe.check(uploads=1)
        for devices in scale.devices:
            latencies = _measure_speed(scale, results, gewe.base_url, database, body, devices, speeds)
            _report_latency(results, devices, latencies)
            _measure_memory(results, gewe.base_url, database, body, devices, peaks)
        gewe.check(uploads=1)  # one in all, by the first send of ours
    results.curves += [
        Curve("devices", "Sends a second by devices at once", "devices", "sends a second", speeds, True, True),  # noqa: FBT003
        Curve("devices-memory", "Peak memory by devices at once", "devices", "MB", peaks, True),  # noqa: FBT003
    ]


def _measure_speed(
    scale: Scale,
    results: Results,
    base_url: str,
    database: str,
    body: bytes,
    devices: int,
    speeds: dict[str, list[tuple[float, float]]],
) -> dict[str, list[float]]:
    latencies: dict[str, list[float]] = {kind: [] for kind in KINDS}
    is_many = devices >= _MANY
    rounds = min(scale.rounds, _ROUNDS_OF_MANY if is_many else scale.rounds)
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        contenders: dict[str, Contender] = {}
        for kind in KINDS:
            entered = _sends(kind, base_url, database, body)
            send = runner.run(entered.__aenter__())
            stack.callback(_leave, runner, entered)
            share = _SHARE_OF_MANY if is_many and kind != FLOOR else max(1, scale.sends // devices)
            contenders[kind] = _contender(runner, send, devices, share, latencies[kind])
        seconds = alternate(contenders, rounds, warm_up=0 if is_many else 1)
    for kind, taken in seconds.items():
        speeds[kind] += [(devices, 1 / sorted(taken)[len(taken) // 2])]
        if kind == FLOOR:
            a_second = [1 / each for each in taken]
            results.figures.append(Figure.of(GROUP, f"{kind}, {devices} at once", a_second, unit="/s", note=_NOTE))
            continue
        bound = _TARGETS.get((devices, kind))
        target = None if bound is None else Target("≥", bound)
        faster = ratios(seconds[FLOOR], taken)
        results.figures.append(
            Figure.of(GROUP, f"sends a second, {kind}, {devices} at once", faster, against=FLOOR, target=target)
        )
    return latencies


def _leave(runner: asyncio.Runner, entered: AbstractAsyncContextManager[Send]) -> None:
    runner.run(entered.__aexit__(None, None, None))


def _contender(runner: asyncio.Runner, send: Send, devices: int, share: int, latencies: list[float]) -> Contender:
    def work() -> float:
        return runner.run(_all(send, devices, share, latencies))

    return work


async def _all(send: Send, devices: int, share: int, latencies: list[float]) -> float:
    """Send ``share`` times from each device; give the seconds a send."""

    async def device(number: int) -> None:
        for _ in range(share):
            began = time.perf_counter()
            await send(number)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(devices):
            group.create_task(device(number))
    return (time.perf_counter() - began) / (devices * share)


def _report_latency(results: Results, devices: int, latencies: dict[str, list[float]]) -> None:
    for kind, taken in latencies.items():
        cuts = quantiles([1000 * each for each in taken], n=100)
        low, middle, high, slow = cuts[24], cuts[49], cuts[74], cuts[98]
        results.figures.append(
            Figure(GROUP, f"latency, {kind}, {devices} at once", "ms", "", middle, low, high, len(taken))
        )
        results.figures.append(
            Figure(
                GROUP,
                f"latency, 99 of 100, {kind}, {devices} at once",
                "ms",
                "",
                slow,
                slow,
                slow,
                len(taken),
            )
        )


def _measure_memory(
    results: Results,
    base_url: str,
    database: str,
    body: bytes,
    devices: int,
    peaks: dict[str, list[tuple[float, float]]],
) -> None:
    for kind in KINDS:
        if kind == FLOOR and devices >= _MANY:
            continue  # half a minute each
        given = {"kind": kind, "base_url": base_url, "database": database, "body": body.decode(), "devices": devices}
        megabytes = []
        for _ in range(_ROUNDS_IN_CHILDREN):
            with children.running("devices", given) as child:
                megabytes.append(float(child.read()))
        peaks[kind].append((devices, sorted(megabytes)[len(megabytes) // 2]))
        results.figures.append(
            Figure.of(
                GROUP, f"peak memory, {kind}, {devices} at once", megabytes, unit="MB", note="gewe_cache loaded in each"
            )
        )


@asynccontextmanager
async def _sends(kind: str, base_url: str, database: str, body: bytes) -> AsyncIterator[Send]:
    if kind == FLOOR:
        url = f"{base_url}/message/forwardImage"
        async with httpx.AsyncClient(timeout=None) as client:  # noqa: S113 - on purpose: see the note
            yield lambda _: client.post(url, content=body, headers=headers())
        return
    with posting_by("aiohttp" if kind == FAST else ""):
        sender = AsyncImageSender(TOKEN, base_url=base_url, database=database, ttl=timedelta(days=1))
    async with sender:
        await sender.send_image(TO, URL, app_id=APP_ID)
        yield lambda number: sender.send_image(TO, URL, app_id=f"{APP_ID}_{number}")


async def _in_child(kind: str, base_url: str, database: str, body: str, devices: int) -> float:
    async with _sends(kind, base_url, database, body.encode()) as send:
        await _all(send, devices, 2, [])
    return children.peak_megabytes()


def _main() -> None:
    given: dict[str, Any] = children.given()
    children.say(asyncio.run(_in_child(**given)))


if __name__ == "__main__":
    _main()
