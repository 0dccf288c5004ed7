"""A guard takes a call back until its first byte is written, also when connecting took a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gewe_cache.gewe.wire import Reply, upload_request
from gewe_cache.sending.steps import Abandoned
from tests.faults.kit import CLIENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.kit import World

# httpx-aiohttp tells nobody when it begins to write: there the guard is asked before it connects, and not again.
_KINDS = [kind for kind in CLIENTS if kind != "async aiohttp"]


def _allowing(times: int) -> Callable[[], None]:
    """Make a guard that lets a call go on so often."""
    asked = iter(range(times))

    def guard() -> None:
        if next(asked, None) is None:
            raise Abandoned

    return guard


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("times", [0, 1, 2])
def test_it_is_asked_before_connecting_and_before_the_first_byte(world: World, kind: str, times: int) -> None:
    driver, sandbox, guard = world.open(kind), world.sandbox, _allowing(times)
    request = upload_request(sandbox.app_id, "wxid_a", world.image)
    headers = {"X-GEWE-TOKEN": sandbox.token}

    def post() -> object:
        return driver.sender._transport.post(f"{sandbox.base_url}{request.path}", headers, request.body, 20.0, guard)

    if times == 2:
        assert isinstance(driver.run(post), Reply)
    else:
        with pytest.raises(Abandoned):
            driver.run(post)
    assert len(sandbox.calls) == (times == 2)
