"""The soak's short form; the long one is ``make soak``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server.soak import soak

if TYPE_CHECKING:
    from tests.server.soak import Report


@pytest.mark.timeout(240)
def test_thirty_seconds_of_load_while_everything_fails() -> None:
    report: Report = soak(30.0, 200)
    outcomes = {each.ret for each in report.told}
    assert report.problems == [], report.summary()
    assert outcomes <= {200, 504}
    assert len(report.told) > 200
    assert {each.route for each in report.told if each.ret == 200} == {"upload", "forward"}
    assert report.retries > 0  # the upstream was down, and clients were told so
