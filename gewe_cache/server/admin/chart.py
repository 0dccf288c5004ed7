"""The sends of the last day as bars: places and heights in per cent, which the template draws as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from gewe_cache.store.reports import Savings

HOURS: Final = 24

_GAP = 0.22
_LABEL_EVERY = 6
_STEPS = (1, 2, 5, 10)
_LEAST = 5


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour. ``x``, ``width`` and heights are per cent of the drawing."""

    hour: datetime
    forwards: int
    uploads: int
    x: float
    width: float
    forwards_height: float
    uploads_height: float
    is_labelled: bool

    @property
    def middle(self) -> float:
        """Where its label stands."""
        return self.x + self.width / 2


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars of a day, oldest first, and what the top of the drawing stands for."""

    bars: tuple[Bar, ...]
    top: int

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was sent."""
        return not any(bar.forwards or bar.uploads for bar in self.bars)


def draw(by_hour: Mapping[datetime, Savings], now: datetime) -> Chart:
    """Draw the day that ends with the present hour."""
    last = now.replace(minute=0, second=0, microsecond=0)
    hours = [last - timedelta(hours=ago) for ago in reversed(range(HOURS))]
    counts = [_counts(by_hour.get(hour)) for hour in hours]
    top = _round_up(max(_LEAST, *(forwards + uploads for forwards, uploads in counts)))
    step = 100 / HOURS
    bars = [
        Bar(
            hour=hour,
            forwards=forwards,
            uploads=uploads,
            x=round(place * step + step * _GAP / 2, 3),
            width=round(step * (1 - _GAP), 3),
            forwards_height=round(100 * forwards / top, 3),
            uploads_height=round(100 * uploads / top, 3),
            is_labelled=hour.hour % _LABEL_EVERY == 0,
        )
        for place, (hour, (forwards, uploads)) in enumerate(zip(hours, counts, strict=True))
    ]
    return Chart(tuple(bars), top)


def _counts(savings: Savings | None) -> tuple[int, int]:
    return (0, 0) if savings is None else (savings.counts.forwards, savings.counts.uploads)


def _round_up(most: int) -> int:
    """Give the next of 5, 10, 20, 50, 100 and so on."""
    scale = 1
    while 10 * scale < most:
        scale *= 10
    return next(step * scale for step in _STEPS if step * scale >= most)
