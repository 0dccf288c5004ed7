"""``python -m benchmarks [--scale smoke|quick|full] [--only GROUP …] [--into FOLDER]``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Final

from benchmarks import machine, report
from benchmarks.figures import RESULTS, Results
from benchmarks.scale import SCALES

GROUPS: Final = ("sends", "gains", "devices", "flights", "broadcasts", "proxy", "lookups", "tables", "startup")
"""Each is a module here with ``measure(scale, results)``."""


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure gewe_cache side by side.")
    parser.add_argument("--scale", choices=SCALES, default="quick")
    parser.add_argument("--only", choices=GROUPS, nargs="+", default=GROUPS)
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder for results.json, table.md and the plots")
    given = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a package that pip has installed is compiled
    results = Results(given.scale, machine.describe())
    for group in given.only:
        began = time.monotonic()
        already = len(results.figures)
        import_module(f"benchmarks.{group}").measure(SCALES[given.scale], results)
        sys.stderr.write(f"\n{group}: {time.monotonic() - began:.0f} s\n")
        for figure in results.figures[already:]:
            sys.stderr.write(f"  {report.line_of(figure)}\n")
        sys.stderr.flush()
    report.write(results, given.into)


if __name__ == "__main__":
    main()
