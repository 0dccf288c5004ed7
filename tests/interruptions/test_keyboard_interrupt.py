"""Ctrl-C in the main thread of a process that is sending: logged, let go of, and nobody else is stuck."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gewe_cache.sandbox import Fault
from tests.interruptions.kit import check_record, running_leases
from tests.interruptions.processes import IS_POSIX, Process

if TYPE_CHECKING:
    from gewe_cache.sandbox import Plan, Sandbox


def _interrupt(process: Process, plan: Plan) -> None:
    """Interrupt a call that is out; where Ctrl-C does not wake a thread in a socket (Windows), end it first."""
    process.interrupt()
    if not IS_POSIX:
        plan.release()


def test_in_the_middle_of_an_upload(sandbox: Sandbox, url: str, shared_database: str) -> None:
    with Process(sandbox, shared_database) as process, Process(sandbox, shared_database) as other:
        plan = sandbox.fail(Fault.hold(delivered_first=True))
        process.send("wxid_interrupted", url)
        plan.wait_reached()
        assert running_leases(shared_database) == 1
        _interrupt(process, plan)
        assert process.answer() == "KeyboardInterrupt"
        assert running_leases(shared_database) == 0
        (line,) = process.do("log")
        assert line.startswith("unknown: the upload of ")
        assert "to wxid_interrupted from device wx_sandbox_1" in line
        assert "interrupted by KeyboardInterrupt" in line
        assert process.do("idle")
        other.send("wxid_other", url)  # at once: a lease of 15 s would keep it waiting
        assert other.answer() == "upload"
        process.send("wxid_next", url)
        assert process.answer() == "forward"
        assert process.leave() == ""
    plan.release()
    check_record(sandbox, "wxid_interrupted", "wxid_other", "wxid_next")


def test_those_who_waited_for_it_in_other_threads_go_on(sandbox: Sandbox, url: str, shared_file: str) -> None:
    with Process(sandbox, shared_file) as process:
        plan = sandbox.fail(Fault.hold(delivered_first=True))
        process.send("wxid_interrupted", url)
        plan.wait_reached()
        for number in range(3):
            process.begin(f"wxid_{number}", url, 2 + number)
        assert process.do("waiting", count=3)
        _interrupt(process, plan)
        assert process.answer() == "KeyboardInterrupt"
        assert Counter(process.do("results")) == {"upload": 1, "forward": 2}
        assert process.leave() == ""
    check_record(sandbox, "wxid_interrupted", "wxid_0", "wxid_1", "wxid_2")


def test_in_the_middle_of_a_forward(sandbox: Sandbox, url: str, shared_file: str) -> None:
    with Process(sandbox, shared_file) as process:
        process.send("wxid_first", url)
        assert process.answer() == "upload"
        plan = sandbox.fail(Fault.hold(delivered_first=True))
        process.send("wxid_interrupted", url)
        plan.wait_reached()
        process.begin("wxid_same_device", url, 1)
        _interrupt(process, plan)
        assert process.answer() == "KeyboardInterrupt"
        (line,) = process.do("log")
        assert line.startswith("unknown: the forward of ")
        assert process.do("results") == ["forward"]
        assert process.do("idle")
        assert process.leave() == ""
    check_record(sandbox, "wxid_first", "wxid_interrupted", "wxid_same_device")


def test_while_waiting_for_a_flight(sandbox: Sandbox, url: str, shared_file: str) -> None:
    with Process(sandbox, shared_file) as process:
        plan = sandbox.fail(Fault.hold())
        process.begin("wxid_leader", url, 1)
        plan.wait_reached()
        process.send("wxid_interrupted", url, 2)
        assert process.do("waiting", count=1)
        process.interrupt()
        if not IS_POSIX:
            plan.release()
        assert process.answer() == "KeyboardInterrupt"
        plan.release()
        assert process.do("results") == ["upload"]
        assert process.do("log") == []
        assert process.do("idle")
    check_record(sandbox, "wxid_leader")
