"""An imitation of GeWe's image calls on loopback, for tests and demonstrations.

It shares no code with the rest of `gewe_cache`, so that a wrong belief about GeWe cannot confirm itself.
"""

from gewe_cache.sandbox.delays import Delays
from gewe_cache.sandbox.faults import Fault
from gewe_cache.sandbox.plans import Plan
from gewe_cache.sandbox.record import Call, Delivery, Duplicate
from gewe_cache.sandbox.server import Sandbox, run_forever

__all__ = ["Call", "Delays", "Delivery", "Duplicate", "Fault", "Plan", "Sandbox", "run_forever"]
