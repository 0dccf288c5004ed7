"""Processes of a benchmark's own, which answer in lines of JSON and end with their standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Child:
    """A running process."""

    process: subprocess.Popen[str]

    def ask(self, question: str) -> Any:  # noqa: ANN401 - any JSON
        """Write it a line, and give its answer."""
        self.tell(question)
        return self.read()

    def tell(self, what: str) -> None:
        """Write it a line."""
        assert self.process.stdin is not None  # noqa: S101 - it was opened so
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def read(self) -> Any:  # noqa: ANN401 - any JSON
        """Give the next thing that it says.

        Raises:
            RuntimeError: it has ended instead.
        """
        assert self.process.stdout is not None  # noqa: S101 - it was opened so
        line = self.process.stdout.readline()
        if not line:
            msg = "a process of the benchmark has ended; what it wrote to standard error tells why"
            raise RuntimeError(msg)
        return json.loads(line)


@contextmanager
def running(module: str, given: object, **environment: str) -> Iterator[Child]:
    """Run a module of this package with something given as JSON."""
    with subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", json.dumps(given)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        env={**os.environ, **environment},
    ) as process:
        try:
            yield Child(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait()


def given() -> Any:  # noqa: ANN401 - any JSON
    """Give, inside the process, what it was given."""
    return json.loads(sys.argv[1])


def say(what: object) -> None:
    """Say something, inside the process."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def peak_megabytes() -> float:
    """Give the most memory that this process has had, in millions of bytes.

    Raises:
        OSError: the system does not tell.
    """
    with suppress(FileNotFoundError):  # on Linux, where getrusage tells of the process that forked this one too
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024 / 1e6
    try:
        import resource  # noqa: PLC0415 - POSIX alone has it
    except ModuleNotFoundError as error:
        msg = "memory is measured on Linux and macOS"
        raise OSError(msg) from error
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
