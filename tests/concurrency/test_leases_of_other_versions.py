"""What another version of the software may write into a lease's row stops nobody."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from gewe_cache import Image
from gewe_cache.settings import utc_now
from gewe_cache.store import leases
from gewe_cache.store.engine import open_database
from gewe_cache.store.tables import leases as table
from tests.concurrency.crews import KINDS, Crews, outcomes, until, uploads, waiters

if TYPE_CHECKING:
    from collections.abc import Callable

    from gewe_cache.sandbox import Sandbox

_LENGTH = timedelta(seconds=15)
_KNOWN = {"error": "ImageRefused", "ret": 500, "msg": None, "data": None}
_UNREADABLE = {
    "unknown error": json.dumps({**_KNOWN, "error": "PostponedByGewe"}),
    "no ret": json.dumps({"error": "ImageRefused", "msg": None, "data": None}),
    "ret as text": json.dumps({**_KNOWN, "ret": "500"}),
    "msg as object": json.dumps({**_KNOWN, "msg": {"zh": "发送图片失败"}}),
    "no account": json.dumps({"error": "TokenRefused"}),
    "error as list": json.dumps({**_KNOWN, "error": ["ImageRefused"]}),
    "a list": "[]",
    "a text": '"refused"',
    "null": "null",
    "no JSON": "refused!",
}


def _in_the_row(database: str, operation: Callable[[Any], Any]) -> None:
    opened = open_database(database)
    with opened.writer.begin() as connection:
        operation(connection)
    opened.dispose()


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(
    ("ending", "refusal"),
    [*(("refused", text) for text in _UNREADABLE.values()), ("postponed", None)],
    ids=[*_UNREADABLE, "unknown ending"],
)
def test_what_cannot_be_read_is_a_failure_and_one_other_tries(
    sandbox: Sandbox, url: str, shared_database: str, kind: str, ending: str, refusal: str | None
) -> None:
    with Crews(sandbox, shared_database) as crews:
        crew = crews.make(kind)
        digest = crew.parts.key_of(Image(url)).digest
        _in_the_row(shared_database, lambda connection: leases.acquire(connection, digest, "another", _LENGTH))
        sends = [crew.send(f"wxid_{n}", url, app_id=f"wx_sandbox_{n}") for n in range(3)]
        until(lambda: waiters(crew.parts) == 2 and not crew.parts.lanes._queues)
        ended = update(table).values(ended_at=utc_now(), ending=ending, refusal=refusal)
        _in_the_row(shared_database, lambda connection: connection.execute(ended))
        assert Counter(outcomes(sends)) == {"upload": 1, "forward": 2}
        assert len(uploads(sandbox)) == 1
        assert crew.parts.counters.stats().store_failures == 0
