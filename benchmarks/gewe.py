"""The sandbox in a process of its own, for what is measured against it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gewe_cache.sandbox import Delays, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Record:
    """What the sandbox says it was asked and has delivered."""

    uploads: int
    forwards: int
    duplicates: int
    overlaps: int


@dataclass(slots=True)
class Gewe:
    """A running sandbox: where it is, and what may be sent by it."""

    base_url: str
    token: str
    image_urls: dict[int, str]
    _process: subprocess.Popen[str]

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.base_url.removesuffix("/gewe/v2/api")

    def record(self) -> Record:
        """Ask what was delivered since it was asked last."""
        return Record(**self._ask("record"))

    def _ask(self, question: str) -> Any:  # noqa: ANN401 - any JSON
        assert self._process.stdin is not None  # noqa: S101 - it was opened so
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return _read(self._process)

    @classmethod
    def of(cls, process: subprocess.Popen[str]) -> Self:
        """Wait until it serves."""
        ready = _read(process)
        images = {int(size): url for size, url in ready["images"].items()}
        return cls(ready["base_url"], ready["token"], images, process)


@contextmanager
def running(*, delays: dict[str, float] | None = None, images: tuple[int, ...] = (2_000,)) -> Iterator[Gewe]:
    """Run a sandbox that hosts an image of each size in bytes.

    Args:
        delays: ``Delays`` by name, in seconds; none: it answers at once.
        images: sizes.
    """
    given = json.dumps({"delays": delays or {}, "images": images})
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gewe", given],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as process:
        try:
            yield Gewe.of(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()  # it ends with its standard input
            process.wait()


def _read(process: subprocess.Popen[str]) -> Any:  # noqa: ANN401 - any JSON
    assert process.stdout is not None  # noqa: S101 - it was opened so
    return json.loads(process.stdout.readline())


def _serve(delays: dict[str, float], images: list[int]) -> None:
    with Sandbox(delays=Delays(**delays), any_token=True) as sandbox:
        for number in range(_DEVICES):
            sandbox.add_device(device(number))
        urls = {size: sandbox.make_image(f"{size}.jpg", approximate_bytes=size) for size in images}
        _say({"base_url": sandbox.base_url, "token": sandbox.token, "images": urls})
        for _ in sys.stdin:
            _say(
                {
                    "uploads": len(sandbox.uploads),
                    "forwards": sum(call.route == "forward" and call.delivered for call in sandbox.calls),
                    "duplicates": len(sandbox.duplicates()),
                    "overlaps": len(sandbox.overlaps()),
                }
            )
            sandbox.clear()


_DEVICES = 2000


def device(number: int) -> str:
    """Name a device that exists; there are 2,000."""
    return f"wx_sandbox_{number}"


def _say(what: Any) -> None:  # noqa: ANN401 - any JSON
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve(**json.loads(sys.argv[1]))
