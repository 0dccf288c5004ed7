"""Worker processes of a broadcast (``worker.py``), as a test sees them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.broadcast.processes.kit import PATIENCE, SCOPE, TUNING

if TYPE_CHECKING:
    from gewe_cache.sandbox import Sandbox

_ROOT = Path(__file__).parents[3]
# A worker that is gone is known to be gone this soon.
BRIEF: dict[str, Any] = {"lane_seconds": 0.6, "lane_renewal": 0.1}


class WorkerProcess:
    """One process with an ``ImageSender``; ended by force at the end."""

    def __init__(
        self, sandbox: Sandbox, database: str, *, database_timeout: float = TUNING["database_timeout"], **limits: Any
    ) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("GEWE_")}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.broadcast.processes.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env=environment,
        )
        given = {"token": sandbox.token, "base_url": sandbox.base_url, "database": database, "scope": SCOPE}
        tuning = {**TUNING, "database_timeout": database_timeout}
        self.order("open", limits={**BRIEF, **limits}, tuning=tuning, timeout=PATIENCE, **given)

    def __enter__(self) -> Self:
        assert self.answer() is None
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)
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
        line = self._read()
        assert line, "the process has ended"
        return json.loads(line)

    def do(self, do: str, **arguments: Any) -> Any:
        """Give an order and wait for its answer."""
        self.order(do, **arguments)
        return self.answer()

    def arm(self, point: str, count: int = 1, signal_name: str = "SIGKILL") -> None:
        """Have it send itself a signal when it has passed a point so often."""
        self.order("arm", point=point, count=count, signal_name=signal_name)

    def signal(self, name: str) -> None:
        """Send a signal."""
        self._process.send_signal(getattr(signal, name))

    def wait_stopped(self) -> None:
        """Wait until a SIGSTOP has stopped it."""
        if sys.platform != "win32":
            found = os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert found is not None
            assert found.si_code == os.CLD_STOPPED

    def interrupt(self) -> None:
        """Interrupt its main thread as Ctrl-C does."""
        self.signal("SIGINT")

    def leave(self) -> str:
        """Have it end without closing its sender; give what it complained of."""
        assert self._process.stderr is not None
        self.order("leave")
        assert self._process.wait(PATIENCE) == 0
        return self._process.stderr.read()

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def wait_killed(self) -> None:
        """Wait until it has killed itself in the middle of an order."""
        answer = self._read()
        assert not answer, f"it was never killed: {answer}"
        self._process.wait(PATIENCE)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()
