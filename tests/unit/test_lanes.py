"""Lanes: one send at a time per device, in the order of entering, and no turn is ever lost."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, invariant, multiple, rule

from gewe_cache import GeweUnreachable
from gewe_cache.sending.lanes import Lanes, Ticket

DEVICE, OTHER = "wx_1", "wx_2"


def holding(lanes: Lanes, app_id: str = DEVICE, limit: int = 10) -> Ticket:
    """Enter a lane that must be free."""
    ticket = Ticket(app_id)
    assert lanes.enter(ticket, limit) is None
    return ticket


def waiting(lanes: Lanes, app_id: str = DEVICE, limit: int = 10) -> Ticket:
    """Enter a lane that must be busy."""
    ticket = Ticket(app_id)
    turn = lanes.enter(ticket, limit)
    assert turn is ticket.turn
    assert not has_turn(ticket)
    return ticket


def has_turn(ticket: Ticket) -> bool:
    """Tell whether its owner has been told that it may go."""
    assert ticket.turn is not None
    return ticket.turn.done() and not ticket.turn.cancelled()


def assert_empty(lanes: Lanes) -> None:
    assert lanes._queues == {}, "a device that nobody sends from leaves nothing behind"


def test_turns_come_in_the_order_of_entering() -> None:
    lanes = Lanes()
    last = holding(lanes)
    tickets = [waiting(lanes) for _ in range(3)]
    for number, ticket in enumerate(tickets, 1):
        lanes.leave(last)
        assert [has_turn(each) for each in tickets] == [True] * number + [False] * (3 - number)
        last = ticket
    lanes.leave(last)
    assert_empty(lanes)


def test_other_devices_are_not_held_up() -> None:
    lanes = Lanes()
    holding(lanes)
    ticket = waiting(lanes)
    lanes.leave(holding(lanes, OTHER))
    assert not has_turn(ticket)


def test_a_free_lane_is_free_again_after_use() -> None:
    lanes = Lanes()
    for _ in range(3):
        lanes.leave(holding(lanes, limit=1))
    assert_empty(lanes)


def test_who_gives_up_is_passed_over() -> None:
    lanes = Lanes()
    holder = holding(lanes)
    first, second = waiting(lanes), waiting(lanes)
    lanes.leave(first)
    assert first.has_left
    lanes.leave(holder)
    assert has_turn(second)
    lanes.leave(second)
    assert_empty(lanes)


def test_when_all_give_up_the_lane_is_free() -> None:
    lanes = Lanes()
    holder = holding(lanes)
    for ticket in [waiting(lanes) for _ in range(3)]:
        lanes.leave(ticket)
    lanes.leave(holder)
    assert_empty(lanes)
    holding(lanes)


def test_a_turn_that_had_come_already_goes_on_to_the_next() -> None:
    lanes = Lanes()
    holder = holding(lanes)
    first, second = waiting(lanes), waiting(lanes)
    lanes.leave(holder)
    assert has_turn(first)
    lanes.leave(first)
    assert has_turn(second)
    lanes.leave(second)
    assert_empty(lanes)


def test_a_ticket_cancelled_by_its_loop_is_given_up_only_once() -> None:
    """A cancelled task cancels its future first; the flow leaves with the ticket afterwards."""
    lanes = Lanes()
    holder = holding(lanes)
    first, second = waiting(lanes), waiting(lanes)
    assert first.turn is not None
    first.turn.cancel()
    lanes.leave(first)
    assert not has_turn(second), "the lane is still the holder's"
    lanes.leave(holder)
    assert has_turn(second)


def test_to_leave_twice_takes_nothing_from_who_came_after() -> None:
    lanes = Lanes()
    holder = holding(lanes)
    second, third = waiting(lanes), waiting(lanes)
    for _ in range(2):
        lanes.leave(holder)
        assert (has_turn(second), has_turn(third)) == (True, False)
    for _ in range(2):
        lanes.leave(second)
        lanes.leave(holder)
    assert has_turn(third)
    lanes.leave(third)
    assert_empty(lanes)
    next_one = holding(lanes)
    for ticket in (holder, second, third):
        lanes.leave(ticket)
    waiting(lanes)
    lanes.leave(next_one)


def test_to_leave_without_having_entered_does_nothing() -> None:
    lanes = Lanes()
    lanes.leave(Ticket(DEVICE))
    assert_empty(lanes)
    holding(lanes)
    lanes.leave(Ticket(DEVICE))
    waiting(lanes)


def test_a_full_queue_refuses_and_says_that_nothing_was_sent() -> None:
    lanes = Lanes()
    holder = holding(lanes)
    tickets = [waiting(lanes, limit=2), waiting(lanes, limit=2)]
    refused = Ticket(DEVICE)
    with pytest.raises(GeweUnreachable, match=r"Nothing was sent: 2 sends of device wx_1 .* Send more slowly"):
        lanes.enter(refused, 2)
    lanes.leave(refused)
    holding(lanes, OTHER, limit=2)
    lanes.leave(holder)
    assert has_turn(tickets[0])
    assert waiting(lanes, limit=2), "there is room again"


def test_those_who_gave_up_do_not_fill_the_queue() -> None:
    lanes = Lanes()
    holder = holding(lanes)
    stays = waiting(lanes, limit=2)
    for _ in range(5):
        lanes.leave(waiting(lanes, limit=2))
    last = waiting(lanes, limit=2)
    with pytest.raises(GeweUnreachable, match=r"2 sends"):
        lanes.enter(Ticket(DEVICE), 2)
    lanes.leave(holder)
    assert (has_turn(stays), has_turn(last)) == (True, False)
    lanes.leave(stays)
    assert has_turn(last)


async def test_a_task_waits_its_turn_and_a_cancelled_one_takes_nobody_along() -> None:
    lanes = Lanes()
    holder = holding(lanes)
    first, second = waiting(lanes), waiting(lanes)
    assert first.turn is not None
    assert second.turn is not None
    leaving, staying = asyncio.wrap_future(first.turn), asyncio.wrap_future(second.turn)
    leaving.cancel()
    await asyncio.sleep(0)
    lanes.leave(first)
    lanes.leave(holder)
    async with asyncio.timeout(10):
        await staying


def test_under_threads_one_at_a_time_and_none_is_lost() -> None:
    lanes = Lanes()
    inside, most, turns = 0, 0, 0
    check = threading.Lock()

    def send(number: int) -> None:
        nonlocal inside, most, turns
        for step in range(50):
            ticket = Ticket(DEVICE)
            turn = lanes.enter(ticket, 1000)
            if turn is not None and (number + step) % 3 == 0:
                lanes.leave(ticket)
                continue
            if turn is not None:
                turn.result(30)
            with check:
                inside += 1
                most, turns = max(most, inside), turns + 1
            with check:
                inside -= 1
            lanes.leave(ticket)
            lanes.leave(ticket)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    assert most == 1
    assert turns > 0
    assert_empty(lanes)


class LaneMachine(RuleBasedStateMachine):
    """Any order of entering and leaving: exactly one holds a busy lane, and who has waited longest is the next."""

    tickets: Bundle[Ticket] = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes()
        self.queue: list[Ticket] = []

    @rule(target=tickets)
    def enter(self) -> Ticket | MultipleResults[Ticket]:
        ticket = Ticket(DEVICE)
        if len(self.queue) > 5:
            with pytest.raises(GeweUnreachable):
                self.lanes.enter(ticket, 5)
            return multiple()
        turn = self.lanes.enter(ticket, 5)
        assert (turn is None) == (not self.queue)
        self.queue.append(ticket)
        return ticket

    @rule(ticket=tickets, was_cancelled=st.booleans())
    def leave(self, ticket: Ticket, was_cancelled: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        if was_cancelled and ticket.turn is not None:
            ticket.turn.cancel()
        self.lanes.leave(ticket)
        if ticket in self.queue:
            self.queue.remove(ticket)

    @rule()
    def the_first_leaves(self) -> None:
        if self.queue:
            self.lanes.leave(self.queue.pop(0))

    @invariant()
    def the_first_alone_holds_the_lane(self) -> None:
        assert (DEVICE in self.lanes._queues) == bool(self.queue)
        for place, ticket in enumerate(self.queue):
            assert (ticket.turn is None or has_turn(ticket)) == (place == 0)


TestLaneMachine = LaneMachine.TestCase
TestLaneMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_who_left_to_let_others_pass_has_the_next_turn() -> None:
    lanes = Lanes()
    back, passed, other = Ticket("wx_1"), Ticket("wx_1"), Ticket("wx_1")
    lanes.enter(back, 10)
    lanes.leave(back)
    lanes.enter(passed, 10)
    turn_of_other = lanes.enter(other, 10)
    turn = lanes.enter(back, 1, is_back=True)  # the queue's limit is not for who had a turn
    assert turn is not None
    assert turn_of_other is not None
    assert not turn.done()
    lanes.leave(passed)
    assert turn.done()
    assert not turn_of_other.done()
    lanes.leave(back)
    lanes.leave(back)
    assert turn_of_other.done()
    lanes.leave(other)
    assert lanes.enter(Ticket("wx_1"), 10) is None


def test_who_comes_back_to_a_free_lane_has_it_at_once() -> None:
    lanes = Lanes()
    ticket = Ticket("wx_1")
    first = Ticket("wx_1")
    lanes.enter(first, 10)
    lanes.enter(ticket, 10)
    lanes.leave(first)
    lanes.leave(ticket)
    assert lanes.enter(ticket, 10, is_back=True) is None
    waiting = lanes.enter(Ticket("wx_1"), 10)
    assert waiting is not None
    lanes.leave(ticket)
    assert waiting.done()
