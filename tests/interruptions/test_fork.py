"""A fork with an open sender in use: both sides go on, each with connections of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gewe_cache.sandbox import Fault
from tests.interruptions.forker import HAS_FORK
from tests.interruptions.kit import check_intact, check_record, written_usage

if TYPE_CHECKING:
    from gewe_cache.sandbox import Plan, Sandbox

_ROOT = Path(__file__).parents[2]


def _fork(sandbox: Sandbox, database: str, url: str, what: str, plan: Plan | None = None) -> dict[str, Any]:
    settings = {
        "token": sandbox.token,
        "base_url": sandbox.base_url,
        "database": database,
        "scope": "interruptions",
        "timeout": 30.0,
    }
    other = sandbox.make_image("other.png", width=20, height=20)
    with subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-W", "error", "-m", "tests.interruptions.forker", json.dumps(settings), url, other, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if plan is not None:
                plan.wait_reached()
                process.stdin.write("fork\n")
                process.stdin.flush()
            answers: dict[str, Any] = json.loads(process.stdout.readline())
        finally:
            sandbox.heal()
        _, complaints = process.communicate(timeout=30)
    assert complaints == ""
    assert process.returncode == 0
    return answers


def test_both_sides_go_on(sandbox: Sandbox, url: str, shared_database: str) -> None:
    answers = _fork(sandbox, shared_database, url, "idle")
    assert (answers["before"], answers["parent"]) == ("upload", ["forward"])
    assert (answers["child"], answers["closed"]) == (["forward", "upload"], "closed")
    assert written_usage(shared_database) == {"uploads": 2, "forwards": 2, "unknowns": 0}
    if shared_database.startswith("sqlite"):
        check_intact(shared_database)
    check_record(sandbox, "wxid_before", "wxid_parent", "wxid_child_0", "wxid_child_1")


@pytest.mark.parametrize("what", ["busy", "same device"])
def test_while_another_thread_of_the_parent_sends(sandbox: Sandbox, url: str, shared_file: str, what: str) -> None:
    """Each process has lanes of its own: the child waits for nobody of its parent's."""
    plan = sandbox.fail(Fault.hold(), route="forward", to_wxid="wxid_held")
    answers = _fork(sandbox, shared_file, url, what, plan)
    assert (answers["child"], answers["closed"]) == (["forward", "upload"], "closed")
    assert written_usage(shared_file) == {"uploads": 2, "forwards": 2, "unknowns": 0}
    check_intact(shared_file)
    check_record(sandbox, "wxid_before", "wxid_held", "wxid_child_0", "wxid_child_1")


def test_the_first_sends_of_two_threads_of_the_child_make_its_parts_once(
    sandbox: Sandbox, url: str, shared_file: str
) -> None:
    answers = _fork(sandbox, shared_file, url, "two threads")
    if HAS_FORK:
        assert answers["child"] == ["forward", "upload", "made 1"]
        assert answers["closed"] == "closed"
        assert written_usage(shared_file) == {"uploads": 2, "forwards": 2, "unknowns": 0}
        check_record(sandbox, "wxid_before", "wxid_parent", "wxid_child_0", "wxid_child_1")


def test_a_child_closes_what_it_never_used(sandbox: Sandbox, url: str, shared_file: str) -> None:
    """The send that is under way is the parent's: the child does not wait for it."""
    plan = sandbox.fail(Fault.hold(), route="forward", to_wxid="wxid_held")
    answers = _fork(sandbox, shared_file, url, "unused", plan)
    assert answers["closed"] == "closed"
    assert written_usage(shared_file) == {"uploads": 1, "forwards": 1, "unknowns": 0}
    check_intact(shared_file)
    check_record(sandbox, "wxid_before", "wxid_held")


def test_a_given_client_stays_the_parents(sandbox: Sandbox, url: str, shared_file: str) -> None:
    answers = _fork(sandbox, shared_file, url, "given")
    assert (answers["before"], answers["parent"]) == ("upload", ["forward"])
    if HAS_FORK:
        assert all("http_client passed in belongs to the parent" in words for words in answers["child"])
        assert all("Nothing was sent" in words for words in answers["child"])
        check_record(sandbox, "wxid_before", "wxid_parent")
    else:
        assert answers["child"] == ["forward", "upload"]
        check_record(sandbox, "wxid_before", "wxid_parent", "wxid_child_0", "wxid_child_1")
