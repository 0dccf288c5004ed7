"""The flow against a simple model: sends interleaved step by step in any order, with random ends of every call."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from gewe_cache import DeliveryUnknown, GeweRefused, GeweUnreachable, SentImage
from gewe_cache import settings as settings_module
from gewe_cache.sending import front
from gewe_cache.sending.steps import Abandoned, Post, Wait
from gewe_cache.settings import Tuning
from gewe_cache.store import migrate, tables
from gewe_cache.store.guard import Store
from tests.concurrency.world import OUTCOMES, REFUSALS, UNKNOWN, Clock, Send, World

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_SENDS = 10
_MOST_STEPS_TO_THE_END = 20_000
_MINUTE = timedelta(minutes=1)
_MAY_FALL_BACK = {f"forward {name}" for name in ("refused", "image refused")}
_ENDS = {"accepted", "accepted without cdn", *UNKNOWN}

_TIMES = (0.5, 3.0, 16.0, 59.0, 61.0, 70.0, 300.0, 86_400.0, 4 * 86_400.0, -3_600.0)

_which = st.integers(0, _MOST_SENDS - 1)
_two = st.integers(0, 1)
_outcome = st.sampled_from(OUTCOMES)


class JudgedWorld(World):
    """A world that holds every call which is about to begin against the rules."""

    def check_begun(self, send: Send) -> None:
        if not isinstance(send.pending, Post):
            return
        ends = {outcome.partition(" ")[2] for outcome in send.outcomes}
        assert not ends & _ENDS, "a call after an accepted or unknown outcome"
        beside = [other for other in self.under_way if other is not send and isinstance(other.pending, Post)]
        assert not any((other.process, other.app_id) == (send.process, send.app_id) for other in beside), "lane"
        if send.is_uploading:
            self._check_upload(send, [other for other in beside if other.is_uploading and other.image == send.image])

    def _check_upload(self, send: Send, beside: list[Send]) -> None:
        assert all(other.process != send.process for other in beside), "two uploads of one image in a process"
        assert self.was_shaken or not beside, "two uploads of one image"
        fell_back = bool(_MAY_FALL_BACK & set(send.outcomes))
        assert send.refresh or fell_back or not send.fresh_when_asked, "an upload of what is known"
        if not fell_back:
            return
        for upload in self.uploads[send.image]:
            is_known = upload.process == send.process or (upload.known and not send.refresh)
            assert not is_known or abs(self.clock.moment - upload.at) >= _MINUTE, "a fall-back within a minute"


class FlowMachine(RuleBasedStateMachine):
    """Anything may happen at any time."""

    store: Store
    clock: Clock
    failures: list[int]

    @initialize()
    def begin(self) -> None:
        self.clock.__init__()  # type: ignore[misc]
        self.world = JudgedWorld(self.store, self.clock)

    # --- what may happen -----------------------------------------------------------------------------------

    @precondition(lambda self: len(self.world.under_way) < _MOST_SENDS)
    @rule(process=_two, device=_two, image=_two, refresh=st.integers(0, 4))
    def start(self, process: int, device: int, image: int, refresh: int) -> None:
        self.world.start(process, device, image, refresh=refresh == 0)

    @precondition(lambda self: any(send.can_go_on for send in self.world.under_way))
    @rule(which=_which, steps=st.integers(1, 6), outcome=_outcome)
    def go_on(self, which: int, steps: int, outcome: str) -> None:
        able = [send for send in self.world.under_way if send.can_go_on]
        send = able[which % len(able)]
        for _ in range(steps):
            if send.can_go_on:
                send.perform(outcome)

    @rule(seed=st.integers(0, 2**32), moves=st.integers(10, 150))
    def much_happens(self, seed: int, moves: int) -> None:
        chance = Random(seed)  # noqa: S311 - a reproducible one
        likely = chance.choices(OUTCOMES, k=2)
        for _ in range(moves):
            self._something_happens(chance, likely)
            self.every_flight_and_lane_is_somebodys()

    def _something_happens(self, chance: Random, likely: list[str]) -> None:
        able = [send for send in self.world.under_way if send.can_go_on]
        kind = chance.random()
        if kind < 0.2 and len(self.world.under_way) < _MOST_SENDS:
            process, device, image = (chance.randrange(2) for _ in range(3))
            self.world.start(process, device, image, refresh=chance.random() < 0.1)
        elif kind < 0.93 and able:
            chance.choice(able).perform(chance.choice(["accepted", "accepted", *likely, *likely]))
        elif kind < 0.95 and self.world.under_way:
            chance.choice(self.world.under_way).abandon()
        elif kind < 0.96 and not self.world.is_away:
            self.world.forget(chance.randrange(2), chance.randrange(2))
        elif kind < 0.97:
            self.world.is_away = chance.random() < 0.3
        else:
            self.world.move_clock(chance.choice(_TIMES), renews=chance.random() < 0.8)

    @precondition(lambda self: self.world.under_way)
    @rule(which=_which)
    def a_caller_leaves(self, which: int) -> None:
        sends = self.world.under_way
        sends[which % len(sends)].abandon()

    @precondition(lambda self: any(_has_a_bound(send) for send in self.world.under_way))
    @rule(which=_which)
    def a_wait_comes_to_its_end(self, which: int) -> None:
        waiting = [send for send in self.world.under_way if _has_a_bound(send)]
        waiting[which % len(waiting)].time_out()

    @rule(seconds=st.sampled_from(_TIMES), renews=st.booleans())
    def time_goes_by(self, seconds: float, renews: bool) -> None:  # noqa: FBT001 - hypothesis passes names
        self.world.move_clock(seconds, renews=renews)

    @rule(away=st.booleans())
    def the_database_goes_or_comes(self, away: bool) -> None:  # noqa: FBT001
        self.world.is_away = away

    @precondition(lambda self: not self.world.is_away)
    @rule(process=_two, image=_two)
    def forget(self, process: int, image: int) -> None:
        self.world.forget(process, image)

    # --- what holds at all times ---------------------------------------------------------------------------

    @invariant()
    def every_flight_and_lane_is_somebodys(self) -> None:
        for process, parts in enumerate(self.world.parts):
            mine = [send for send in self.world.under_way if send.process == process]
            assert len(parts.flights._in_the_air) <= len(mine)
            assert set(parts.lanes._queues) <= {send.app_id for send in mine}

    @invariant()
    def only_an_accepted_upload_retires_an_entry(self) -> None:
        with self.store.database.reader.connect() as connection:
            wanted = select(tables.entries.c.file_id).where(tables.entries.c.retired_at.is_not(None))
            retired = set(connection.scalars(wanted))
        assert retired <= {send.refused_file for send in self.world.sends if "upload accepted" in send.outcomes}

    @invariant()
    def every_end_is_what_became_of_the_calls(self) -> None:
        assert self.failures == []
        for send in self.world.sends:
            if send.is_over:
                _check_end(send)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self._see_all_to_their_end()
        finally:
            for send in self.world.under_way:
                send.dispose()

    def _see_all_to_their_end(self) -> None:
        self.world.is_away = False
        for _ in range(_MOST_STEPS_TO_THE_END):
            able = [send for send in self.world.under_way if send.can_go_on]
            if not able:
                break
            able[0].perform("accepted")
            self.world.move_clock(0.1, renews=True)
        assert self.world.under_way == [], "a send that does not end"
        self.every_end_is_what_became_of_the_calls()
        for parts in self.world.parts:
            assert parts.lanes._queues == {}
            assert parts.flights._in_the_air == {}
            assert parts.background.held == set()  # type: ignore[attr-defined]


def _has_a_bound(send: Send) -> bool:
    return isinstance(send.pending, Wait) and send.pending.seconds is not None and not send.pending.future.done()


def _check_end(send: Send) -> None:
    ends = [outcome.partition(" ")[2] for outcome in send.outcomes]
    kinds = Counter("accepted" if end.startswith("accepted") else end for end in ends)
    accepted, unknown = kinds["accepted"], sum(kinds[name] for name in UNKNOWN)
    assert accepted + unknown <= 1
    assert sum(kinds[name] for name in REFUSALS) <= 2, "more than a forward and a fall-back"
    if isinstance(send.error, AssertionError):
        raise send.error
    if accepted:
        assert isinstance(send.result, SentImage)
        assert f"{send.result.route} {ends[-1]}" == send.outcomes[-1]
        assert send.result.to_wxid == f"wxid_{send.number}"
    elif unknown:
        assert isinstance(send.error, DeliveryUnknown | KeyboardInterrupt)
    elif send.is_abandoned:
        assert isinstance(send.error, Abandoned | GeweRefused | GeweUnreachable)
    else:
        assert isinstance(send.error, GeweRefused | GeweUnreachable)


@pytest.fixture
def machine() -> Iterator[type[FlowMachine]]:
    clock, failures = Clock(), list[int]()
    store = Store("sqlite://", Tuning(), on_failure=lambda: failures.append(1))

    migrate.upgrade(store.database)

    class Machine(FlowMachine):
        """The machine on this test's database and clock."""

    Machine.store, Machine.clock, Machine.failures = store, clock, failures
    with (
        mock.patch.object(settings_module, "datetime", clock),
        mock.patch.object(front, "time", SimpleNamespace(monotonic=clock.monotonic)),
    ):
        yield Machine
    store.close()


def test_the_flow_keeps_its_promises(machine: type[FlowMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=120,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # add Phase.shrink to look into a failure: it takes minutes
            report_multiple_bugs=False,
        ),
    )
