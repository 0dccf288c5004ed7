"""The fixtures of the proxy's tests."""

from tests.server.conftest import _no_proxy, proxy, world

__all__ = ["_no_proxy", "proxy", "world"]
