"""Fixtures of the tests of many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Sandbox
from tests.concurrency.crews import KINDS, QUICK, Crew, Crews
from tests.concurrency.processes import Process, all_do

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROCESSES = 4


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Give a sandbox without delays."""
    with Sandbox() as running:
        yield running


@pytest.fixture
def url(sandbox: Sandbox) -> str:
    """Give the URL of an image that the sandbox has never seen."""
    return sandbox.make_image("poster.png", width=60, height=40)


@pytest.fixture
def crews(sandbox: Sandbox, shared_file: str) -> Iterator[Crews]:
    """Make crews on one SQLite file; they are closed after the test, and held calls let go."""
    with Crews(sandbox, shared_file) as maker:
        yield maker


@pytest.fixture(params=list(KINDS))
def crew(request: pytest.FixtureRequest, crews: Crews) -> Crew:
    """Give a crew, once of threads and once of tasks."""
    return crews.make(request.param, QUICK)


@pytest.fixture(scope="session")
def _hired() -> Iterator[list[Process]]:
    hired = [Process() for _ in range(_PROCESSES)]
    yield hired
    for process in hired:
        process.end()


@pytest.fixture
def processes(_hired: list[Process], sandbox: Sandbox, shared_database: str) -> Iterator[list[Process]]:
    """Give 4 processes, each with a sender on one shared database."""
    for process in _hired:
        process.open(sandbox, shared_database)
    for process in _hired:
        process.answer()
    yield _hired
    sandbox.heal()
    for process in _hired:
        process.catch_up()
    all_do(_hired, "results")
    all_do(_hired, "close")
