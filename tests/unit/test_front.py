"""The front cache: trusted for two seconds, bounded, and never wiser than the database."""

from __future__ import annotations

from datetime import timedelta

from freezegun import freeze_time

from gewe_cache.sending.front import Front, Held
from tests.unit.making import UPLOADED_AT, an_entry

KEY, OTHER, THIRD = b"k" * 32, b"o" * 32, b"t" * 32
ENTRY, NEWER = an_entry(entry_id=1), an_entry(entry_id=2)


def held_by(front: Front, digest: bytes = KEY) -> Held:
    held = front.get(digest)
    assert held is not None
    return held


def test_what_is_put_is_held() -> None:
    front = Front(10, 2.0)
    assert front.get(KEY) is None
    front.put(KEY, ENTRY)
    assert held_by(front).entry is ENTRY
    assert front.is_trusted(held_by(front))


def test_trust_ends_after_its_seconds_and_the_entry_stays() -> None:
    with freeze_time(UPLOADED_AT) as clock:
        front = Front(10, 2.0)
        front.put(KEY, ENTRY)
        clock.tick(timedelta(seconds=1.99))
        assert front.is_trusted(held_by(front))
        clock.tick(timedelta(seconds=0.01))
        assert not front.is_trusted(held_by(front))
        assert held_by(front).entry is ENTRY, "for as long as the database is away"
        front.confirm(KEY, ENTRY, front.version)
        assert front.is_trusted(held_by(front))


def test_a_clock_that_runs_backwards_ends_trust() -> None:
    with freeze_time(UPLOADED_AT) as clock:
        front = Front(10, 2.0)
        front.put(KEY, ENTRY)
        clock.move_to(UPLOADED_AT - timedelta(hours=1))
        assert not front.is_trusted(held_by(front))


def test_the_database_replaces_what_is_held() -> None:
    front = Front(10, 2.0)
    front.put(KEY, ENTRY)
    front.confirm(KEY, NEWER, front.version)
    assert held_by(front).entry is NEWER
    front.confirm(KEY, None, front.version)
    assert front.get(KEY) is None
    front.confirm(KEY, None, front.version)


def test_an_answer_of_the_database_that_was_overtaken_is_not_taken_over() -> None:
    front = Front(10, 2.0)
    version = front.version
    front.put(KEY, NEWER)  # saved after the read began
    front.confirm(KEY, ENTRY, version)
    assert held_by(front).entry is NEWER
    front.confirm(KEY, None, version)
    assert held_by(front).entry is NEWER


def test_a_read_that_began_before_a_forget_does_not_bring_the_entry_back() -> None:
    front = Front(10, 2.0)
    front.put(KEY, ENTRY)
    version = front.version
    front.drop(KEY, ENTRY.entry_id)
    front.confirm(KEY, ENTRY, version)
    assert front.get(KEY) is None


def test_dropping_by_entry_takes_every_key_that_leads_to_it() -> None:
    front = Front(10, 2.0)
    front.put(KEY, ENTRY)
    front.put(OTHER, ENTRY)
    front.put(THIRD, NEWER)
    assert front.drop(KEY, ENTRY.entry_id)
    assert front.get(KEY) is front.get(OTHER) is None
    assert held_by(front, THIRD).entry is NEWER


def test_dropping_without_an_entry_takes_the_key_alone() -> None:
    front = Front(10, 2.0)
    unsaved = an_entry(entry_id=None)
    front.put(KEY, unsaved)
    front.put(OTHER, unsaved)
    assert front.drop(KEY, None)
    assert front.get(KEY) is None
    assert front.get(OTHER) is not None
    assert not front.drop(KEY, None)


def test_dropping_what_is_not_held_says_so_and_still_takes_the_entrys_other_keys() -> None:
    front = Front(10, 2.0)
    front.put(OTHER, ENTRY)
    assert not front.drop(KEY, ENTRY.entry_id)
    assert front.get(OTHER) is None


def test_it_is_bounded_and_the_least_used_goes_first() -> None:
    front = Front(2, 2.0)
    front.put(KEY, ENTRY)
    front.put(OTHER, NEWER)
    assert front.get(KEY) is not None
    front.put(THIRD, NEWER)
    assert front.get(OTHER) is None
    assert held_by(front).entry is ENTRY
    front.confirm(OTHER, NEWER, front.version)
    assert len(front._held) == 2
