"""What a run was made with; nothing that names the machine or its owner."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

_PACKAGES: Final = (
    "gewe-cache",
    "httpx",
    "httpx2",
    "httpx-aiohttp",
    "sqlalchemy",
    "psycopg",
    "starlette",
    "uvicorn",
    "diskcache",
    "dogpile.cache",
    "cashews",
    "aiocache",
)


def describe() -> dict[str, str]:
    """Give the processor, the system and the versions."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: found for name in _PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
