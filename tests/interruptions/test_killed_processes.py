"""Processes that are killed, stopped or simply end in the middle of a send: nobody else waits for ever."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache import AsyncImageSender
from gewe_cache.sandbox import Fault
from tests.interruptions.kit import (
    Gate,
    check_intact,
    check_record,
    running_leases,
    saved_files,
    settings,
    written_usage,
)
from tests.interruptions.processes import IS_POSIX, Process

if TYPE_CHECKING:
    from gewe_cache.sandbox import Sandbox

_BRIEF: dict[str, Any] = {"lease_seconds": 0.6, "lease_renewal": 0.1}
_ROOT = Path(__file__).parents[2]
_ENDING_LOOP = """
import asyncio, logging, sys, urllib.request
from gewe_cache import AsyncImageSender
logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
base_url, token, database, url, plan = sys.argv[1:]

async def main():
    sender = AsyncImageSender(token, "wx_sandbox_1", base_url=base_url, database=database, scope="interruptions")
    send = asyncio.create_task(sender.send_image("wxid_gone", url))
    await asyncio.to_thread(sys.stdin.readline)
    if plan == "cancelled":
        send.cancel()
        await asyncio.wait([send])

asyncio.run(main())
"""


def test_killed_in_the_middle_of_an_upload(sandbox: Sandbox, url: str, shared_database: str) -> None:
    with Process(sandbox, shared_database, **_BRIEF) as killed, Process(sandbox, shared_database, **_BRIEF) as other:
        plan = sandbox.fail(Fault.hold(delivered_first=True))
        killed.send("wxid_killed", url)
        plan.wait_reached()
        other.begin("wxid_0", url, 2)
        other.begin("wxid_1", url, 3)
        assert other.do("waiting", count=1)
        killed.kill()
        assert sorted(other.do("results")) == ["forward", "upload"]
        assert other.leave() == ""
    plan.release()
    check_record(sandbox, "wxid_killed", "wxid_0", "wxid_1")


@pytest.mark.parametrize("place", ["before", "within"])
def test_killed_between_find_and_save(sandbox: Sandbox, url: str, shared_database: str, place: str) -> None:
    with Process(sandbox, shared_database, **_BRIEF) as killed, Process(sandbox, shared_database, **_BRIEF) as other:
        assert killed.do("stop_at", place=place) is None
        killed.send("wxid_killed", url)
        assert killed.answer() == f"stopped {place}"
        killed.kill()
        assert saved_files(shared_database) == []
        other.send("wxid_other", url)
        assert other.answer() == "upload"
        other.send("wxid_next", url)
        assert other.answer() == "forward"
    assert len(saved_files(shared_database)) == 1
    if shared_database.startswith("sqlite"):
        check_intact(shared_database)
    check_record(sandbox, "wxid_killed", "wxid_other", "wxid_next")


def test_a_process_that_ends_without_closing_has_written_its_counters(
    sandbox: Sandbox, url: str, shared_file: str
) -> None:
    with Process(sandbox, shared_file, usage_interval=60.0) as process:
        for number in range(3):
            process.send(f"wxid_{number}", url)
            process.answer()
        assert written_usage(shared_file)["uploads"] == 0
        assert process.leave() == ""
    assert written_usage(shared_file) == {"uploads": 1, "forwards": 2, "unknowns": 0}


def test_a_killed_process_loses_what_it_had_not_written(sandbox: Sandbox, url: str, shared_file: str) -> None:
    with Process(sandbox, shared_file, usage_interval=60.0) as written:
        written.send("wxid_0", url)
        written.answer()
        assert written.do("close") is None
    with Process(sandbox, shared_file, usage_interval=60.0) as killed:
        killed.send("wxid_1", url)
        killed.answer()
        killed.kill()
    assert written_usage(shared_file) == {"uploads": 1, "forwards": 0, "unknowns": 0}
    check_intact(shared_file)


def test_stopped_past_its_lease_and_continued(sandbox: Sandbox, url: str, shared_database: str) -> None:
    """Where processes cannot be stopped (Windows has no SIGSTOP), the leader just never renews its lease."""
    tuning = _BRIEF if IS_POSIX else {**_BRIEF, "lease_renewal": 60.0}
    with Process(sandbox, shared_database, **tuning) as stopped, Process(sandbox, shared_database, **_BRIEF) as other:
        plan = sandbox.fail(Fault.hold())
        stopped.send("wxid_stopped", url)
        plan.wait_reached()
        if IS_POSIX:
            stopped.signal("SIGSTOP")
        other.send("wxid_other", url)
        assert other.answer() == "upload"
        if IS_POSIX:
            stopped.signal("SIGCONT")
        plan.release()
        assert stopped.answer() == "upload"
        other.send("wxid_next", url)
        assert other.answer() == "forward"
    # its result came last and replaced the other's; what is forwarded may be either, both are good
    assert set(saved_files(shared_database)) & {delivery.file_id for delivery in sandbox.uploads}
    assert sandbox.uploads[-1].to_wxid == "wxid_stopped"
    assert sandbox.uploads[-1].file_id in saved_files(shared_database)
    assert running_leases(shared_database) == 0
    check_record(sandbox, "wxid_stopped", "wxid_other", "wxid_next")


@pytest.mark.parametrize("how", ["out", "cancelled"])
def test_a_loop_that_ends_with_a_call_out_logs_it(sandbox: Sandbox, url: str, shared_file: str, how: str) -> None:
    plan = sandbox.fail(Fault.hold(delivered_first=True))
    with subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-W", "error", "-c", _ENDING_LOOP, sandbox.base_url, sandbox.token, shared_file, url, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as process:
        plan.wait_reached()
        out, complaints = process.communicate("end\n", timeout=20)
    assert complaints == ""
    assert process.returncode == 0
    assert out.count("unknown: the upload of") == 1
    assert running_leases(shared_file) == 0
    assert written_usage(shared_file)["unknowns"] == 1
    check_record(sandbox, "wxid_gone")


@pytest.mark.parametrize("purpose", ["lease", "save"])
def test_a_loop_that_ends_in_a_store_step(
    sandbox: Sandbox, url: str, shared_file: str, purpose: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    sender = AsyncImageSender(**settings(sandbox, shared_file))
    gate = Gate(sender, purpose)

    async def main() -> None:
        send = asyncio.create_task(sender.send_image("wxid_gone", url))
        await gate.wait_reached()
        await sender._transport.aclose()  # idle connections of a loop that has ended would be complained of later
        asyncio.get_running_loop().call_later(0.2, gate.open)
        del send

    asyncio.run(main())
    gate.open()
    sender._finalizer()
    assert "Traceback" not in caplog.text
    assert "never retrieved" not in caplog.text
    assert running_leases(shared_file) == 0
    check_record(sandbox, *(["wxid_gone"] if purpose == "save" else []))
    if purpose == "save":
        assert len(saved_files(shared_file)) == 1
