"""How ``gewe-cache demo`` looks while it runs: a table that grows line by line, above a line that tells the time.

The table's lines are printed once and scroll away as any output does, so it fits every terminal and nothing
flickers; only the last two lines are drawn again. Where there is no terminal, the lines are all there is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from gewe_cache.cli.demo_run import Begun, DemoImage, Sent
from gewe_cache.cli.output import console
from gewe_cache.text import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from gewe_cache.image import Route
    from gewe_cache.sandbox import Delays

STYLES: Final[dict[Route, str]] = {"upload": "yellow", "forward": "green"}

_HEADING: Final = f"{'image':<12}{'size':>8}{'chat':>6}  {'route':<8}{'seconds':>8}"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_MAX_BAR: Final = 60


class GrowingTable:
    """The table of sends, as it grows."""

    def __init__(self, images: Sequence[DemoImage], chats: int, delays: Delays) -> None:
        """Begin empty; the longest upload to be expected sets the bars' scale."""
        self._out = console()
        self._total = len(images) * chats
        self._longest = max(_expected_upload(image, delays) for image in images)
        self._current: Begun | None = None
        self._sends: list[Sent] = []
        self._began_at = time.perf_counter()
        self._spinner = Spinner("line" if self._out.options.ascii_only else "dots", style="cyan")
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Print the heading, and begin to draw where somebody watches."""
        self._began_at = time.perf_counter()
        self._out.print(Text(_HEADING, style="bold"))
        if self._out.is_interactive:
            self._live = Live(
                console=self._out,
                get_renderable=self._footer,
                refresh_per_second=10,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take the moving lines away."""
        if self._live is not None:
            self._live.stop()

    @property
    def sends(self) -> list[Sent]:
        """What was sent."""
        return self._sends

    def show(self, event: Begun | Sent) -> None:
        """Take in what has happened."""
        if isinstance(event, Begun):
            self._current = event
            return
        if self._sends and self._sends[-1].image != event.image:
            self._out.print()
        self._sends.append(event)
        self._current = None
        self._out.print(self._row(event), no_wrap=True, overflow="crop")

    def print_totals(self) -> None:
        """Print the table's last line."""
        self._out.print(Text(self._totals(), style="bold"))

    def _row(self, sent: Sent) -> Text:
        style = STYLES[sent.route]
        return Text.assemble(
            f"{sent.image.name:<12}{human_size(sent.image.size):>8}{sent.chat:>6}  ",
            (f"{sent.route:<8}", style),
            f"{sent.seconds:>8.3f}  ",
            (self._bar(sent.seconds), style),
        )

    def _bar(self, seconds: float) -> str:
        room = min(_MAX_BAR, self._out.width - len(_HEADING) - 3)
        length = max(0, round(8 * room * min(1.0, seconds / self._longest)))
        if self._out.options.ascii_only:
            return "#" * max(1, length // 8)
        whole, rest = divmod(max(1, length), 8)
        return _EIGHTHS[8] * whole + (_EIGHTHS[rest] if rest else "")

    def _footer(self) -> RenderableType:
        current = self._current
        if current is None:
            now = ""
        else:
            so_far = time.perf_counter() - current.began_at
            now = f"{current.image.name}, {human_size(current.image.size)}, to chat {current.chat}: {so_far:.1f} s"
        self._spinner.update(text=Text(now))
        return Group(self._spinner, Text(f"  {self._totals()}", style="dim", no_wrap=True, overflow="crop"))

    def _totals(self) -> str:
        parts = [f"{self._of('upload')}, {self._of('forward')}"]
        passed = time.perf_counter() - self._began_at
        return f"{len(self._sends)} of {self._total} sent in {passed:.1f} s: {', '.join(parts)}"

    def _of(self, route: Route) -> str:
        times = [sent.seconds for sent in list(self._sends) if sent.route == route]
        return f"{len(times)} {route}{'' if len(times) == 1 else 's'} {sum(times):.1f} s"


def _expected_upload(image: DemoImage, delays: Delays) -> float:
    parts = (delays.of_download(image.size), delays.of_conversion(image.size), delays.of_cdn(image.size))
    return max(0.001, delays.call_seconds + sum(parts))
