"""What the tests of migrations share: rows to keep, a longer history than the real one, processes that start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select

from gewe_cache.store import schema, scripts, tables

if TYPE_CHECKING:
    import pytest
    from sqlalchemy import Connection

ROOT = Path(__file__).parents[2]
PATIENCE = 60
_NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)

NEXT_REVISION = '''
"""A next step."""
import sys
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0003", "0002", None, None
def upgrade():
    {upgrade}
def downgrade():
    {downgrade}
'''

STARTER = """
import sys
from gewe_cache.store import migrate, scripts
from gewe_cache.store.engine import open_database
print("ready", flush=True)
for line in sys.stdin:
    database = open_database(line.strip())
    getattr(migrate, sys.argv[1])(database)
    database.dispose()
    print("done", flush=True)
"""


def insert_rows(connection: Connection) -> None:
    """Put one row into every table."""
    times = {"upload_began_at": _NOW, "uploaded_at": _NOW, "last_used_at": _NOW}
    row = {"id": 7, "scope": "s", "aes_key": "a" * 32, "file_id": "30", "length": 5, "forwards": 3, **times}
    connection.execute(insert(tables.entries).values(row))
    connection.execute(insert(tables.keys).values(digest=b"k" * 32, entry_id=7, kind="url", value="http://a/b"))
    connection.execute(insert(tables.leases).values(digest=b"l" * 32, owner="me", expires_at=_NOW))
    connection.execute(insert(tables.usage).values(hour=_NOW, scope="s", uploads=1, bytes_saved=2**40))
    about = {"state": "open", "created_at": _NOW, "base_url": "http://g", "scope": "s", "pace": "{}"}
    connection.execute(insert(tables.broadcasts).values(id=3, md5="d" * 32, **about))
    to = {"broadcast_id": 3, "number": 1, "app_id": "wx_1", "to_wxid": "1@chatroom", "is_group": True}
    connection.execute(insert(tables.deliveries).values(**to))
    connection.execute(insert(tables.lanes).values(host="g", app_id="wx_1", ready_at=_NOW))


def read_rows(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    """Give every row of every table."""
    return {
        name: [tuple(row) for row in connection.execute(select(table))]
        for name, table in tables.metadata.tables.items()
    }


def count_entries(connection: Connection) -> int:
    """Count the entries."""
    return connection.scalar(select(func.count()).select_from(tables.entries)) or 0


def lengthen_history(folder: Path, monkeypatch: pytest.MonkeyPatch, *, upgrade: str, downgrade: str = "pass") -> Path:
    """Let this process believe that there is a revision 0003, with these statements."""
    longer = copy_history(folder)
    (longer / "versions" / "0003_next.py").write_text(
        NEXT_REVISION.format(upgrade=upgrade, downgrade=downgrade), encoding="utf-8"
    )
    monkeypatch.setattr(scripts, "migrations_folder", lambda: longer)
    monkeypatch.setattr(schema, "KNOWN_REVISIONS", (*schema.KNOWN_REVISIONS, "0003"))
    monkeypatch.setattr(schema, "HEAD", "0003")
    return longer


def copy_history(folder: Path) -> Path:
    """Copy the real migrations to where a test may add to them."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(scripts.migrations_folder(), folder / "50% history", ignore=ignored))


def start_python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python process that talks to the test over its standard streams."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-W", "error", "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Write a line to a process."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """Read a line from a process; when it ended without one, give what it complained of."""
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdout.readline().strip() or process.stderr.read()
