"""Processes that are interrupted, stopped or killed (``worker.py``)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.interruptions.kit import PATIENCE

if TYPE_CHECKING:
    from gewe_cache.sandbox import Sandbox

_ROOT = Path(__file__).parents[2]
IS_POSIX = os.name == "posix"
QUICK: dict[str, Any] = {"lease_poll": 0.02, "unreached_pauses": [0.01], "database_timeout": 5.0}


class Process:
    """One process with an ``ImageSender``; ended by force where a test has failed."""

    def __init__(self, sandbox: Sandbox, database: str, **tuning: Any) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("GEWE_")}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.interruptions.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env=environment,
        )
        given = {"token": sandbox.token, "base_url": sandbox.base_url, "database": database, "scope": "interruptions"}
        self.order("open", tuning={**QUICK, **tuning}, timeout=15.0, **given)

    def __enter__(self) -> Self:
        assert self.answer() is None
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def order(self, do: str, **arguments: Any) -> None:
        """Give an order and wait for nothing."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for an answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)

    def do(self, do: str, **arguments: Any) -> Any:
        """Give an order and wait for its answer."""
        self.order(do, **arguments)
        return self.answer()

    def send(self, to: str, url: str, device: int = 1) -> None:
        """Order a send in the main thread."""
        self.order("send", to=to, url=url, device=f"wx_sandbox_{device}")

    def begin(self, to: str, url: str, device: int) -> None:
        """Order a send in another thread."""
        assert self.do("begin", to=to, url=url, device=f"wx_sandbox_{device}") is None

    def interrupt(self) -> None:
        """Interrupt its main thread as Ctrl-C does."""
        if IS_POSIX:
            self._process.send_signal(signal.SIGINT)
        else:
            self.order("interrupt")

    def signal(self, name: str) -> None:
        """Send a signal."""
        self._process.send_signal(getattr(signal, name))

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def leave(self) -> str:
        """Have it end without closing its sender; give what it complained of."""
        assert self._process.stderr is not None
        self.order("leave")
        assert self._process.wait(PATIENCE) == 0
        return self._process.stderr.read()
