"""Lanes: one send at a time per device, in the order of entering, and no turn is ever lost."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gewe_cache import GeweUnreachable
from gewe_cache.sending.lanes import Lanes, Ticket

DEVICE, OTHER = "wx_1", "wx_2"


def waiting(lanes: Lanes, app_id: str = DEVICE, limit: int = 10) -> Ticket:
    """Enter a lane that must be busy."""
    ticket = lanes.enter(app_id, limit)
    assert ticket is not None
    assert not ticket.done()
    return ticket


def assert_empty(lanes: Lanes) -> None:
    assert lanes._queues == {}, "a device that nobody sends from leaves nothing behind"


def test_turns_come_in_the_order_of_entering() -> None:
    lanes = Lanes()
    assert lanes.enter(DEVICE, 10) is None
    tickets = [waiting(lanes) for _ in range(3)]
    for number, ticket in enumerate(tickets, 1):
        lanes.leave(DEVICE)
        assert [each.done() for each in tickets] == [True] * number + [False] * (3 - number)
        assert ticket.result(0) is None
    lanes.leave(DEVICE)
    assert_empty(lanes)


def test_other_devices_are_not_held_up() -> None:
    lanes = Lanes()
    assert lanes.enter(DEVICE, 10) is None
    ticket = waiting(lanes)
    assert lanes.enter(OTHER, 10) is None
    lanes.leave(OTHER)
    assert not ticket.done()


def test_a_free_lane_is_free_again_after_use() -> None:
    lanes = Lanes()
    for _ in range(3):
        assert lanes.enter(DEVICE, 1) is None
        lanes.leave(DEVICE)
    assert_empty(lanes)


def test_who_gives_up_is_passed_over() -> None:
    lanes = Lanes()
    assert lanes.enter(DEVICE, 10) is None
    first, second = waiting(lanes), waiting(lanes)
    lanes.give_up(DEVICE, first)
    assert first.cancelled()
    lanes.leave(DEVICE)
    assert second.result(0) is None
    lanes.leave(DEVICE)
    assert_empty(lanes)


def test_when_all_give_up_the_lane_is_free() -> None:
    lanes = Lanes()
    assert lanes.enter(DEVICE, 10) is None
    for ticket in [waiting(lanes) for _ in range(3)]:
        lanes.give_up(DEVICE, ticket)
    lanes.leave(DEVICE)
    assert_empty(lanes)
    assert lanes.enter(DEVICE, 10) is None


def test_a_turn_that_had_come_already_goes_on_to_the_next() -> None:
    lanes = Lanes()
    assert lanes.enter(DEVICE, 10) is None
    first, second = waiting(lanes), waiting(lanes)
    lanes.leave(DEVICE)
    assert first.done()
    lanes.give_up(DEVICE, first)
    assert second.result(0) is None
    lanes.give_up(DEVICE, second)
    assert_empty(lanes)


def test_a_ticket_cancelled_by_its_loop_is_given_up_only_once() -> None:
    """A cancelled task cancels its future first; the flow gives up the ticket afterwards."""
    lanes = Lanes()
    assert lanes.enter(DEVICE, 10) is None
    first, second = waiting(lanes), waiting(lanes)
    first.cancel()
    lanes.give_up(DEVICE, first)
    assert not second.done(), "the lane is still the leader's"
    lanes.leave(DEVICE)
    assert second.result(0) is None


def test_a_full_queue_refuses_and_says_that_nothing_was_sent() -> None:
    lanes = Lanes()
    assert lanes.enter(DEVICE, 2) is None
    tickets = [waiting(lanes, limit=2), waiting(lanes, limit=2)]
    with pytest.raises(GeweUnreachable, match=r"Nothing was sent: 2 sends of device wx_1 .* Send more slowly"):
        lanes.enter(DEVICE, 2)
    assert lanes.enter(OTHER, 2) is None
    lanes.leave(DEVICE)
    assert tickets[0].done()
    assert waiting(lanes, limit=2), "there is room again"


def test_those_who_gave_up_do_not_fill_the_queue() -> None:
    lanes = Lanes()
    assert lanes.enter(DEVICE, 2) is None
    stays = waiting(lanes, limit=2)
    for _ in range(5):
        lanes.give_up(DEVICE, waiting(lanes, limit=2))
    last = waiting(lanes, limit=2)
    with pytest.raises(GeweUnreachable, match=r"2 sends"):
        lanes.enter(DEVICE, 2)
    lanes.leave(DEVICE)
    assert (stays.done(), last.done()) == (True, False)
    lanes.leave(DEVICE)
    assert last.done()


async def test_a_task_waits_its_turn_and_a_cancelled_one_takes_nobody_along() -> None:
    lanes = Lanes()
    assert lanes.enter(DEVICE, 10) is None
    first, second = waiting(lanes), waiting(lanes)
    leaving, staying = asyncio.wrap_future(first), asyncio.wrap_future(second)
    leaving.cancel()
    await asyncio.sleep(0)
    lanes.give_up(DEVICE, first)
    lanes.leave(DEVICE)
    async with asyncio.timeout(10):
        await staying


def test_under_threads_one_at_a_time_and_none_is_lost() -> None:
    lanes = Lanes()
    inside, most, turns = 0, 0, 0
    check = threading.Lock()

    def send(number: int) -> None:
        nonlocal inside, most, turns
        for step in range(50):
            ticket = lanes.enter(DEVICE, 1000)
            if ticket is not None and (number + step) % 3 == 0:
                lanes.give_up(DEVICE, ticket)
                continue
            if ticket is not None:
                ticket.result(30)
            with check:
                inside += 1
                most, turns = max(most, inside), turns + 1
            with check:
                inside -= 1
            lanes.leave(DEVICE)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    assert most == 1
    assert turns > 0
    assert_empty(lanes)


class LaneMachine(RuleBasedStateMachine):
    """Any order of entering, leaving and giving up: exactly one holds a busy lane, the longest waiter next."""

    tickets: Bundle[Ticket] = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes()
        self.held = False
        self.queue: list[Ticket] = []

    @rule(target=tickets)
    def enter(self) -> Ticket:
        if len(self.queue) >= 5:
            with pytest.raises(GeweUnreachable):
                self.lanes.enter(DEVICE, 5)
            return Ticket()
        ticket = self.lanes.enter(DEVICE, 5)
        assert (ticket is None) == (not self.held)
        self.held = True
        if ticket is not None:
            self.queue.append(ticket)
        return ticket or Ticket()

    @rule()
    def leave(self) -> None:
        if self.held:
            self.lanes.leave(DEVICE)
            self._next()

    @rule(ticket=consumes(tickets), was_cancelled=st.booleans())
    def give_up(self, ticket: Ticket, was_cancelled: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        if ticket not in self.queue:
            return
        self.queue.remove(ticket)
        if was_cancelled:
            ticket.cancel()
        self.lanes.give_up(DEVICE, ticket)

    def _next(self) -> None:
        self.held = bool(self.queue)
        if self.queue:
            assert self.queue.pop(0).done()

    @invariant()
    def the_lane_is_held_or_gone(self) -> None:
        assert (DEVICE in self.lanes._queues) == self.held
        assert not any(ticket.done() for ticket in self.queue)


TestLaneMachine = LaneMachine.TestCase
TestLaneMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
