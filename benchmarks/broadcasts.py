"""Broadcasts: many devices against a GeWe that answers at once, and workers side by side on PostgreSQL.

Every run is a process of its own, so that its memory can be told. The floors post the same prepared bodies, each
device one after the other and all devices at once, and write nothing down:

* httpx as fast as it gets: a client of one connection for each device, all on one SSL context;
* our own transport, which ``ImageSender`` posts by.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final

import httpx

from benchmarks import children, databases, instant
from benchmarks.figures import Curve, Figure, Target, ratios
from benchmarks.harness import alternate
from benchmarks.sends import APP_ID, TOKEN, URL, forward_body, headers
from gewe_cache import Image, ImageSender, Pace
from gewe_cache.broadcast.recipients import from_items
from gewe_cache.broadcast.run import Limits, Listener
from gewe_cache.broadcast.service import broadcasts_of
from gewe_cache.gewe.transport import AsyncTransport
from gewe_cache.sending.core import Core
from gewe_cache.settings import DEFAULT_TOKEN_HEADER, FORWARD_TIMEOUT, Settings, make_settings

if TYPE_CHECKING:
    from benchmarks.figures import Results
    from benchmarks.instant import Instant
    from benchmarks.scale import Scale
    from gewe_cache.broadcast.service import Broadcasts

GROUP: Final = "broadcasts"
HTTPX, OWN, OURS = "httpx, a client for each device", "our transport alone", "a broadcast"
_ROUNDS: Final = 3
_OF_THE_FLOOR: Final = 5
"""Sends of each device in a floor: what is compared is the time of one."""
_ANSWERS_AFTER: Final = 0.1
_AT_ONCE: Final = 10
_WORKERS: Final = (1, 2, 3, 4)
_DEVICES_OF_WORKERS: Final = 60


def measure(scale: Scale, results: Results) -> None:
    """Measure deliveries a second and memory."""
    _measure_devices(scale, results)
    _measure_workers(scale, results)


def _measure_devices(scale: Scale, results: Results) -> None:
    devices, rounds = max(scale.devices), min(scale.rounds, _ROUNDS)
    megabytes: list[float] = []
    with instant.running() as gewe:
        body = forward_body(APP_ID, gewe.base_url)
        gewe.check(uploads=1, forwards=0)
        contenders = {
            HTTPX: partial(_floor, gewe, "httpx", body, devices),
            OWN: partial(_floor, gewe, "own", body, devices),
            OURS: partial(_broadcast, gewe, devices, scale.deliveries, megabytes),
        }
        seconds = alternate(contenders, rounds, warm_up=0)
    size = f"{devices} devices × {scale.deliveries} on SQLite"
    add = results.figures.append
    add(Figure.of(GROUP, f"deliveries a second, {size}", [1 / each for each in seconds[OURS]], unit="/s"))
    add(
        Figure.of(
            GROUP, f"{OURS}, {size}", ratios(seconds[OURS], seconds[HTTPX]), against=HTTPX, target=Target("≤", 1.5)
        )
    )
    add(Figure.of(GROUP, f"{OURS}, {size}", ratios(seconds[OURS], seconds[OWN]), against=OWN))
    add(Figure.of(GROUP, f"peak memory, {size}", megabytes, unit="MB", target=Target("≤", 200)))


def _floor(gewe: Instant, kind: str, body: bytes, devices: int) -> float:
    given = {"kind": kind, "base_url": gewe.base_url, "body": body.decode(), "devices": devices}
    with children.running("broadcasts", ["floor", given]) as child:
        seconds = float(child.ask("go"))
    gewe.check(uploads=0, forwards=devices * (_OF_THE_FLOOR + 1))
    return seconds / (devices * _OF_THE_FLOOR)


def _broadcast(gewe: Instant, devices: int, deliveries: int, megabytes: list[float]) -> float:
    with databases.sqlite() as database:
        given = {"base_url": gewe.base_url, "database": database, "devices": devices, "deliveries": deliveries}
        with children.running("broadcasts", ["broadcast", given]) as child:
            seconds = float(child.ask("go"))
            megabytes.append(float(child.read()))
    gewe.check(uploads=1, forwards=devices * deliveries - 1)
    return seconds / (devices * deliveries)


def _measure_workers(scale: Scale, results: Results) -> None:
    devices = min(_DEVICES_OF_WORKERS, 10 * max(scale.devices))
    with instant.running(_ANSWERS_AFTER) as gewe, databases.postgresql() as database:
        with ImageSender(TOKEN, APP_ID, base_url=gewe.base_url, database=database) as sender:
            sender.send_image("wxid_first", URL)  # so that all that is measured are forwards
        gewe.check(uploads=1, forwards=0)
        contenders = {
            str(workers): partial(_work, gewe, database, workers, devices, scale.deliveries) for workers in _WORKERS
        }
        seconds = alternate(contenders, min(scale.rounds, _ROUNDS), warm_up=0)
    note = f"GeWe answers in {_ANSWERS_AFTER * 1000:g} ms, a worker has {_AT_ONCE} sends at once"
    for workers in _WORKERS[1:]:
        faster = ratios(seconds["1"], seconds[str(workers)])
        target = Target("≥", 3.0) if workers == _WORKERS[-1] else None
        results.figures.append(
            Figure.of(GROUP, f"{workers} workers on PostgreSQL", faster, against="1 worker", target=target, note=note)
        )
    a_second: list[tuple[float, float]] = [(workers, 1 / median(seconds[str(workers)])) for workers in _WORKERS]
    results.curves.append(
        Curve(
            "broadcast-workers",
            f"Deliveries a second ({note})",
            "workers",
            "deliveries a second",
            {"deliveries a second": a_second},
        )
    )


def _work(gewe: Instant, database: str, workers: int, devices: int, deliveries: int) -> float:
    """Have workers, each a process, go on with one broadcast; give the seconds a delivery."""
    broadcast_id = _prepare(gewe.base_url, database, devices, deliveries)
    given = {"base_url": gewe.base_url, "database": database, "broadcast_id": broadcast_id}
    with ExitStack() as stack:
        started = [stack.enter_context(children.running("broadcasts", ["worker", given])) for _ in range(workers)]
        for child in started:
            child.read()
        began = time.perf_counter()
        for child in started:
            child.tell("go")
        for child in started:
            child.read()
        seconds = time.perf_counter() - began
    gewe.check(uploads=0, forwards=devices * deliveries)
    return seconds / (devices * deliveries)


def _prepare(base_url: str, database: str, devices: int, deliveries: int) -> int:
    """Write a broadcast down that nobody works on yet."""
    with _broadcasts(base_url, database) as opened:
        plan = opened.prepare(Image(url=URL), from_items(_recipients(devices, deliveries), None), Pace.none())
        opened.open(plan, again=True)
    return plan.broadcast_id


@contextmanager
def _broadcasts(base_url: str, database: str) -> Iterator[Broadcasts]:
    core = Core.make(_settings(base_url, database))
    try:
        with broadcasts_of(core, Limits(most_at_once=_AT_ONCE)) as opened:
            yield opened
    finally:
        core.shut_down()


def _settings(base_url: str, database: str) -> Settings:
    return make_settings(
        TOKEN,
        APP_ID,
        base_url=base_url,
        token_header=DEFAULT_TOKEN_HEADER,
        database=database,
        scope=None,
        ttl=None,
        timeout=None,
        ignore_query=(),
        tuning=None,
    )


def _recipients(devices: int, deliveries: int) -> list[tuple[str, str]]:
    return [
        (f"{APP_ID}_{device}", f"wxid_{device}_{number}") for number in range(deliveries) for device in range(devices)
    ]


def _run_floor(kind: str, base_url: str, body: str, devices: int) -> None:
    """Be a child that posts prepared bodies."""
    asyncio.run(_post_all(kind, f"{base_url}/message/forwardImage", body.encode(), devices))


async def _post_all(kind: str, url: str, body: bytes, devices: int) -> None:
    async with AsyncExitStack() as stack:
        posts: list[Callable[[], Awaitable[object]]]
        if kind == "own":
            transport = AsyncTransport()
            stack.push_async_callback(transport.aclose)
            posts = [partial(transport.post, url, headers(), body, FORWARD_TIMEOUT)] * devices
        else:
            context, one = httpx.create_ssl_context(), httpx.Limits(max_connections=1)
            clients = [
                await stack.enter_async_context(httpx.AsyncClient(verify=context, limits=one)) for _ in range(devices)
            ]
            posts = [partial(client.post, url, content=body, headers=headers()) for client in clients]
        await _all_at_once(posts, 1)  # makes the connections
        sys.stdin.readline()
        began = time.perf_counter()
        await _all_at_once(posts, _OF_THE_FLOOR)
        children.say(time.perf_counter() - began)


async def _all_at_once(posts: list[Callable[[], Awaitable[object]]], times: int) -> None:
    async def device(post: Callable[[], Awaitable[object]]) -> None:
        for _ in range(times):
            await post()

    async with asyncio.TaskGroup() as group:
        for post in posts:
            group.create_task(device(post))


def _run_broadcast(base_url: str, database: str, devices: int, deliveries: int) -> None:
    """Be a child that makes a broadcast, from the list of recipients to the last delivery written down."""
    with ImageSender(TOKEN, APP_ID, base_url=base_url, database=database) as sender:
        recipients = _recipients(devices, deliveries)
        sys.stdin.readline()
        began = time.perf_counter()
        found = sender.broadcast(URL, recipients, pace=Pace.none())
        children.say(time.perf_counter() - began)
    if found.sent != devices * deliveries:
        msg = f"of {devices * deliveries} deliveries {found.sent} were sent"
        raise AssertionError(msg)
    children.say(children.peak_megabytes())


def _run_worker(base_url: str, database: str, broadcast_id: int) -> None:
    """Be a child that goes on with a broadcast beside others."""
    with _broadcasts(base_url, database) as opened:
        found = opened.check_resumable(broadcast_id)
        children.say("ready")
        sys.stdin.readline()
        opened.run_now(found, pace=Pace.none(), listener=Listener())
        children.say("done")


_ROLES: Final[dict[str, Callable[..., None]]] = {
    "floor": _run_floor,
    "broadcast": _run_broadcast,
    "worker": _run_worker,
}


def _main() -> None:
    role, given = children.given()
    _ROLES[role](**given)


if __name__ == "__main__":
    _main()
