"""The READMEs show the figures of the results file, and no others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from benchmarks import report
from benchmarks.figures import RESULTS, Results

_ROOT = Path(__file__).parents[2]
_FIGURE: Final = re.compile(r"÷|\d ?(?:×|µs)")
_PLOT: Final = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
_PATH: Final = re.compile(r"""(?<![\w./:])(?:/(?:home|root|tmp|Users|work|var)\b|[A-Z]:\\)""")


@pytest.fixture(scope="module")
def results() -> Results:
    return Results.load(RESULTS / "results.json")


@pytest.mark.parametrize("name", sorted(report.READMES))
def test_a_readme_shows_what_the_results_file_says(results: Results, name: str) -> None:
    readme = (_ROOT / name).read_text(encoding="utf-8")
    why = "the figures of a README are made, not typed: python -m benchmarks.report"
    assert report.put_into(readme, results, report.READMES[name]) == readme, why


@pytest.mark.parametrize("name", sorted(report.READMES))
def test_a_readme_shows_no_other_figure(results: Results, name: str) -> None:
    readme = (_ROOT / name).read_text(encoding="utf-8")
    rest = readme.replace(report.block(results, report.READMES[name]), "").replace("(÷)", "").replace("（÷）", "")
    assert [line for line in rest.splitlines() if _FIGURE.search(line)] == []


def test_the_plots_and_the_table_are_those_of_the_results_file(results: Results) -> None:
    shown = {Path(found).name for name in report.READMES for found in _PLOT.findall((_ROOT / name).read_text("utf-8"))}
    drawn = {file.name for file in RESULTS.glob("*.svg")}
    assert drawn == {f"{curve.name}.svg" for curve in results.curves} >= shown
    assert (RESULTS / "table.md").read_text(encoding="utf-8") == report.page(results)


def test_the_results_name_no_place_of_the_machine_they_were_measured_on() -> None:
    for file in RESULTS.iterdir():
        assert not _PATH.search(file.read_text(encoding="utf-8")), file
