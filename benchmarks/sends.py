"""What a send costs: a hit, beside the same body posted by bare httpx, a dict by hand, and ``postImage`` each time."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import httpx

from benchmarks import databases, instant
from benchmarks.figures import Figure, Target, ratios
from benchmarks.harness import alternate, repeat, repeat_async
from gewe_cache import AsyncImageSender, ImageSender
from gewe_cache.gewe.image_xml import build_image_xml
from gewe_cache.gewe.transport import AsyncTransport, SyncTransport
from gewe_cache.settings import FORWARD_TIMEOUT, Tuning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.figures import Results
    from benchmarks.harness import Contender
    from benchmarks.scale import Scale

GROUP: Final = "sends"
FLOOR: Final = "bare httpx"
TOKEN: Final = "benchmark-token"  # noqa: S105 - no secret
URL: Final = "http://images.invalid/poster.png"
TO: Final = "wxid_friend"
APP_ID: Final = "wx_benchmark"
LANES: Final = (1, 10, 100)

FRONT, SQLITE, POSTGRESQL = "hit, front cache", "hit, SQLite read each time", "hit, PostgreSQL read each time"
_BY_HAND, _NAIVE = "a dict by hand", "postImage every time"
_OWN, _FAST = "the same body, posted as we post", "hit, front cache, aiohttp"
_TARGETS: Final = {
    ("sync", FRONT): 1.10,
    ("async @1", FRONT): 1.05,
    ("async @10", FRONT): 1.05,
    ("sync", SQLITE): 1.30,
    ("async @1", SQLITE): 1.20,
    ("async @10", SQLITE): 1.20,
    ("sync", POSTGRESQL): 1.8,
    ("async @1", POSTGRESQL): 1.7,
    ("async @10", POSTGRESQL): 1.7,
}
READS_EACH_TIME: Final = Tuning(front_trust=0.0)


def measure(scale: Scale, results: Results) -> None:
    """Measure sync and async sends."""
    with ExitStack() as stack:
        gewe = stack.enter_context(instant.running())
        sqlite = stack.enter_context(databases.sqlite())
        postgresql = stack.enter_context(databases.postgresql())
        with ExitStack() as of_sync:
            contenders = _sync(of_sync, scale, gewe.base_url, sqlite, postgresql)
            _report(results, "sync", alternate(contenders, scale.rounds))
        gewe.check(uploads=_OF_THE_BODY + 2 + _naive_uploads(scale, 1))  # the first send to each database
        runner = stack.enter_context(asyncio.Runner())
        for lanes in LANES:
            with ExitStack() as of_lanes:
                contenders = _async(of_lanes, runner, scale, lanes, gewe.base_url, sqlite, postgresql)
                _report(results, f"async @{lanes}", alternate(contenders, scale.rounds))
            gewe.check(uploads=_OF_THE_BODY + _naive_uploads(scale, lanes))


_OF_THE_BODY = 1


def _naive_uploads(scale: Scale, lanes: int) -> int:
    """Count the uploads of who makes one every time, the warm-up's too."""
    return (scale.rounds + 1) * lanes * max(1, scale.sends // lanes)


def forward_body(app_id: str, base_url: str) -> bytes:
    """Give the body of a forward, prepared: what a send has to put on the wire in any case."""
    with ImageSender(TOKEN, app_id, base_url=base_url, database="sqlite://") as sender:
        image = sender.send_image(TO, URL).image
    if image is None:
        msg = "the upload brought no entry"
        raise RuntimeError(msg)
    return json.dumps({"appId": app_id, "toWxid": TO, "xml": build_image_xml(image)}, ensure_ascii=False).encode()


@contextmanager
def posting_by(http: str) -> Iterator[None]:
    """Have the async senders that are made meanwhile post by ``aiohttp``, or as they do by default."""
    with patch.dict(os.environ, {"GEWE_CACHE_HTTP": http}):
        yield


def headers() -> dict[str, str]:
    """Give the headers of a call."""
    return {"X-GEWE-TOKEN": TOKEN, "Content-Type": "application/json"}


class _DictCache:
    """What somebody writes within an hour: the XML of the first send, kept in a dict. It keeps no promise at all."""

    def __init__(self, client: httpx.Client | httpx.AsyncClient, base_url: str, body: bytes) -> None:
        self._client: Any = client
        self._url = f"{base_url}/message/forwardImage"
        self._xml = {URL: json.loads(body)["xml"]}

    def post(self, app_id: str) -> Any:  # noqa: ANN401 - a response, or what will be one
        body = {"appId": app_id, "toWxid": TO, "xml": self._xml[URL]}
        return self._client.post(self._url, json=body, headers={"X-GEWE-TOKEN": TOKEN})

    def send(self) -> int:
        return int(self.post(APP_ID).json()["data"]["newMsgId"])

    async def send_from(self, lane: int) -> int:
        return int((await self.post(f"{APP_ID}_{lane}")).json()["data"]["newMsgId"])


def _sync(stack: ExitStack, scale: Scale, base_url: str, sqlite: str, postgresql: str) -> dict[str, Contender]:
    body, client = forward_body(APP_ID, base_url), stack.enter_context(httpx.Client())
    floor = partial(client.post, f"{base_url}/message/forwardImage", content=body, headers=headers())

    def hit(database: str, tuning: Tuning | None = None) -> Contender:
        sender = ImageSender(TOKEN, APP_ID, base_url=base_url, database=database, ttl=timedelta(days=1), _tuning=tuning)
        stack.enter_context(sender)
        return repeat(partial(sender.send_image, TO, URL), scale.sends)

    upload = {"appId": APP_ID, "toWxid": TO, "imgUrl": URL}
    own = SyncTransport()
    stack.callback(own.close)
    return {
        FLOOR: repeat(floor, scale.sends),
        _OWN: repeat(
            partial(own.post, f"{base_url}/message/forwardImage", headers(), body, FORWARD_TIMEOUT), scale.sends
        ),
        FRONT: hit(sqlite),
        SQLITE: hit(sqlite, READS_EACH_TIME),
        POSTGRESQL: hit(postgresql, READS_EACH_TIME),
        _BY_HAND: repeat(_DictCache(client, base_url, body).send, scale.sends),
        _NAIVE: repeat(
            partial(client.post, f"{base_url}/message/postImage", json=upload, headers=headers()), scale.sends
        ),
    }


def _async(
    stack: ExitStack, runner: asyncio.Runner, scale: Scale, lanes: int, base_url: str, sqlite: str, postgresql: str
) -> dict[str, Contender]:
    body, client = forward_body(APP_ID, base_url), httpx.AsyncClient()
    stack.callback(lambda: runner.run(client.aclose()))
    forward_url, upload_url = f"{base_url}/message/forwardImage", f"{base_url}/message/postImage"

    def contender(operation: Any) -> Contender:  # noqa: ANN401 - any coroutine function of a lane's number
        return repeat_async(runner, operation, scale.sends, lanes)

    def hit(database: str, tuning: Tuning | None = None, http: str = "") -> Contender:
        with posting_by(http):
            sender = AsyncImageSender(
                TOKEN, base_url=base_url, database=database, ttl=timedelta(days=1), _tuning=tuning
            )
        stack.callback(lambda: runner.run(sender.aclose()))
        return contender(lambda lane: sender.send_image(TO, URL, app_id=f"{APP_ID}_{lane}"))

    upload = {"appId": APP_ID, "toWxid": TO, "imgUrl": URL}
    own = AsyncTransport()
    stack.callback(lambda: runner.run(own.aclose()))
    return {
        FLOOR: contender(lambda _: client.post(forward_url, content=body, headers=headers())),
        _OWN: contender(lambda _: own.post(forward_url, headers(), body, FORWARD_TIMEOUT)),
        FRONT: hit(sqlite),
        _FAST: hit(sqlite, http="aiohttp"),
        SQLITE: hit(sqlite, READS_EACH_TIME),
        POSTGRESQL: hit(postgresql, READS_EACH_TIME),
        _BY_HAND: contender(_DictCache(client, base_url, body).send_from),
        _NAIVE: contender(lambda _: client.post(upload_url, json=upload, headers=headers())),
    }


def _report(results: Results, how: str, seconds: Mapping[str, list[float]]) -> None:
    for name, taken in seconds.items():
        if name == FLOOR:
            floor = [1e6 * each for each in taken]
            results.figures.append(Figure.of(GROUP, f"{FLOOR}, {how}", floor, unit="µs"))
            continue
        bound = _TARGETS.get((how, name))
        target = None if bound is None else Target("≤", bound)
        figure = Figure.of(
            GROUP, f"{name}, {how}", ratios(taken, seconds[FLOOR]), against=f"{FLOOR}, {how}", target=target
        )
        results.figures.append(figure)
