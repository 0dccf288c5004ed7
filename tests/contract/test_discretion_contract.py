"""What a sender shows of itself: whom it sent to, and never a token, a key or a password."""

from __future__ import annotations

import inspect
import logging
import re
import traceback
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

import gewe_cache
from gewe_cache import AsyncImageSender, DeliveryUnknown, GeweCacheError, GeweRefused, ImageSender, SentImage
from gewe_cache.sandbox import Fault, Sandbox
from gewe_cache.store.engine import Database
from gewe_cache.store.tables import entries, usage
from tests.contract.conftest import SHORT, OpenSender

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.senders import Sender

FRIEND, GROUP = "wxid_friend", "34757816141@chatroom"
TOKEN = "5f3c-very-secret-token"  # noqa: S105 - made up
PASSWORD = "hidden-pass-word"  # noqa: S105 - made up


def keys_in(database: Database) -> set[str]:
    """Give every aes_key that was ever kept."""
    with database.reader.connect() as connection:
        return set(connection.scalars(select(entries.c.aes_key)))


def test_no_log_line_of_anybody_shows_a_token_or_a_key(
    sandbox: Sandbox, open_sender: OpenSender, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything that this process logs at DEBUG, over every kind of outcome."""
    for name in (None, "gewe_cache", "httpx", "httpcore", "asyncio", "sqlalchemy.engine", "sqlalchemy.pool", "psycopg"):
        caplog.set_level(logging.DEBUG, name)
    sandbox.add_tokens(TOKEN)
    image = sandbox.make_image("poster.png")
    sender = open_sender(token=TOKEN, timeout=5)
    errors: list[BaseException] = []

    def attempt(to_wxid: str, fault: Fault | None = None) -> SentImage | None:
        if fault is not None:
            sandbox.fail(fault)
        try:
            return sender.send_image(to_wxid, f"{image}?sign=a-signature")
        except GeweCacheError as error:
            errors.append(error)
            return None

    def key() -> str:
        entry = sender.lookup(f"{image}?sign=a-signature")
        assert entry is not None
        return entry.aes_key

    first = attempt(FRIEND)
    attempt(GROUP)
    for template in ("{token} {key}", "HTTP HEADER: X-GEWE-TOKEN={token} 不可用或已过期", "超时 {token} {key}"):
        words = template.format(token=TOKEN, key=key().upper())
        attempt(FRIEND, Fault.refuse(500, words, {"msg": words, words: [words]}))
    attempt(FRIEND, Fault.refuse(200, f"失败 {TOKEN} {key()}"))
    attempt(FRIEND, Fault.answer(f"<html>{TOKEN} {key()}".encode(), 502))
    attempt(FRIEND, Fault.reset(delivered=False))
    sandbox.expire_cdn()
    attempt(FRIEND)
    attempt(GROUP, Fault.patch(aesKey="not hex"))
    sender.close()

    kept = keys_in(database)
    assert len(kept) >= 2
    shown = [logging.Formatter("%(message)s %(args)s").format(record) for record in caplog.records]
    shown += [line for error in errors for line in traceback.format_exception(error)]
    shown += [f"{sender.raw!r} {first!r} {sender.raw.__dict__.keys()}"]
    assert len(errors) >= 5
    assert {record.name.partition(".")[0] for record in caplog.records} >= {
        "gewe_cache",
        "httpx",
        "httpcore",
        "sqlalchemy",
    }
    secrets = {TOKEN, *kept}
    assert [line for line in shown if any(secret in line.lower() for secret in secrets)] == []
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("gewe_cache"))
    assert "a-signature" not in ours, "a query may carry a signature"


def test_every_warning_says_what_was_sent_to_whom(
    sandbox: Sandbox, open_sender: OpenSender, caplog: pytest.LogCaptureFixture
) -> None:
    image = sandbox.make_image("poster.png")
    sender = open_sender()
    sender.send_image(GROUP, image)
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "gewe_cache"):
        sandbox.expire_cdn()
        sender.send_image(FRIEND, image)
        sandbox.fail(Fault.close(delivered=True))
        with pytest.raises(DeliveryUnknown):
            sender.send_image(FRIEND, image)
    ours = [record for record in caplog.records if record.name.startswith("gewe_cache")]
    assert [record.getMessage().split()[0].rstrip(":") for record in ours] == ["fall-back", "retired", "unknown"]
    for record in ours:
        assert record.levelno == logging.WARNING
        assert FRIEND in record.getMessage()
        assert image in record.getMessage()
        assert "\n" not in record.getMessage()


def test_a_hit_and_a_miss_say_nothing(
    sandbox: Sandbox, open_sender: OpenSender, caplog: pytest.LogCaptureFixture
) -> None:
    image = sandbox.make_image("poster.png")
    with caplog.at_level(logging.INFO, "gewe_cache"):
        sender = open_sender()
        for _ in range(2):
            sender.send_image(FRIEND, image)
        sender.close()
    assert [record for record in caplog.records if record.name.startswith("gewe_cache")] == []


def test_the_loggers_have_no_handlers_of_ours() -> None:
    for name in ("gewe_cache", "gewe_cache.sending", "gewe_cache.store"):
        assert logging.getLogger(name).handlers == []
        assert logging.getLogger(name).level == logging.NOTSET
        assert logging.getLogger(name).propagate


@pytest.mark.parametrize("kind", [ImageSender, AsyncImageSender])
def test_the_repr_of_a_sender_hides_what_is_secret(kind: type[ImageSender | AsyncImageSender]) -> None:
    sender = kind(TOKEN, "wx_1", database=f"postgresql://user:{PASSWORD}@db.example/cache", scope="shop")
    shown = f"{sender!r} {sender} {sender._settings!r} {sender._core.store.database!r}"
    assert TOKEN not in shown
    assert PASSWORD not in shown
    for part in ("wx_1", "shop", "db.example"):
        assert part in repr(sender)


def test_an_error_of_the_database_hides_its_password(open_sender: OpenSender, caplog: pytest.LogCaptureFixture) -> None:
    database = f"postgresql://user:{PASSWORD}@127.0.0.1:1/cache"
    sender = open_sender(database=database)
    with pytest.raises(gewe_cache.StoreError, match=r"Nothing was changed") as caught:
        sender.forget("https://h/a")
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert PASSWORD not in shown


def public(kind: type[object]) -> set[str]:
    return {name for parent in kind.__mro__ for name in vars(parent) if not name.startswith("_")}


def test_both_senders_have_the_designs_names() -> None:
    common = {"send_image", "lookup", "remember", "forget", "stats", "broadcast", "resume_broadcast"}
    assert public(ImageSender) == {*common, "close"}
    assert public(AsyncImageSender) == {*common, "aclose"}
    for name in (*common, "aclose"):
        assert inspect.iscoroutinefunction(getattr(AsyncImageSender, name))
    assert hasattr(ImageSender, "__enter__")
    assert hasattr(AsyncImageSender, "__aenter__")


def shape(function: Callable[..., object]) -> str:
    """Write a signature without annotations, private parameters and self."""
    signature = inspect.signature(function)
    kept = [
        parameter.replace(annotation=parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name != "self" and not parameter.name.startswith("_")
    ]
    return str(signature.replace(parameters=kept, return_annotation=signature.empty))


@pytest.mark.parametrize("kind", [ImageSender, AsyncImageSender])
def test_the_signatures_are_the_designs(kind: type[ImageSender | AsyncImageSender]) -> None:
    """``None`` for base_url, ttl and database stands for the environment's value or the design's default."""
    assert shape(kind.__init__) == (
        "(token, app_id=None, *, base_url=None, token_header='X-GEWE-TOKEN', database=None, scope=None, ttl=None, "
        "timeout=None, ignore_query=(), http_client=None, publish=None)"
    )
    assert shape(kind.send_image) == "(to_wxid, image, *, app_id=None, refresh=False)"
    assert shape(kind.lookup) == shape(kind.forget) == "(image)"
    assert shape(kind.remember) == "(xml, *, image=None, uploaded_at=None)"
    assert shape(kind.stats) == "()"
    broadcast = "(image, recipients, *, app_id=None, pace=None, again=False, on_delivery=None)"
    assert shape(kind.broadcast) == broadcast
    assert (
        shape(kind.resume_broadcast)
        == "(broadcast_id, *, pace=None, resend_unknown=False, on_delivery=None, image=None)"
    )
    assert kind(TOKEN)._settings.ttl == timedelta(days=3)


def test_results_have_the_designs_fields() -> None:
    assert list(SentImage.__dataclass_fields__) == [
        "to_wxid",
        "app_id",
        "route",
        "msg_id",
        "new_msg_id",
        "create_time",
        "image",
        "fell_back",
    ]
    cached = ["aes_key", "file_id", "length", "width", "height", "md5", "uploaded_at", "expires_at"]
    assert list(gewe_cache.CachedImage.__dataclass_fields__)[:8] == cached


def test_closing_writes_the_usage(sandbox: Sandbox, open_sender: OpenSender, database: Database) -> None:
    image = sandbox.make_image("poster.png")
    sender = open_sender(scope="shop")
    for _ in range(3):
        sender.send_image(FRIEND, image)
    sender.close()
    with database.reader.connect() as connection:
        rows = connection.execute(select(usage).order_by(usage.c.hour)).all()
        (entry,) = connection.execute(select(entries)).all()
    assert {row.scope for row in rows} == {"shop"}
    assert sum(row.uploads for row in rows) == 1
    assert sum(row.forwards for row in rows) == 2
    assert sum(row.bytes_saved for row in rows) == 2 * entry.length
    assert entry.forwards == 2
    assert entry.last_used_at >= entry.uploaded_at


def test_a_closed_sender_says_so_and_sends_nothing(sandbox: Sandbox, sender: Sender) -> None:
    image = sandbox.make_image("poster.png")
    sender.send_image(FRIEND, image)
    sender.close()
    sender.close()
    for call in (
        lambda: sender.send_image(FRIEND, image),
        lambda: sender.lookup(image),
        lambda: sender.forget(image),
        lambda: sender.remember("<msg/>"),
    ):
        with pytest.raises(RuntimeError, match=r"closed\. Nothing was sent\. Make a new one"):
            call()
    assert sender.stats().uploads == 1, "what was done can still be asked"
    assert len(sandbox.calls) == 1


def test_unused_senders_leave_no_trace(open_sender: OpenSender, tmp_path: Path) -> None:
    sender = open_sender(database=f"sqlite:///{(tmp_path / 'unused' / 'cache.db').as_posix()}")
    assert re.match(r"(Async)?ImageSender\(", repr(sender.raw))
    sender.close()
    assert not (tmp_path / "unused").exists()


def test_a_first_send_makes_the_file_with_its_tables(sandbox: Sandbox, open_sender: OpenSender, tmp_path: Path) -> None:
    at = f"sqlite:///{(tmp_path / 'new' / 'cache.db').as_posix()}"
    image = sandbox.make_image("poster.png")
    first = open_sender(database=at).send_image(FRIEND, image)
    assert first.image is not None
    assert first.image.entry_id is not None
    assert open_sender(database=at).send_image(FRIEND, image).route == "forward"


def test_refusals_keep_the_type_of_their_error_for_both(sandbox: Sandbox, open_sender: OpenSender) -> None:
    sandbox.fail(Fault.refuse(500, None))
    with pytest.raises(GeweRefused, match="no reason given") as caught:
        open_sender(_tuning=SHORT).send_image(FRIEND, sandbox.make_image("poster.png"))
    assert type(caught.value) is GeweRefused
