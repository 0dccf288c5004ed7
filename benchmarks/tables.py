"""What a big table costs the operator, and what his work costs the senders: list, stats, filter, prune, memory.

The commands are real ``gewe-cache`` processes. Their time is what they take beyond the same command on a table of
one entry, which loads and connects as much.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks import filled
from benchmarks.figures import Curve, Figure, Target
from benchmarks.harness import alternate
from benchmarks.startup import PROGRAM, process_of
from gewe_cache import CachedImage
from gewe_cache.keys import Key
from gewe_cache.store import entries
from gewe_cache.store.engine import open_database

if TYPE_CHECKING:
    from benchmarks.figures import Results
    from benchmarks.harness import Contender
    from benchmarks.scale import Scale
    from gewe_cache.store.engine import Database

GROUP: Final = "tables"
_COMMANDS: Final = {
    "cache list, first page": (["list"], 0.3),
    "cache stats": (["stats"], 0.3),
    "cache list by a part of the URL that one entry has": (["list", "--url-part", "/7/{last}.png"], 1.0),
}
_PRUNED: Final = ("30d", 10)
"""How old an entry has to be, and one entry in how many is."""

_LONGEST_WAIT: Final = Target("≤", 0.2)
_MEMORY: Final = Target("≤", 120)
_MOST_ROUNDS: Final = 7
_WRITER_PAUSE: Final = 0.002
_LOOK: Final = """
import sys
from datetime import timedelta
import psutil
from benchmarks import filled
from gewe_cache import ImageSender
database, size = sys.argv[1], int(sys.argv[2])
sender = ImageSender(filled.TOKEN, base_url=filled.BASE_URL, database=database, ttl=timedelta(days=3650))
with sender:
    missed = sum(sender.lookup(filled.url_of(number)) is None for number in range(1, size + 1))
    print(psutil.Process().memory_info().rss / 1e6 if not missed else "nan")
"""


def measure(scale: Scale, results: Results) -> None:
    """Measure commands that read, memory, and last of all what removes a tenth of the entries."""
    size = scale.entries[-1]
    _measure_commands(scale, results, size)
    _measure_memory(scale, results)
    for kind in filled.KINDS:
        _measure_prune(results, kind, size)


def _measure_commands(scale: Scale, results: Results, size: int) -> None:
    contenders: dict[tuple[str, str, int], Contender] = {}
    for kind in filled.KINDS:
        for name, (words, _) in _COMMANDS.items():
            named = [word.format(last=_numbered_7(size)) for word in words]
            for entry_count in (1, size):
                command = [*PROGRAM, "cache", *named, "--database", filled.database(kind, entry_count)]
                contenders[kind, name, entry_count] = process_of(command)
    seconds = alternate(contenders, min(scale.rounds, _MOST_ROUNDS))
    for kind in filled.KINDS:
        for name, (_, bound) in _COMMANDS.items():
            whole, start = seconds[kind, name, size], seconds[kind, name, 1]
            beyond = [each - base for each, base in zip(whole, start, strict=True)]
            what = f"{name}, {size:,} entries on {kind}"
            note = f"beyond the {median(start):.2f} s that it takes on one entry"
            results.figures.append(Figure.of(GROUP, what, beyond, unit="s", target=Target("≤", bound), note=note))


def _numbered_7(size: int) -> int:
    """Give the number of an entry whose URL has ``/7/`` in it."""
    return max(7, size // 997 * 997 - 990)


def _measure_memory(scale: Scale, results: Results) -> None:
    """Let a sender in a process of its own look at every entry once."""
    points = []
    for size in scale.entries:
        command = [sys.executable, "-c", _LOOK, filled.database("SQLite", size), str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        points.append((float(size), float(done.stdout)))
    what = f"memory (RSS) of a sender that has looked at {scale.entries[-1]:,} entries"
    results.figures.append(Figure.of(GROUP, what, [points[-1][1]], unit="MB", target=_MEMORY))
    results.curves.append(
        Curve("memory", "Memory of one sender", "entries looked at", "MB", {"RSS of its process": points}, log_x=True)
    )


def _measure_prune(results: Results, kind: str, size: int) -> None:
    """Prune while a writer saves entries one after the other, as senders do; it notes how long each save took."""
    older_than, one_in = _PRUNED
    url = filled.database(kind, size)
    database = open_database(url)
    writer = _Writer(database)
    try:
        with writer:
            command = [*PROGRAM, "cache", "prune", "--older-than", older_than, "--yes", "--database", url]
            began = time.perf_counter()
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            took = time.perf_counter() - began
    finally:
        database.dispose()
    if f"Removed {size // one_in:,} " not in said:
        raise RuntimeError(said)
    removed = f"prune of {size // one_in:,} among {size:,} entries on {kind}"
    waits = sorted(writer.waits)
    note = f"of {len(waits):,} saves; half took at most {1e3 * waits[len(waits) // 2]:.1f} ms"
    what = f"longest wait of a writer during a {removed}"
    results.figures.append(Figure.of(GROUP, what, waits[-1:], unit="s", target=_LONGEST_WAIT, note=note))
    results.figures.append(
        Figure.of(GROUP, removed, [took], unit="s", note="the whole command, with a writer beside it")
    )


class _Writer:
    """Saves an entry every few milliseconds, in a thread, from ``with`` to its end."""

    def __init__(self, database: Database) -> None:
        self.waits: list[float] = []
        self._database = database
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> None:
        self._save(0)  # connects
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _write(self) -> None:
        number = 0
        while not self._is_over.wait(_WRITER_PAUSE):
            number += 1
            began = time.perf_counter()
            self._save(number)
            self.waits.append(time.perf_counter() - began)

    def _save(self, number: int) -> None:
        now = datetime.now(UTC)
        image = CachedImage("0" * 32, "30ab", 4061, 400, 300, None, now, now + timedelta(days=3))
        url = f"https://images.example.com/saved-meanwhile/{number}.png"
        with self._database.writer.begin() as connection:
            entries.save(connection, image, "writer", url, [Key.of("url", "writer", url)])
