"""Processes that send at once, each with a sender of its own (``worker.py``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gewe_cache.sandbox import Sandbox

_ROOT = Path(__file__).parents[2]
_QUICK = {"lease_poll": 0.02, "unreached_pauses": [0.01, 0.01]}
_PATIENCE = 30


class Process:
    """One process; an order is given with ``order`` and answered by ``answer``."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("GEWE_")}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.concurrency.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env=environment,
        )
        self._unanswered = 0

    def order(self, do: str, **arguments: Any) -> None:
        """Give an order and wait for nothing."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        self._unanswered += 1

    def answer(self) -> Any:
        """Wait for the answer to the oldest order that has none yet."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process has ended"
        self._unanswered -= 1
        return json.loads(line)

    def do(self, do: str, **arguments: Any) -> Any:
        """Give an order and wait for its answer."""
        self.order(do, **arguments)
        return self.answer()

    def open(self, sandbox: Sandbox, database: str, tuning: dict[str, Any] | None = None, **options: Any) -> None:
        """Order a sender."""
        given = {"token": sandbox.token, "base_url": sandbox.base_url, "database": database, **options}
        self.order("open", tuning={**_QUICK, **(tuning or {})}, **given)

    def results(self) -> list[str]:
        """Wait for every send; give its route, or the name of its error."""
        return [result["outcome"] for result in self.do("results")]

    def catch_up(self) -> None:
        """Read the answers that a test which failed has left."""
        while self._unanswered:
            self.answer()

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self._process.kill()
        self._process.wait(_PATIENCE)

    def end(self) -> None:
        """Let it end by itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process.stdout.close()


def all_do(processes: Iterable[Process], do: str, **arguments: Any) -> list[Any]:
    """Give an order to all at once, and wait for every answer."""
    every = list(processes)
    for process in every:
        process.order(do, **arguments)
    return [process.answer() for process in every]
