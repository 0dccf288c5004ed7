"""What is gained: ``postImage`` every time beside ``ImageSender``, against the sandbox with delays like GeWe's.

GeWe publishes no figures: the delays are assumptions, named in the results. They are shortened by ``_SHORTENED``, so
that a run takes a minute; our own cost is not, so that the gain is shown smaller than it would be.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from itertools import count
from statistics import median
from typing import TYPE_CHECKING, Final

import httpx

from benchmarks import databases, gewe
from benchmarks.figures import Curve, Figure, ratios
from benchmarks.harness import alternate
from gewe_cache import ImageSender
from gewe_cache.sandbox import Delays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Results
    from benchmarks.gewe import Gewe
    from benchmarks.scale import Scale

GROUP: Final = "gains"
SENDS: Final = 10
_SHORTENED: Final = 20
_MEGABYTES_A_SECOND: Final = (0.5, 2.0, 10.0)
_NAIVE, _OURS = "postImage every time", "ImageSender"
_ROUNDS: Final = 5
_Lines = dict[str, list[tuple[float, float]]]


def measure(scale: Scale, results: Results) -> None:
    """Measure by the image's size, and by how fast GeWe uploads to WeChat."""
    results.machine["assumed delays"] = _describe()
    lines: _Lines = {}
    gains: _Lines = {}
    for speed in _MEGABYTES_A_SECOND:
        delays = _delays(speed)
        with gewe.running(delays=delays, images=scale.images) as sandbox, databases.sqlite() as database:
            for size in scale.images:
                seconds = alternate(
                    {_NAIVE: _Naive(sandbox, size), _OURS: _Ours(sandbox, size, database)},
                    min(scale.rounds, _ROUNDS),
                    warm_up=0,
                )
                _report(results, size, speed, seconds)
                for name, taken in seconds.items():
                    points = lines.setdefault(f"{name}, {speed:g} MB/s", [])
                    points.append((size, median(taken)))
                gain = median(ratios(seconds[_NAIVE], seconds[_OURS]))
                gains.setdefault(f"upload at {speed:g} MB/s", []).append((size, gain))
    title = f"Seconds a send, {SENDS} sends of one image (assumed delays, shortened {_SHORTENED}-fold)"
    results.curves += [
        Curve("gains-seconds", title, "bytes of the image", "seconds a send", lines, log_x=True, log_y=True),
        Curve("gains", f"{_NAIVE} ÷ {_OURS}, {SENDS} sends", "bytes of the image", "×", gains, log_x=True),
    ]


def _report(results: Results, size: int, speed: float, seconds: dict[str, list[float]]) -> None:
    results.figures.append(
        Figure.of(
            GROUP,
            f"{SENDS} sends of {size / 1000:,.0f} kB, {_NAIVE}",
            ratios(seconds[_NAIVE], seconds[_OURS]),
            against=_OURS,
            note=f"GeWe uploading at {speed:g} MB/s; bytes uploaded once",
        )
    )


def _delays(megabytes_a_second: float) -> dict[str, float]:
    assumed = Delays.realistic()
    return {
        "download_seconds_per_mb": assumed.download_seconds_per_mb / _SHORTENED,
        "convert_seconds_per_mb": assumed.convert_seconds_per_mb / _SHORTENED,
        "upload_seconds_per_mb": 1 / megabytes_a_second / _SHORTENED,
        "call_seconds": assumed.call_seconds / _SHORTENED,
        "forward_seconds": assumed.forward_seconds / _SHORTENED,
    }


def _describe() -> str:
    assumed = Delays.realistic()
    return (
        f"download {assumed.download_seconds_per_mb:g} s/MB, conversion {assumed.convert_seconds_per_mb:g} s/MB, "
        f"upload as named, {assumed.call_seconds:g} s a call and {assumed.forward_seconds:g} s a forward, "
        f"all shortened {_SHORTENED}-fold"
    )


class _Naive:
    """Makes an upload of every send."""

    def __init__(self, sandbox: Gewe, size: int) -> None:
        self._sandbox, self._size = sandbox, size

    def __call__(self) -> float:
        url, headers = f"{self._sandbox.base_url}/message/postImage", {"X-GEWE-TOKEN": self._sandbox.token}
        image = self._sandbox.image_urls[self._size]
        with httpx.Client(timeout=60) as client, _timed() as taken:
            for number in range(SENDS):
                body = {"appId": gewe.device(0), "toWxid": f"wxid_{number}", "imgUrl": image}
                client.post(url, json=body, headers=headers).raise_for_status()
        _check(self._sandbox, uploads=SENDS, forwards=0)
        return taken[0]


class _Ours:
    """Sends by an ``ImageSender`` that does not know the image yet."""

    def __init__(self, sandbox: Gewe, size: int, database: str) -> None:
        self._sandbox, self._size, self._database = sandbox, size, database
        self._scopes = (f"{size}-{number}" for number in count())

    def __call__(self) -> float:
        with ExitStack() as stack:
            sender = stack.enter_context(
                ImageSender(
                    self._sandbox.token,
                    gewe.device(0),
                    base_url=self._sandbox.base_url,
                    database=self._database,
                    scope=next(self._scopes),
                )
            )
            taken = stack.enter_context(_timed())
            for number in range(SENDS):
                sender.send_image(f"wxid_{number}", self._sandbox.image_urls[self._size])
        _check(self._sandbox, uploads=1, forwards=SENDS - 1)
        return taken[0]


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Give a list that in the end has the seconds a send."""
    taken: list[float] = []
    began = time.perf_counter()
    yield taken
    taken.append((time.perf_counter() - began) / SENDS)


def _check(sandbox: Gewe, *, uploads: int, forwards: int) -> None:
    record = sandbox.record()
    if (record.uploads, record.forwards, record.duplicates, record.overlaps) != (uploads, forwards, 0, 0):
        msg = f"expected {uploads} uploads and {forwards} forwards, and the sandbox delivered {record}"
        raise AssertionError(msg)
