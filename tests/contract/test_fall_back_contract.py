"""Refused forwards: when an image is uploaded again, what that does to its entry, and when it is not."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Row, select

from gewe_cache import (
    DeviceUnavailable,
    GeweRefused,
    GeweUnreachable,
    Image,
    ImageRefused,
    InvalidImage,
    RecipientUnavailable,
    TokenRefused,
    TooFast,
)
from gewe_cache.sandbox import Fault, Sandbox
from gewe_cache.store.engine import Database
from gewe_cache.store.tables import entries, keys
from tests.contract.conftest import SHORT, OpenSender
from tests.contract.senders import Sender

FRIEND, GROUP = "wxid_friend", "34757816141@chatroom"
REFUSED = Fault.refuse(500, "转发图片失败", {"code": "-1", "msg": "a reason nobody has listed"})


def routes(sandbox: Sandbox) -> list[str]:
    """Give the routes of everything that arrived at GeWe."""
    return [call.route for call in sandbox.calls]


def entries_in(database: Database) -> list[Row[Any]]:
    with database.reader.connect() as connection:
        return list(connection.execute(select(entries).order_by(entries.c.id)))


def ids_of_keys_in(database: Database) -> set[int]:
    with database.reader.connect() as connection:
        return set(connection.scalars(select(keys.c.entry_id)))


def test_a_refused_forward_falls_back_and_an_accepted_upload_retires_the_entry(
    sandbox: Sandbox, sender: Sender, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    image = sandbox.make_image("poster.png")
    first = sender.send_image(GROUP, image)
    sandbox.expire_cdn()
    with caplog.at_level(logging.WARNING, "gewe_cache"):
        sent = sender.send_image(FRIEND, image)
    assert (sent.route, sent.fell_back) == ("upload", True)
    assert sent.image is not None
    assert sent.image != first.image
    assert routes(sandbox) == ["upload", "forward", "upload"]
    old, new = entries_in(database)
    assert "cdn信息已失效" in old.retired_reason
    assert old.retired_at is not None
    assert (new.retired_at, new.retired_reason) == (None, None)
    assert ids_of_keys_in(database) == {new.id}
    after = sender.send_image(GROUP, image)
    assert (after.route, after.fell_back, after.image) == ("forward", False, sent.image)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(" ", 1)[0].rstrip(":") for line in lines] == ["fall-back", "retired"]
    assert all(FRIEND in line and image in line for line in lines)
    assert sender.stats().fall_backs == 1


def test_when_the_upload_is_refused_too_the_entry_stays_and_the_upload_s_refusal_is_raised(
    sandbox: Sandbox, sender: Sender, database: Database
) -> None:
    image = sandbox.make_image("poster.png")
    sender.send_image(GROUP, image)
    sandbox.fail(REFUSED, route="forward")
    sandbox.fail(Fault.refuse(500, "发送图片失败"), route="upload")
    with pytest.raises(ImageRefused) as caught:
        sender.send_image(FRIEND, image)
    assert isinstance(caught.value.__cause__, GeweRefused)
    assert "a reason nobody has listed" in str(caught.value.__cause__)
    (row,) = entries_in(database)
    assert row.retired_at is None
    assert sender.send_image(FRIEND, image).route == "forward", "it was good all the time"
    assert routes(sandbox) == ["upload", "forward", "upload", "forward"]
    assert sandbox.duplicates() == []


def test_when_the_upload_cannot_be_reached_the_entry_stays(
    sandbox: Sandbox, open_sender: OpenSender, database: Database
) -> None:
    image = sandbox.make_image("poster.png")
    open_sender(scope="s").send_image(GROUP, image)
    away = open_sender(scope="s", base_url="http://127.0.0.1:1/gewe/v2/api")
    with pytest.raises(GeweUnreachable, match=r"Nothing was sent to wxid_friend"):
        away.send_image(FRIEND, image)
    (row,) = entries_in(database)
    assert row.retired_at is None


def test_an_upload_without_cdn_information_retires_nothing(
    sandbox: Sandbox, sender: Sender, database: Database
) -> None:
    image = sandbox.make_image("poster.png")
    sender.send_image(GROUP, image)
    sandbox.fail(REFUSED, route="forward")
    sandbox.fail(Fault.patch(fileId=None), route="upload")
    sent = sender.send_image(FRIEND, image)
    assert (sent.route, sent.image, sent.fell_back) == ("upload", None, True)
    (row,) = entries_in(database)
    assert row.retired_at is None
    assert sender.send_image(FRIEND, image).route == "forward"


def test_no_second_fall_back_within_a_minute(sandbox: Sandbox, open_sender: OpenSender, database: Database) -> None:
    image = sandbox.make_image("poster.png")
    sender = open_sender(_tuning=replace(SHORT, fall_back_pause=60.0))
    sender.send_image(GROUP, image)
    sandbox.fail(REFUSED, route="forward", times=None)
    for _ in range(3):
        with pytest.raises(GeweRefused, match="a reason nobody has listed"):
            sender.send_image(FRIEND, image)
    with pytest.raises(GeweRefused, match="a reason nobody has listed"):
        open_sender(_tuning=replace(SHORT, fall_back_pause=60.0)).send_image(FRIEND, image)
    assert len(sandbox.uploads) == 1
    (row,) = entries_in(database)
    assert row.retired_at is None
    sandbox.heal()
    assert sender.send_image(FRIEND, image).route == "forward"


def test_a_failed_fall_back_counts_for_the_minute_too(sandbox: Sandbox, open_sender: OpenSender) -> None:
    image = sandbox.make_image("poster.png")
    open_sender().send_image(GROUP, image)
    patient = [open_sender(_tuning=replace(SHORT, fall_back_pause=0.0)) for _ in range(2)]
    strict = open_sender(_tuning=replace(SHORT, fall_back_pause=3600.0))
    sandbox.fail(REFUSED, route="forward", times=None)
    sandbox.fail(Fault.refuse(500, "something else"), route="upload", times=None)
    with pytest.raises(GeweRefused, match="something else"):
        patient[0].send_image(FRIEND, image)
    with pytest.raises(GeweRefused, match="a reason nobody has listed"):
        strict.send_image(FRIEND, image)
    assert routes(sandbox) == ["upload", "forward", "upload", "forward"]


NEVER: list[tuple[Fault, type[GeweRefused]]] = [
    (Fault.refuse(500, "HTTP HEADER: X-GEWE-TOKEN=xxx 不可用或已过期"), TokenRefused),
    (Fault.refuse(401, "认证失败，无法访问系统资源"), TokenRefused),
    (Fault.refuse(500, "转发图片失败", {"code": "-1", "msg": "[wx_sandbox_1]设备不存在"}), DeviceUnavailable),
    (Fault.refuse(500, "转发图片失败", {"code": "-1", "msg": "微信已离线"}), DeviceUnavailable),
    (Fault.refuse(500, "转发图片失败", {"code": "-219", "msg": None}), RecipientUnavailable),
    (Fault.refuse(500, "转发图片失败", {"code": "-104", "msg": None}), RecipientUnavailable),
    (Fault.refuse(500, "转发图片失败", {"code": "-2", "msg": None}), RecipientUnavailable),
    (Fault.refuse(500, "发送消息过于频繁"), TooFast),
]


@pytest.mark.parametrize(("fault", "kind"), NEVER, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_the_tokens_devices_recipients_or_paces_never_falls_back(
    sandbox: Sandbox, sender: Sender, database: Database, fault: Fault, kind: type[GeweRefused]
) -> None:
    image = sandbox.make_image("poster.png")
    sender.send_image(GROUP, image)
    sandbox.fail(fault, route="forward")
    with pytest.raises(kind, match="Nothing was sent"):
        sender.send_image(FRIEND, image)
    assert routes(sandbox) == ["upload", "forward"]
    (row,) = entries_in(database)
    assert row.retired_at is None
    assert sender.send_image(FRIEND, image).route == "forward"
    assert sender.stats().refusals == 1
    assert sender.stats().fall_backs == 0


def test_without_a_url_there_is_nothing_to_fall_back_to(sandbox: Sandbox, sender: Sender, database: Database) -> None:
    sent = sender.send_image(GROUP, sandbox.make_image("poster.png"))
    assert sent.image is not None
    sandbox.fail(REFUSED, route="forward")
    with pytest.raises(GeweRefused, match="a reason nobody has listed"):
        sender.send_image(FRIEND, Image(md5=sent.image.md5))
    assert len(sandbox.calls) == 2
    (row,) = entries_in(database)
    assert row.retired_at is None


def test_a_newer_entry_is_forwarded_once_instead_of_uploading(sandbox: Sandbox, open_sender: OpenSender) -> None:
    image = sandbox.make_image("poster.png")
    trusting = open_sender(_tuning=replace(SHORT, front_trust=3600.0))
    trusting.send_image(GROUP, image)
    sandbox.expire_cdn()
    newer = open_sender().send_image(GROUP, image, refresh=True)
    sent = trusting.send_image(FRIEND, image)
    assert (sent.route, sent.fell_back, sent.image) == ("forward", True, newer.image)
    assert routes(sandbox) == ["upload", "upload", "forward", "forward"]


def test_a_newer_entry_that_is_refused_as_well_is_the_end(sandbox: Sandbox, open_sender: OpenSender) -> None:
    image = sandbox.make_image("poster.png")
    trusting = open_sender(_tuning=replace(SHORT, front_trust=3600.0))
    trusting.send_image(GROUP, image)
    open_sender().send_image(GROUP, image, refresh=True)
    sandbox.fail(REFUSED, route="forward", times=2)
    with pytest.raises(GeweRefused, match="a reason nobody has listed"):
        trusting.send_image(FRIEND, image)
    assert routes(sandbox) == ["upload", "upload", "forward", "forward"]


@pytest.mark.parametrize("missing", ["aesKey", "fileId"])
@pytest.mark.parametrize("value", [None, Fault.MISSING, "", "not hex", 5])
def test_an_answer_without_cdn_information_is_a_sent_message(
    sandbox: Sandbox, sender: Sender, caplog: pytest.LogCaptureFixture, missing: str, value: object
) -> None:
    image = sandbox.make_image("poster.png")
    sandbox.fail(Fault.patch(**{missing: value}))
    with caplog.at_level(logging.WARNING, "gewe_cache"):
        sent = sender.send_image(FRIEND, image)
    assert (sent.route, sent.image, sent.new_msg_id) == ("upload", None, sandbox.deliveries[0].new_msg_id)
    (line,) = [record.getMessage() for record in caplog.records]
    assert FRIEND in line
    assert image in line
    assert "not cached" in line
    assert sender.lookup(image) is None
    assert sender.send_image(GROUP, image).route == "upload"


def test_the_null_fields_of_a_forward_leave_the_entry_as_it_was(sandbox: Sandbox, sender: Sender) -> None:
    image = sandbox.make_image("poster.png")
    entry = sender.send_image(FRIEND, image).image
    assert entry is not None
    assert entry.length is not None
    assert sender.send_image(GROUP, image).image == entry
    assert sender.lookup(image) == entry


@pytest.mark.parametrize("field", ["length", "width", "height", "md5", "msgId", "createTime", "toWxid"])
def test_an_upload_whose_measures_are_null_is_kept_and_forwarded(sandbox: Sandbox, sender: Sender, field: str) -> None:
    image = sandbox.make_image("poster.png")
    sandbox.fail(Fault.patch(**{field: None}))
    sent = sender.send_image(FRIEND, image)
    assert sent.image is not None
    assert sender.send_image(GROUP, image).route == "forward"


def test_a_refused_first_upload_keeps_nothing(sandbox: Sandbox, sender: Sender, database: Database) -> None:
    url = sandbox.add_image("text.png", b"no image at all")
    for _ in range(2):
        with pytest.raises(ImageRefused, match="图片格式错误"):
            sender.send_image(FRIEND, url)
    with pytest.raises(ImageRefused, match=r"URL"):
        sender.send_image(FRIEND, f"{sandbox.url}/images/missing.png")
    assert sandbox.deliveries == []
    assert entries_in(database) == []
    assert sender.stats().refusals == 3


def test_a_wrong_token_and_an_unknown_device_are_told_apart(sandbox: Sandbox, open_sender: OpenSender) -> None:
    image = sandbox.make_image("poster.png")
    with pytest.raises(TokenRefused) as caught:
        open_sender(token="wrong-token-1234").send_image(FRIEND, image)  # noqa: S106 - the test's
    assert "wrong-token-1234" not in f"{caught.value} {caught.value!r}"
    with pytest.raises(DeviceUnavailable, match="wx_nobody"):
        open_sender().send_image(FRIEND, image, app_id="wx_nobody")
    with pytest.raises(InvalidImage):
        open_sender().send_image(FRIEND, Image(md5="0" * 32))
    assert sandbox.deliveries == []
