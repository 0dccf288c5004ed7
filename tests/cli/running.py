"""The real commands, in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Who starts the tests in the background may have SIGINT ignored, which a child would inherit.
_MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
{first}
from gewe_cache.cli.main import main
main()
"""
_ENDS_WITHIN = 20


def command(*arguments: str, first: str = "") -> list[str]:
    return [sys.executable, "-W", "error", "-c", _MAIN.format(first=first), *arguments]


def environment(temporary: Path, **settings: str) -> Mapping[str, str]:
    """Give the environment of a command whose temporary files are all in one folder."""
    temporary.mkdir(exist_ok=True)
    named = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    return {**os.environ, **named, "PYTHONIOENCODING": "utf-8", **settings}


def run(arguments: list[str], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, env=env, capture_output=True, encoding="utf-8", timeout=60, check=False)  # noqa: S603 - our own


def run_unread(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output goes to a reader that has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:  # noqa: PTH123 - a pipe
        return subprocess.run(  # noqa: S603 - our own
            command(*arguments), stdout=pipe, stderr=subprocess.PIPE, encoding="utf-8", timeout=60, check=False
        )


@contextmanager
def started(arguments: list[str], env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start a command; it is killed in the end if it is still there."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
    else:
        flags = 0
    with subprocess.Popen(  # noqa: S603 - our own
        arguments,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        creationflags=flags,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def press_ctrl_c(process: subprocess.Popen[str]) -> None:
    """Do what Ctrl-C does; on Windows Ctrl-Break, as only that reaches a process group of its own."""
    if sys.platform == "win32":
        process.send_signal(signal.CTRL_BREAK_EVENT)
    else:
        process.send_signal(signal.SIGINT)


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end; give the exit code and what was left to read on stdout and stderr."""
    out, err = process.communicate(timeout=_ENDS_WITHIN)
    return process.returncode, out, err


def line_with(process: subprocess.Popen[str], part: str) -> str:
    """Read on to the line that has this part."""
    assert process.stdout is not None
    for line in process.stdout:
        if part in line:
            return line
    msg = f"{part!r} never came; on stderr: {end_of(process)[2]}"
    raise AssertionError(msg)


def is_listening(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname or "", parts.port or 0)) == 0
