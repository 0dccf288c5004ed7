"""What a run of the benchmarks finds: figures, curves, and the machine they were measured on."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, Literal, Self

RESULTS: Final = Path(__file__).parent / "results"

_COMPARISONS: Final = {"≤": operator.le, "≥": operator.ge}


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to reach."""

    comparison: Literal["≤", "≥"]
    value: float

    def __str__(self) -> str:
        """Show it as in a table."""
        return f"{self.comparison} {self.value:g}"

    def is_met(self, figure: float) -> bool:
        """Tell whether a figure reaches it."""
        return bool(_COMPARISONS[self.comparison](figure, self.value))


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured in several rounds.

    Attributes:
        group: what it belongs to, such as ``send``.
        what: what was measured, in words.
        unit: of ``median``, ``low`` and ``high``: ``×`` for a ratio, else ``µs``, ``s``, ``MB``, ``/s``.
        against: what it is a ratio to; empty where it is none.
        median: over the rounds.
        low, high: the quartiles of the rounds, or the least and the most of fewer than four.
        rounds: how many.
        target: what it is to reach, or None where it is only reported.
        note: what has to be known to read it.
    """

    group: str
    what: str
    unit: str
    against: str
    median: float
    low: float
    high: float
    rounds: int
    target: Target | None = None
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Tell whether it reaches its target; None without one."""
        return None if self.target is None else self.target.is_met(self.median)

    @classmethod
    def of(
        cls,
        group: str,
        what: str,
        values: Sequence[float],
        *,
        unit: str = "×",
        against: str = "",
        target: Target | None = None,
        note: str = "",
    ) -> Self:
        """Make a figure of the values of its rounds."""
        low, high = _spread(values)
        return cls(group, what, unit, against, median(values), low, high, len(values), target, note)


@dataclass(frozen=True, slots=True)
class Curve:
    """A plot: a line a name, points of x and y."""

    name: str
    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[tuple[float, float]]]
    log_x: bool = False
    log_y: bool = False


@dataclass(slots=True)
class Results:
    """Everything that one run has found."""

    scale: str
    machine: dict[str, str]
    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what ``save`` wrote."""
        read = json.loads(file.read_text(encoding="utf-8"))
        curves = [Curve(**{**curve, "lines": _points(curve["lines"])}) for curve in read["curves"]]
        return cls(read["scale"], read["machine"], [_figure(each) for each in read["figures"]], curves)


def ratios(seconds: Sequence[float], floor: Sequence[float]) -> list[float]:
    """Give the ratio of each round to the same round of the floor."""
    return [each / base for each, base in zip(seconds, floor, strict=True)]


def _figure(read: dict[str, Any]) -> Figure:
    return Figure(**{**read, "target": Target(**read["target"]) if read["target"] else None})


def _points(lines: dict[str, list[list[float]]]) -> dict[str, list[tuple[float, float]]]:
    return {name: [(x, y) for x, y in points] for name, points in lines.items()}


def _spread(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 4:  # noqa: PLR2004 - quartiles of fewer say nothing
        return min(values), max(values)
    low, _, high = quantiles(values, n=4)
    return low, high
