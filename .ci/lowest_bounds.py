"""Print the lower bound of every dependency as a constraint, so that CI tests what pyproject.toml promises."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_BOUND = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9.]+)")


def main() -> None:
    """Read pyproject.toml beside this folder."""
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"].values()
    for requirement in [*project["dependencies"], *(item for extra in extras for item in extra)]:
        match = _BOUND.fullmatch(requirement)
        if match is None:
            msg = f"{requirement}: write it as NAME>=VERSION, so that its lower bound can be tested"
            raise SystemExit(msg)
        print(f"{match[1]}=={match[2]}")


main()
