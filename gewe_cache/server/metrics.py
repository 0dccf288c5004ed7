"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120)


class Metrics:
    """The figures of one server. Safe to use from any thread."""

    def __init__(self) -> None:
        """Begin at zero."""
        registry = self._registry = CollectorRegistry()
        self.sends = Counter(
            "gewe_cache_sends",
            "postImage calls answered from the cache's own sends.",
            ("route", "outcome"),
            registry=registry,
        )
        self.seconds = Histogram(
            "gewe_cache_send_seconds",
            "How long an accepted send took, its queue included.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.passed = Counter(
            "gewe_cache_passed_requests", "Requests passed on unchanged.", ("what", "status"), registry=registry
        )
        self.bytes_saved = Counter("gewe_cache_saved_bytes", "Bytes of images not uploaded again.", registry=registry)
        self.database_errors = Counter(
            "gewe_cache_database_errors", "Times that the database failed.", registry=registry
        )
        self.entries = Gauge("gewe_cache_entries", "Entries in the database.", ("state",), registry=registry)

    def render(self) -> bytes:
        """Give all figures in Prometheus' text format."""
        return generate_latest(self._registry)
