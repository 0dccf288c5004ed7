"""The background thread: renews what is held, writes what is counted, and raises no false alarm."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from gewe_cache.sending.background import Background
from gewe_cache.sending.counters import Counters
from gewe_cache.settings import Tuning
from gewe_cache.store.guard import Store

T = TypeVar("T")
TUNING = Tuning(lease_renewal=0.01, usage_interval=0.01)


class FakeStore(Store):
    """A store whose answers the test gives, one by one; it touches no database."""

    def __init__(self) -> None:
        super().__init__("sqlite://", TUNING, on_failure=lambda: None)
        self.asked: list[str] = []
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self.has_asked = threading.Condition()

    def attempt(
        self,
        operation: Callable[[Any], T],  # noqa: ARG002 - the real one's signature
        otherwise: T,
        *,
        write: bool = False,  # noqa: ARG002
        purpose: str = "read",
        accepted: bool = False,
        in_pause: bool = False,  # noqa: ARG002
        about: object = None,  # noqa: ARG002
    ) -> T:
        assert accepted, "nothing that happens here may reach a send"
        answer: T = self.answers.get(purpose, lambda otherwise: otherwise)(otherwise)
        with self.has_asked:
            self.asked.append(purpose)
            self.has_asked.notify_all()
        return answer

    def wait_for(self, purpose: str, count: int) -> None:
        with self.has_asked:
            assert self.has_asked.wait_for(lambda: self.asked.count(purpose) >= count, 10)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def counters() -> Counters:
    return Counters("scope")


@pytest.fixture
def background(store: FakeStore, counters: Counters) -> Iterator[Background]:
    made = Background(store, counters, TUNING)
    yield made
    made.stop()


def test_there_is_no_thread_before_there_is_work(background: Background, counters: Counters) -> None:
    before = background._thread
    counters.count(uploads=1)
    assert before is None
    assert background._thread is not None
    assert background._thread.daemon


def test_a_lease_is_renewed_until_it_is_dropped(store: FakeStore, background: Background) -> None:
    background.hold("flight")
    store.wait_for("lease renewal", 3)
    background.drop("flight")
    background.stop()
    count = store.asked.count("lease renewal")
    background._renew()
    assert store.asked.count("lease renewal") == count


def test_a_lost_lease_is_told(store: FakeStore, background: Background, caplog: pytest.LogCaptureFixture) -> None:
    store.answers["lease renewal"] = lambda _: 1
    background.hold("one")
    background.hold("two")
    with caplog.at_level(logging.WARNING, "gewe_cache"):
        background._renew()
    assert caplog.messages[0].startswith("1 lease(s) were lost")


@pytest.mark.parametrize("end", [Background.drop, Background.settle])
def test_a_lease_that_its_own_flight_ends_meanwhile_is_not_missed(
    store: FakeStore, background: Background, caplog: pytest.LogCaptureFixture, end: Callable[[Background, str], None]
) -> None:
    ended: Future[None] = Future()

    def renew(_: int) -> int:
        if not ended.done():
            end(background, "flight")  # between reading what is held and the renewal itself
            ended.set_result(None)
        return 0

    store.answers["lease renewal"] = renew
    with caplog.at_level(logging.WARNING, "gewe_cache"):
        background.hold("flight")
        ended.result(10)
        background.stop()
    assert caplog.messages == []


def test_a_settling_lease_is_renewed_all_the_same(store: FakeStore, background: Background) -> None:
    background.hold("flight")
    background.settle("flight")
    count = store.asked.count("lease renewal")
    store.wait_for("lease renewal", count + 2)


def test_counts_are_written_in_batches_and_what_fails_is_kept(
    store: FakeStore, background: Background, counters: Counters
) -> None:
    store.answers["usage"] = lambda _: False
    counters.count(uploads=1)
    store.wait_for("usage", 2)
    store.answers["usage"] = lambda _: True
    store.wait_for("usage", store.asked.count("usage") + 1)
    background.stop()
    assert not counters.waiting


def test_stopping_writes_what_is_left_at_once(store: FakeStore, counters: Counters) -> None:
    store.answers["usage"] = lambda _: True
    slow = Background(store, counters, replace(TUNING, lease_renewal=3600, usage_interval=3600))
    counters.count(uploads=1)
    slow.stop()
    assert store.asked == ["usage"]
    assert not counters.waiting
    counters.count(uploads=1)
    assert slow._thread is not None
    slow._thread.join(10)
    assert not slow._thread.is_alive()


def test_a_stop_right_before_it_lets_go_of_its_work_is_not_missed(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = background._stopping.wait

    def wait_and_be_stopped(seconds: float | None = None) -> bool:
        was_stopping = wait(seconds)
        background.drop("a flight")
        background._stopping.set()
        background._work.set()
        return was_stopping

    monkeypatch.setattr(background._stopping, "wait", wait_and_be_stopped)
    background.hold("a flight")
    thread = background._thread
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()
