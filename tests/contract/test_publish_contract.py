"""``publish=``: a local image that is not known is made reachable, uploaded, and forwarded from then on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from gewe_cache import (
    AsyncImageSender,
    DeliveryUnknown,
    GeweRefused,
    GeweUnreachable,
    Image,
    ImageSender,
    InvalidImage,
    LocalImage,
    PublishFailed,
)
from gewe_cache.sandbox import Fault
from gewe_cache.sandbox.images import draw
from gewe_cache.store.tables import entries, keys
from tests.contract.conftest import SHORT

if TYPE_CHECKING:
    from pathlib import Path

    from gewe_cache.sandbox import Sandbox
    from gewe_cache.store.engine import Database
    from tests.contract.conftest import OpenSender
    from tests.contract.senders import Sender


class Host:
    """A ``publish=`` that hosts images at the sandbox, each time under another URL."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.published: list[str] = []

    def __call__(self, image: LocalImage) -> str:
        url = self.sandbox.add_image(f"secret-{len(self.published)}-{image.name}", image.read())
        self.published.append(url)
        return url


@pytest.fixture
def host(sandbox: Sandbox) -> Host:
    return Host(sandbox)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "poster.png"
    path.write_bytes(draw("poster.png", width=8, height=8, seed=7, approximate_bytes=None))
    return path


def _reached(sandbox: Sandbox) -> list[tuple[str, str]]:
    return [(delivery.to_wxid, delivery.route) for delivery in sandbox.deliveries]


def test_it_is_published_once_and_forwarded_from_then_on(
    sandbox: Sandbox, open_sender: OpenSender, host: Host, file: Path, database: Database
) -> None:
    sender = open_sender(publish=host)
    first = sender.send_image("wxid_1", Image.from_file(file))
    second = sender.send_image("wxid_2", Image.from_bytes(file.read_bytes()))
    assert (first.route, second.route) == ("upload", "forward")
    assert len(host.published) == 1
    assert _reached(sandbox) == [("wxid_1", "upload"), ("wxid_2", "forward")]
    assert sender.lookup(host.published[0]) is None
    with database.reader.connect() as connection:
        assert connection.scalars(select(entries.c.url)).all() == [None]
        assert set(connection.scalars(select(keys.c.kind))) == {"md5"}


def test_what_is_known_or_has_a_url_is_not_published(sandbox: Sandbox, open_sender: OpenSender, file: Path) -> None:
    def publish(_: LocalImage) -> str:
        raise AssertionError

    url = sandbox.add_image("poster.png", file.read_bytes())
    assert open_sender(publish=publish).send_image("wxid_1", Image.from_file(file, url=url)).route == "upload"
    assert open_sender(publish=publish).send_image("wxid_2", Image.from_file(file)).route == "forward"


def test_without_it_the_error_says_what_to_pass(sender: Sender, sandbox: Sandbox, file: Path) -> None:
    with pytest.raises(InvalidImage, match="Nothing was sent") as caught:
        sender.send_image("wxid_1", Image.from_file(file))
    assert all(each in str(caught.value) for each in ("url=", "publish=", "gewe-cache serve --public-url"))
    assert sandbox.calls == []


def test_its_failure_means_that_nothing_was_sent(
    sandbox: Sandbox, open_sender: OpenSender, file: Path, host: Host
) -> None:
    unknown = DeliveryUnknown("wxid_x", "wx_x", "upload", datetime.now(UTC))
    errors = [OSError("the store is away"), unknown, StopIteration(), GeweRefused(1)]

    def publish(image: LocalImage) -> str:
        if errors:
            raise errors[0]
        return host(image)

    sender = open_sender(publish=publish)
    while errors:
        with pytest.raises(PublishFailed, match=r"^Nothing was sent to wxid_1: publish= failed") as caught:
            sender.send_image("wxid_1", Image.from_file(file))
        cause = caught.value.__cause__
        assert errors.pop(0) in {cause, cause and cause.__cause__}
    assert isinstance(caught.value, GeweUnreachable)
    assert sandbox.calls == []
    assert sender.send_image("wxid_1", Image.from_file(file)).route == "upload"


def test_what_it_gives_must_be_a_url(sandbox: Sandbox, open_sender: OpenSender, file: Path) -> None:
    given: list[Any] = [None, 7, "", "ftp://h/p.png", "https://user:secret@h/p.png", "https://h/\n"]
    sender = open_sender(publish=lambda _: given[0])
    while given:
        with pytest.raises(InvalidImage, match=r"^publish= gave .* Nothing was sent\.$") as caught:
            sender.send_image("wxid_1", Image.from_file(file))
        assert "secret" not in str(caught.value)
        given.pop(0)
    assert sandbox.calls == []


@pytest.mark.parametrize("when", ["before", "meanwhile", "gone"])
def test_a_file_that_changes_is_not_sent(
    sandbox: Sandbox, open_sender: OpenSender, host: Host, file: Path, when: str
) -> None:
    def publish(image: LocalImage) -> str:
        url = host(image)
        file.write_bytes(b"another")
        return url

    sender = open_sender(publish=publish if when == "meanwhile" else host)
    image = Image.from_file(file)
    if when == "before":
        file.write_bytes(b"another")
    elif when == "gone":
        file.unlink()
    with pytest.raises(InvalidImage, match="Nothing was sent"):
        sender.send_image("wxid_1", image)
    assert len(host.published) == (when == "meanwhile")
    assert sandbox.calls == []


def test_a_refused_forward_falls_back_to_publishing_it_again(
    sandbox: Sandbox, open_sender: OpenSender, host: Host, file: Path
) -> None:
    sender = open_sender(publish=host)
    sender.send_image("wxid_1", Image.from_file(file))
    sandbox.fail(Fault.refuse(msg="发送图片失败"))
    assert sender.send_image("wxid_2", Image.from_file(file)).fell_back
    assert sender.send_image("wxid_3", Image.from_file(file), refresh=True).route == "upload"
    assert len(host.published) == 3
    assert len(sandbox.deliveries) == 3


def test_no_fall_back_so_soon_publishes_nothing(
    sandbox: Sandbox, open_sender: OpenSender, host: Host, file: Path
) -> None:
    sender = open_sender(publish=host, _tuning=replace(SHORT, fall_back_pause=60.0))
    sender.send_image("wxid_1", Image.from_file(file))
    sandbox.fail(Fault.refuse(msg="发送图片失败"))
    with pytest.raises(GeweRefused):
        sender.send_image("wxid_2", Image.from_file(file))
    assert len(host.published) == 1


def test_its_url_is_in_no_error(sandbox: Sandbox, open_sender: OpenSender, host: Host, file: Path) -> None:
    image = Image.from_file(file)
    url = f"{sandbox.url}/images/secret-0-{image.md5}.png"
    sandbox.fail(Fault.refuse(msg="发送图片失败", data={"msg": f"cannot fetch {url}"}))
    with pytest.raises(GeweRefused, match=r"cannot fetch \*\*\*"):
        open_sender(publish=host).send_image("wxid_1", image)
    assert host.published == [url]


def test_it_must_be_a_function(open_sender: OpenSender) -> None:
    for publish in ("https://h/p.png", 7):
        with pytest.raises(ValueError, match=r"^publish: pass a function"):
            open_sender(publish=publish)


def test_an_async_function_is_for_the_async_sender() -> None:
    async def publish(_: LocalImage) -> str:
        return "https://example.com/p.png"

    with pytest.raises(ValueError, match=r"^publish: .* AsyncImageSender"):
        ImageSender("token", database="sqlite://", publish=publish)  # type: ignore[arg-type]
    AsyncImageSender("token", database="sqlite://", publish=publish)
