"""The caching proxy, a real ``gewe-cache serve``, before a GeWe that answers at once.

What a send through it takes is measured against the same client that posts a prepared forward to the same GeWe
directly. What it can bear is counted by the processor time of its process, so that the client's own does not count.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import httpx
import psutil

from benchmarks import databases, instant, sends
from benchmarks.figures import Figure, Target, ratios
from benchmarks.harness import alternate, repeat, repeat_async
from benchmarks.startup import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Results
    from benchmarks.harness import Contender
    from benchmarks.scale import Scale

GROUP: Final = "proxy"
LANES: Final = 10
_THROUGH, _DIRECT = "postImage through the proxy, a hit", "a prepared forward posted directly"
_PASSED: Final = "another call passed on by the proxy"
_TARGET: Final = Target("≤", 2.5)
_A_CORE: Final = {"httpcore": Target("≥", 500), "aiohttp": Target("≥", 1000)}
"""Of each way in which calls go out (``GEWE_CACHE_HTTP``), the default first."""

_BURSTS: Final = 9
_DRAIN: Final = """
import sys
print(sys.stdin.buffer.readline().decode(), flush=True)
while sys.stdin.buffer.read1(65536):
    pass
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy, and its process."""

    base_url: str
    process: psutil.Process

    def processor_seconds(self) -> float:
        """Give what its process has computed so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def running(upstream: str, database: str, http: str = "httpcore") -> Iterator[Proxy]:
    """Run it with its defaults, the access log included; ``http``: how its calls go out."""
    options = ["serve", "--upstream", upstream, "--port", "0", "--database", database]
    environment = {**os.environ, "GEWE_CACHE_HTTP": http}
    with (
        subprocess.Popen(
            [*PROGRAM, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process,
        subprocess.Popen(
            [sys.executable, "-c", _DRAIN], stdin=process.stdout, stdout=subprocess.PIPE, text=True
        ) as log,
    ):
        assert log.stdout is not None  # noqa: S101 - it was opened so
        try:
            ready: dict[str, Any] = json.loads(log.stdout.readline())
            yield Proxy(f"{ready['url']}/gewe/v2/api", psutil.Process(process.pid))
        finally:
            process.terminate()


def measure(scale: Scale, results: Results) -> None:
    """Measure one lane, then what the process bears at ten."""
    with ExitStack() as stack:
        gewe = stack.enter_context(instant.running())
        proxies = {
            http: stack.enter_context(running(gewe.origin, stack.enter_context(databases.sqlite()), http))
            for http in _A_CORE
        }
        proxy = proxies["httpcore"]
        client = stack.enter_context(httpx.Client())
        forward = sends.forward_body(sends.APP_ID, gewe.base_url)
        direct = partial(_post, client, f"{gewe.base_url}/message/forwardImage", forward)
        passed = partial(_post, client, f"{proxy.base_url}/message/forwardImage", forward)
        contenders = {
            _DIRECT: repeat(direct, scale.sends),
            **{f"{_THROUGH}, calls by {http}": _through(client, each, scale) for http, each in proxies.items()},
            _PASSED: repeat(passed, scale.sends),
        }
        seconds = alternate(contenders, scale.rounds)
        figure = partial(Figure.of, GROUP, against=_DIRECT)
        for name in contenders:
            if name != _DIRECT:
                target = None if name == _PASSED else _TARGET
                results.figures.append(figure(f"{name}, @1", ratios(seconds[name], seconds[_DIRECT]), target=target))
    for http in _A_CORE:
        with ExitStack() as stack:
            gewe = stack.enter_context(instant.running())
            proxy = stack.enter_context(running(gewe.origin, stack.enter_context(databases.sqlite()), http))
            results.figures.append(_sends_a_core(stack, scale, proxy, http))


def _through(client: httpx.Client, proxy: Proxy, scale: Scale) -> Contender:
    post = partial(_post, client, f"{proxy.base_url}/message/postImage", _upload_body(sends.APP_ID))
    return repeat(post, scale.sends)


def _sends_a_core(stack: ExitStack, scale: Scale, proxy: Proxy, http: str) -> Figure:
    runner = stack.enter_context(asyncio.Runner())
    client = httpx.AsyncClient()
    stack.callback(lambda: runner.run(client.aclose()))
    url = f"{proxy.base_url}/message/postImage"
    bodies = [_upload_body(f"{sends.APP_ID}_{number}") for number in range(LANES)]
    times = scale.sends * 5 // LANES * LANES
    burst = repeat_async(
        runner, lambda lane: client.post(url, content=bodies[lane], headers=sends.headers()), times, LANES
    )
    burst()
    rates = [times / _computed(proxy, burst) for _ in range(min(scale.rounds, _BURSTS))]
    what = f"sends a second and core of the proxy's own process, @{LANES}, calls by {http}"
    return Figure.of(GROUP, what, rates, unit="/s", target=_A_CORE[http])


def _computed(proxy: Proxy, burst: Contender) -> float:
    before = proxy.processor_seconds()
    burst()
    return max(0.01, proxy.processor_seconds() - before)  # the system counts in hundredths


def _upload_body(app_id: str) -> bytes:
    return json.dumps({"appId": app_id, "toWxid": sends.TO, "imgUrl": sends.URL}).encode()


def _post(client: httpx.Client, url: str, body: bytes) -> None:
    answer = client.post(url, content=body, headers=sends.headers()).json()
    if answer["ret"] != 200:  # noqa: PLR2004 - GeWe's
        raise RuntimeError(answer)
