"""A schema that this package cannot work on is said before anything is sent, and never after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from gewe_cache import SchemaOutdated, SchemaUnknown
from gewe_cache.sandbox import Fault
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
from tests.faults.kit import World, send
from tests.outages.kit import ASKING, LEAVING, ask, failures, pause_over, routes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.kit import Driver

_XML = f'<msg><img aeskey="{"a" * 32}" cdnmidimgurl="{"b" * 64}" length="70" md5="{"c" * 32}"/></msg>'
_CALLS: dict[str, Callable[[Driver, str], Any]] = {
    "send": lambda driver, image: send(driver, "wxid_1", image),
    "refresh": lambda driver, image: send(driver, "wxid_1", image, refresh=True),
    "lookup": lambda driver, image: ask(driver, "lookup", image),
    "remember": lambda driver, _image: ask(driver, "remember", _XML),
    "forget": lambda driver, image: ask(driver, "forget", image),
}


def _set_revision(url: str, revision: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        if revision:
            connection.execute("UPDATE gewe_cache_schema SET version_num = %s", (revision,))
        else:
            connection.execute("DELETE FROM gewe_cache_schema")


@pytest.fixture
def missing_world(sandbox: Any, empty_url: str) -> Any:
    """Give a world on a database without tables."""
    made = World(sandbox, empty_url, sandbox.make_image("poster.png", width=8, height=8))
    yield made
    made.close()


@pytest.mark.parametrize("call", _CALLS)
def test_missing_tables_name_the_command(missing_world: World, kind: str, call: str) -> None:
    world = missing_world
    driver = world.open(kind, _tuning=ASKING)
    for _ in range(2):
        with pytest.raises(SchemaOutdated, match=r"Nothing was sent\. Run: gewe-cache db upgrade --database") as caught:
            _CALLS[call](driver, world.image)
        assert "***" in str(caught.value)
    assert world.sandbox.calls == []


@pytest.mark.parametrize("call", _CALLS)
@pytest.mark.parametrize(
    ("revision", "error", "words"),
    [
        ("", SchemaOutdated, "Run: gewe-cache db upgrade --database"),
        ("9999", SchemaUnknown, "pip install --upgrade gewe-cache"),
    ],
    ids=["old", "new"],
)
def test_a_wrong_revision_names_the_command(
    pg_world: World, kind: str, call: str, revision: str, error: type[Exception], words: str
) -> None:
    world = pg_world
    _set_revision(world.database, revision)
    driver = world.open(kind, _tuning=ASKING)
    with pytest.raises(error, match=words):
        _CALLS[call](driver, world.image)
    assert world.sandbox.calls == []


def test_once_it_is_migrated_the_same_sender_sends(missing_world: World, kind: str) -> None:
    world = missing_world
    driver = world.open(kind, _tuning=LEAVING)
    with pytest.raises(SchemaOutdated):
        send(driver, "wxid_1", world.image)
    database = open_database(world.database)
    migrate.upgrade(database)
    database.dispose()
    sent = send(driver, "wxid_1", world.image), send(driver, "wxid_2", world.image)
    assert routes(*sent) == ["upload", "forward"]
    assert sent[0].image is not None
    assert sent[0].image.entry_id is not None
    world.check_delivered(*sent)


def test_a_schema_that_turns_wrong_after_the_upload_was_accepted(
    pg_world: World, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The message is sent: whatever the database has become, that is what the caller hears."""
    world = pg_world
    driver = world.open(kind, _tuning=ASKING)
    plan = world.sandbox.fail(Fault.hold(delivered_first=True), route="upload")
    sending = driver.begin("wxid_1", world.image)
    assert plan.wait_reached()
    with psycopg.connect(world.database, autocommit=True) as connection:
        connection.execute("UPDATE gewe_cache_schema SET version_num = '9999'")
        connection.execute("ALTER TABLE gewe_cache_entries RENAME TO gewe_cache_pictures")
    driver.sender._core.store._ready = False  # as after any failure: the schema is looked at again
    plan.release()
    sent = sending.result(30)
    assert sent.route == "upload"
    assert "SchemaUnknown" in failures(caplog.records)[0]
    pause_over(driver)
    with pytest.raises(SchemaUnknown, match="pip install --upgrade"):
        send(driver, "wxid_2", world.image)
    assert len(world.sandbox.calls) == 1
    world.check_delivered(sent)
