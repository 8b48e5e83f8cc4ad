"""The figures of a pool, for Prometheus.

    python examples/pool_metrics.py [PORT]

Register a PoolCollector for each pool; it asks the pool whenever it is asked, and costs nothing between. The figures of
a service with several processes are each process's own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from prometheus_client import start_http_server
from prometheus_client.core import REGISTRY, CounterMetricFamily, GaugeMetricFamily, Metric

from scopedbump import RegionPool

COUNTERS = {
    "leases": "Reservations handed out.",
    "hits": "Of these, served by an idle reservation.",
    "misses": "Of these, asked of the operating system.",
    "refused": "Regions that were asked for when max_out of them were open.",
    "waited": "Requests that waited for a region.",
    "overflowed": "Requests that were answered with full_status.",
}
GAUGES = {
    "idle": "Reservations that wait for the next region.",
    "out": "Regions that are open.",
    "escaped": "Regions that are over and whose memory is held.",
    "committed": "Bytes that the operating system has made usable.",
    "peak": "The most bytes that one region used.",
}


class PoolCollector:
    """What `stats()` of a pool says, and the age of its oldest open region."""

    def __init__(self, pool: RegionPool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        stats = self._pool.stats()
        labels = [self._pool.name]
        for name, text in COUNTERS.items():
            counter = CounterMetricFamily(f"scopedbump_{name}", text, labels=["pool"])
            counter.add_metric(labels, getattr(stats, name))
            yield counter
        for name, text in GAUGES.items():
            gauge = GaugeMetricFamily(f"scopedbump_{name}", text, labels=["pool"])
            gauge.add_metric(labels, getattr(stats, name))
            yield gauge
        oldest = GaugeMetricFamily("scopedbump_oldest_seconds", "Age of the oldest open region.", labels=["pool"])
        oldest.add_metric(labels, max((region.age for region in self._pool.open_regions()), default=0.0))
        yield oldest


def main() -> None:
    """Serve the figures of a pool that is at work."""
    pool = RegionPool(size=1 << 24, max_out=8, name="demo")
    REGISTRY.register(PoolCollector(pool))
    start_http_server(int(sys.argv[1]) if len(sys.argv) > 1 else 9000, "127.0.0.1")
    while True:
        with pool.region() as scratch:
            scratch.alloc(100_000)
            time.sleep(0.1)


if __name__ == "__main__":
    main()
