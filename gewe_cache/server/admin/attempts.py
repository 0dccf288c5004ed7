"""How often a password may be tried: per address, and by all addresses together."""

from __future__ import annotations

import time
from collections import deque
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_SECONDS: Final = 900.0
MOST_OF_ONE: Final = 10
MOST_OF_ALL: Final = 100

_MOST_ADDRESSES = 1000
_IPV6_PREFIX = 64  # what one subscriber has


class Attempts:
    """Remembers failed logins for a quarter of an hour. Belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none."""
        self._clock = clock
        self._of_all: deque[float] = deque(maxlen=MOST_OF_ALL)
        self._of_one: LRUCache[str, deque[float]] = LRUCache(_MOST_ADDRESSES)

    def seconds_to_wait(self, address: str) -> float:
        """Tell when the next try may be made; 0 for now."""
        failures = (self._of_all, self._of_one.get(_network(address), deque(maxlen=MOST_OF_ONE)))
        return max(self._wait_of(each) for each in failures)

    def note_failure(self, address: str) -> None:
        """Count a wrong password."""
        now = self._clock()
        self._of_all.append(now)
        self._of_one.setdefault(_network(address), deque(maxlen=MOST_OF_ONE)).append(now)

    def note_success(self, address: str) -> None:
        """Forget an address's failures."""
        self._of_one.pop(_network(address), None)

    def _wait_of(self, failures: deque[float]) -> float:
        if len(failures) < (failures.maxlen or 0):
            return 0.0
        return max(0.0, failures[0] + WINDOW_SECONDS - self._clock())


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or ip_network((parsed, _IPV6_PREFIX), strict=False))
