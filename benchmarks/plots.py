"""Curves as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.figures import Curve

_SETTINGS: Any = {"svg.hashsalt": "gewe_cache", "svg.fonttype": "none", "axes.grid": True, "grid.alpha": 0.3}


def draw(curve: Curve, file: Path) -> None:
    """Draw a curve into a file; the same points give the same bytes."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for name, points in curve.lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set(title=curve.title, xlabel=curve.x_label, ylabel=curve.y_label)
        axes.set_xscale("log" if curve.log_x else "linear")
        axes.set_yscale("log" if curve.log_y else "linear")
        axes.legend()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
