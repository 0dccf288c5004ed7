"""What was found, as people read it: a table in Markdown, plots, and the same in README.

``python -m benchmarks.report`` puts the committed results into both READMEs.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.figures import RESULTS, Results

if TYPE_CHECKING:
    from benchmarks.figures import Figure

_ROOT = Path(__file__).parents[1]
_BEGIN, _END = "<!-- benchmarks: made by `python -m benchmarks.report` -->", "<!-- benchmarks: end -->"
_BLOCK = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
_FOLDER = "benchmarks/results"
_PLOTS = ("gains-seconds", "devices", "lookups")


class Words(NamedTuple):
    """The few words of a README's block."""

    what: str
    median: str
    quartiles: str
    target: str
    more: str


READMES: Final = {
    "README.md": Words("what", "median", "quartiles", "to reach", "All figures and plots"),
    "README.zh-CN.md": Words("项目", "中位数", "四分位数", "目标", "全部数据与图表"),
}
_MARKS = {True: "✓", False: "✗", None: ""}


def write(results: Results, folder: Path) -> None:
    """Write ``results.json``, ``table.md`` and a plot a curve into a folder."""
    from benchmarks import plots  # noqa: PLC0415 - matplotlib is slow to import

    results.save(folder / "results.json")
    (folder / "table.md").write_text(page(results), encoding="utf-8")
    for curve in results.curves:
        plots.draw(curve, folder / f"{curve.name}.svg")


def page(results: Results) -> str:
    """Give all figures and plots as a page of their own."""
    plots = [f"![{curve.title}]({curve.name}.svg)\n" for curve in results.curves]
    return "\n".join([f"# Figures\n\n{table(results)}\n", *plots])


def table(results: Results) -> str:
    """Give all figures in Markdown."""
    lines = [
        "| what | median | quartiles | rounds | to reach | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for group, figures in groupby(results.figures, key=lambda figure: figure.group):
        lines.append(f"| **{group}** | | | | | |")
        lines.extend(_row(figure) for figure in figures)
    return "\n".join([*lines, "", machine_line(results)])


def machine_line(results: Results) -> str:
    """Say on what it was measured."""
    known = dict(results.machine)
    machine = f"{known.pop('processor')}, {known.pop('cores')} cores, {known.pop('system')}"
    versions = ", ".join(f"{name} {version}" for name, version in known.items())
    return f"Scale *{results.scale}* on {machine}; {versions}."


def line_of(figure: Figure) -> str:
    """Give a figure as one line of text."""
    target = "" if figure.target is None else f"  (to reach {figure.target} {_MARKS[figure.is_met]})"
    spread = f"[{_number(figure.low)} … {_number(figure.high)}]"
    return f"{_with_unit(figure)} {spread}  {_what(figure)}{target}"


def block(results: Results, words: Words) -> str:
    """Give what README shows: the figures that have something to reach, some plots, and the machine."""
    rows = [_short_row(figure) for figure in results.figures if figure.target is not None]
    head = [
        f"| {words.what} | {words.median} | {words.quartiles} | {words.target} | |",
        "| --- | --- | --- | --- | --- |",
    ]
    shown = [curve for curve in results.curves if curve.name in _PLOTS]
    plots = [f"![{curve.title}]({_FOLDER}/{curve.name}.svg)" for curve in shown]
    more = f"{words.more}: [{_FOLDER}/table.md]({_FOLDER}/table.md)"
    return "\n".join([_BEGIN, *head, *rows, "", machine_line(results), "", more, "", *plots, _END])


def put_into(text: str, results: Results, words: Words) -> str:
    """Give a README's text with its block made anew.

    Raises:
        ValueError: it has no place for one.
    """
    made = block(results, words)
    replaced, count = _BLOCK.subn(lambda _: made, text)
    if count != 1:
        msg = f"a README needs one {_BEGIN} … {_END}"
        raise ValueError(msg)
    return replaced


def _row(figure: Figure) -> str:
    spread = f"{_number(figure.low)} – {_number(figure.high)}"
    target = "" if figure.target is None else str(figure.target)
    cells = (_what(figure), f"**{_with_unit(figure)}**", spread, str(figure.rounds), target, _MARKS[figure.is_met])
    return f"| {' | '.join(cells)} |"


def _short_row(figure: Figure) -> str:
    what = f"{figure.what} ÷ {figure.against}" if figure.against else figure.what
    spread = f"{_number(figure.low)} – {_number(figure.high)}"
    return f"| {what} | **{_with_unit(figure)}** | {spread} | {figure.target} | {_MARKS[figure.is_met]} |"


def _what(figure: Figure) -> str:
    against = f" ÷ {figure.against}" if figure.against else ""
    note = f" ({figure.note})" if figure.note else ""
    return f"{figure.what}{against}{note}"


def _with_unit(figure: Figure) -> str:
    return f"{_number(figure.median)} {figure.unit}".strip()


def _number(value: float) -> str:
    """Write three significant digits, and no more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def _main() -> None:
    results = Results.load(RESULTS / "results.json")
    for name, words in READMES.items():
        readme = _ROOT / name
        readme.write_text(put_into(readme.read_text(encoding="utf-8"), results, words), encoding="utf-8")


if __name__ == "__main__":
    _main()
