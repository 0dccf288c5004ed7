"""Who gets a broadcast: lists, texts and CSVs, checked whole before anything is sent, and never held whole."""

from __future__ import annotations

import io
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from gewe_cache import Image, Pace
from gewe_cache.broadcast.recipients import BadRecipients, Recipient, check, from_items, from_lines
from gewe_cache.store.broadcasts import Share
from gewe_cache.store.tables import broadcasts, deliveries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gewe_cache.broadcast.service import Plan
    from tests.broadcast.kit import Bench

DEVICE = "wx_1"
MEGABYTE = 1_000_000


def read(content: str | bytes, app_id: str | None = DEVICE) -> tuple[list[tuple[str, str]], BadRecipients]:
    """Read a file as the command line opens it."""
    raw = content.encode() if isinstance(content, str) else content
    bad = BadRecipients()
    with io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8-sig", newline="") as file:
        return [*check(from_lines(file, app_id), bad)], bad


def checked(items: Iterable[object], app_id: str | None = DEVICE) -> tuple[list[tuple[str, str]], BadRecipients]:
    bad = BadRecipients()
    return [*check(from_items(items, app_id), bad)], bad


def good(content: str | bytes, app_id: str | None = DEVICE) -> list[tuple[str, str]]:
    pairs, bad = read(content, app_id)
    assert bad.count == 0, bad.describe()
    return pairs


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
def test_a_text_has_one_wxid_a_line(end: str, mark: bytes) -> None:
    text = end.join(["wxid_a", "", "  # friends", "  wxid_b\t", "#1@chatroom", "2@chatroom"])
    assert good(mark + text.encode()) == [(DEVICE, "wxid_a"), (DEVICE, "wxid_b"), (DEVICE, "2@chatroom")]


def test_a_text_may_begin_with_a_comment_that_looks_like_a_header() -> None:
    assert good("# wxid,app_id\nwxid_a\n") == [(DEVICE, "wxid_a")]


@pytest.mark.parametrize("nothing", ["", "\n \n\t\n", "# nobody\n", "wxid\n", "wxid,app_id\r\n,\r\n"], ids=repr)
def test_there_may_be_nobody_in_it(nothing: str) -> None:
    assert good(nothing) == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("name", ["wxid", "to_wxid", "WXID", '"wxid"', " wxid "])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
def test_a_csv_has_a_header(delimiter: str, name: str, mark: bytes) -> None:
    rows = [["note", "app_id", name], ["Ann", "wx_2", "wxid_a"], ["", "", "1@chatroom"], [], ["", "", ""]]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    assert good(mark + text.encode()) == [("wx_2", "wxid_a"), (DEVICE, "1@chatroom")]


@pytest.mark.parametrize("header", ["wxid", "to_wxid", '"WXID"', "wxid,"])
def test_a_csv_of_one_column_names_it(header: str) -> None:
    assert good(f"{header}\nwxid_a\n\nwxid_b\n") == [(DEVICE, "wxid_a"), (DEVICE, "wxid_b")]


def test_cells_may_be_quoted() -> None:
    text = '"wxid","note"\r\n"wxid_a","two\r\nlines, and a ""quote"""\r\nwxid_b,x\r\nbad wxid,y\r\n'
    pairs, bad = read(text)
    assert pairs == [(DEVICE, "wxid_a"), (DEVICE, "wxid_b")]
    assert bad.named[0].startswith("line 5: ")


def test_rows_may_be_short_or_long() -> None:
    text = "wxid,app_id\nwxid_a\nwxid_b,wx_2,more\n,wx_2\n"
    pairs, bad = read(text)
    assert pairs == [(DEVICE, "wxid_a"), ("wx_2", "wxid_b")]
    assert bad.named == ["line 4: wxid '' is not a string of 1 to 256 printable characters without spaces"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name,phone\nAnn,1\n", "line 1: a CSV needs a header that names wxid"),
        ("\n\nwxid_a,wx_1\n", "line 3: a CSV needs a header that names wxid"),
        ('wxid,note\nwxid_a,"open\nwxid_b,x\n', "line 3: unexpected end of data"),
        ('wxid,note\nwxid_a,"a"b\n', "line 2: ',' expected after '\"'"),
        (f"wxid,note\nwxid_a,{'x' * 200_000}\n", "line 2: field larger than field limit"),
    ],
    ids=["no wxid", "no header", "open quote", "after a quote", "huge cell"],
)
def test_what_is_no_csv_is_refused_by_its_line(text: str, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^Nothing was sent\. {line}"):
        read(text)


@pytest.mark.parametrize(
    "bad",
    ["two words", "x" * 257, "a\x00b", "a\x1b[31mb", "a\u202eb", "a\u200bb", "x" * 1_000_000, "\ufeffwxid"],
    ids=["space", "over-long", "NUL", "escape", "right to left", "no width", "huge", "second BOM"],
)
def test_what_cannot_be_a_wxid_is_named_by_its_line(bad: str) -> None:
    pairs, problems = read(f"wxid_a\n\n{bad}\n")
    assert pairs == [(DEVICE, "wxid_a")]
    (problem,) = problems.named
    assert problem.startswith("line 3: wxid '")
    assert problem.endswith("' is not a string of 1 to 256 printable characters without spaces")
    assert problem.isprintable()
    assert len(problem) < 500


def test_what_cannot_be_seen_is_spelled_out() -> None:
    (problem,) = read("a\u200bb\n")[1].named
    assert problem.startswith(r"line 1: wxid 'a\u200bb' is not")


def test_the_first_twenty_are_named_and_the_rest_counted() -> None:
    pairs, bad = read("".join(f"wxid {number}\n" for number in range(1, 51)) + "wxid_a\n")
    assert pairs == [(DEVICE, "wxid_a")]
    assert bad.count == 50
    assert [problem.partition(":")[0] for problem in bad.named] == [f"line {number}" for number in range(1, 21)]
    assert bad.describe().startswith("Nothing was sent. line 1: ")
    assert bad.describe().endswith("; and 30 more")
    assert "more" not in read("wxid 1\n")[1].describe()


def test_every_recipient_needs_a_device() -> None:
    pairs, bad = read("wxid,app_id\nwxid_a,\nwxid_b,wx_2\n", app_id=None)
    assert pairs == [("wx_2", "wxid_b")]
    (problem,) = bad.named
    assert problem.startswith("line 2: app_id: no device is named; pass --app-id (app_id=, GEWE_APP_ID)")
    assert checked(["wxid_a", ("", "wxid_b"), (None, "wxid_c")], app_id=None)[1].count == 3


def test_a_list_may_mix_wxids_and_pairs() -> None:
    items = ["wxid_a", ("wx_2", "wxid_b"), ["wx_3", "wxid_c"], "ab"]
    expected = [(DEVICE, "wxid_a"), ("wx_2", "wxid_b"), ("wx_3", "wxid_c"), (DEVICE, "ab")]
    assert checked(items) == (expected, BadRecipients())
    assert checked(item for item in items)[0] == expected


@pytest.mark.parametrize(
    "item",
    [None, 7, b"wxid_a", object(), [], ("wx_2",), ("wx_2", "a", "b"), ("wx_2", None), (7, "wxid_a"), {"wxid": "a"}, ""],
    ids=lambda item: type(item).__name__,
)
def test_what_is_no_recipient_is_named_by_its_place(item: object) -> None:
    pairs, bad = checked(["wxid_a", item])
    assert pairs == [(DEVICE, "wxid_a")]
    (problem,) = bad.named
    assert problem.startswith("recipient 2: ")
    assert problem.isprintable()


def test_nothing_is_read_ahead() -> None:
    def recipients() -> Iterator[Recipient]:
        yield Recipient("recipient 1", DEVICE, "wxid_a")
        pytest.fail("read too far")

    assert next(check(recipients(), BadRecipients())) == (DEVICE, "wxid_a")


def prepare(bench: Bench, items: Iterable[object]) -> Plan:
    return bench.opened.prepare(Image(url=bench.poster), from_items(items, bench.sandbox.app_id), Pace.none())


def kept(bench: Bench) -> tuple[int, int]:
    """Give how many broadcasts and deliveries are in the ledger."""
    with bench.database.reader.connect() as connection:
        counts = [connection.scalar(select(func.count()).select_from(table)) for table in (broadcasts, deliveries)]
    return counts[0] or 0, counts[1] or 0


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "recipients: the list is empty. Nothing was sent."),
        (["wxid_a", "b c"], "Nothing was sent. recipient 2: wxid 'b c' is not"),
        ([*(f"wxid_{number}" for number in range(2500)), "b c"], "Nothing was sent. recipient 2501: "),
        (["b c", *(f"wxid_{number}" for number in range(2500)), 5], "recipient 2502: wxid '5' is not"),
    ],
    ids=["none", "one", "at the end", "two far apart"],
)
def test_a_bad_list_leaves_nothing_behind(bench: Bench, items: list[object], words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its words are looked at below
        prepare(bench, items)
    assert words in str(caught.value)
    assert kept(bench) == (0, 0)


def test_a_list_that_breaks_off_leaves_nothing_behind(bench: Bench) -> None:
    def broken() -> Iterator[str]:
        yield from (f"wxid_{number}" for number in range(1500))
        msg = "the disk is gone"
        raise OSError(msg)

    with pytest.raises(OSError, match="the disk is gone"):
        prepare(bench, broken())
    assert kept(bench) == (0, 0)


def test_duplicates_are_dropped_and_counted(bench: Bench) -> None:
    names = [f"wxid_{number % 1200}" for number in range(3000)]
    plan = prepare(bench, names)
    assert (plan.recipients, plan.duplicates) == (1200, 1800)
    rows = bench.rows(plan.broadcast_id)
    assert [row.to_wxid for row in rows] == names[:1200], "the first of each, in their order"
    bench.opened.open(plan)
    assert bench.opened.find(plan.broadcast_id).duplicates == 1800


def test_a_group_gets_it_once_and_a_friend_of_two_devices_twice(bench: Bench) -> None:
    pairs = [(device, to) for device in ("wx_sandbox_1", "wx_sandbox_2") for to in ("1@chatroom", "wxid_a", "wxid_a")]
    plan = prepare(bench, pairs)
    assert plan.shares == (Share("wx_sandbox_1", 1, 1), Share("wx_sandbox_2", 1, 0))
    assert (plan.recipients, plan.duplicates) == (3, 3)
    bench.opened.open(plan)
    bench.run(plan.broadcast_id)
    got = sorted((delivery.to_wxid, delivery.app_id) for delivery in bench.sandbox.deliveries)
    assert got == [("1@chatroom", "wx_sandbox_1"), ("wxid_a", "wx_sandbox_1"), ("wxid_a", "wx_sandbox_2")]


def peak_of_preparing(bench: Bench, recipients: int) -> int:
    tracemalloc.start()
    try:
        plan = prepare(bench, (f"{number}@chatroom" for number in range(recipients)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert plan.recipients == recipients
    bench.opened.discard(plan.broadcast_id)
    return peak


def test_the_memory_does_not_grow_with_the_list(bench: Bench) -> None:
    peak_of_preparing(bench, 100)  # what is imported and compiled once
    few, many = peak_of_preparing(bench, 10_000), peak_of_preparing(bench, 100_000)
    assert many < few + 2 * MEGABYTE
    assert many < 20 * MEGABYTE


def test_a_plan_tells_what_awaits(bench: Bench) -> None:
    items: list[Any] = [f"{number}@chatroom" for number in range(500)] + [("wx_sandbox_2", "wxid_a")]
    plan = bench.opened.prepare(Image(url=bench.poster), from_items(items, bench.sandbox.app_id), Pace.gewe())
    assert plan.duration.total_seconds() == 1750
    assert plan.busy_devices == (bench.sandbox.app_id,)
    assert not plan.is_cached
    bench.opened.discard(plan.broadcast_id)
    bench.cache_poster()
    assert prepare(bench, ["wxid_a"]).is_cached
