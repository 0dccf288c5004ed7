"""The public API, sync and async, on SQLite and PostgreSQL: what goes over the wire, and what callers get."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from gewe_cache import CachedImage, Image, InvalidImage, InvalidXml, SentImage
from gewe_cache.gewe.image_xml import build_image_xml
from gewe_cache.sandbox import Sandbox
from tests.contract.conftest import SHORT, OpenSender
from tests.contract.senders import Sender

FRIEND, GROUP = "wxid_friend", "34757816141@chatroom"


def routes(sandbox: Sandbox) -> list[str]:
    """Give the routes of everything that arrived at GeWe."""
    return [call.route for call in sandbox.calls]


def bytes_at(url: str) -> bytes:
    return httpx.get(url, trust_env=False).content


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def kept(sent: SentImage) -> CachedImage:
    assert sent.image is not None
    return sent.image


def test_an_image_is_uploaded_once_and_forwarded_ever_after(sandbox: Sandbox, sender: Sender) -> None:
    image = sandbox.make_image("poster.png", width=320, height=200)
    before = datetime.now(UTC)
    first = sender.send_image(GROUP, image)
    again = sender.send_image(FRIEND, image)
    third = sender.send_image(GROUP, image)
    assert [sent.route for sent in (first, again, third)] == ["upload", "forward", "forward"]
    assert [(delivery.route, delivery.to_wxid) for delivery in sandbox.deliveries] == [
        ("upload", GROUP),
        ("forward", FRIEND),
        ("forward", GROUP),
    ]
    assert len({delivery.md5 for delivery in sandbox.deliveries}) == 1
    entry = kept(first)
    assert (entry.width, entry.height, entry.length) == (320, 200, len(bytes_at(image)))
    assert before <= entry.uploaded_at <= datetime.now(UTC)
    assert entry.expires_at - entry.uploaded_at == timedelta(days=3)
    assert kept(again) == kept(third)


def test_what_a_send_gives_back(sandbox: Sandbox, sender: Sender) -> None:
    image = sandbox.make_image("poster.png")
    for route in ("upload", "forward"):
        sent = sender.send_image(GROUP, image)
        delivery = sandbox.deliveries[-1]
        assert delivery.route == route
        assert (sent.to_wxid, sent.app_id, sent.route) == (GROUP, sandbox.app_id, delivery.route)
        assert sent.new_msg_id == delivery.new_msg_id > 2**60
        assert sent.msg_id is not None
        assert (sent.create_time, sent.fell_back) == (0, False)
        assert (kept(sent).file_id, kept(sent).md5) == (delivery.file_id, delivery.md5)


def test_any_device_forwards_what_another_uploaded(sandbox: Sandbox, sender: Sender) -> None:
    image = sandbox.make_image("poster.png")
    sender.send_image(FRIEND, image)
    assert sender.send_image(FRIEND, image, app_id="wx_sandbox_2").route == "forward"
    assert [delivery.app_id for delivery in sandbox.deliveries] == [sandbox.app_id, "wx_sandbox_2"]


def test_another_sender_on_the_same_database_forwards(sandbox: Sandbox, open_sender: OpenSender) -> None:
    image = sandbox.make_image("poster.png")
    first, second = open_sender(), open_sender()
    assert second.lookup(image) is None
    sent = first.send_image(FRIEND, image)
    assert kept(second.send_image(FRIEND, image)) == kept(sent)
    assert routes(sandbox) == ["upload", "forward"]


def test_an_entry_outlives_its_sender(sandbox: Sandbox, open_sender: OpenSender) -> None:
    image = sandbox.make_image("poster.png")
    first = open_sender()
    first.send_image(FRIEND, image)
    first.close()
    assert open_sender().send_image(FRIEND, image).route == "forward"


def test_equal_addresses_are_one_image(sandbox: Sandbox, sender: Sender) -> None:
    image = sandbox.make_image("poster one.png")
    sender.send_image(FRIEND, image)
    for other in (image.replace("http://", "HTTP://"), f"{image}#top", image.replace("%20", " "), f"{image}?"):
        assert sender.send_image(FRIEND, other).route == "forward"
    assert sender.send_image(FRIEND, f"{image}?v=2").route == "upload"


def test_named_query_parameters_are_ignored(sandbox: Sandbox, open_sender: OpenSender) -> None:
    image = sandbox.make_image("poster.png")
    sender = open_sender(ignore_query=("sign", "expires"))
    sender.send_image(FRIEND, f"{image}?sign=1&w=5&expires=1")
    assert sandbox.calls[0].img_url == f"{image}?sign=1&w=5&expires=1", "GeWe fetches the whole address"
    assert sender.send_image(FRIEND, f"{image}?w=5&sign=2&expires=2").route == "forward"
    assert sender.send_image(FRIEND, f"{image}?w=6&sign=2&expires=2").route == "upload"


def test_an_image_is_found_by_its_md5_alone(sandbox: Sandbox, sender: Sender) -> None:
    image = sandbox.make_image("poster.png")
    sent = sender.send_image(FRIEND, image)
    by_md5 = sender.send_image(GROUP, Image(md5=md5_of(bytes_at(image))))
    assert (by_md5.route, kept(by_md5)) == ("forward", kept(sent))


def test_a_file_without_a_url_is_forwarded_where_it_is_known(sandbox: Sandbox, sender: Sender, tmp_path: Path) -> None:
    image = sandbox.make_image("poster.png")
    file = tmp_path / "local copy.png"
    file.write_bytes(bytes_at(image))
    with pytest.raises(InvalidImage, match=r"md5 \w{32} is not in the cache .* Nothing was sent\. Pass url="):
        sender.send_image(FRIEND, Image.from_file(file))
    assert sandbox.calls == []
    sender.send_image(FRIEND, Image.from_file(file, url=image))
    assert sender.send_image(FRIEND, Image.from_file(file)).route == "forward"
    assert sender.send_image(FRIEND, Image.from_bytes(file.read_bytes())).route == "forward"


def test_the_md5_decides_over_the_url(sandbox: Sandbox, sender: Sender) -> None:
    here, there = sandbox.make_image("here.png"), sandbox.make_image("there.png", seed=2)
    md5 = "a" * 32  # nobody checks it against the bytes: the user's word counts
    sender.send_image(FRIEND, Image(url=here, md5=md5))
    assert sender.send_image(FRIEND, Image(url=there, md5=md5)).route == "forward"
    assert sender.send_image(FRIEND, Image(url=here, md5="b" * 32)).route == "upload"
    assert [call.img_url for call in sandbox.calls] == [here, None, here]


def test_gewe_converts_images_and_both_md5s_lead_to_the_entry(open_sender: OpenSender, sandbox: Sandbox) -> None:
    with Sandbox(converts=True) as converting:
        image = sandbox.make_image("poster.png")
        own = md5_of(bytes_at(image))
        sender = open_sender(base_url=converting.base_url)
        entry = kept(sender.send_image(FRIEND, Image(url=image, md5=own)))
        assert entry.md5 is not None
        assert entry.md5 != own
        for known in (image, Image(md5=own), Image(md5=entry.md5), Image(url=image, md5=own)):
            assert sender.lookup(known) == entry
            assert sender.send_image(GROUP, known).route == "forward"
        assert [call.route for call in converting.calls] == ["upload"] + ["forward"] * 4


def test_changed_content_at_one_url(sandbox: Sandbox, sender: Sender) -> None:
    image = sandbox.make_image("poster.png", seed=1)
    old = kept(sender.send_image(FRIEND, image))
    assert sandbox.make_image("poster.png", seed=2) == image
    assert kept(sender.send_image(FRIEND, image)) == old
    refreshed = sender.send_image(FRIEND, image, refresh=True)
    assert refreshed.route == "upload"
    assert kept(refreshed).md5 == md5_of(bytes_at(image)) != old.md5
    assert kept(sender.send_image(FRIEND, image)) == kept(refreshed)
    assert routes(sandbox) == ["upload", "forward", "upload", "forward"]


def test_refreshing_what_is_not_known_uploads_it(sandbox: Sandbox, sender: Sender) -> None:
    image = sandbox.make_image("poster.png")
    assert [sender.send_image(FRIEND, image, refresh=True).route for _ in range(2)] == ["upload", "upload"]


def test_a_lookup_sends_nothing(sandbox: Sandbox, sender: Sender) -> None:
    image = sandbox.make_image("poster.png")
    assert sender.lookup(image) is None
    assert sender.lookup(Image(md5="0" * 32)) is None
    sent = sender.send_image(FRIEND, image)
    assert sender.lookup(image) == kept(sent)
    assert len(sandbox.calls) == 1


def test_a_forgotten_image_is_gone_with_all_its_keys(sandbox: Sandbox, sender: Sender) -> None:
    image = sandbox.make_image("poster.png")
    other = sandbox.make_image("other.png", seed=2)
    md5 = kept(sender.send_image(FRIEND, Image(url=image, md5="a" * 32))).md5
    sender.send_image(FRIEND, other)
    assert sender.forget(Image(md5="a" * 32))
    for known in (image, Image(md5="a" * 32), Image(md5=md5)):
        assert sender.lookup(known) is None
        assert not sender.forget(known)
    assert sender.lookup(other) is not None
    assert sender.send_image(FRIEND, image).route == "upload"


def test_another_sender_sees_a_forget_once_its_trust_ends(sandbox: Sandbox, open_sender: OpenSender) -> None:
    image = sandbox.make_image("poster.png")
    first, second = open_sender(), open_sender(_tuning=replace(SHORT, front_trust=0.2))
    first.send_image(FRIEND, image)
    assert second.lookup(image) is not None
    assert first.forget(image)
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while second.lookup(image) is not None:  # its trust ends; the test only bounds when
        assert datetime.now(UTC) < deadline
    assert second.send_image(FRIEND, image).route == "upload"


def received(entry: CachedImage, prefix: str = "") -> str:
    """Write the message that a callback would bring."""
    return prefix + build_image_xml(entry)


@pytest.mark.parametrize("prefix", ["", "wxid_somebody:\n"])
def test_an_image_learnt_from_a_received_message_is_forwarded(
    sandbox: Sandbox, open_sender: OpenSender, prefix: str
) -> None:
    image = sandbox.make_image("poster.png")
    issued = kept(open_sender(scope="elsewhere").send_image(FRIEND, image))
    sender = open_sender()
    learnt = sender.remember(received(issued, prefix), image=image)
    assert (learnt.aes_key, learnt.file_id, learnt.md5) == (issued.aes_key, issued.file_id, issued.md5)
    assert sender.lookup(image) == sender.lookup(Image(md5=issued.md5)) == learnt
    assert sender.send_image(GROUP, image).route == "forward"
    assert open_sender().send_image(GROUP, image).route == "forward"
    assert len(sandbox.uploads) == 1


def test_an_image_can_be_learnt_by_the_md5_of_its_message(sandbox: Sandbox, open_sender: OpenSender) -> None:
    issued = kept(open_sender(scope="elsewhere").send_image(FRIEND, sandbox.make_image("poster.png")))
    sender = open_sender()
    sender.remember(received(issued))
    assert sender.send_image(GROUP, Image(md5=issued.md5)).route == "forward"


def test_what_cannot_be_learnt_is_refused(sandbox: Sandbox, sender: Sender) -> None:
    xml = received(kept(sender.send_image(FRIEND, sandbox.make_image("poster.png"))))
    md5_missing = xml.replace(f'md5="{xml.partition("md5=")[2][1:33]}"', "")
    with pytest.raises(InvalidXml, match="pass image="):
        sender.remember(md5_missing)
    with pytest.raises(InvalidXml):
        sender.remember("<msg/>", image="https://h/a")
    with pytest.raises(InvalidImage):
        sender.remember(xml, image="ftp://h/a")
    learnt = sender.remember(md5_missing, image="https://h/a")
    assert learnt.md5 is None
    assert sender.send_image(FRIEND, "https://h/a").route == "forward"


def test_a_message_remembered_late_has_its_own_age(sandbox: Sandbox, open_sender: OpenSender) -> None:
    image = sandbox.make_image("poster.png")
    issued = kept(open_sender(scope="elsewhere").send_image(FRIEND, image))
    sender = open_sender()
    old = datetime.now(UTC) - timedelta(days=4)
    assert sender.remember(received(issued), image=image, uploaded_at=old).uploaded_at == old
    assert sender.lookup(image) is None
    assert sender.send_image(FRIEND, image).route == "upload"


def test_two_tokens_do_not_share(sandbox: Sandbox, open_sender: OpenSender) -> None:
    image = sandbox.make_image("poster.png")
    sandbox.add_tokens("another-sandbox-token")
    senders = open_sender(), open_sender(token="another-sandbox-token")  # noqa: S106 - the sandbox's
    assert [sender.send_image(FRIEND, image).route for sender in senders] == ["upload", "upload"]
    assert senders[1].forget(image)
    assert senders[0].send_image(FRIEND, image).route == "forward"


def test_two_hosts_do_not_share(sandbox: Sandbox, open_sender: OpenSender) -> None:
    image = sandbox.make_image("poster.png")
    with Sandbox() as other:
        senders = open_sender(), open_sender(base_url=other.base_url)
        assert [sender.send_image(FRIEND, image).route for sender in senders] == ["upload", "upload"]


def test_a_named_scope_is_shared_by_tokens_and_apart_from_other_scopes(
    sandbox: Sandbox, open_sender: OpenSender
) -> None:
    image = sandbox.make_image("poster.png")
    sandbox.add_tokens("another-sandbox-token")
    senders = [
        open_sender(scope="shop"),
        open_sender(scope="shop", token="another-sandbox-token"),  # noqa: S106 - the sandbox's
        open_sender(scope="Shop"),
        open_sender(),
    ]
    found = [sender.send_image(FRIEND, image).route for sender in senders]
    assert found == ["upload", "forward", "upload", "upload"]


@pytest.mark.parametrize("name", ['it\'s "a" & b.png', "a]]>b.png", "<img>.png", "海报 ポスター.png", "100%.png"])
def test_hostile_names_are_sent_and_found_again(sandbox: Sandbox, sender: Sender, name: str) -> None:
    image = sandbox.make_image(name)
    assert [sender.send_image(FRIEND, image).route for _ in range(2)] == ["upload", "forward"]
    assert sender.lookup(image) is not None


def test_stats_count_what_was_done(sandbox: Sandbox, sender: Sender) -> None:
    image = sandbox.make_image("poster.png")
    for _ in range(4):
        sender.send_image(FRIEND, image)
    stats = sender.stats()
    assert (stats.uploads, stats.forwards, stats.hit_ratio) == (1, 3, 0.75)
    assert (stats.fall_backs, stats.refusals, stats.unknowns, stats.store_failures) == (0, 0, 0, 0)
    assert stats.bytes_saved == 3 * len(bytes_at(image))
    assert stats.upload_seconds > 0
    assert stats.forward_seconds > 0


@pytest.mark.parametrize("to_wxid", ["", " ", "a b", "a\n", "x" * 257])
def test_bad_recipients_send_nothing(sandbox: Sandbox, sender: Sender, to_wxid: str) -> None:
    with pytest.raises(ValueError, match=r"^to_wxid: .*Nothing was sent"):
        sender.send_image(to_wxid, sandbox.make_image("poster.png"))
    assert sandbox.calls == []
