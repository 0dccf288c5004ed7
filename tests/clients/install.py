"""Install the published clients, each in a virtual environment of its own: their pins contradict one another.

``python -m tests.clients.install`` (``make clients``). Needs a package index; the tests then need none.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-clients"
COMMAND = "python -m tests.clients.install"
PACKAGES = {
    "gewechat-client": ("gewechat-client==0.2.2",),
    "opengewe": ("opengewe==0.2.1",),
    "nonebot-adapter-gewechat": ("nonebot-adapter-gewechat==0.5.2", "nonebot2[fastapi,httpx]==2.5.0"),
}
ADAPTED = ("gewechat-client", "opengewe")  # these run together with the library, whose dependencies they must bear


def python_of(client: str) -> Path:
    """Give the interpreter of a client's environment."""
    folder = FOLDER / client
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def is_installed(client: str) -> bool:
    """Tell whether a client is there in the version that is wanted."""
    marker = FOLDER / client / "installed"
    return marker.exists() and marker.read_text(encoding="utf-8") == "\n".join(_wanted(client))


def main() -> None:
    """Install what is not there."""
    for client in PACKAGES:
        if is_installed(client):
            continue
        wanted = _wanted(client)
        venv.create(FOLDER / client, clear=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python_of(client))]  # a pip for each would take its time
        subprocess.run([*pip, "install", "--quiet", "--no-compile", *wanted], check=True)  # noqa: S603
        (FOLDER / client / "installed").write_text("\n".join(wanted), encoding="utf-8")


def _wanted(client: str) -> tuple[str, ...]:
    if client not in ADAPTED:
        return PACKAGES[client]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return (*PACKAGES[client], *project["dependencies"])


if __name__ == "__main__":
    main()
