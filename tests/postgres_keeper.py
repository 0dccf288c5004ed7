"""Own one PostgreSQL server for a test run: start, stop or kill it as told, and bury it when the run ends.

A process of its own, so that nothing is left behind even where the run is killed: its standard input ends then.
Called with the run's folder and the server's command as JSON; needs the standard library only.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_PATIENCE = 20.0
_FAST = signal.SIGTERM if sys.platform == "win32" else signal.SIGINT
_IMMEDIATE: signal.Signals = getattr(signal, "SIGQUIT", signal.SIGTERM)


class _Keeper:
    def __init__(self, folder: Path, command: list[str], options: dict[str, Any]) -> None:
        self.folder = folder
        self.command = command
        self.options = options
        self.server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.server = subprocess.Popen(  # noqa: S603 - the command of our own test run
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.options
            )

    def end(self, how: signal.Signals) -> None:
        if self.server is None:
            return
        if self.server.poll() is None:
            self.server.send_signal(how)
        try:
            self.server.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()

    def obey(self, order: str) -> str:
        if order == "start":
            self.start()
        elif order == "stop":
            self.end(_FAST)
        elif order == "kill":
            self.end(_IMMEDIATE)
        return "running" if self.server is not None and self.server.poll() is None else "ended"


def main() -> None:
    """Obey one order a line until "bury" or the end of standard input."""
    keeper = _Keeper(Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]))
    try:
        for line in sys.stdin:
            order = line.strip()
            if order == "bury":
                break
            sys.stdout.write(f"{keeper.obey(order)}\n")
            sys.stdout.flush()
    finally:
        keeper.obey("kill")
        shutil.rmtree(keeper.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
