"""Curves as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.figures import Curve

_SETTINGS: Any = {
    "svg.hashsalt": "gewe_cache",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "grid.alpha": 0.3,
}


def draw(curve: Curve, file: Path) -> None:
    """Draw a curve into a file; the same points give the same bytes."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for name, points in curve.lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set(title=curve.title, xlabel=curve.x_label, ylabel=curve.y_label)
        for axis, is_log, set_scale in (
            (axes.xaxis, curve.log_x, axes.set_xscale),
            (axes.yaxis, curve.log_y, axes.set_yscale),
        ):
            if is_log:
                set_scale("log")
                axis.set_major_formatter(_plain)
                axis.set_minor_formatter(NullFormatter())
        if not curve.log_y:
            axes.set_ylim(bottom=0)
        if len(curve.lines) > 1:
            axes.legend(frameon=False)
        # White whatever the page behind it: its text is dark.
        figure.savefig(file, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})


def _plain(value: float, _place: float) -> str:
    """Write 1,000,000 and 0.1 as people do."""
    return f"{value:,g}" if value < 1 else f"{value:,.0f}"
