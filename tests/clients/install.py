"""Install the published clients, each in a virtual environment of its own: their pins contradict one another.

``python -m tests.clients.install`` (``make clients``). Needs a package index; the tests then need none.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".venv-clients"
COMMAND = "python -m tests.clients.install"
PACKAGES = {
    "gewechat-client": ("gewechat-client==0.2.2",),
    "opengewe": ("opengewe==0.2.1",),
    "nonebot-adapter-gewechat": ("nonebot-adapter-gewechat==0.5.2", "nonebot2[fastapi,httpx]==2.5.0"),
}


def python_of(client: str) -> Path:
    """Give the interpreter of a client's environment."""
    folder = FOLDER / client
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def is_installed(client: str) -> bool:
    """Tell whether a client is there in the version that is wanted."""
    marker = FOLDER / client / "installed"
    return marker.exists() and marker.read_text(encoding="utf-8") == _wanted(client)


def main() -> None:
    """Install what is not there."""
    for client, packages in PACKAGES.items():
        if is_installed(client):
            continue
        venv.create(FOLDER / client, with_pip=True, clear=True)
        subprocess.run([python_of(client), "-m", "pip", "install", "--quiet", *packages], check=True)  # noqa: S603
        (FOLDER / client / "installed").write_text(_wanted(client), encoding="utf-8")


def _wanted(client: str) -> str:
    return "\n".join(PACKAGES[client])


if __name__ == "__main__":
    main()
