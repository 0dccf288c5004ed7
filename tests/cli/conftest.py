"""What the command line's tests share: the real program, the same in this process, and a cache to look into."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from gewe_cache.cli.main import app
from gewe_cache.sandbox import Sandbox
from gewe_cache.settings import utc_now
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
from tests.store.rows import add_entry, add_usage, retire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typer.testing import Result

    from gewe_cache.store.engine import Database

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Invoke = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Run the real program in a process of its own."""

    def start(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-W", "error", "-m", "gewe_cache.cli.main", *arguments],
            input=stdin,
            capture_output=True,
            encoding=environment.get("PYTHONIOENCODING", "utf-8"),
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80", **environment},
        )

    return start


@pytest.fixture
def invoke() -> Invoke:
    """Run the program in this process."""

    def call(*arguments: str, stdin: str | bytes | None = None, **environment: str) -> Result:
        return CliRunner().invoke(app, arguments, input=stdin, env={"COLUMNS": "80", **environment})

    return call


@pytest.fixture
def gewe(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Give a sandbox that the environment leads to."""
    with Sandbox() as sandbox:
        monkeypatch.setenv("GEWE_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("GEWE_TOKEN", sandbox.token)
        monkeypatch.setenv("GEWE_APP_ID", sandbox.app_id)
        monkeypatch.setenv("GEWE_CACHE_DATABASE", sqlite_url)
        yield sandbox


@pytest.fixture
def cache(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Give a cache that the environment names: 4 entries (ids 1 to 4) in two scopes, and some usage."""
    database = open_database(sqlite_url)
    migrate.upgrade(database)
    now = utc_now()
    add_entry(database, "https://img.example/fresh.png", now=now, gewe_md5="0" * 31 + "a", forwards=7)
    add_entry(database, "https://img.example/old.png", now=now, age=timedelta(days=9))
    gone = add_entry(database, "https://img.example/gone.png", now=now, age=timedelta(hours=5))
    retire(database, gone, at=now - timedelta(hours=2))
    add_entry(database, "https://img.example/fresh.png", now=now, scope="two", age=timedelta(hours=3))
    hour = now.replace(minute=0, second=0, microsecond=0)
    add_usage(database, hour, uploads=1, forwards=9, upload_seconds=2.0, forward_seconds=0.9, bytes_saved=3_000_000)
    monkeypatch.setenv("GEWE_CACHE_DATABASE", sqlite_url)
    yield database
    database.dispose()
