"""The sandbox in a process of its own, for what is measured against it."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import children
from gewe_cache.sandbox import Delays, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.children import Child


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
    _child: Child

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.base_url.removesuffix("/gewe/v2/api")

    def record(self) -> Record:
        """Ask what was delivered since it was asked last."""
        return Record(**self._child.ask("record"))


@contextmanager
def running(*, delays: dict[str, float] | None = None, images: tuple[int, ...] = (2_000,)) -> Iterator[Gewe]:
    """Run a sandbox that hosts an image of each size in bytes.

    Args:
        delays: ``Delays`` by name, in seconds; none: it answers at once.
        images: sizes.
    """
    with children.running("gewe", {"delays": delays or {}, "images": images}) as child:
        ready = child.read()
        urls = {int(size): url for size, url in ready["images"].items()}
        yield Gewe(ready["base_url"], ready["token"], urls, child)


def _serve(delays: dict[str, float], images: list[int]) -> None:
    with Sandbox(delays=Delays(**delays), any_token=True) as sandbox:
        for number in range(_DEVICES):
            sandbox.add_device(device(number))
        urls = {size: _make_image(sandbox, size) for size in images}
        children.say({"base_url": sandbox.base_url, "token": sandbox.token, "images": urls})
        for _ in sys.stdin:
            children.say(
                {
                    "uploads": len(sandbox.uploads),
                    "forwards": sum(call.route == "forward" and call.delivered for call in sandbox.calls),
                    "duplicates": len(sandbox.duplicates()),
                    "overlaps": len(sandbox.overlaps()),
                }
            )
            sandbox.clear()


def _make_image(sandbox: Sandbox, size: int) -> str:
    """Host an image of about ``size`` bytes; it needs the pixels for them."""
    side = max(200, math.isqrt(2 * size))
    return sandbox.make_image(f"{size}.jpg", width=side, height=side, approximate_bytes=size)


_DEVICES = 2000


def device(number: int) -> str:
    """Name a device that exists; there are 2,000."""
    return f"wx_sandbox_{number}"


if __name__ == "__main__":
    _serve(**children.given())
