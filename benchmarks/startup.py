"""What it costs to begin: imports, the command line's help, the first send. Each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import instant
from benchmarks.figures import Figure, Target
from benchmarks.harness import alternate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.figures import Results
    from benchmarks.harness import Contender
    from benchmarks.scale import Scale

GROUP: Final = "startup"
PROGRAM: Final = [sys.executable, "-c", "from gewe_cache.cli.main import main; main()"]
"""The command line by this interpreter, wherever its script was installed."""

_OTHERS: Final = "import httpx, sqlalchemy"
_CODE: Final = {
    "python": "",
    "others": _OTHERS,
    "package": f"{_OTHERS}, gewe_cache",
    "sender": f"{_OTHERS}; from gewe_cache import ImageSender",
}
_FIRST_SEND: Final = """
import json, sys, time
given = json.loads(sys.argv[1])
from gewe_cache import ImageSender
began = time.perf_counter()
with ImageSender("token", "wx_device", base_url=given["base_url"], database=given["database"]) as sender:
    sender.send_image("wxid_friend", "http://images.invalid/poster.png")
    print(time.perf_counter() - began)
"""
_MOST_ROUNDS: Final = 15


def measure(scale: Scale, results: Results) -> None:
    """Measure processes, from their start to their end; of a first send, the send alone."""
    rounds = min(scale.rounds, _MOST_ROUNDS)
    contenders = {name: process_of([sys.executable, "-c", code]) for name, code in _CODE.items()}
    contenders["help"] = process_of([*PROGRAM, "--help"])
    with instant.running() as gewe, tempfile.TemporaryDirectory(prefix="gewe-cache-benchmark-") as folder:
        contenders["fresh"] = _first_send(gewe.base_url, Path(folder), is_fresh=True)
        contenders["known"] = _first_send(gewe.base_url, Path(folder), is_fresh=False)
        seconds = alternate(contenders, rounds)
    beyond = "import httpx, sqlalchemy"
    for what, name, start, bound in (
        ("import gewe_cache", "package", "others", 60.0),
        ("from gewe_cache import ImageSender", "sender", "others", 60.0),
        ("import httpx, sqlalchemy", "others", "python", None),
    ):
        note = f"beyond {beyond}" if start == "others" else "beyond python's own start"
        took = [1e3 * (each - base) for each, base in zip(seconds[name], seconds[start], strict=True)]
        target = None if bound is None else Target("≤", bound)
        results.figures.append(Figure.of(GROUP, what, took, unit="ms", target=target, note=note))
    results.figures.append(Figure.of(GROUP, "gewe-cache --help", seconds["help"], unit="s", target=Target("≤", 0.25)))
    for name, what in (("fresh", "a fresh SQLite file, its tables made"), ("known", "a SQLite file that is there")):
        results.figures.append(Figure.of(GROUP, f"the first send of a process on {what}", seconds[name], unit="s"))


def process_of(command: Sequence[str]) -> Contender:
    """Make a contender of a process that has to succeed."""

    def work() -> float:
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began

    return work


def _first_send(base_url: str, folder: Path, *, is_fresh: bool) -> Contender:
    file = folder / f"{is_fresh}.db"
    given = json.dumps({"base_url": base_url, "database": f"sqlite:///{file.as_posix()}"})

    def work() -> float:
        if is_fresh:
            for name in folder.glob(f"{file.name}*"):
                name.unlink()
        command = [sys.executable, "-c", _FIRST_SEND, given]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    return work
